"""A read-only connection to the SQLite store that follows the file when the writer replaces it."""

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


class ReadConnection:
    """Opens the file when it is first asked; one query at a time, from any thread."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._inode = 0

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Gives a connection whose queries all see the same state of the store.

        Raises:
            ConnectError: there is no store yet, or it can't be read now.
        """
        with self._lock:
            try:
                connection = self._current()
                connection.execute("BEGIN")
                try:
                    yield connection
                finally:
                    connection.execute("ROLLBACK")
            except sqlite3.Error as error:
                self.close()
                raise translate(error, self.path, "can't read") from error

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """Runs one SELECT and returns its rows."""
        with self.snapshot() as connection:
            return connection.execute(sql, parameters).fetchall()

    def close(self) -> None:
        """Closes the connection; the next question opens it again."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _current(self) -> sqlite3.Connection:
        try:
            inode = self.path.stat().st_ino
        except OSError as error:
            raise ConnectError(f"there is no store at {self.path} yet: start the processor that writes it") from error
        if self._connection is not None and inode != self._inode:
            self.close()
        if self._connection is None:
            uri = f"file:{quote(str(self.path.absolute()))}?mode=ro"
            self._connection = sqlite3.connect(
                uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            self._inode = inode
        return self._connection
