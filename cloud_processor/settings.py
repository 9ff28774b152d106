"""The table `[processor]`."""

from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from cloud_processor.health import HealthModel
from cloud_processor.shards import parse_shards
from headwater.log_topics import PARTITIONS_DEFAULT
from headwater.settings import DurationUs, Table


def _text(value: Any) -> Any:
    """Lets a number or a list of them stand for their text."""
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value) if isinstance(value, int) else value


class ProcessorSettings(Table):
    """How the cloud processor reads the log, what it computes and when it saves."""

    partitions: int = Field(PARTITIONS_DEFAULT, ge=1, description="Partitions of the log; as the gateway's.")
    shards: Annotated[str, BeforeValidator(_text)] = Field(
        "",
        description='Shards that this processor takes, such as "0-5" or "0,3,7-11"; "" for all. Several processors share '
        "a log:\neach with shards, a state and a store of its own.",
    )
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
    offline_after_us: DurationUs = Field(
        60_000_000, gt=0, alias="offline_after", description="After such a silence the twin says offline."
    )
    twin_every_us: DurationUs = Field(
        60_000_000,
        gt=0,
        alias="twin_every",
        description="Report the twin this often, and at once when its state or location changes.",
    )
    pipeline_every_us: DurationUs = Field(
        10_000_000,
        gt=0,
        alias="pipeline_every",
        description="Time between rows of the measurement pipeline, of shards and of the host itself.",
    )
    offline_alert_us: DurationUs = Field(
        120_000_000, ge=0, alias="offline_alert", description="Alert when a device has been offline for so long."
    )
    alert_hold_us: DurationUs = Field(
        30_000_000, ge=0, alias="alert_hold", description="An alert resolves after its cause has been gone for so long."
    )
    alert_forget_us: DurationUs = Field(
        3_600_000_000, gt=0, alias="alert_forget", description="An alert whose clearing never came resolves after this."
    )
    health_baseline: int = Field(60, ge=10, description="Windows in steady service that make a machine's baseline.")
    health_every_us: DurationUs = Field(
        30_000_000, gt=0, alias="health_every", description="Time between rows of a component's health."
    )
    health_regime: tuple[str, ...] = Field(
        HealthModel().regime, description="Parts of names of metrics that give the operating point, the best first."
    )
    health_components: dict[str, tuple[str, ...]] = Field(
        HealthModel().components,
        description="Component and the parts of metric names that speak of it; first match wins.",
    )
    health_lo: float = Field(40.0, description="Alert when the health of a component falls below this.")
    health_hi: float = Field(55.0, description="The alert resolves when it is above this again.")
    lead_us: DurationUs = Field(
        86_400_000_000, gt=0, alias="lead", description="Alert when the low end of remaining life is shorter than this."
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

    @model_validator(mode="after")
    def _check(self) -> Self:
        """Refuses shards that there are not."""
        parse_shards(self.shards, self.partitions)
        return self

    @property
    def own_shards(self) -> tuple[int, ...]:
        """The shards that this processor takes, rising."""
        return parse_shards(self.shards, self.partitions)
