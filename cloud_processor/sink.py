"""The sink: results in, rows to the store, so that results written again change nothing; sink first, then checkpoint.

    headwater.results ─▶ new to me? ─▶ … ─▶ one write to the store ─▶ (every 10 s) one checkpoint

A cluster engine writes results at least once: what it wrote after a checkpoint that it returned to is written again.
Results say which position of the readings they reached; those at or below what this sink has applied are passed over,
so the store never goes back, and each effect is there once.
"""

import logging
import threading
from collections.abc import Callable
from typing import Any

from cloud_processor.delivery import Delivery
from cloud_processor.gathered import Gathered
from cloud_processor.host_loop import run_host
from cloud_processor.host_rows import HostRows
from cloud_processor.load import Load
from cloud_processor.settings import ProcessorSettings
from headwater import log_topics
from headwater.errors import ConnectError, DecodeError, SettingsError
from headwater.ports import Checkpoints, Clock, Log, LogRecord, Store
from headwater.results import Results
from headwater.results_arrow import results_from_arrow
from headwater.snapshot import pack, unpack
from headwater.task import StepCounters

STATE_VERSION = 1

_log = logging.getLogger(__name__)


class _Partition:
    """Where one partition of the results was read to, and up to which (position, part) of which log they were applied."""

    def __init__(self) -> None:
        self.next_offset = 0
        self.history: tuple[str, ...] = ()
        self.applied = (0, 0)

    def is_new(self, results: Results) -> bool:
        """Tells whether results go beyond what was applied, and notes that they are now."""
        history = (results.run, results.source[0])
        mark = (results.position, results.part)
        if history == self.history and mark <= self.applied:
            return False
        self.history, self.applied = history, mark
        return True

    def position(self, incarnation: str) -> int:
        """Returns up to where the readings of a log were applied; 0 if those were another log's."""
        return self.applied[0] if incarnation in self.history[1:] else 0


class Sink:
    """Writes the results of a job to a store, in one thread; a peer of `cloud_processor.processor.Processor`.

    Args:
        settings: of the processor: partitions, sizes of a write, pauses.
        log: where results come from.
        store: where rows go.
        checkpoints: where it keeps how far it read; loaded at once.
        clock: for pauses, checkpoint intervals and latencies, never for rows that come from the log.
        tell_every_us: time between rows about itself, which no replay gives again (`cloud_processor.host_rows`); 0 for none.

    Raises:
        SettingsError: there are checkpoints of other partitions than the settings tell.
    """

    def __init__(
        self,
        settings: ProcessorSettings,
        log: Log,
        store: Store,
        checkpoints: Checkpoints,
        clock: Clock,
        *,
        tell_every_us: int = 0,
    ) -> None:
        self._settings = settings
        self._log, self._clock = log, clock
        self._partitions = {number: _Partition() for number in settings.own_shards}
        self._load = Load(clock.monotonic_us())
        self._rows = HostRows("sink", settings.shards, every_us=tell_every_us, started_us=clock.monotonic_us())
        self._delivery = Delivery(
            store, checkpoints, clock, self._rows, self._load, save_every_us=settings.checkpoint_every_us
        )
        self._turn = 0
        self._incarnation = ""
        self._results_repeated = 0
        for number, data in checkpoints.load().items():
            if number not in self._partitions:
                raise SettingsError(
                    f"the sink's state holds partition {number}, and processor.partitions = {settings.partitions} and "
                    f"processor.shards = {settings.shards!r} don't: set them to what they were"
                )
            state = unpack(data, STATE_VERSION)
            partition = self._partitions[number]
            partition.next_offset, partition.history = state["next_offset"], tuple(state["history"])
            partition.applied = (state["position"], state["part"])
            self._incarnation = state["incarnation"]

    def run(self, stop: threading.Event, on_turn: Callable[[], object] = lambda: None) -> None:
        """Works until `stop` is set, then finishes what the log holds and saves; see `run_host`."""
        run_host(self, stop, self._settings, self._load, on_turn)

    def step_once(self) -> int:
        """Reads what one write may hold, writes it, saves if it is time; returns how many records that were.

        Raises:
            ConnectError: a peer is away; nothing is lost, call again.
        """
        self._rows.tell(self._clock, self._behind)
        return self._delivery.step(self._read, self._states)

    def save(self) -> None:
        """Saves how far it has come, after the rows are in the store."""
        self._delivery.save(self._states)

    def _states(self) -> dict[int, bytes]:
        return {
            number: pack(
                STATE_VERSION,
                {
                    "incarnation": self._incarnation,
                    "next_offset": partition.next_offset,
                    "history": list(partition.history),
                    "position": partition.applied[0],
                    "part": partition.applied[1],
                },
            )
            for number, partition in self._partitions.items()
        }

    def counters(self) -> dict[str, Any]:
        """Our own counters since the start, lag and latencies; `results_repeated` were passed over.

        `lag_records`, results that are not yet read, is not among them while the log is away.
        """
        try:
            ends = {number: self._log.end(log_topics.RESULTS, number) for number in self._partitions}
            unread = [max(ends[number] - found.next_offset, 0) for number, found in self._partitions.items()]
            lag = {"lag_records": sum(unread)}
        except ConnectError:
            lag = {}
            self._load.errors += 1
        return self._load.counters() | lag | {"results_repeated": self._results_repeated}

    def _behind(self) -> int:
        """How many records of readings have not come as far as the store, the job's own backlog included."""
        behind = self._delivery.waiting
        for number, partition in self._partitions.items():
            first, end = (ask(log_topics.READINGS, number) for ask in (self._log.start, self._log.end))
            behind += max(end - max(partition.position(self._incarnation), first), 0)
        return behind

    def _read(self, found: Gathered) -> None:
        """Takes records of all partitions in turn."""
        settings = self._settings
        incarnation = self._log.incarnation
        if incarnation != self._incarnation:
            self._begin_log(incarnation)
        numbers = list(self._partitions)
        for number in numbers[self._turn :] + numbers[: self._turn]:
            left = settings.records_max - found.records
            if left <= 0 or found.readings >= settings.readings_max:
                break
            self._turn = (self._turn + 1) % len(numbers)
            partition = self._partitions[number]
            records = self._log.read(log_topics.RESULTS, number, partition.next_offset, left)
            for record in records:
                self._take(partition, record, found)
                found.records += 1
                if found.readings >= settings.readings_max:
                    break

    def _begin_log(self, incarnation: str) -> None:
        """Begins at the start of a log that is not the one of the checkpoint."""
        if self._incarnation:
            _log.error("the log %s was replaced by %s: beginning at its start", self._incarnation, incarnation)
        starts = {number: self._log.start(log_topics.RESULTS, number) for number in self._partitions}
        for number, partition in self._partitions.items():
            partition.next_offset = starts[number]
        self._incarnation = incarnation

    def _take(self, partition: _Partition, record: LogRecord, found: Gathered) -> None:
        if record.offset > partition.next_offset:
            lost = record.offset - partition.next_offset
            _log.error("results %d: %d records were trimmed unread: their rows are missing", record.partition, lost)
            self._load.records_skipped += lost
        partition.next_offset = record.offset + 1
        try:
            results = results_from_arrow(record.value)
        except DecodeError as error:
            found.refuse(record, error)
            self._load.add(StepCounters(dead_letters=1))
            return
        if not partition.is_new(results):
            self._results_repeated += 1
            return
        found.add(results.write)
        self._load.add(results.counters)
        self._load.made_us = max(self._load.made_us, results.made_us)
