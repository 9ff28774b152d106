"""The embedded log: one SQLite file that one gateway writes and any process reads.

WAL, synchronous=FULL, one writing connection; readers open the file read-only. A record's row id packs
(log topic, partition, offset), so a partition is a contiguous range of one B-tree and needs no second index.

    append ─▶ one transaction, fsync ─▶ offsets        reader ─▶ WHERE id >= pack(topic, partition, offset)

A damaged file is set aside as `<name>.bad-<time>` and a new one with another incarnation begins: devices still hold
what the store has not acknowledged, so starting is safer than refusing.
"""

import json
import logging
import sqlite3
import threading
import time
import uuid
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from headwater import log_topics
from headwater.errors import ConnectError, CorruptStateError, RejectedError
from headwater.ports import LogRecord

TRIM_ROWS_MAX = 256
BUSY_TIMEOUT_S = 10.0
# The schema of an Arrow stream is some kilobytes of repetition: small values are deflated, large ones compress inside.
DEFLATE_MAX_BYTES = 16 * 1024
DEFLATE_MIN_BYTES = 256

_SCHEMA_VERSION = 1
_OFFSET_BITS = 44
_PARTITION_BITS = 12
_TOPIC_IDS = {name: number for number, name in enumerate(log_topics.ALL, start=1)}
_CORRUPT = ("malformed", "not a database", "file is encrypted", "disk i/o error: short read")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ends (part INTEGER PRIMARY KEY, next INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS records (
    id INTEGER PRIMARY KEY, key BLOB NOT NULL, timestamp_us INTEGER NOT NULL, appended_us INTEGER NOT NULL,
    headers TEXT NOT NULL, deflated INTEGER NOT NULL, crc INTEGER NOT NULL, value BLOB NOT NULL);
"""
_COLUMNS = "id, key, timestamp_us, headers, deflated, crc, value"

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


def _part(log_topic: str, partition: int) -> int:
    """Packs a log topic and a partition; raises ValueError for what the log doesn't hold."""
    if not 0 <= partition < 1 << _PARTITION_BITS or log_topic not in _TOPIC_IDS:
        raise ValueError(f"the log has no partition {partition} of {log_topic!r}")
    return _TOPIC_IDS[log_topic] << _PARTITION_BITS | partition


def _is_damage(error: sqlite3.Error) -> bool:
    """Tells damage of the file from a full disk, a lock or a mistake."""
    return isinstance(error, sqlite3.DatabaseError) and any(text in str(error).lower() for text in _CORRUPT)


@contextmanager
def _as_connect_error(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise ConnectError(f"log {path}: {error}") from error


def _deflated(value: bytes) -> tuple[bool, bytes]:
    """Deflates a small value where that makes it smaller."""
    if DEFLATE_MIN_BYTES <= len(value) <= DEFLATE_MAX_BYTES:
        small = zlib.compress(value, 1)
        if len(small) < len(value):
            return True, small
    return False, value


def _record(log_topic: str, partition: int, row: tuple[int, bytes, int, str, int, int, bytes]) -> LogRecord:
    row_id, key, timestamp_us, headers, deflated, crc, value = row
    offset = row_id & ((1 << _OFFSET_BITS) - 1)
    if zlib.crc32(value) != crc:
        raise CorruptStateError(f"record {offset} of {log_topic}/{partition} fails its checksum")
    if deflated:
        value = zlib.decompress(value)
    return LogRecord(log_topic, partition, key, value, timestamp_us, json.loads(headers) if headers else {}, offset)


def _read(
    connection: sqlite3.Connection, log_topic: str, partition: int, offset: int, records_max: int
) -> list[LogRecord]:
    low = _part(log_topic, partition) << _OFFSET_BITS
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM records WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",  # noqa: S608 — a constant.
        (low + max(offset, 0), low + (1 << _OFFSET_BITS), records_max),
    )
    return [_record(log_topic, partition, row) for row in rows]


def _end(connection: sqlite3.Connection, log_topic: str, partition: int) -> int:
    row = connection.execute("SELECT next FROM ends WHERE part = ?", (_part(log_topic, partition),)).fetchone()
    return int(row[0]) if row else 0


def _start(connection: sqlite3.Connection, log_topic: str, partition: int) -> int:
    low = _part(log_topic, partition) << _OFFSET_BITS
    row = connection.execute(
        "SELECT min(id) FROM records WHERE id >= ? AND id < ?", (low, low + (1 << _OFFSET_BITS))
    ).fetchone()
    return _end(connection, log_topic, partition) if row[0] is None else int(row[0]) - low


class SqliteLog:
    """Writes a log file, and reads it for the same process; safe to call from several threads.

    Raises:
        ConnectError: the folder can't be written.
    """

    def __init__(self, path: str | Path, *, size_max_pages: int = 0) -> None:
        self._path = Path(path)
        self._size_max_pages = size_max_pages
        self._lock = threading.Lock()
        self._ends: dict[int, int] = {}
        self._connection = self._open()

    @property
    def incarnation(self) -> str:
        """Random text drawn when the file was made."""
        return self._incarnation

    def append(self, records: Sequence[LogRecord]) -> list[int]:
        """Appends in order, in one transaction that is on disk when this returns; all or none.

        Raises:
            ConnectError: the disk is full or the file was damaged and has been replaced; append the same again.
        """
        appended_us = time.time_ns() // 1_000
        with self._lock:
            ends: dict[int, int] = {}
            rows, offsets = [], []
            for record in records:
                part = _part(record.log_topic, record.partition)
                offset = ends.get(part)
                if offset is None:
                    offset = self._ends.get(part, 0)
                ends[part] = offset + 1
                offsets.append(offset)
                headers = json.dumps(dict(record.headers), separators=(",", ":")) if record.headers else ""
                row_id = part << _OFFSET_BITS | offset
                deflated, value = _deflated(record.value)
                crc = zlib.crc32(value)
                rows.append((row_id, record.key, record.timestamp_us, appended_us, headers, deflated, crc, value))
            try:
                with self._connection:
                    self._connection.execute("BEGIN IMMEDIATE")
                    self._connection.executemany("INSERT INTO records VALUES (?,?,?,?,?,?,?,?)", rows)
                    self._connection.executemany("INSERT OR REPLACE INTO ends VALUES (?,?)", ends.items())
            except sqlite3.Error as error:
                if _is_damage(error):
                    self._connection.close()
                    self._set_aside(str(error))
                    self._connection = self._open()
                raise ConnectError(f"log {self._path}: {error}") from error
            self._ends.update(ends)
        return offsets

    def read(self, log_topic: str, partition: int, offset: int, records_max: int) -> list[LogRecord]:
        """Returns up to `records_max` records from `offset` on; [] at the end."""
        with self._lock, _as_connect_error(self._path):
            return _read(self._connection, log_topic, partition, offset, records_max)

    def start(self, log_topic: str, partition: int) -> int:
        """Offset of the oldest record that is still kept."""
        with self._lock, _as_connect_error(self._path):
            return _start(self._connection, log_topic, partition)

    def end(self, log_topic: str, partition: int) -> int:
        """Offset that the next record will get."""
        with self._lock, _as_connect_error(self._path):
            return _end(self._connection, log_topic, partition)

    def trim(self, log_topic: str, before_us: int) -> int:
        """Deletes one slice of at most `TRIM_ROWS_MAX` records per partition appended before `before_us`.

        Oldest first and never past a younger record, so offsets stay without holes. Returns how many went; call again
        until 0. Each slice is a transaction of its own, so appends wait for milliseconds only. The registry of devices
        keeps the newest record of each key for ever (contracts §6), so there this compacts.
        """
        if log_topic == log_topics.DEVICES:
            return self.compact(log_topic)
        gone = 0
        for partition in self._partitions(log_topic):
            low = _part(log_topic, partition) << _OFFSET_BITS
            with self._lock, _as_connect_error(self._path), self._connection:
                self._connection.execute("BEGIN IMMEDIATE")
                rows = self._connection.execute(
                    "SELECT id, appended_us FROM records WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
                    (low, low + (1 << _OFFSET_BITS), TRIM_ROWS_MAX),
                ).fetchall()
                old = 0
                while old < len(rows) and rows[old][1] < before_us:
                    old += 1
                if old:
                    last = rows[old - 1][0]
                    self._connection.execute("DELETE FROM records WHERE id BETWEEN ? AND ?", (low, last))
                gone += old
        return gone

    def compact(self, log_topic: str) -> int:
        """Deletes records whose key came again later, for topics that keep only the newest; returns how many went."""
        gone = 0
        for partition in self._partitions(log_topic):
            low = _part(log_topic, partition) << _OFFSET_BITS
            with self._lock, _as_connect_error(self._path), self._connection:
                self._connection.execute("BEGIN IMMEDIATE")
                gone += self._connection.execute(
                    "DELETE FROM records WHERE id >= :low AND id < :high AND id NOT IN "
                    "(SELECT max(id) FROM records WHERE id >= :low AND id < :high GROUP BY key)",
                    {"low": low, "high": low + (1 << _OFFSET_BITS)},
                ).rowcount
        return gone

    def close(self) -> None:
        """Releases the file; nothing appended is lost."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _partitions(self, log_topic: str) -> list[int]:
        topic_id = _TOPIC_IDS[log_topic]
        with self._lock:
            parts = list(self._ends)
        return [part & ((1 << _PARTITION_BITS) - 1) for part in parts if part >> _PARTITION_BITS == topic_id]

    def _open(self) -> sqlite3.Connection:
        """Opens or makes the file; sets a damaged one aside first."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConnectError(f"log {self._path}: {error}") from error
        try:
            return self._connect()
        except (sqlite3.DatabaseError, CorruptStateError) as error:
            if isinstance(error, sqlite3.DatabaseError) and not _is_damage(error):
                raise ConnectError(f"log {self._path}: {error}") from error
            self._set_aside(str(error))
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, cached_statements=32
        )
        try:
            connection.execute("PRAGMA page_size=8192")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA wal_autocheckpoint=2000")
            connection.execute("PRAGMA journal_size_limit=67108864")
            connection.execute("PRAGMA cell_size_check=ON")
            if self._size_max_pages:
                connection.execute(f"PRAGMA max_page_count={int(self._size_max_pages)}")
            connection.executescript(_SCHEMA)
            connection.execute("INSERT OR IGNORE INTO meta VALUES ('incarnation', ?)", (uuid.uuid4().hex,))
            connection.execute("INSERT OR IGNORE INTO meta VALUES ('version', ?)", (str(_SCHEMA_VERSION),))
            meta = dict(connection.execute("SELECT name, value FROM meta").fetchall())
            self._check_version(meta["version"])
            self._ends = dict(connection.execute("SELECT part, next FROM ends").fetchall())
            self._check_tails(connection)
        except BaseException:
            connection.close()
            raise
        self._incarnation = str(meta["incarnation"])
        return connection

    def _check_version(self, version: str) -> None:
        if version != str(_SCHEMA_VERSION):
            raise RejectedError(f"log {self._path} was written by a newer Headwater", reason="version")

    def _check_tails(self, connection: sqlite3.Connection) -> None:
        """Compares each partition's newest record with the recorded end; cheap, and where a torn write shows."""
        for part, following in self._ends.items():
            low = part << _OFFSET_BITS
            row = connection.execute(
                "SELECT id, crc, value FROM records WHERE id >= ? AND id < ? ORDER BY id DESC LIMIT 1",
                (low, low + (1 << _OFFSET_BITS)),
            ).fetchone()
            if row and (row[0] - low != following - 1 or zlib.crc32(row[2]) != row[1]):
                raise CorruptStateError(f"the tail of part {part} is damaged")

    def _set_aside(self, why: str) -> None:
        """Renames the damaged file and what belongs to it; nothing is deleted."""
        stamp = time.time_ns() // 1_000
        for suffix in ("", "-wal", "-shm"):
            old = self._path.with_name(self._path.name + suffix)
            if old.exists():
                old.rename(old.with_name(f"{self._path.name}.bad-{stamp}{suffix}"))
        _log.error("log %s was damaged (%s): kept as %s.bad-%d, a new one begins", self._path, why, self._path, stamp)


class SqliteLogReader:
    """Reads a log file that another process or connection writes; follows when the file is replaced.

    The file need not exist yet: until it does, every call raises ConnectError, which hosts retry.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path).absolute()
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._file_id: tuple[int, int] | None = None
        self._incarnation = ""

    @property
    def incarnation(self) -> str:
        """Random text drawn when the file was made; another one means that the file was replaced."""
        with self._lock:
            self._open()
            return self._incarnation

    def append(self, records: Sequence[LogRecord]) -> list[int]:
        """Refuses: a reader never writes."""
        raise CorruptStateError(f"{len(records)} records handed to a reader of {self._path}: append to SqliteLog")

    def read(self, log_topic: str, partition: int, offset: int, records_max: int) -> list[LogRecord]:
        """Returns up to `records_max` records from `offset` on; [] at the end.

        Raises:
            ConnectError: there is no log yet, or it was replaced under a reader that had better look again.
        """
        with self._lock:
            return self._guarded(lambda connection: _read(connection, log_topic, partition, offset, records_max))

    def start(self, log_topic: str, partition: int) -> int:
        """Offset of the oldest record that is still kept."""
        with self._lock:
            return self._guarded(lambda connection: _start(connection, log_topic, partition))

    def end(self, log_topic: str, partition: int) -> int:
        """Offset that the next record will get."""
        with self._lock:
            return self._guarded(lambda connection: _end(connection, log_topic, partition))

    def close(self) -> None:
        """Releases the file."""
        with self._lock:
            self._drop()

    def _guarded(self, query: Callable[[sqlite3.Connection], _T]) -> _T:
        """Runs a query on the current file; drops the connection when the file was replaced or fails."""
        connection = self._open()
        try:
            return query(connection)
        except sqlite3.Error as error:
            self._drop()
            raise ConnectError(f"log {self._path}: {error}") from error

    def _open(self) -> sqlite3.Connection:
        try:
            stat = self._path.stat()
        except OSError as error:
            self._drop()
            raise ConnectError(f"log {self._path}: {error}") from error
        file_id = (stat.st_dev, stat.st_ino)
        if self._connection is not None and self._file_id == file_id:
            return self._connection
        self._drop()
        connection = None
        try:
            connection = sqlite3.connect(
                f"{self._path.as_uri()}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_S, check_same_thread=False
            )
            row = connection.execute("SELECT value FROM meta WHERE name = 'incarnation'").fetchone()
            connection.execute("SELECT max(id) FROM records")
        except sqlite3.Error as error:
            if connection is not None:
                connection.close()
            raise ConnectError(f"log {self._path}: {error}") from error
        if row is None:
            connection.close()
            raise ConnectError(f"log {self._path} is not made yet")
        self._connection, self._file_id, self._incarnation = connection, file_id, str(row[0])
        return connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = self._file_id = None
