"""The function that Flink calls, driven as Flink drives it, without Flink: any kill, the same rows as the embedded runner."""

import contextlib
import threading
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from shard_logs import random_log, records

import cloud_processor.flink_host
from cloud_processor.flink_host import FRAME, ShardHost, record_from_frame
from cloud_processor.processor import Processor
from cloud_processor.settings import ProcessorSettings
from cloud_processor.sink import Sink
from headwater import log_topics
from headwater.batch_arrow import batch_to_arrow
from headwater.errors import ConnectError, CorruptStateError
from headwater.io.log_memory import MemoryLog
from headwater.io.store_memory import MemoryStore
from headwater.ports import LogRecord
from headwater.results_arrow import results_from_arrow, results_to_arrow
from headwater.testing import ManualClock

SETTINGS = ProcessorSettings(partitions=2, windows=("10s", "1m/10s", "session:7s"), allowed_lateness="1h", health_baseline=10)  # fmt: skip
HASTY = SETTINGS.model_copy(update={"allowed_lateness_us": 20_000_000, "max_offline_us": 60_000_000})


class Drawer:
    """Checkpoints in memory."""

    def __init__(self) -> None:
        self.saved: dict[int, bytes] = {}

    def load(self) -> dict[int, bytes]:
        return dict(self.saved)

    def save(self, checkpoints) -> None:
        self.saved |= checkpoints

    def close(self) -> None:
        pass


class Engine:
    """Does what Flink does with a shard: reads on from the checkpoint's offset, calls the function, appends its results."""

    def __init__(self, settings: ProcessorSettings, log: MemoryLog, run: str = "r1") -> None:
        self.settings, self.log, self.run = settings, log, run
        self.checkpoint = {shard: (self.log.start(log_topics.READINGS, shard), b"") for shard in range(2)}
        self.restart()

    def restart(self) -> None:
        """Goes back to the checkpoint; whatever was written since stays in the results."""
        self.hosts, self.offsets = {}, {}
        for shard, (offset, state) in self.checkpoint.items():
            host = ShardHost(self.settings, shard, incarnation=self.log.incarnation, run=self.run, instance="test")
            if state:
                host.restore(state)
            self.hosts[shard], self.offsets[shard] = host, offset

    def cut(self) -> None:
        """Takes a checkpoint: state and offset of one moment, after the results are in the log."""
        self.checkpoint = {s: (self.offsets[s], self.hosts[s].snapshot() if self.offsets[s] else b"") for s in range(2)}

    def advance(self, shard: int) -> bool:
        found = self.log.read(log_topics.READINGS, shard, self.offsets[shard], 1)
        for record in found:
            framed = FRAME.pack(shard, record.offset, record.timestamp_us) + record.value
            self.offsets[shard] = record.offset + 1
            for results in self.hosts[shard].step(record_from_frame(framed)):
                self.log.append([LogRecord(log_topics.RESULTS, shard, b"", results, 0)])
        return bool(found)

    def advance_all(self) -> int:
        return sum(self.advance(shard) for shard in range(2))

    def finish(self) -> None:
        while self.advance_all():
            pass


def recorded(seed: int, *, damaged: bool = False) -> MemoryLog:
    """A log of two shards with devices of their own."""
    log = MemoryLog("a1")
    for shard in range(2):
        rng = np.random.default_rng(seed + shard)
        batches = records(rng, random_log(rng, frames=12), 5)
        for number, batch in enumerate(batches):
            named = replace(batch, devices=tuple((site, f"{name}-{shard}") for site, name in batch.devices))
            value = b"no arrow" if damaged and number == 4 else batch_to_arrow(named)
            log.append([LogRecord(log_topics.READINGS, shard, b"", value, batch.made_us)])
    return log


def content(store: MemoryStore) -> tuple:
    return (
        store.frames,
        {name: sorted(repr(row) for row in rows.items()) for name, rows in store.points.items()},
        sorted(map(repr, store.accounts.items())),
        store.gaps,
        sorted(store.dead_letters, key=lambda letter: (letter.at_us, letter.source)),
        store.positions,
    )


def embedded(settings: ProcessorSettings, log: MemoryLog) -> tuple:
    store = MemoryStore()
    processor = Processor(settings, log, store, Drawer(), ManualClock(0), "test")
    while processor.step_once():
        pass
    return content(store)


def stopped() -> threading.Event:
    stop = threading.Event()
    stop.set()
    return stop


def drain(sink: Sink) -> None:
    while sink.step_once():
        pass


def sink_on(log: MemoryLog, store: MemoryStore, drawer: Drawer | None = None) -> Sink:
    return Sink(SETTINGS.model_copy(update={"records_max": 3}), log, store, drawer or Drawer(), ManualClock(0))


@pytest.mark.parametrize("seed", range(4))
def test_killed_at_random_records_it_stores_what_the_embedded_runner_stores(seed: int) -> None:
    settings = HASTY if seed % 2 else SETTINGS
    log = recorded(seed, damaged=seed == 3)
    expected = embedded(settings, log)
    rng = np.random.default_rng(1000 + seed)
    engine, store, drawer = Engine(settings, log), MemoryStore(), Drawer()
    sink = sink_on(log, store, drawer)
    kills = 0
    while engine.advance_all():
        what = rng.random()
        if what < 0.15:
            engine.cut()
        elif what < 0.25:
            engine.restart()
            kills += 1
        if rng.random() < 0.3:
            sink.step_once()
        if rng.random() < 0.1:
            sink.save()
        if rng.random() < 0.1:
            sink = sink_on(log, store, drawer)
    drain(sink)
    assert kills
    assert log.end(log_topics.RESULTS, 0) > log.end(log_topics.READINGS, 0)
    assert content(store) == expected


def test_a_sink_that_reads_from_a_log_that_is_away_at_times_misses_nothing() -> None:
    log = recorded(5)
    expected = embedded(SETTINGS, log)
    Engine(SETTINGS, log).finish()
    read, reads = log.read, iter(range(1 << 20))

    def flaky(log_topic: str, partition: int, offset: int, records_max: int) -> list[LogRecord]:
        if next(reads) % 3 == 2:
            raise ConnectError("away for a moment")
        return read(log_topic, partition, offset, records_max)

    log.read = flaky  # type: ignore[method-assign]
    store = MemoryStore()
    sink = sink_on(log, store)
    for _ in range(400):
        with contextlib.suppress(ConnectError):
            sink.step_once()
    assert content(store) == expected


def test_a_kill_after_each_single_record_gives_the_same_results_again_byte_for_byte() -> None:
    log = recorded(7)
    count = log.end(log_topics.READINGS, 0)
    engine = Engine(SETTINGS, log)
    written = []
    for offset in range(count):
        engine.cut()
        engine.advance(0)
        engine.restart()
        engine.advance(0)
        first, again = log.read(log_topics.RESULTS, 0, 2 * offset, 2)
        assert first.value == again.value
        written.append(first.value)
    other = Engine(SETTINGS, recorded(7))
    for _ in range(count):
        other.advance(0)
    assert [record.value for record in other.log.read(log_topics.RESULTS, 0, 0, count)] == written


def test_a_log_that_goes_back_is_refused_and_nothing_of_it_is_taken() -> None:
    log = recorded(8)
    engine = Engine(SETTINGS, log)
    for _ in range(3):
        engine.advance(0)
    state = engine.hosts[0].snapshot()
    engine.offsets[0] = 1
    with pytest.raises(CorruptStateError, match="record 1 came where 3 was expected"):
        engine.advance(0)
    assert log.end(log_topics.RESULTS, 0) == 3
    assert engine.hosts[0].snapshot() == state


def test_trimmed_records_are_told_as_the_embedded_runner_tells_them() -> None:
    log = recorded(9)
    engine, processor_store = Engine(SETTINGS, log), MemoryStore()
    processor = Processor(SETTINGS.model_copy(update={"records_max": 1}), log, processor_store, Drawer(), ManualClock(0), "test")  # fmt: skip
    for shard in range(2):
        processor.step_once()
        engine.advance(shard)
    for shard in range(2):
        log.forget(log_topics.READINGS, shard, 5)
    log_read = log.read
    log.read = lambda topic, shard, offset, count: log_read(topic, shard, max(offset, log.start(topic, shard)), count)  # type: ignore[method-assign]
    while processor.step_once():
        pass
    engine.finish()
    store = MemoryStore()
    drain(sink_on(log, store))
    assert sum(key[2].startswith("log-trimmed") for key in store.points["alert"]) == 2
    assert content(store) == content(processor_store)


def test_another_log_begins_where_it_begins_and_is_told() -> None:
    first = recorded(10)
    engine = Engine(SETTINGS, first)
    for _ in range(4):
        engine.advance(0)
    engine.cut()
    other = MemoryLog("b2")
    other.append([LogRecord(log_topics.READINGS, 0, b"", r.value, r.timestamp_us) for r in first.read(log_topics.READINGS, 0, 2, 5)])  # fmt: skip
    moved = Engine(SETTINGS, other, run="r2")
    moved.checkpoint = {0: (0, engine.checkpoint[0][1]), 1: (0, b"")}
    moved.restart()
    while moved.advance(0):
        pass
    store = MemoryStore()
    drain(sink_on(other, store))
    assert {key[2] for key in store.points["alert"]} == {"log-replaced"}
    assert store.positions == {("b2", log_topics.READINGS, 0): 5}


def test_a_new_run_is_applied_from_its_beginning() -> None:
    log, store, drawer = recorded(11), MemoryStore(), Drawer()
    for run in ("r1", "r2"):
        engine = Engine(SETTINGS, log, run=run)
        engine.finish()
    sink = sink_on(log, store, drawer)
    drain(sink)
    assert sink.counters()["results_repeated"] == 0
    assert sink.counters()["lag_records"] == 0


def test_a_store_that_is_away_gets_the_same_write_again_and_a_sink_goes_on_where_it_saved() -> None:
    log, store, drawer = recorded(12), MemoryStore(), Drawer()
    engine = Engine(SETTINGS, log)
    engine.finish()
    store.failures = [ConnectError("away")]
    sink = sink_on(log, store, drawer)
    with pytest.raises(ConnectError):
        sink.step_once()
    sink.run(stopped())
    assert content(store) == embedded(SETTINGS, log)
    assert sink_on(log, store, drawer).step_once() == 0


def test_a_sink_tells_how_many_readings_are_not_yet_stored_wherever_they_wait() -> None:
    log, store, clock = recorded(14), MemoryStore(), ManualClock(0)
    engine, every_us = Engine(SETTINGS, log), 10_000_000
    sink = Sink(SETTINGS, log, store, Drawer(), clock, tell_every_us=every_us)
    ends = [log.end(log_topics.READINGS, shard) for shard in range(2)]
    done = (0, 0), (3, 1), tuple(ends)
    for goal in done:
        for shard, count in enumerate(goal):
            while engine.offsets[shard] < count:
                engine.advance(shard)
        drain(sink)
        clock.advance(every_us)
        sink.step_once()
    told = {key: fields for key, fields in store.points["pipeline"].items() if key[1] == "sink"}
    assert [fields["lag"] for (stage, _, _), fields in told.items() if stage == "log"] == [sum(ends), sum(ends) - 4, 0]
    assert [("p50_ms" in fields) for (stage, _, _), fields in told.items() if stage == "store"] == [False, True, True]
    # A sink that starts again knows from its checkpoint; one on another log has everything before it.
    other = MemoryLog("b2")
    other.append([LogRecord(log_topics.READINGS, 0, b"", b"no arrow", 0)])
    drawer = Drawer()
    sink_on(log, MemoryStore(), drawer).run(stopped())
    for restarted, lag in ((log, 0), (other, 1)):
        kept = MemoryStore()
        again = Sink(SETTINGS, restarted, kept, drawer, again_clock := ManualClock(0), tell_every_us=1)
        again.step_once()
        again_clock.advance(1)
        again.step_once()
        assert {fields.get("lag") for key, fields in kept.points["pipeline"].items() if key[0] == "log"} == {lag}


def test_large_results_are_cut_and_stored_whole_whichever_part_a_kill_cuts_off(monkeypatch: pytest.MonkeyPatch) -> None:
    log = recorded(13)
    expected = embedded(SETTINGS, log)
    monkeypatch.setattr(cloud_processor.flink_host, "results_to_arrow", partial(results_to_arrow, bytes_max=3_000))
    engine = Engine(SETTINGS, log)
    engine.finish()
    parts = log.read(log_topics.RESULTS, 0, 0, 10_000)
    assert len(parts) > 1.5 * log.end(log_topics.READINGS, 0)
    for cut in range(0, len(parts), 3):
        # A kill in the middle of a record's parts: what was written stays, and the record is written whole again.
        torn, store = MemoryLog("a1"), MemoryStore()
        position = results_from_arrow(parts[cut].value).position
        again = [r for r in parts if results_from_arrow(r.value).position >= position]
        others = log.read(log_topics.RESULTS, 1, 0, 10_000)
        torn.append([*parts[: cut + 1], *again, *others])
        drain(sink_on(torn, store))
        assert content(store) == expected


def test_results_that_cannot_be_read_are_dead_letters() -> None:
    log, store = MemoryLog("a1"), MemoryStore()
    log.append([LogRecord(log_topics.RESULTS, 1, b"", b"rubbish", 5)])
    drain(sink_on(log, store))
    (letter,) = store.dead_letters
    assert (letter.source, letter.payload) == ("headwater.results/1/0", b"rubbish")


def test_a_damaged_state_is_refused() -> None:
    host = ShardHost(SETTINGS, 0, incarnation="a1", run="r1")
    data = bytearray(host.snapshot())
    data[len(data) // 2] ^= 1
    with pytest.raises(CorruptStateError):
        host.restore(bytes(data))
