"""The loop of the processor: log records in, rows to the store, state to the checkpoints; sink first, then checkpoint.

    read ─▶ step ─▶ … ─▶ one write to the store ─▶ (every 10 s) one checkpoint of all shards
              ▲                                            │
              └───────── restart: state and offsets ◀──────┘

After a crash the records since the checkpoint are stepped again; they give the same rows under the same keys, which
changes nothing in the store.
"""

import logging
import threading
from collections.abc import Callable
from typing import Any

from cloud_processor.delivery import Delivery
from cloud_processor.gathered import Gathered
from cloud_processor.host_alerts import log_replaced, log_trimmed
from cloud_processor.host_loop import run_host
from cloud_processor.host_rows import HostRows
from cloud_processor.load import Load
from cloud_processor.settings import ProcessorSettings
from cloud_processor.topology import build_task
from headwater import log_topics
from headwater.errors import ConnectError, SettingsError
from headwater.ports import Checkpoints, Clock, Log, Store
from headwater.snapshot import pack, unpack

CHECKPOINT_VERSION = 1

_log = logging.getLogger(__name__)


class Processor:
    """Runs the tasks of its shards of one log in one thread.

    Args:
        settings: see there.
        log: where records come from.
        store: where rows go.
        checkpoints: where state is saved; loaded at once.
        clock: for pauses, checkpoint intervals and latencies, never for rows that come from the log.
        instance: names this processor in its own alerts and rows.
        tell_every_us: time between rows about itself, which no replay gives again (`cloud_processor.host_rows`); 0 for none.

    Raises:
        SettingsError: there are checkpoints of other shards than the settings tell.
    """

    def __init__(
        self,
        settings: ProcessorSettings,
        log: Log,
        store: Store,
        checkpoints: Checkpoints,
        clock: Clock,
        instance: str = "processor",
        *,
        tell_every_us: int = 0,
    ) -> None:
        self._settings = settings
        self._log, self._clock = log, clock
        self._instance = instance
        self._tasks = {shard: build_task(settings, shard) for shard in settings.own_shards}
        self._load = Load(clock.monotonic_us())
        self._rows = HostRows(instance, settings.shards, every_us=tell_every_us, started_us=clock.monotonic_us())
        self._delivery = Delivery(
            store, checkpoints, clock, self._rows, self._load, save_every_us=settings.checkpoint_every_us
        )
        self._turn = 0
        self._incarnation = ""
        for shard, data in checkpoints.load().items():
            if shard >= settings.partitions:
                raise SettingsError(
                    f"processor.partitions = {settings.partitions}, but the state holds shard {shard}: "
                    "set it to what the gateway and the log have always had"
                )
            if shard not in self._tasks:
                raise SettingsError(
                    f"processor.shards = {settings.shards!r}, but the state holds shard {shard}: set it to what it was; to "
                    "share out shards anew, begin with a new state and a new store, which replays what the log still holds"
                )
            state = unpack(data, CHECKPOINT_VERSION)
            self._tasks[shard].restore(state["task"])
            self._incarnation = state["incarnation"]

    def run(self, stop: threading.Event, on_turn: Callable[[], object] = lambda: None) -> None:
        """Works until `stop` is set, then finishes what the log holds and saves; see `run_host`."""
        run_host(self, stop, self._settings, self._load, on_turn)

    def step_once(self) -> int:
        """Steps what one write may hold, writes it, saves if it is time; returns how many records that were.

        Raises:
            ConnectError: a peer is away; nothing is lost, call again.
        """
        self._rows.tell(self._clock, self._behind)
        return self._delivery.step(self._read, self._states)

    def save(self) -> None:
        """Saves the state of all shards, after their rows are in the store."""
        self._delivery.save(self._states)

    def _states(self) -> dict[int, bytes]:
        return {
            shard: pack(CHECKPOINT_VERSION, {"incarnation": self._incarnation, "task": task.snapshot()})
            for shard, task in self._tasks.items()
        }

    def counters(self) -> dict[str, Any]:
        """Our own counters since the start, lag and latencies; of this run of the process, not of the data.

        `lag_records` is not among them while the log is away.
        """
        try:
            lag = {"lag_records": self._behind()}
        except ConnectError:
            lag = {}
            self._load.errors += 1
        return self._load.counters() | lag

    def _behind(self) -> int:
        """How many records of the log are not yet in the store."""
        ends = {shard: self._log.end(log_topics.READINGS, shard) for shard in self._tasks}
        return self._delivery.waiting + sum(max(ends[shard] - task.position, 0) for shard, task in self._tasks.items())

    def _read(self, found: Gathered) -> None:
        """Reads and steps records of its shards in turn."""
        settings = self._settings
        incarnation = self._log.incarnation
        if incarnation != self._incarnation:
            self._begin_log(incarnation, found)
        shards = list(self._tasks)
        for shard in shards[self._turn :] + shards[: self._turn]:
            left = settings.records_max - found.records
            if left <= 0 or found.readings >= settings.readings_max:
                break
            self._turn = (self._turn + 1) % len(shards)
            task = self._tasks[shard]
            records = self._log.read(log_topics.READINGS, shard, task.position, left)
            if records and records[0].offset > task.position:
                found.tables.append(log_trimmed(self._instance, shard, task.position, records[0]))
                _log.error("shard %d: records %d..%d were trimmed unread", shard, task.position, records[0].offset - 1)
                self._load.records_skipped += records[0].offset - task.position
            for record in records:
                stepped = found.step(task, record, self._incarnation)
                self._load.add(stepped.counters)
                self._load.made_us = max(self._load.made_us, stepped.made_us)
                if found.readings >= settings.readings_max:
                    break

    def _begin_log(self, incarnation: str, found: Gathered) -> None:
        """Begins at the start of a log that is not the one of the checkpoint; frontiers and state stay."""
        starts = {shard: self._log.start(log_topics.READINGS, shard) for shard in self._tasks}
        if self._incarnation:
            _log.error("the log %s was replaced by %s: beginning at its start", self._incarnation, incarnation)
            found.tables.append(log_replaced(self._instance, self._clock.now_us(), self._incarnation, incarnation))
            self._delivery.is_dirty = True
        for shard, task in self._tasks.items():
            task.position = starts[shard]
        self._incarnation = incarnation
