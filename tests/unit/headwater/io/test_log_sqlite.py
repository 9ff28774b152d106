"""The SQLite log where it differs from a list: restart, damage, full disk, retention."""

import sqlite3
import time
from pathlib import Path

import pytest

from headwater import log_topics
from headwater.errors import ConnectError, CorruptStateError, RejectedError
from headwater.io.log_sqlite import TRIM_ROWS_MAX, SqliteLog, SqliteLogReader
from headwater.ports import LogRecord

FAR_FUTURE_US = 4_000_000_000_000_000


def record(value: bytes, key: bytes = b"k", log_topic: str = log_topics.READINGS) -> LogRecord:
    return LogRecord(log_topic, 0, key, value, 0)


def values(log: SqliteLog | SqliteLogReader, log_topic: str = log_topics.READINGS) -> list[bytes]:
    return [r.value for r in log.read(log_topic, 0, 0, 10_000)]


def test_a_log_opened_again_goes_on_where_it_was(tmp_path: Path) -> None:
    with SqliteLog(tmp_path / "log.db") as log:
        log.append([record(b"a"), record(b"b")])
        incarnation = log.incarnation
    with SqliteLog(tmp_path / "log.db") as log:
        assert log.incarnation == incarnation
        assert log.append([record(b"c")]) == [2]
        assert values(log) == [b"a", b"b", b"c"]


def test_the_file_is_synchronous_and_write_ahead(tmp_path: Path) -> None:
    with SqliteLog(tmp_path / "log.db") as log:
        assert log._connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert log._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.parametrize("damage", [b"not a database at all" * 1000, b"SQLite format 3\x00" + b"\xff" * 20_000])
def test_a_damaged_file_is_set_aside_and_a_new_incarnation_begins(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "log.db"
    with SqliteLog(path) as log:
        log.append([record(b"a")])
        incarnation = log.incarnation
    path.write_bytes(damage)
    with SqliteLog(path) as log:
        assert log.incarnation != incarnation
        assert log.append([record(b"b")]) == [0]
    assert [p.read_bytes() for p in tmp_path.glob("log.db.bad-*")][:1] == [damage]


def test_a_tail_that_fails_its_checksum_counts_as_damage(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    with SqliteLog(path) as log:
        log.append([record(b"a")])
        incarnation = log.incarnation
    with sqlite3.connect(path) as other:
        other.execute("UPDATE records SET value = x'00'")
    other.close()
    with SqliteLog(path) as log:
        assert log.incarnation != incarnation


def test_a_record_that_fails_its_checksum_is_never_handed_out(tmp_path: Path) -> None:
    with SqliteLog(tmp_path / "log.db") as log:
        log.append([record(b"a"), record(b"b")])
        log._connection.execute("UPDATE records SET value = x'00' WHERE value = x'61'")
        with pytest.raises(CorruptStateError, match="record 0 of"):
            values(log)


def test_a_file_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    with SqliteLog(path) as log:
        log._connection.execute("UPDATE meta SET value = '99' WHERE name = 'version'")
    with pytest.raises(RejectedError, match="newer"):
        SqliteLog(path)
    assert not list(tmp_path.glob("*.bad-*"))


def test_damage_found_while_appending_raises_a_retryable_error_and_the_retry_goes_to_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    log = SqliteLog(path)
    log.append([record(bytes(8000)) for _ in range(200)])
    log._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    log.close()
    log = SqliteLog(path)
    incarnation = log.incarnation
    log._connection.execute("PRAGMA shrink_memory")
    with path.open("r+b") as file:
        file.write(b"\xff" * 8192 * 250)
    with pytest.raises(ConnectError):
        log.append([record(b"x")])
    assert log.append([record(b"y")]) == [0]
    assert log.incarnation != incarnation
    log.close()


def test_a_full_disk_is_a_connect_error_that_stores_nothing_and_heals(tmp_path: Path) -> None:
    with SqliteLog(tmp_path / "log.db", size_max_pages=40) as log:
        log.append([record(b"a")])
        with pytest.raises(ConnectError, match="full"):
            log.append([record(b"b"), record(bytes(1_000_000))])
        assert values(log) == [b"a"]
        log._connection.execute("PRAGMA max_page_count=100000")
        assert log.append([record(b"b"), record(bytes(1_000_000))]) == [1, 2]


def test_trimming_goes_in_slices_and_keeps_offsets(tmp_path: Path) -> None:
    with SqliteLog(tmp_path / "log.db") as log:
        log.append([record(b"%d" % n) for n in range(TRIM_ROWS_MAX + 5)])
        assert log.trim(log_topics.READINGS, 0) == 0
        assert log.trim(log_topics.READINGS, FAR_FUTURE_US) == TRIM_ROWS_MAX
        assert log.start(log_topics.READINGS, 0) == TRIM_ROWS_MAX
        assert log.trim(log_topics.READINGS, FAR_FUTURE_US) == 5
        assert log.start(log_topics.READINGS, 0) == log.end(log_topics.READINGS, 0) == TRIM_ROWS_MAX + 5
        assert log.append([record(b"z")]) == [TRIM_ROWS_MAX + 5]


def test_offsets_go_on_after_a_trim_and_a_restart(tmp_path: Path) -> None:
    with SqliteLog(tmp_path / "log.db") as log:
        log.append([record(b"a")])
        log.trim(log_topics.READINGS, FAR_FUTURE_US)
    with SqliteLog(tmp_path / "log.db") as log:
        assert log.append([record(b"b")]) == [1]


def test_trimming_keeps_what_is_younger(tmp_path: Path) -> None:
    with SqliteLog(tmp_path / "log.db") as log:
        log.append([record(b"a")])
        between_us = time.time_ns() // 1_000 + 1
        while time.time_ns() // 1_000 <= between_us:
            pass
        log.append([record(b"b")])
        assert log.trim(log_topics.READINGS, between_us) == 1
        assert values(log) == [b"b"]


def test_compacting_keeps_the_newest_of_each_key(tmp_path: Path) -> None:
    with SqliteLog(tmp_path / "log.db") as log:
        log.append([record(v, k, log_topics.DEVICES) for k, v in ((b"p", b"1"), (b"q", b"2"), (b"p", b"3"))])
        assert log.trim(log_topics.DEVICES, FAR_FUTURE_US) == 1
        assert values(log, log_topics.DEVICES) == [b"2", b"3"]


def test_a_reader_waits_for_the_file_and_sees_what_comes_later(tmp_path: Path) -> None:
    path = tmp_path / "later" / "log.db"
    reader = SqliteLogReader(path)
    with pytest.raises(ConnectError):
        reader.read(log_topics.READINGS, 0, 0, 1)
    with SqliteLog(path) as log:
        assert values(reader) == []
        log.append([record(b"a")])
        assert values(reader) == [b"a"]
    reader.close()


def test_a_reader_follows_when_the_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    with SqliteLog(path) as log:
        log.append([record(b"a")])
    reader = SqliteLogReader(path)
    before = reader.incarnation
    for name in ("log.db", "log.db-wal", "log.db-shm"):
        if (tmp_path / name).exists():
            (tmp_path / name).rename(tmp_path / f"{name}.old")
    with SqliteLog(path) as log:
        log.append([record(b"b")])
        assert reader.incarnation == log.incarnation != before
        assert values(reader) == [b"b"]
    reader.close()


def test_a_reader_never_writes(tmp_path: Path) -> None:
    SqliteLog(tmp_path / "log.db").close()
    with pytest.raises(CorruptStateError):
        SqliteLogReader(tmp_path / "log.db").append([record(b"a")])


def test_a_partition_or_log_topic_that_does_not_exist_is_a_mistake(tmp_path: Path) -> None:
    with SqliteLog(tmp_path / "log.db") as log, pytest.raises(ValueError, match="no partition"):
        log.append([LogRecord("headwater.nonsense", 0, b"", b"", 0)])


def test_small_values_are_stored_small_and_come_back_the_same(tmp_path: Path) -> None:
    sent = [b"schema " * 1000, bytes(300), b"short", bytes(range(256)) * 2, b"long " * 10_000]
    with SqliteLog(tmp_path / "log.db") as log:
        log.append([record(value) for value in sent])
        assert values(log) == sent
        stored = [row[0] for row in log._connection.execute("SELECT length(value) FROM records ORDER BY id")]
        assert stored[0] < 200
        assert stored[2:] == [5, stored[3], 50_000]


def test_a_value_that_can_not_be_stored_leaves_nothing_behind(tmp_path: Path) -> None:
    with SqliteLog(tmp_path / "log.db") as log:
        with pytest.raises(TypeError):
            log.append([record(b"a"), record(None)])  # type: ignore[arg-type]
        assert values(log) == []
        assert log.append([record(b"b")]) == [0]
