"""Checkpoints in one SQLite file: a value per shard, all values of a save replaced in one transaction."""

import sqlite3
import threading
import zlib
from collections.abc import Mapping
from pathlib import Path

from headwater.errors import ConnectError, CorruptStateError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS checkpoint (shard INTEGER PRIMARY KEY, crc INTEGER NOT NULL, value BLOB NOT NULL);
"""


class SqliteCheckpoints:
    """Keeps the latest checkpoint of every shard; one writing connection (`headwater.ports.Checkpoints`).

    Raises:
        ConnectError: the file can't be opened or written now.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)
        self._lock = threading.Lock()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=10.0)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=FULL")
            self._connection.executescript(_SCHEMA)
        except sqlite3.OperationalError as error:
            raise ConnectError(f"checkpoints {self._path}: {error}") from error
        except sqlite3.DatabaseError as error:
            raise self._damage(error) from error

    def load(self) -> dict[int, bytes]:
        """Returns {shard: checkpoint} of the newest complete save.

        Raises:
            CorruptStateError: the file is damaged.
        """
        try:
            with self._lock:
                rows = self._connection.execute("SELECT shard, crc, value FROM checkpoint ORDER BY shard").fetchall()
        except sqlite3.OperationalError as error:
            raise ConnectError(f"checkpoints {self._path}: {error}") from error
        except sqlite3.DatabaseError as error:
            raise self._damage(error) from error
        for shard, crc, value in rows:
            if zlib.crc32(value) != crc:
                raise self._damage(f"the checkpoint of shard {shard} fails its checksum")
        return {shard: value for shard, _, value in rows}

    def save(self, checkpoints: Mapping[int, bytes]) -> None:
        """Replaces the given shards' checkpoints together; on disk when this returns."""
        rows = [(shard, zlib.crc32(value), value) for shard, value in checkpoints.items()]
        try:
            with self._lock, self._connection:
                self._connection.execute("BEGIN IMMEDIATE")
                self._connection.executemany("INSERT OR REPLACE INTO checkpoint VALUES (?, ?, ?)", rows)
        except sqlite3.OperationalError as error:
            raise ConnectError(f"checkpoints {self._path}: {error}") from error
        except sqlite3.DatabaseError as error:
            raise self._damage(error) from error

    def forget(self) -> None:
        """Drops all checkpoints, so that the next start replays the log from its oldest record."""
        try:
            with self._lock, self._connection:
                self._connection.execute("DELETE FROM checkpoint")
        except sqlite3.OperationalError as error:
            raise ConnectError(f"checkpoints {self._path}: {error}") from error

    def close(self) -> None:
        """Releases the file."""
        with self._lock:
            self._connection.close()

    def _damage(self, why: object) -> CorruptStateError:
        return CorruptStateError(
            f"checkpoints {self._path}: {why}; stop the processor and move the file away: "
            "it then replays what the log still holds, and the store ignores what it has"
        )
