"""The `[pipeline]` table: where the stages of one pipeline keep and find things."""

from pathlib import Path

from pydantic import Field

from headwater.instant import US_PER_S
from headwater.io.store_sqlite_retention import Retention
from headwater.settings import DurationUs, Table

DAY_US = 86_400 * US_PER_S


class PipelineSettings(Table):
    """What all stages of one pipeline have in common."""

    data: str = Field("headwater-data", description="Folder that holds the embedded log, state, store and spools.")
    log: str = Field(
        "", description='URL of the log: sqlite:///PATH or kafka://HOST:PORT[,HOST:PORT]; "" is sqlite:///DATA/log.db.'
    )
    state: str = Field("", description='URL of the processor\'s checkpoints; "" is sqlite:///DATA/state.db.')
    store: str = Field(
        "", description='URL of the store, such as influxdb://127.0.0.1:8086; "" is sqlite:///DATA/store.db.'
    )
    processor: str = Field(
        "", description='Who hosts the tasks: "" is the processor of ours; flink://HOST:PORT is Apache Flink.'
    )
    log_keep_us: DurationUs = Field(7 * DAY_US, description="How long the log keeps records.")
    telemetry_keep_us: DurationUs = Field(30 * DAY_US, description="How long the store keeps readings; 0s: for ever.")
    window_keep_us: DurationUs = Field(365 * DAY_US, description="How long the store keeps windows; 0s: for ever.")
    event_keep_us: DurationUs = Field(
        365 * DAY_US, description="How long the store keeps anomalies, alerts, health and device points; 0s: for ever."
    )
    dead_letter_keep_us: DurationUs = Field(30 * DAY_US, description="How long the store keeps dead letters.")
    drain_max_us: DurationUs = Field(
        30_000_000, description="On a clean stop, wait at most this long for what is in flight."
    )

    @property
    def folder(self) -> Path:
        """The data folder."""
        return Path(self.data)

    @property
    def retention(self) -> Retention:
        """How long the store keeps what."""
        return Retention(self.telemetry_keep_us, self.window_keep_us, self.event_keep_us, self.dead_letter_keep_us)
