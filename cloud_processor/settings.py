"""The table `[processor]`."""

from pydantic import Field

from headwater.log_topics import PARTITIONS_DEFAULT
from headwater.settings import DurationUs, Table


class ProcessorSettings(Table):
    """How the cloud processor reads the log, what it computes and when it saves."""

    partitions: int = Field(PARTITIONS_DEFAULT, ge=1, description="Partitions of the log; as the gateway's.")
    windows: tuple[str, ...] = Field(
        ("10s", "1m"),
        description="Windows to report: 1m, 1m/10s, cumulative:1h/1m, session:30s, count:100, global:1m.",
    )
    quantiles: bool = Field(True, description="Keep sketches for p50, p95 and p99 of aligned windows.")
    out_of_orderness_us: DurationUs = Field(
        5_000_000,
        ge=0,
        alias="out_of_orderness",
        description="Disorder of event times within a device that is not late.",
    )
    allowed_lateness_us: DurationUs = Field(
        300_000_000,
        ge=0,
        alias="allowed_lateness",
        description="How far behind its watermark a reading revises windows.",
    )
    max_offline_us: DurationUs = Field(
        600_000_000, gt=0, alias="max_offline", description="After such a silence a device's windows close without it."
    )
    future_us: DurationUs = Field(
        60_000_000, ge=0, alias="future", description="How far ahead of its receipt a time may move the watermark."
    )
    records_max: int = Field(64, ge=1, description="Log records per write to the store.")
    readings_max: int = Field(262_144, ge=1, description="Readings per write to the store, about.")
    checkpoint_every_us: DurationUs = Field(
        10_000_000, ge=0, alias="checkpoint_every", description="Time between checkpoints; a restart replays so much."
    )
    poll_us: DurationUs = Field(
        20_000_000 // 1000, ge=1_000, alias="poll", description="Pause when the log has no more."
    )
    retry_max_us: DurationUs = Field(
        30_000_000,
        ge=1_000,
        alias="retry_max",
        description="Longest pause between attempts to reach the log or the store.",
    )
