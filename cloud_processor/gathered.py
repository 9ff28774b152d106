"""What a host gathers before it goes to the store in one write."""

from dataclasses import dataclass, field

from headwater.batch import Batch, DeadLetter
from headwater.batch_arrow import batch_from_arrow
from headwater.errors import DecodeError
from headwater.points import DeviceAccount, PointTable, StoreWrite
from headwater.ports import LogRecord
from headwater.task import StepCounters, Task

PAYLOAD_KEPT_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Stepped:
    """What one record came to.

    Attributes:
        counters: what it held.
        made_us: the gateway's time of its batch, 0 if it could not be read.
        is_whole: all its frames were admitted, so that its bytes are its telemetry as they are.
    """

    counters: StepCounters
    made_us: int = 0
    is_whole: bool = False


@dataclass(slots=True)
class Gathered:
    """What was stepped and is not yet in the store; an account or a position that comes again replaces the one before."""

    telemetry: list[Batch] = field(default_factory=list)
    tables: list[PointTable] = field(default_factory=list)
    accounts: dict[tuple[str, str, int], DeviceAccount] = field(default_factory=dict)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    positions: dict[tuple[str, str, int], int] = field(default_factory=dict)
    records: int = 0
    readings: int = 0

    @property
    def is_empty(self) -> bool:
        """True where there is nothing to write."""
        return not (self.records or self.tables)

    def step(self, task: Task, record: LogRecord, incarnation: str) -> Stepped:
        """Steps one record of the log `incarnation`; one that can't be read becomes a dead letter."""
        self.records += 1
        self.positions[incarnation, record.log_topic, record.partition] = record.offset + 1
        try:
            batch = batch_from_arrow(record.value)
        except DecodeError as error:
            task.position = record.offset + 1
            self.refuse(record, error)
            return Stepped(StepCounters(dead_letters=1))
        result = task.step(batch, record.offset)
        self.readings += result.counters.readings
        self.tables += result.tables
        self.dead_letters += result.dead_letters
        if len(result.telemetry):
            self.telemetry.append(result.telemetry)
        for account in task.accounts(result.touched):
            self.accounts[account.site, account.device, account.epoch] = account
        return Stepped(result.counters, batch.made_us, len(result.telemetry) > 0 and result.telemetry is batch)

    def refuse(self, record: LogRecord, error: DecodeError) -> None:
        """Keeps a record that can't be read as a dead letter."""
        source = f"{record.log_topic}/{record.partition}/{record.offset}"
        payload = record.value[:PAYLOAD_KEPT_BYTES]
        at_us = max(record.timestamp_us, 0)
        self.dead_letters.append(DeadLetter(at_us, error.reason, "processor", source, error.detail, payload=payload))

    def add(self, write: StoreWrite) -> None:
        """Adds what was stepped elsewhere, in the order of its log; the record that brought it is the caller's to count."""
        self.telemetry += write.telemetry
        self.tables += write.tables
        self.dead_letters += write.dead_letters
        for account in write.accounts:
            self.accounts[account.site, account.device, account.epoch] = account
        self.positions |= write.positions
        self.readings += sum(batch.reading_count for batch in write.telemetry)

    def write(self) -> StoreWrite:
        """All of it as one write."""
        return StoreWrite(
            tuple(self.telemetry),
            tuple(self.tables),
            tuple(self.accounts.values()),
            tuple(self.dead_letters),
            self.positions,
        )
