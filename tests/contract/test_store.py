"""What every store promises, on every store."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import store_writes
from influx_server import Influx1
from store_writes import EPOCHS, T0_US

from headwater.batch import DeadLetter
from headwater.errors import RejectedError
from headwater.io.store_influx import InfluxStore
from headwater.io.store_influx_options import InfluxAddress, InfluxOptions
from headwater.io.store_memory import MemoryStore
from headwater.io.store_sqlite import SqliteStore
from headwater.io.store_sqlite_books import Books
from headwater.io.store_sqlite_query import StoreReader
from headwater.points import PointTable, StoreWrite, tag_column
from headwater.ports import Frontiers, Store
from headwater.testing import ManualClock


@dataclass
class Kept:
    store: Store
    frontiers: Frontiers
    contents: Callable[[], dict[str, Any]]
    has_frames: bool = True

    def expected(self, twin: MemoryStore) -> dict[str, Any]:
        """What this store shows when it holds what the plain store holds."""
        contents = store_writes.contents_memory(twin)
        return contents if self.has_frames else store_writes.series_of(contents)

    def shown(self) -> dict[str, Any]:
        contents = self.contents()
        if not self.has_frames:
            contents["points"].pop("window")
        return contents


@pytest.fixture(scope="module")
def influxdb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influx1]:
    with Influx1(tmp_path_factory.mktemp("influxdb")) as server:
        yield server


NUMBER = itertools.count()


@pytest.fixture(params=["memory", "sqlite", pytest.param("influx", marks=pytest.mark.integration)])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kept]:
    path = tmp_path / "store.db"
    if request.param == "memory":
        memory = MemoryStore()
        yield Kept(memory, memory, lambda: store_writes.contents_memory(memory))
        return
    if request.param == "influx":
        server = request.getfixturevalue("influxdb")
        raw, windows, events = (f"{name}{next(NUMBER)}" for name in ("raw", "windows", "events"))
        server.make(raw, windows, events)
        options = InfluxOptions(InfluxAddress(server.url), raw=raw, windows=windows, events=events)
        influx, reader = InfluxStore(options, Books(path), ManualClock()), StoreReader(path)
        yield Kept(influx, reader, lambda: store_writes.contents_influx(server, options, path), has_frames=False)
        reader.close()
        influx.close()
        return
    sqlite = SqliteStore(path)
    reader = StoreReader(path)
    yield Kept(sqlite, reader, lambda: store_writes.contents_sqlite(path))
    reader.close()
    sqlite.close()


# A store of series keeps points and overwrites them: which frame they came in is the business of the processor's
# frontier, and revisions of a window come in order, also again after a crash.
keeping_frames = pytest.mark.parametrize("kept", ["memory", "sqlite"], indirect=True)


def window(revision: int, mean: float, time_us: int = T0_US) -> PointTable:
    tags = {name: tag_column([name]) for name in ("site", "device", "metric", "window")}
    fields = {"mean": np.array([mean]), "revision": np.array([revision])}
    return PointTable("window", np.array([time_us]), tags, fields)


def test_a_write_is_found_again_whole(kept: Kept) -> None:
    rng = np.random.default_rng(1)
    write = store_writes.write(rng, {})
    twin = MemoryStore()
    kept.store.write(write)
    twin.write(write)
    assert kept.shown() == kept.expected(twin)


@pytest.mark.parametrize("seed", range(12))
def test_random_writes_and_replays_leave_what_the_plain_store_holds(kept: Kept, seed: int) -> None:
    rng = np.random.default_rng(seed)
    seqs: dict[tuple[int, int], int] = {}
    writes = [store_writes.write(rng, seqs) for _ in range(6)]
    twin = MemoryStore()
    for write in [writes[0], writes[0], *writes[1:4], *writes[1:]]:
        kept.store.write(write)
        twin.write(write)
    assert kept.shown() == kept.expected(twin)


def test_the_same_write_again_changes_nothing(kept: Kept) -> None:
    write = store_writes.write(np.random.default_rng(3), {})
    kept.store.write(write)
    before = kept.contents()
    kept.store.write(write)
    assert kept.contents() == before


@keeping_frames
def test_a_frame_with_a_known_identity_keeps_its_first_readings(kept: Kept) -> None:
    batch = store_writes.batch(np.random.default_rng(4), {})
    kept.store.write(StoreWrite((batch,)))
    native = {key: frame for key, frame in kept.contents()["frames"].items() if key[2] != 0}
    kept.store.write(StoreWrite((replace(batch, value=batch.value + 1),)))
    after = kept.contents()["frames"]
    assert {key: after[key] for key in native} == native


@keeping_frames
def test_a_foreign_frame_is_known_by_its_content(kept: Kept) -> None:
    batch = store_writes.batch(np.random.default_rng(5), {})
    foreign = replace(batch, epoch=np.zeros_like(batch.epoch), seq=np.zeros_like(batch.seq))
    other = replace(foreign, value=foreign.value + 1)
    for one in (foreign, other, foreign):
        kept.store.write(StoreWrite((one,)))
    held = np.diff(batch.reading_start) > 0
    filled = [key for key, (_, readings, _) in kept.contents()["frames"].items() if readings]
    assert len(filled) == 2 * np.count_nonzero(held)


def test_a_higher_revision_of_a_window_replaces_a_lower_one(kept: Kept) -> None:
    for revision, mean in ((0, 10.0), (1, 20.0), (2, 30.0)):
        kept.store.write(StoreWrite(tables=(window(revision, mean),)))
    (fields,) = kept.contents()["points"]["window"].values()
    assert fields == {"mean": 30.0, "revision": 2}


@keeping_frames
def test_a_lower_revision_of_a_window_never_replaces_a_higher_one(kept: Kept) -> None:
    for revision, mean in ((1, 10.0), (2, 20.0), (0, 0.0), (1, 11.0)):
        kept.store.write(StoreWrite(tables=(window(revision, mean),)))
    (fields,) = kept.contents()["points"]["window"].values()
    assert fields == {"mean": 20.0, "revision": 2}


def test_a_field_that_is_nan_is_no_field(kept: Kept) -> None:
    kept.store.write(StoreWrite(tables=(window(0, float("nan")),)))
    (fields,) = kept.contents()["points"]["window"].values()
    assert fields == {"revision": 0}


def test_an_infinite_field_is_refused_and_nothing_of_the_write_stays(kept: Kept) -> None:
    before = kept.contents()
    batch = store_writes.batch(np.random.default_rng(6), {})
    with pytest.raises(RejectedError, match=r"window\.mean is infinite"):
        kept.store.write(StoreWrite((batch,), (window(0, float("inf")),)))
    assert kept.contents() == before


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_reading_that_is_not_finite_is_refused(kept: Kept, value: float) -> None:
    batch = store_writes.batch(np.random.default_rng(7), {})
    spoilt = batch.value.copy()
    spoilt[-1] = value
    before = kept.contents()
    with pytest.raises(RejectedError) as error:
        kept.store.write(StoreWrite((replace(batch, value=spoilt),)))
    assert error.value.reason == "not_finite"
    assert kept.contents() == before


def test_equal_dead_letters_of_one_write_are_both_kept_and_a_replay_adds_none(kept: Kept) -> None:
    letter = DeadLetter(T0_US, "parse", "gateway", "hw/1/a/b/frame", "cut", payload=b"\xff")
    for _ in range(2):
        kept.store.write(StoreWrite(dead_letters=(letter, letter)))
    assert kept.contents()["letters"] == [letter, letter]


def test_a_position_never_goes_back(kept: Kept) -> None:
    for offset in (5, 9, 7):
        kept.store.write(StoreWrite(positions={("log", "headwater.readings", 2): offset}))
    assert kept.contents()["positions"] == {("log", "headwater.readings", 2): 9}


@keeping_frames
def test_a_seq_beyond_forty_bits_keeps_its_identity(kept: Kept) -> None:
    batch = store_writes.batch(np.random.default_rng(8), {}, seq_base=(1 << 62))
    kept.store.write(StoreWrite((batch,)))
    kept.store.write(StoreWrite((batch,)))
    keys = {(key[2], key[3]) for key in kept.contents()["frames"] if key[2] != 0}
    native = batch.epoch != 0
    assert keys == set(zip(batch.epoch[native].tolist(), batch.seq[native].tolist(), strict=True))


def test_frontiers_tell_only_what_changed_since_a_version(kept: Kept) -> None:
    rng = np.random.default_rng(9)
    first = replace(store_writes.account(rng), device="pump-1", epoch=EPOCHS[1], contiguous=3)
    second = replace(first, device="pump-2")
    assert kept.frontiers.changed(0) == (0, [])
    kept.store.write(StoreWrite(accounts=(first,)))
    version, rows = kept.frontiers.changed(0)
    assert [(row.device, row.epoch, row.contiguous, row.ranges) for row in rows] == [
        ("pump-1", EPOCHS[1], 3, ((9, 9), (11, 20)))
    ]
    assert kept.frontiers.changed(version) == (version, [])
    kept.store.write(StoreWrite(accounts=(second,)))
    later, rows = kept.frontiers.changed(version)
    assert [row.device for row in rows] == ["pump-2"]
    kept.store.write(StoreWrite(accounts=(replace(first, contiguous=8),)))
    assert [(row.device, row.contiguous) for row in kept.frontiers.changed(later)[1]] == [("pump-1", 8)]
    assert len(kept.frontiers.changed(0)[1]) == 2
