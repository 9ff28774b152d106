"""What the SQLite store promises beyond the port: damage, full disks, retention, many connections."""

import logging
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import store_writes
from store_writes import T0_US

from headwater.batch import DeadLetter
from headwater.errors import ConnectError, SettingsError
from headwater.io.store_sqlite import SqliteStore
from headwater.io.store_sqlite_query import StoreReader
from headwater.io.store_sqlite_retention import Retention
from headwater.points import MEASUREMENT_TAGS, StoreWrite


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(path)
    yield store
    store.close()


def random_write(seed: int) -> StoreWrite:
    write = store_writes.write(np.random.default_rng(seed), {})
    return replace(write, telemetry=(store_writes.batch(np.random.default_rng(seed), {}, 20),))


def test_a_write_that_hits_a_full_disk_leaves_nothing_and_goes_through_later(path: Path, store: SqliteStore) -> None:
    store.write(random_write(1))
    before = store_writes.contents_sqlite(path)
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count={pages}")
    big = StoreWrite(tuple(store_writes.batch(np.random.default_rng(seed), {}, 200) for seed in range(2)))
    with pytest.raises(ConnectError, match="full"):
        store.write(big)
    assert store_writes.contents_sqlite(path) == before
    store._connection.execute("PRAGMA max_page_count=1000000")
    store.write(big)
    assert len(store_writes.contents_sqlite(path)["frames"]) > len(before["frames"])


def test_names_of_a_write_that_was_undone_get_numbers_again(path: Path, store: SqliteStore) -> None:
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count={pages}")
    write = replace(random_write(2), telemetry=(store_writes.batch(np.random.default_rng(2), {}, 200),))
    with pytest.raises(ConnectError):
        store.write(write)
    store._connection.execute("PRAGMA max_page_count=1000000")
    store.write(write)
    twin = store_writes.MemoryStore()
    twin.write(write)
    assert store_writes.contents_sqlite(path) == store_writes.contents_memory(twin)


def test_names_that_another_connection_added_do_no_harm(path: Path, store: SqliteStore) -> None:
    twin = store_writes.MemoryStore()
    for seed in range(4):
        write = random_write(seed)
        store.write(write)
        twin.write(write)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("INSERT OR IGNORE INTO name (text) VALUES ('vibration:x'), ('temp'), (?)", (f"new {seed}",))
        other.close()
    assert store_writes.contents_sqlite(path) == store_writes.contents_memory(twin)


def test_a_store_has_one_writer_at_a_time(path: Path) -> None:
    first = SqliteStore(path)
    with pytest.raises(ConnectError, match="another process"):
        SqliteStore(path)
    first.close()
    SqliteStore(path).close()


def test_a_file_that_is_no_database_is_set_aside_and_an_empty_store_begins(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_bytes(b"not a database at all, but long enough to have a header " * 100)
    with caplog.at_level(logging.CRITICAL):
        store = SqliteStore(path)
    assert "damaged" in caplog.text
    assert store.set_aside is not None
    assert store.set_aside.read_bytes().startswith(b"not a database")
    store.write(random_write(3))
    store.close()
    assert store_writes.contents_sqlite(path)["frames"]


def test_a_store_with_broken_pages_is_set_aside_when_it_is_opened(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = SqliteStore(path)
    for seed in range(4):
        store.write(random_write(seed))
    store.close()
    raw = bytearray(path.read_bytes())
    for page in range(3, len(raw) // 4096, 2):
        raw[page * 4096 : page * 4096 + 200] = b"\xa5" * 200
    path.write_bytes(raw)
    with caplog.at_level(logging.CRITICAL):
        store = SqliteStore(path)
    assert store.set_aside is not None
    assert store.set_aside.exists()
    store.write(random_write(1))
    store.close()
    assert store_writes.contents_sqlite(path)["frames"]


def test_damage_that_shows_while_writing_replaces_the_store_and_the_reader_follows(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = SqliteStore(path)
    reader = StoreReader(path)
    for seed in range(8):
        store.write(random_write(seed))
    store.close()
    raw = bytearray(path.read_bytes())
    root = sqlite3.connect(path)
    page = root.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'position'").fetchone()[0]
    root.close()
    store = SqliteStore(path)
    assert reader.version() == 8
    raw[(page - 1) * 4096 : page * 4096] = b"\xa5" * 4096
    path.write_bytes(raw)
    store._connection.execute("PRAGMA shrink_memory")
    write = replace(random_write(9), positions={("log", "headwater.readings", 1): 4})
    with caplog.at_level(logging.CRITICAL), pytest.raises(ConnectError, match="write again"):
        store.write(write)
    assert store.set_aside is not None
    store.write(write)
    assert reader.version() == 1
    assert reader.positions() == {("log", "headwater.readings", 1): 4}
    version, rows = reader.changed(8)
    assert version == 1
    assert len(rows) == len({(account.site, account.device, account.epoch) for account in write.accounts})
    reader.close()
    store.close()


def test_a_database_of_another_program_is_left_alone(path: Path) -> None:
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE diary (entry TEXT)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(SettingsError, match="another program"):
        SqliteStore(path)
    assert path.read_bytes()[100:] == before[100:]


def test_a_store_of_a_newer_version_is_left_alone(path: Path) -> None:
    store = SqliteStore(path)
    store._connection.execute("PRAGMA user_version=99")
    store.close()
    with pytest.raises(SettingsError, match="newer"):
        SqliteStore(path)


def test_a_reader_without_a_store_says_so_and_reads_it_once_it_is_there(path: Path) -> None:
    reader = StoreReader(path)
    with pytest.raises(ConnectError, match="no store"):
        reader.changed(0)
    store = SqliteStore(path)
    assert reader.changed(0) == (0, [])
    store.close()
    reader.close()


def sweep_all(store: SqliteStore, now_us: int, budget: int) -> int:
    total, idle = 0, 0
    for _ in range(2_000):
        deleted = store.retain(now_us, budget)
        assert deleted <= budget
        total += deleted
        idle = 0 if deleted else idle + 1
        if idle > 40:
            break
    return total


@pytest.mark.parametrize("budget", [3, 10_000])
def test_retention_deletes_what_is_old_in_slices_and_nothing_else(path: Path, budget: int) -> None:
    hour = 3_600_000_000
    store = SqliteStore(path, retention=Retention(hour, hour, hour, hour))
    for seed in range(5):
        store.write(random_write(seed))
    before = store_writes.contents_sqlite(path)
    now_us = T0_US + hour + 10_000_000
    old = now_us - hour
    ends = {row[0]: row[1] for row in store._connection.execute("SELECT id, end_us FROM frame").fetchall()}
    sweep_all(store, now_us, budget)
    after = store_writes.contents_sqlite(path)
    kept = {row[0] for row in store._connection.execute("SELECT id FROM frame").fetchall()}
    assert kept == {number for number, end in ends.items() if end > old}
    assert 0 < len(kept) < len(ends)
    assert after["points"]["window"] == {
        key: fields for key, fields in before["points"]["window"].items() if key[-1] >= old
    }
    assert after["letters"] == []
    for name in MEASUREMENT_TAGS:
        if name in ("telemetry", "window"):
            continue
        newest: dict[tuple, int] = {}
        for key in before["points"][name]:
            newest[key[:-1]] = max(newest.get(key[:-1], 0), key[-1])
        assert after["points"][name] == {
            key: fields
            for key, fields in before["points"][name].items()
            if key[-1] >= old or key[-1] == newest[key[:-1]]
        }
    orphans = "SELECT count(*) FROM foreign_frame WHERE frame_id NOT IN (SELECT id FROM frame)"
    assert store._connection.execute(orphans).fetchone() == (0,)
    store.close()


def test_a_retention_of_zero_keeps_everything(path: Path) -> None:
    store = SqliteStore(path, retention=Retention(0, 0, 0, 0))
    store.write(random_write(1))
    before = store_writes.contents_sqlite(path)
    assert store.retain(1 << 61) == 0
    assert store_writes.contents_sqlite(path) == before
    store.close()


def test_space_that_retention_freed_is_used_or_given_back(path: Path) -> None:
    store = SqliteStore(path, retention=Retention(1, 1, 1, 1))
    for seed in range(10):
        store.write(StoreWrite((store_writes.batch(np.random.default_rng(seed), {}, 300, 1000 * seed),)))
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    sweep_all(store, 1 << 60, 10_000)
    assert store._connection.execute("PRAGMA page_count").fetchone()[0] < pages / 2
    store.close()


def test_a_dead_letter_with_half_a_surrogate_pair_is_kept(path: Path, store: SqliteStore) -> None:
    letter = DeadLetter(T0_US, "parse", "gateway", "hw/1/\ud800/b/frame", "no")
    store.write(StoreWrite(dead_letters=(letter,)))
    (row,) = store_writes.contents_sqlite(path)["letters"]
    assert row.source == "hw/1/?/b/frame"


def _halved(raw: bytearray) -> bytes:
    return bytes(raw[: len(raw) // 8192 * 4096])


def _torn(raw: bytearray) -> bytes:
    return bytes(raw[: len(raw) // 2 + 777])


def _zeroed(raw: bytearray) -> bytes:
    return bytes(len(raw))


def _header_only(raw: bytearray) -> bytes:
    return bytes(raw[:100])


def _schema_gone(raw: bytearray) -> bytes:
    return bytes(raw[:100]) + bytes(4096 - 100) + bytes(raw[4096:])


def _scribbled(raw: bytearray) -> bytes:
    rng = np.random.default_rng(1)
    for at in rng.integers(0, len(raw), 200).tolist():
        raw[at] ^= 0x5A
    return bytes(raw)


@pytest.mark.parametrize("spoil", [_halved, _torn, _zeroed, _header_only, _schema_gone, _scribbled])
def test_a_store_starts_and_takes_writes_whatever_happened_to_its_file(
    path: Path, spoil: Callable[[bytearray], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    store = SqliteStore(path)
    for seed in range(4):
        store.write(random_write(seed))
    store.close()
    path.write_bytes(spoil(bytearray(path.read_bytes())))
    with caplog.at_level(logging.CRITICAL):
        store = SqliteStore(path)
    assert store.set_aside is not None
    assert str(store.set_aside) in caplog.text
    store.write(random_write(1))
    store.close()
    assert store_writes.contents_sqlite(path)["frames"]


def test_a_spoilt_write_ahead_file_costs_nothing_that_was_checkpointed(path: Path) -> None:
    store = SqliteStore(path)
    store.write(random_write(1))
    store.close()
    before = store_writes.contents_sqlite(path)
    path.with_name("store.db-wal").write_bytes(b"\x37\x7f\x06\x82" + bytes(range(256)) * 40)
    store = SqliteStore(path)
    assert store.set_aside is None
    store.close()
    assert store_writes.contents_sqlite(path) == before


def test_a_damaged_store_that_could_not_be_replaced_at_once_is_replaced_later(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqliteStore(path)
    store._connection.close()
    store._is_closed_by_damage = True
    path.unlink()
    with monkeypatch.context() as patch:
        patch.setattr("headwater.io.store_sqlite.open_store", Mock(side_effect=ConnectError("no space")))
        with pytest.raises(ConnectError, match="no space"):
            store.write(random_write(1))
    store.write(random_write(1))
    assert store_writes.contents_sqlite(path)["frames"]
    store.close()
