"""The spool's file: its lock, its schema, what makes it trustworthy, and what its errors mean.

Beside `spool.db` stands `spool.db.lock`: whoever holds its lock is the one process that writes, and its text is the
epoch, so that a file that was lost or wiped is still known by name.
"""

import fcntl
import os
import sqlite3
import zlib
from pathlib import Path
from typing import Final

from headwater.errors import CorruptStateError, HeadwaterError, SettingsError

APPLICATION_ID: Final = 0x48775370  # "HwSp"
SCHEMA_VERSION: Final = 1
CHECKED_BYTES_MAX: Final = 32 * 1024 * 1024  # A larger file is checked as it is read: every row has a CRC.

# The sqlite3 module decodes messages and texts strictly: a damaged schema can surface as a UnicodeDecodeError.
DATABASE_ERRORS: Final = (sqlite3.Error, UnicodeDecodeError)

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL, crc INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE frames (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, lane INTEGER NOT NULL, readings INTEGER NOT NULL, gaps INTEGER NOT NULL,
  created_us INTEGER NOT NULL, bytes INTEGER NOT NULL, crc INTEGER NOT NULL, payload BLOB NOT NULL
);
CREATE INDEX frames_by_lane ON frames (lane, seq, bytes);
CREATE TABLE strays (
  epoch TEXT NOT NULL, seq INTEGER NOT NULL, readings INTEGER NOT NULL, gaps INTEGER NOT NULL,
  created_us INTEGER NOT NULL, bytes INTEGER NOT NULL, crc INTEGER NOT NULL, payload BLOB NOT NULL,
  PRIMARY KEY (epoch, seq)
);
CREATE TABLE gaps_due (
  id INTEGER PRIMARY KEY, epoch TEXT NOT NULL, from_seq INTEGER NOT NULL, to_seq INTEGER NOT NULL,
  reason TEXT NOT NULL, readings INTEGER NOT NULL, declared_us INTEGER NOT NULL
);
"""


class SpoolUnavailableError(HeadwaterError):
    """The disk does not take or give what was asked now; nothing has changed, try again."""


class SpoolDamagedError(CorruptStateError):
    """The spool's file fails its own checks."""


def classified(error: Exception, path: Path) -> HeadwaterError:
    """Tells a damaged file from a disk that is full, gone or slow."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    damaged = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISMATCH)
    if code in damaged:
        return SpoolDamagedError(f"spool {path}: {error}")
    return SpoolUnavailableError(f"spool {path}: {error}")


def row_crc(seq: int, readings: int, gaps: int, created_us: int, payload: bytes) -> int:
    """CRC-32 over everything of a row that never changes (its lane may)."""
    return zlib.crc32(payload, zlib.crc32(f"{seq},{readings},{gaps},{created_us}".encode()))


class SpoolLock:
    """Holds the right to write a spool; its file remembers the epoch."""

    def __init__(self, spool: Path) -> None:
        self.path = spool.with_name(spool.name + ".lock")
        try:
            spool.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SettingsError(
                f"spool {spool}: can't write in its folder ({error.strerror}): give the agent's user the folder, "
                f"or set agent.spool to a path that it may write"
            ) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._descriptor)
            raise SettingsError(
                f"spool {spool} is in use by another agent: stop that one, or set agent.spool to another file"
            ) from error

    def epoch(self) -> int:
        """The epoch noted last, 0 if none can be read."""
        text = os.pread(self._descriptor, 64, 0)
        number, _, crc = text.strip().partition(b" ")
        valid = number.isdigit() and crc.isdigit() and zlib.crc32(number) == int(crc)
        return int(number) if valid else 0

    def note_epoch(self, epoch: int) -> None:
        """Writes the epoch down, durably; a disk that is full is no reason to stop."""
        number = str(epoch).encode()
        try:
            os.pwrite(self._descriptor, (number + b" %d" % zlib.crc32(number)).ljust(63) + b"\n", 0)
            os.fsync(self._descriptor)
        except OSError as error:
            raise SpoolUnavailableError(f"spool {self.path}: {error}") from error

    def release(self) -> None:
        """Lets another process have it."""
        os.close(self._descriptor)


def connected(path: Path) -> sqlite3.Connection:
    """Opens the file for writing with full durability; creates nothing but an empty file."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0.5)
    try:
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA cache_size=-1024")
        connection.execute("PRAGMA journal_size_limit=4194304")
    except DATABASE_ERRORS:
        connection.close()
        raise
    return connection


def created(path: Path, epoch: int) -> sqlite3.Connection:
    """Makes a new, empty spool file with its epoch, in one transaction."""
    connection = connected(path)
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    connection.execute("BEGIN IMMEDIATE")
    for statement in _SCHEMA.split(";"):
        connection.execute(statement)
    put_meta(connection, "epoch", str(epoch))
    put_meta(connection, "freed", "0")
    connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
    connection.execute("COMMIT")
    return connection


def put_meta(connection: sqlite3.Connection, key: str, value: str) -> None:
    """Sets one value; it is protected by a CRC of its own."""
    connection.execute(
        "INSERT OR REPLACE INTO meta VALUES (?, ?, ?)", (key, value, zlib.crc32(f"{key}={value}".encode()))
    )


def get_meta(connection: sqlite3.Connection, key: str) -> int:
    """Reads one number.

    Raises:
        SpoolDamagedError: it is not there or fails its CRC.
    """
    row = connection.execute("SELECT value, crc FROM meta WHERE key = ?", (key,)).fetchone()
    if row is None or not isinstance(row[0], str) or zlib.crc32(f"{key}={row[0]}".encode()) != row[1]:
        raise SpoolDamagedError(f"spool: {key} can't be trusted")
    return int(row[0])


def checked(path: Path) -> sqlite3.Connection:
    """Opens an existing spool file and makes sure that it can be trusted.

    Raises:
        SpoolDamagedError: it is not a spool, or a damaged one.
        SpoolUnavailableError: the disk does not answer.
        SettingsError: the file may not be written.
    """
    if not os.access(path, os.R_OK | os.W_OK):
        raise SettingsError(f"spool {path}: the agent's user may not read and write it: change its owner or mode")
    connection: sqlite3.Connection | None = None
    try:
        if path.stat().st_size == 0:
            raise SpoolDamagedError(f"spool {path} is empty")
        connection = connected(path)
        if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise SpoolDamagedError(f"spool {path} is not a spool")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version != SCHEMA_VERSION:
            raise SpoolDamagedError(f"spool {path} has schema version {version}, this agent reads {SCHEMA_VERSION}")
        if path.stat().st_size <= CHECKED_BYTES_MAX:
            verdict = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
            if verdict != "ok":
                raise SpoolDamagedError(f"spool {path}: {verdict}")
    except (*DATABASE_ERRORS, HeadwaterError) as error:
        if connection is not None:
            connection.close()
        raise classified(error, path) if isinstance(error, DATABASE_ERRORS) else error from error
    return connection
