"""The loop: sink first, then checkpoint; retries, restarts, trimmed and replaced logs, damaged records."""

import threading
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from cloud_processor.processor import Processor
from cloud_processor.settings import ProcessorSettings
from headwater import log_topics
from headwater.batch import DeviceStatus
from headwater.batch_arrow import batch_to_arrow
from headwater.batch_build import batch_from_frames
from headwater.errors import ConnectError, SettingsError
from headwater.frame import Block, Frame
from headwater.io.log_memory import MemoryLog
from headwater.io.store_memory import MemoryStore
from headwater.location import Location
from headwater.ports import LogRecord
from headwater.reasons import ClockQuality
from headwater.testing import ManualClock

S = 1_000_000
T0 = 1_700_000_000 * S
SETTINGS = ProcessorSettings(partitions=2, checkpoint_every="1s", records_max=3)


class MemoryCheckpoints:
    """Keeps what is saved; may fail."""

    def __init__(self) -> None:
        self.saved: dict[int, bytes] = {}
        self.saves = 0
        self.failures: list[Exception] = []

    def load(self) -> dict[int, bytes]:
        return dict(self.saved)

    def save(self, checkpoints) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.saved |= checkpoints
        self.saves += 1

    def close(self) -> None:
        pass


def record(seq: int, shard: int = 0, value: bytes | None = None) -> LogRecord:
    time = T0 + seq * 10 * S + np.arange(10) * S
    block = Block(("flow",), time, np.random.default_rng(seq).normal(50, 5, (1, 10)))
    frame = Frame("north", f"pump-{shard}", 9 + shard, seq, int(time[-1]), ClockQuality.SYNCED, blocks=(block,))
    batch = batch_from_frames([(frame, int(time[-1]) + S, 50)], shard=shard, made_us=int(time[-1]) + 2 * S)
    if seq % 7 == 3:
        here = Location(40.0 + seq, -8.5) if seq % 2 else None
        status = DeviceStatus("north", f"pump-{shard}", batch.made_us, online=True, agent="1", location=here)
        batch = replace(batch, statuses=(status,))
    return LogRecord(log_topics.READINGS, shard, b"k", value or batch_to_arrow(batch), int(time[0]))


class World:
    """One log, store and checkpoints; processors come and go."""

    def __init__(self, count: int = 20) -> None:
        self.log, self.store, self.checkpoints = MemoryLog("a1"), MemoryStore(), MemoryCheckpoints()
        self.clock = ManualClock(T0 + 3600 * S)
        for seq in range(1, count + 1):
            self.log.append([record(seq), record(seq, 1)])

    def processor(self) -> Processor:
        return Processor(SETTINGS, self.log, self.store, self.checkpoints, self.clock, "test")


def drain(processor: Processor) -> int:
    done = 0
    while records := processor.step_once():
        done += records
    return done


def points(store: MemoryStore) -> str:
    return repr({name: sorted(rows.items()) for name, rows in store.points.items()})


class FlakyLog(MemoryLog):
    """Can't be reached at some of its reads."""

    def __init__(self, fails: Callable[[int], bool]) -> None:
        super().__init__("a1")
        self._fails = fails
        self._reads = 0

    def read(self, log_topic: str, partition: int, offset: int, records_max: int) -> list[LogRecord]:
        self._reads += 1
        if self._fails(self._reads):
            raise ConnectError("away for a moment")
        return super().read(log_topic, partition, offset, records_max)


@pytest.mark.parametrize("fails", [lambda n: n % 3 == 0, lambda n: n % 5 in {2, 3}, lambda n: n % 7 == 2])
def test_a_log_that_is_away_between_two_shards_costs_no_row(fails: Callable[[int], bool]) -> None:
    calm, rough = World(), World()
    log = FlakyLog(fails)
    for shard in (0, 1):
        log.append(calm.log.read(log_topics.READINGS, shard, 0, 100))
    rough.log = log
    drain(calm.processor())
    processor, errors = rough.processor(), 0
    for _ in range(100):
        try:
            processor.step_once()
        except ConnectError:
            errors += 1
    assert errors
    assert rough.store.frames == calm.store.frames
    assert points(rough.store) == points(calm.store)
    assert rough.store.positions == calm.store.positions


def test_all_records_end_in_the_store_with_their_positions() -> None:
    world = World()
    assert drain(world.processor()) == 40
    assert len(world.store.frames) == 40
    assert world.store.positions == {("a1", log_topics.READINGS, 0): 20, ("a1", log_topics.READINGS, 1): 20}
    assert {account.contiguous for account in world.store.accounts.values()} == {20}


def test_a_kill_after_any_write_with_any_checkpoint_gives_the_same_store() -> None:
    whole = World()
    drain(whole.processor())
    for kill_at in range(14):
        world = World()
        processor = world.processor()
        for step in range(kill_at):
            processor.step_once()
            if step == kill_at // 2:
                world.clock.advance(2 * S)
        # No farewell: the next one begins at whatever was saved, which is older than what the store has.
        drain(world.processor())
        assert points(world.store) == points(whole.store)
        assert world.store.frames == whole.store.frames
        assert {key: a.stored for key, a in world.store.accounts.items()} == dict.fromkeys(whole.store.accounts, 20)


def test_a_store_that_is_away_gets_the_same_write_again() -> None:
    world = World(4)
    processor = world.processor()
    world.store.failures = [ConnectError("away"), ConnectError("away")]
    for _ in range(2):
        with pytest.raises(ConnectError):
            processor.step_once()
    assert not world.store.frames
    assert drain(processor) == 8
    assert len(world.store.frames) == 8


def test_the_checkpoint_follows_the_store_and_a_new_processor_starts_where_it_was() -> None:
    world = World(4)
    processor = world.processor()
    drain(processor)
    assert world.checkpoints.saves == 0
    processor.save()
    assert world.checkpoints.saves == 1
    assert world.processor().step_once() == 0
    processor.save()
    assert world.checkpoints.saves == 1


def test_run_retries_and_ends_when_told_with_all_records_done() -> None:
    world = World(6)
    world.store.failures = [ConnectError("away")]
    stop = threading.Event()
    stop.wait = lambda timeout=None: stop.set() or True  # type: ignore[method-assign]  # No pauses in unit tests.
    processor = world.processor()
    processor.run(stop)
    assert processor.counters()["errors"] == 1
    assert len(world.store.frames) == 12
    assert world.checkpoints.saves >= 1


def test_a_damaged_record_is_a_dead_letter_and_does_not_stop_its_shard() -> None:
    world = World(2)
    world.log.append([record(3, 0, b"no arrow"), record(3)])
    drain(world.processor())
    (letter,) = world.store.dead_letters
    assert (letter.stage, letter.source, letter.payload) == ("processor", "headwater.readings/0/2", b"no arrow")
    assert len(world.store.frames) == 5


def test_another_log_begins_at_its_start_and_keeps_the_frontiers() -> None:
    world = World(4)
    first = world.processor()
    drain(first)
    first.save()
    world.log = MemoryLog("b2")
    for seq in range(3, 7):
        world.log.append([record(seq), record(seq, 1)])
    again = world.processor()
    drain(again)
    assert again.counters()["frames_duplicate"] == 4
    assert len(world.store.frames) == 12
    assert {key[2] for key in world.store.points["alert"]} >= {"log-replaced"}


def test_records_trimmed_before_they_were_read_are_told() -> None:
    world = World(10)
    trimmed = world.log.read

    def read(log_topic: str, partition: int, offset: int, records_max: int) -> list[LogRecord]:
        return trimmed(log_topic, partition, max(offset, 4), records_max)

    world.log.read = read  # type: ignore[method-assign]
    processor = world.processor()
    drain(processor)
    assert processor.counters()["records_skipped"] == 8
    alerts = [row for key, row in world.store.points["alert"].items() if key[2].startswith("log-trimmed")]
    assert [row["value"] for row in alerts] == [4.0, 4.0]
    assert all(account.in_flight == 4 for account in world.store.accounts.values())


def test_counters_tell_lag_and_latencies() -> None:
    world = World(5)
    processor = world.processor()
    processor.step_once()
    counters = processor.counters()
    assert counters["lag_records"] == 7
    assert counters["readings"] == 30
    assert counters["received_to_stored_p50_ms"] > 0


def test_fewer_partitions_than_the_state_has_are_refused() -> None:
    world = World(2)
    processor = world.processor()
    drain(processor)
    processor.save()
    with pytest.raises(SettingsError, match="holds shard 1"):
        Processor(ProcessorSettings(partitions=1), world.log, world.store, world.checkpoints, world.clock, "test")


class OpenLog(MemoryLog):
    """Notes which shards were asked about."""

    def __init__(self, incarnation: str) -> None:
        super().__init__(incarnation)
        self.asked: set[int] = set()

    def read(self, log_topic: str, partition: int, offset: int, records_max: int) -> list[LogRecord]:
        self.asked.add(partition)
        return super().read(log_topic, partition, offset, records_max)

    def start(self, log_topic: str, partition: int) -> int:
        self.asked.add(partition)
        return super().start(log_topic, partition)

    def end(self, log_topic: str, partition: int) -> int:
        self.asked.add(partition)
        return super().end(log_topic, partition)


def test_processors_that_share_a_log_store_together_what_one_alone_would() -> None:
    whole = World()
    drain(whole.processor())
    log = OpenLog("a1")
    for shard in (0, 1):
        log.append(whole.log.read(log_topics.READINGS, shard, 0, 100))
    stores, points_of = [], []
    for shards in ("0", "1"):
        log.asked.clear()
        store, checkpoints = MemoryStore(), MemoryCheckpoints()
        settings = ProcessorSettings(partitions=2, shards=shards, records_max=3)
        processor = Processor(settings, log, store, checkpoints, whole.clock, "test")
        assert drain(processor) == 20
        processor.save()
        assert processor.counters()["lag_records"] == 0
        assert log.asked == {int(shards)} == set(checkpoints.saved)
        stores.append(store)
        points_of.append({name: dict(rows) for name, rows in store.points.items()})
    assert stores[0].frames | stores[1].frames == whole.store.frames
    assert not stores[0].frames.keys() & stores[1].frames.keys()
    assert stores[0].positions | stores[1].positions == whole.store.positions
    for name, rows in whole.store.points.items():
        assert points_of[0].get(name, {}) | points_of[1].get(name, {}) == rows


def test_shards_that_the_state_has_and_the_settings_leave_out_are_refused() -> None:
    world = World(2)
    processor = world.processor()
    drain(processor)
    processor.save()
    settings = ProcessorSettings(partitions=2, shards="0")
    with pytest.raises(SettingsError, match="but the state holds shard 1: set it to what it was"):
        Processor(settings, world.log, world.store, world.checkpoints, world.clock, "test")
