"""What the stages need from the outside world, as protocols of a few methods; adapters are in `headwater.io`.

A lost connection is a ConnectError that the host retries; a refusal is a RejectedError; both leave the port usable.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from headwater.frame import Block
from headwater.metric import Metric
from headwater.points import StoreWrite


class Clock(Protocol):
    """Reads the time; `headwater.io.clock_system.SystemClock` and `headwater.testing.ManualClock` are peers."""

    def now_us(self) -> int:
        """Wall-clock time, microseconds since the epoch, UTC; may step."""

    def monotonic_us(self) -> int:
        """Microseconds from an arbitrary start that never step back; survives suspend where the system can."""


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One record of the log.

    Attributes:
        log_topic: one of `headwater.log_topics`.
        partition: the shard.
        key: shard or device, as UTF-8.
        value: the payload.
        timestamp_us: low watermark of the shard, or the event's time.
        headers: small strings.
        offset: place in the partition, from 0 without holes; -1 before it is appended.
    """

    log_topic: str
    partition: int
    key: bytes
    value: bytes
    timestamp_us: int
    headers: Mapping[str, str] = field(default_factory=dict)
    offset: int = -1


class Log(Protocol):
    """An append-only, partitioned log (the backbone)."""

    @property
    def incarnation(self) -> str:
        """Random text drawn when the log was made; another one means that the log was replaced."""

    def append(self, records: Sequence[LogRecord]) -> list[int]:
        """Appends in order and returns the offsets; when it returns, the records are durable. All or none.

        Raises:
            ConnectError: the log can't be reached; nothing may be assumed, append the same again.
            RejectedError: with the reason "size": a record is larger than the log takes. What stands before it may be
                in the log; append smaller ones.
        """

    def read(self, log_topic: str, partition: int, offset: int, records_max: int) -> list[LogRecord]:
        """Returns up to `records_max` records from `offset` on; [] at the end."""

    def start(self, log_topic: str, partition: int) -> int:
        """Offset of the oldest record that is still kept."""

    def end(self, log_topic: str, partition: int) -> int:
        """Offset that the next record will get."""

    def close(self) -> None:
        """Releases what it holds; nothing appended is lost."""


class KeptLog(Log, Protocol):
    """A log whose owner also lets go of old records; where an engine does that by itself, `trim` does nothing."""

    def trim(self, log_topic: str, before_us: int) -> int:
        """Deletes records that are older; returns how many."""


class Store(Protocol):
    """Where readings and results end; what it returns from is durable."""

    def write(self, write: StoreWrite) -> None:
        """Stores all of it or none; the same write again changes nothing.

        Raises:
            ConnectError: try the same again later.
            RejectedError: the store refuses these points for good.
        """

    def close(self) -> None:
        """Releases what it holds."""


class KeptStore(Store, Protocol):
    """A store whose owner also lets go of old rows; where an engine does that by itself, `retain` does nothing."""

    def retain(self, now_us: int) -> int:
        """Deletes some rows that are older than their retention; returns how many. Call it now and then."""


class Checkpoints(Protocol):
    """Keeps the processor's latest checkpoint per shard: one opaque value, replaced in one transaction."""

    def load(self) -> dict[int, bytes]:
        """Returns {shard: checkpoint} of the newest complete save."""

    def save(self, checkpoints: Mapping[int, bytes]) -> None:
        """Replaces the given shards' checkpoints, durably and together."""

    def close(self) -> None:
        """Releases what it holds."""


@dataclass(frozen=True, slots=True)
class FrontierRow:
    """What is durable in the store of one device and epoch (stored, dead-lettered or in a declared gap)."""

    site: str
    device: str
    epoch: int
    contiguous: int
    ranges: tuple[tuple[int, int], ...]


class Frontiers(Protocol):
    """Tells the gateway what has become durable in the store, for acks of level `store`."""

    def changed(self, since: int) -> tuple[int, list[FrontierRow]]:
        """Returns (version, rows that changed after version `since`); version 0 returns all."""


class Source(Protocol):
    """Delivers readings to the edge agent; third parties add one by the entry point group `headwater.sources`.

    A source is made as `Source(options: dict[str, Any], clock: Clock)` with the options of its settings table and
    validates them there (SettingsError); `open` touches the world for the first time. A source whose samples are not
    taken when it is read, but in a rhythm of its own, may say `takes_sample_every = True` as an attribute of its class;
    its options then hold `sample_every_us`, the agent's interval. One that knows where it stands may have an attribute
    `location` (`headwater.location.Location` or None), which the agent tells where its settings say none.
    """

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What it will deliver; may grow after `open` and `read`."""

    def open(self) -> None:
        """Connects; ConnectError is retried by the agent with backoff."""

    def read(self, now_us: int) -> list[Block]:
        """Returns the raw samples taken since the last call, at most up to `now_us`; [] if there are none.

        Never blocks for longer than a sensor's conversion; a lost connection raises ConnectError.
        """

    @property
    def is_exhausted(self) -> bool:
        """True when nothing will come any more (the end of a file)."""

    def close(self) -> None:
        """Releases what it holds."""


class SimulatorControl(Protocol):
    """What the live page may do to simulated devices in the demo. All values are plain JSON types."""

    def state(self) -> dict[str, object]:
        """{"sites": [{"site", "online", "devices": [...]}], "faults": [active and recent], "kinds": [...]}."""

    def inject(self, site: str, device: str, metric: str, kind: str, severity: float, duration_us: int) -> str:
        """Starts a fault now and returns its id; "" for metric means the whole machine. KeyError if unknown."""

    def set_online(self, site: str, online: bool) -> None:
        """Cuts or restores the network of a site. KeyError if unknown."""
