"""Opens the SQLite store's file for its one writer, and tells damage from a full disk or a lock.

A damaged file is set aside as `<name>.bad-<time>` and an empty one begins: the log still holds what was not
acknowledged, so starting is safer than refusing. It is said in the log at level CRITICAL.
"""

import fcntl
import logging
import sqlite3
import time
import uuid
from pathlib import Path
from typing import TextIO

from headwater.errors import ConnectError, CorruptStateError, HeadwaterError, RejectedError, SettingsError
from headwater.io.store_sqlite_schema import APPLICATION_ID, SCHEMA_VERSION, schema

PAGE_BYTES = 4096
BUSY_TIMEOUT_MS = 10_000
# Up to this size a file is checked page by page when it is opened (about a second); beyond it only by use.
QUICK_CHECK_BYTES_MAX = 64 * 1024 * 1024

_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_MISTAKE = frozenset({sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_RANGE})
_log = logging.getLogger(__name__)


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def is_damage(error: sqlite3.Error) -> bool:
    """Tells whether the file itself is broken."""
    return _code(error) in _DAMAGE


def translate(error: sqlite3.Error, path: Path, doing: str) -> HeadwaterError:
    """Returns the error of `headwater.errors` for one of SQLite: data it refuses, or something to retry."""
    if _code(error) in _MISTAKE or isinstance(error, sqlite3.InterfaceError):
        return RejectedError(f"{path}: {doing}: {error}", reason="constraint")
    hint = " (free some space; the write is tried again)" if _code(error) == sqlite3.SQLITE_FULL else ""
    return ConnectError(f"{path}: {doing}: {error}{hint}")


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_MS / 1_000, isolation_level=None, check_same_thread=False)
    try:
        connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        # Frames of many devices dirty the same pages again and again: copied back seldom, they are copied once.
        connection.execute("PRAGMA wal_autocheckpoint=4000")
        connection.execute("PRAGMA journal_size_limit=67108864")
        connection.execute("PRAGMA cache_size=-32768")
        connection.execute("PRAGMA temp_store=MEMORY")
        _prepare(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if application == 0 and version == 0 and tables == 0:
        connection.executescript(
            f"BEGIN IMMEDIATE; {schema()}PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={SCHEMA_VERSION};"
        )
        connection.execute("INSERT INTO meta VALUES ('version', 0), ('incarnation', ?)", (uuid.uuid4().hex,))
        connection.execute("COMMIT")
        return
    if application != APPLICATION_ID:
        raise SettingsError(f"{path} is a database of another program: give the store a file of its own")
    if version > SCHEMA_VERSION:
        raise SettingsError(f"{path} was written by a newer Headwater (schema {version}): upgrade this one")
    if path.stat().st_size <= QUICK_CHECK_BYTES_MAX:
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise CorruptStateError(f"{path}: {found}")


def lock(path: Path) -> TextIO:
    """Takes the right to write a store and returns what holds it; the system frees it when the process ends.

    SQLite would let two writers in, but releases before 3.51.3 may then lose pages when both reset the WAL at once.

    Raises:
        ConnectError: another writer has it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.with_name(f"{path.name}.lock").open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise ConnectError(f"{path} is being written by another process or store: stop that one first") from error
    return file


def set_aside(path: Path, cause: Exception) -> Path:
    """Moves a damaged file and what belongs to it out of the way, loudly; returns its new path."""
    aside = path.with_name(f"{path.name}.bad-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{uuid.uuid4().hex[:6]}")
    for suffix in ("-wal", "-shm"):
        companion = path.with_name(path.name + suffix)
        if companion.exists():
            companion.rename(aside.with_name(aside.name + suffix))
    path.rename(aside)
    _log.critical("the store %s is damaged (%s); it was moved to %s and an empty store begins", path, cause, aside)
    return aside


def open_store(path: Path) -> tuple[sqlite3.Connection, Path | None]:
    """Opens or makes the store; returns the connection and, if there was a damaged file, where it is now.

    Raises:
        ConnectError: the folder or the file can't be used now.
        SettingsError: the file is another program's or a newer version's.
    """
    try:
        return _connect(path), None
    except CorruptStateError as error:
        aside = set_aside(path, error)
    except sqlite3.Error as error:
        if not is_damage(error):
            raise translate(error, path, "can't open the store") from error
        aside = set_aside(path, error)
    try:
        return _connect(path), aside
    except sqlite3.Error as error:
        raise translate(error, path, "can't make a new store") from error
