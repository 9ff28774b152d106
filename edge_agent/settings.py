"""Settings of the edge agent: the table `[agent]` of `headwater.toml`."""

from fnmatch import fnmatchcase
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from headwater.location import LAT_MAX, LON_MAX, Location, read_location
from headwater.metric import Metric
from headwater.names import is_name
from headwater.settings import DurationUs, Table
from headwater.sparkplug_topic import SparkplugTopic, Verb


class MetricSettings(Table):
    """What the user knows better than the source of the metrics that a pattern names; None leaves it as it is."""

    unit: str | None = Field(None, description="unit, UCUM-style, such as Cel or bar")
    lo: float | None = Field(None, description="readings below are of bad quality")
    hi: float | None = Field(None, description="readings above are of bad quality")
    rate_max: float | None = Field(None, description="largest believable change per second")
    resolution: float | None = Field(None, description="smallest step that the sensor tells apart")
    every_us: DurationUs | None = Field(None, description="expected sampling interval")
    reduction: str | None = Field(None, description='"raw", "deadband:ε", "swing:ε" or "summary:width"')
    is_state: bool | None = Field(None, description="a switch, mode or set point: steps are normal")


class AgentSettings(Table):
    """One device: what it samples, how it reduces, where it spools, to whom it sends."""

    site: str = Field("home", description="where the device stands; a-z, 0-9, _ and -")
    device: str = Field("device-1", description="the device's name, unique in its site")
    latitude: float | None = Field(
        None,
        ge=-LAT_MAX,
        le=LAT_MAX,
        description="where the device stands: degrees north; empty: as its source says, mostly nowhere",
    )
    longitude: float | None = Field(None, ge=-LON_MAX, le=LON_MAX, description="and degrees east; set both, or neither")
    source: str = Field("host", description="where readings come from: csv, host, i2c, modbus, mqtt, simulated, …")
    options: dict[str, Any] = Field({}, description="options of that source, see its page")
    metrics: dict[str, MetricSettings] = Field(
        {}, description="by name or pattern (* and ?): changes what a source says"
    )

    sample_every_us: DurationUs = Field(
        1_000_000, ge=1_000, description="how often the source is asked, and how often the simulated one samples"
    )
    flush_every_us: DurationUs = Field(2_000_000, ge=0, description="how long readings wait for company in a frame")
    flush_readings_max: int = Field(8_192, ge=1, description="waiting readings that close a frame early")
    silence_max_us: DurationUs = Field(
        10_000_000, ge=1_000_000, description="deadband and swing are heard of at least this often"
    )
    burst_before_us: DurationUs = Field(5_000_000, ge=0, description="raw samples kept from before an anomaly")
    burst_after_us: DurationUs = Field(5_000_000, ge=0, description="raw samples kept after an anomaly's onset")
    burst_samples_max: int = Field(
        65_536, ge=1, description="raw samples held in memory for that, all metrics together"
    )
    false_alarms_per_week: float = Field(1.0, gt=0, description="what detection may cost at 1 Hz; sets its limits")
    clock_step_max_us: DurationUs = Field(2_000_000, ge=1, description="a larger jump of the wall clock starts afresh")

    spool: str = Field("spool.db", description="the file that keeps frames until they are durable elsewhere")
    spool_bytes_max: int = Field(256 * 1024 * 1024, ge=1024 * 1024, description="payload bytes that the spool may hold")
    spool_full: Literal["drop_oldest", "keep_oldest"] = Field(
        "drop_oldest",
        description="drop_oldest declares a gap for them; keep_oldest refuses new readings and counts them",
    )
    waiting_max: int = Field(256, ge=1, description="frames held in memory while the disk refuses to write")

    gateway: str = Field(
        "mqtt://127.0.0.1:1883", description="mqtt://host:port or mqtts://host:port; empty: don't send"
    )
    profile: Literal["headwater", "sparkplug"] = Field(
        "headwater", description="what is spoken: Headwater's frames, or Sparkplug B 3.0 (docs/sparkplug.md)"
    )
    sparkplug_group: str = Field("", max_length=128, description="Sparkplug group id; empty: the site")
    sparkplug_node: str = Field("", max_length=128, description="Sparkplug edge node id; empty: the device")
    sparkplug_device: str = Field(
        "", max_length=128, description="Sparkplug device id that has the metrics; empty: the node itself has them"
    )
    sparkplug_host: str = Field(
        "",
        max_length=128,
        description="primary host application: nothing is sent while its STATE is offline; empty: none",
    )
    sparkplug_release: Literal["puback", "durable"] = Field(
        "puback",
        description='what frees a frame from the spool: "puback", the broker has it; "durable", Headwater\'s gateway has stored it',
    )
    username: str = Field("", description="user of the broker; empty: none")
    password_file: str = Field("", description="file with the password")
    ca_file: str = Field("", description="file with the certificate authorities to trust (mqtts); empty: the system's")
    cert_file: str = Field("", description="file with the device's certificate (mqtts)")
    key_file: str = Field("", description="file with the key of that certificate")
    connect_timeout_us: DurationUs = Field(10_000_000, ge=1_000, description="how long a connection attempt may take")
    keepalive_us: DurationUs = Field(30_000_000, ge=5_000_000, description="silence after which the broker is pinged")
    reconnect_min_us: DurationUs = Field(1_000_000, ge=1_000, description="first reconnect delay; full jitter, doubles")
    reconnect_max_us: DurationUs = Field(60_000_000, ge=1_000, description="largest reconnect delay")
    in_flight_max: int = Field(32, ge=2, description="frames published without PUBACK")
    unacked_max: int = Field(512, ge=2, description="frames published without durable acknowledgement")
    ack_timeout_us: DurationUs = Field(30_000_000, ge=1_000, description="no durable ack for so long: send again")
    ack_timeout_max_us: DurationUs = Field(600_000_000, ge=1_000, description="largest such delay; it doubles")
    command_key_file: str = Field("", description="file with the key that signs commands; empty: commands are refused")

    @field_validator("site", "device")
    @classmethod
    def _is_a_name(cls, name: str) -> str:
        if not is_name(name):
            raise ValueError(f"{name!r} is not a name: use a-z, 0-9, _ and -, at most 64 characters")
        return name

    @field_validator("latitude", "longitude", mode="before")
    @classmethod
    def _is_a_number(cls, degrees: object) -> object:
        if isinstance(degrees, bool):
            raise ValueError("degrees are a number, such as 47.37")  # noqa: TRY004 — pydantic reports ValueErrors.
        return None if degrees == "" else degrees

    @field_validator("sparkplug_group", "sparkplug_node", "sparkplug_device", "sparkplug_host")
    @classmethod
    def _is_an_id(cls, sparkplug_id: str) -> str:
        if any(character in sparkplug_id for character in "/+#\0"):
            raise ValueError(f"{sparkplug_id!r} is a part of MQTT topics: no / + # in it")
        return sparkplug_id

    @property
    def location(self) -> Location | None:
        """Where the device stands, None if the settings don't say."""
        return read_location(self.latitude, self.longitude)

    @model_validator(mode="after")
    def _has_both_or_neither(self) -> Self:
        if (self.latitude is None) != (self.longitude is None):
            raise ValueError("latitude and longitude belong together: set both, or neither")
        return self

    @model_validator(mode="after")
    def _has_its_names(self) -> Self:
        if self.profile == "sparkplug" and self.sparkplug_release == "durable":
            topic = self.sparkplug_topic(Verb.DDATA)
            if (topic.site, topic.device_name) != (self.site, self.device):
                raise ValueError(
                    f'sparkplug_release = "durable" needs ids that the gateway knows as {self.site}/{self.device}; '
                    f"these are {topic.site or '?'}/{topic.device_name or '?'}: leave sparkplug_group, sparkplug_node and "
                    "sparkplug_device empty, or set site and device to match"
                )
        return self

    def sparkplug_topic(self, verb: Verb) -> SparkplugTopic:
        """The topic on which this agent as a Sparkplug node, or its device, says this."""
        return SparkplugTopic(
            verb,
            self.sparkplug_group or self.site,
            self.sparkplug_node or self.device,
            self.sparkplug_device if verb.is_of_device else "",
        )

    def applied(self, metrics: tuple[Metric, ...]) -> tuple[Metric, ...]:
        """Returns a source's metrics with the user's changes; later patterns win.

        >>> settings = AgentSettings(metrics={"pump/*": MetricSettings(reduction="swing:0.5")})
        >>> [metric.reduction for metric in settings.applied((Metric("pump/flow"), Metric("room")))]
        ['swing:0.5', 'raw']
        """
        found = []
        for metric in metrics:
            values = {name: getattr(metric, name) for name in Metric.__slots__}
            for pattern, change in self.metrics.items():
                if fnmatchcase(metric.name, pattern):
                    values |= {
                        name: value for name in Metric.__slots__ if (value := getattr(change, name, None)) is not None
                    }
            found.append(Metric(**values))
        return tuple(found)
