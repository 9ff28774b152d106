"""What a host tells of itself: lag, errors, retries and latencies, also of times when it could tell nobody."""

from typing import Any

import numpy as np
import pytest

import cloud_processor.host_rows
from cloud_processor.host_rows import END_TO_END, LOG, STORE, HostRows, Latencies
from cloud_processor.processor import Processor
from cloud_processor.settings import ProcessorSettings
from headwater import log_topics
from headwater.batch_arrow import batch_to_arrow
from headwater.batch_build import batch_from_frames
from headwater.errors import ConnectError
from headwater.frame import Block, Frame
from headwater.io.log_memory import MemoryLog
from headwater.io.store_memory import MemoryStore
from headwater.ports import LogRecord
from headwater.reasons import ClockQuality
from headwater.sketch import RELATIVE_ERROR
from headwater.testing import ManualClock

S = 1_000_000
T0 = 1_700_000_000 * S
EVERY = 10 * S


class FaultyLog(MemoryLog):
    """Can't be reached while `is_away`."""

    is_away = False

    def read(self, log_topic: str, partition: int, offset: int, records_max: int) -> list[LogRecord]:
        if self.is_away:
            raise ConnectError("away")
        return super().read(log_topic, partition, offset, records_max)

    def end(self, log_topic: str, partition: int) -> int:
        if self.is_away:
            raise ConnectError("away")
        return super().end(log_topic, partition)


class FaultyCheckpoints:
    """Keeps nothing; fails as often as told."""

    failures = 0

    def load(self) -> dict[int, bytes]:
        return {}

    def save(self, checkpoints: object) -> None:
        del checkpoints
        if self.failures:
            self.failures -= 1
            raise ConnectError("disk full")

    def close(self) -> None:
        pass


class World:
    """A processor of two shards and what stands around it; `append` fills the log as time goes by."""

    def __init__(self, *, every_us: int = EVERY, shards: str = "") -> None:
        self.log, self.store, self.checkpoints = FaultyLog("a1"), MemoryStore(), FaultyCheckpoints()
        self.clock = ManualClock(T0)
        self.settings = ProcessorSettings(partitions=2, shards=shards, records_max=3, checkpoint_every="1h")
        self.processor = Processor(
            self.settings, self.log, self.store, self.checkpoints, self.clock, "test", tell_every_us=every_us
        )
        self._seq = 0

    def append(self, count: int = 1) -> None:
        """A record a shard, of a frame whose newest reading is now and which is received a second later."""
        for _ in range(count):
            self._seq += 1
            now_us = self.clock.now_us()
            for shard in (0, 1):
                block = Block(("flow",), np.array([now_us]), np.array([[float(self._seq)]]))
                frame = Frame("north", f"pump-{shard}", 9, self._seq, now_us, ClockQuality.SYNCED, blocks=(block,))
                batch = batch_from_frames([(frame, now_us + S, 50)], shard=shard, made_us=now_us + S)
                self.log.append([LogRecord(log_topics.READINGS, shard, b"", batch_to_arrow(batch), now_us)])

    def step(self, seconds: int = 0) -> int:
        """Lets time pass and steps; returns how many records were stored, −1 where a peer was away."""
        self.clock.advance(seconds * S)
        try:
            return self.processor.step_once()
        except ConnectError:
            return -1

    def rows(self, stage: str, instance: str = "test") -> dict[int, dict[str, Any]]:
        """{seconds since the start: fields} of a stage."""
        found = self.store.points["pipeline"].items()
        return {(key[2] - T0) // S: fields for key, fields in found if key[:2] == (stage, instance)}


def test_an_interval_tells_lag_counts_and_latencies() -> None:
    world = World()
    world.append(4)
    assert world.step(3) == 3
    assert world.rows(LOG) == {}
    assert world.step(7) == 3
    assert world.rows(LOG) == {10: {"lag": 5, "errors": 0, "retries": 0}}
    assert world.rows("checkpoints") == {10: {"errors": 0, "retries": 0}}
    # Three frames were stored 3 s after their reading and 2 s after their receipt.
    (end_to_end,), (stored,) = world.rows(END_TO_END).values(), world.rows(STORE).values()
    assert end_to_end["p50_ms"] == end_to_end["p99_ms"] == pytest.approx(3_000, rel=RELATIVE_ERROR)
    assert stored["p50_ms"] == pytest.approx(2_000, rel=RELATIVE_ERROR)
    assert (stored["errors"], stored["retries"]) == (0, 0)
    world.step()
    assert world.step(10) == 0
    assert world.rows(LOG)[20]["lag"] == 0
    assert world.rows(END_TO_END)[20]["p95_ms"] == pytest.approx(10_000, rel=RELATIVE_ERROR)


def test_where_nothing_was_stored_no_latency_is_told() -> None:
    world = World()
    world.step(10)
    assert world.rows(END_TO_END) == {}
    assert world.rows(STORE) == {10: {"errors": 0, "retries": 0}}


def test_a_host_that_is_not_told_to_makes_no_rows() -> None:
    world = World(every_us=0)
    world.append(2)
    world.step(100)
    world.step(100)
    assert {key[0] for key in world.store.points["pipeline"]} <= {"processor"}


def test_rows_about_the_host_change_no_other_row() -> None:
    worlds = World(), World(every_us=0)
    for _ in range(30):
        for world in worlds:
            world.append()
            world.step(5)
    for world in worlds:
        while world.step() > 0:
            pass
    telling, quiet = (world.store.points for world in worlds)
    own = {key for key in telling["pipeline"] if key[0] != "processor"}
    assert len({key[2] for key in own}) == 15
    telling["pipeline"] = {key: row for key, row in telling["pipeline"].items() if key not in own}
    assert telling == quiet


def test_a_store_that_was_away_gets_the_rows_of_that_time() -> None:
    world = World()
    world.append(2)
    world.store.failures = [ConnectError("away")] * 4
    assert [world.step(5) for _ in range(4)] == [-1] * 4
    world.append(3)
    world.step(5)
    while world.step() > 0:
        pass
    world.step(5)
    rows = world.rows(STORE)
    assert {at: (row["errors"], row["retries"]) for at, row in rows.items()} == {10: (1, 0), 20: (2, 2), 30: (1, 2)}
    # What was stepped and waits for the store is behind too.
    assert {at: row["lag"] for at, row in world.rows(LOG).items()} == {10: 4, 20: 4, 30: 0}
    assert world.rows(END_TO_END)[30]["p99_ms"] == pytest.approx(25_000, rel=RELATIVE_ERROR)


def test_while_the_log_is_away_the_rows_still_come_but_tell_no_lag() -> None:
    world = World()
    world.append(1)
    world.step()
    world.log.is_away = True
    world.step(10)
    assert world.rows(LOG) == {10: {"errors": 1, "retries": 0}}, "asking for the lag was the first attempt that failed"
    assert world.step() == -1
    world.step(10)
    world.log.is_away = False
    world.step(10)
    assert world.rows(LOG)[20] == {"errors": 2, "retries": 2}
    assert world.rows(LOG)[30] == {"errors": 1, "retries": 1}
    world.step(10)
    assert world.rows(LOG)[40] == {"lag": 0, "errors": 0, "retries": 1}


def test_a_checkpoint_that_failed_is_told() -> None:
    world = World()
    world.append(1)
    world.step()
    world.checkpoints.failures = 1
    with pytest.raises(ConnectError):
        world.processor.save()
    world.processor.save()
    world.step(10)
    assert world.rows("checkpoints") == {10: {"errors": 1, "retries": 1}}


def test_a_processor_of_some_shards_tells_which() -> None:
    world = World(shards="1")
    world.append(2)
    world.step(10)
    assert world.rows(LOG, "test:1") == {10: {"lag": 2, "errors": 0, "retries": 0}}


def test_a_long_outage_costs_no_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloud_processor.host_rows, "WAITING_MAX", 3)
    world = World()
    world.append(1)
    world.store.failures = [ConnectError("away")] * 20
    for _ in range(24):
        world.step(10)
    rows = world.rows(STORE)
    assert sum(row["errors"] for row in rows.values()) == sum(row["retries"] for row in rows.values()) == 20
    assert sorted(rows) == [10, 20, 30, 40, 230, 240]


def test_rows_that_were_taken_are_not_given_again() -> None:
    rows, clock = HostRows("h", "", every_us=EVERY, started_us=0), ManualClock(T0)
    clock.advance(EVERY)
    rows.tell(clock, lambda: 7)
    assert [table.tags["stage"].dictionary for table in rows.take()] == [("log",), ("store",), ("checkpoints",)]
    assert rows.take() == []


@pytest.mark.parametrize("seed", range(3))
def test_quantiles_of_latencies_are_those_of_all_values(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloud_processor.host_rows, "HELD_MAX", 100)
    rng = np.random.default_rng(seed)
    values = rng.lognormal(10, 2, 1_000).astype(np.int64) - 100
    latencies = Latencies()
    for part in np.split(values, np.sort(rng.integers(0, 1_000, 40))):
        latencies.add(part)
    found = [value for (value,) in latencies.take().values()]
    expected = np.quantile(values / 1e3, [0.5, 0.95, 0.99], method="inverted_cdf")
    np.testing.assert_allclose(found, expected, rtol=RELATIVE_ERROR)
    assert latencies.take() == {}
