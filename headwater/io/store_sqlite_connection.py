"""Read-only connections to the SQLite store that follow the file when the writer replaces it."""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from headwater.errors import ConnectError
from headwater.io.store_sqlite_file import translate

BUSY_TIMEOUT_S = 10.0
IDLE_MAX = 4


class ReadConnections:
    """Lends connections to any number of threads, one each, and keeps a few for the next; opens the file late."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._inode = 0

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Lends a connection whose queries all see the same state of the store.

        Raises:
            ConnectError: there is no store yet, or it can't be read now.
        """
        inode = self._find()
        try:
            connection = self._take(inode)
            try:
                connection.execute("BEGIN")
                yield connection
                connection.execute("ROLLBACK")
            except BaseException:
                connection.close()
                raise
        except sqlite3.Error as error:
            raise translate(error, self.path, "can't read") from error
        self._give_back(connection, inode)

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """Runs one SELECT and returns its rows."""
        with self.snapshot() as connection:
            return connection.execute(sql, parameters).fetchall()

    def close(self) -> None:
        """Closes the connections that no one uses; the next question opens one again."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _find(self) -> int:
        try:
            inode = self.path.stat().st_ino
        except OSError as error:
            raise ConnectError(f"there is no store at {self.path} yet: start the processor that writes it") from error
        with self._lock:
            is_same = inode == self._inode
            self._inode = inode
        if not is_same:
            self.close()
        return inode

    def _take(self, inode: int) -> sqlite3.Connection:
        with self._lock:
            if inode == self._inode and self._idle:
                return self._idle.pop()
        uri = f"file:{quote(str(self.path.absolute()))}?mode=ro"
        return sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)

    def _give_back(self, connection: sqlite3.Connection, inode: int) -> None:
        with self._lock:
            if inode == self._inode and len(self._idle) < IDLE_MAX:
                self._idle.append(connection)
                return
        connection.close()
