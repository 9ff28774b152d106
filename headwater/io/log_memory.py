"""A log in memory: a full peer of the others without durability, for tests and experiments."""

import threading
from collections.abc import Sequence
from dataclasses import replace

from headwater.errors import RejectedError
from headwater.ports import LogRecord


class MemoryLog:
    """Keeps records in lists; appends are all or none and offsets have no holes.

    Args:
        incarnation: the text that tells it from another.
        record_max_bytes: larger records are refused; 0 refuses none.

    >>> log = MemoryLog("a1")
    >>> log.append([LogRecord("headwater.readings", 0, b"0", b"x", 5)]), log.end("headwater.readings", 0)
    ([0], 1)
    """

    def __init__(self, incarnation: str = "memory", record_max_bytes: int = 0) -> None:
        self._record_max_bytes = record_max_bytes
        self._incarnation = incarnation
        self._lock = threading.Lock()
        self._partitions: dict[tuple[str, int], list[LogRecord]] = {}
        self._starts: dict[tuple[str, int], int] = {}

    @property
    def incarnation(self) -> str:
        """The text that it was made with."""
        return self._incarnation

    def append(self, records: Sequence[LogRecord]) -> list[int]:
        """Appends in order and returns the offsets.

        Raises:
            RejectedError: a record is too large; nothing was appended.
        """
        largest = max((len(record.value) for record in records), default=0)
        if self._record_max_bytes and largest > self._record_max_bytes:
            raise RejectedError(f"a record of {largest} bytes, {self._record_max_bytes} are allowed", reason="size")
        offsets = []
        with self._lock:
            for record in records:
                where = (record.log_topic, record.partition)
                rows = self._partitions.setdefault(where, [])
                offset = self._starts.get(where, 0) + len(rows)
                rows.append(replace(record, offset=offset))
                offsets.append(offset)
        return offsets

    def read(self, log_topic: str, partition: int, offset: int, records_max: int) -> list[LogRecord]:
        """Returns up to `records_max` records from `offset` on; [] at the end."""
        with self._lock:
            rows = self._partitions.get((log_topic, partition), [])
            low = max(offset - self._starts.get((log_topic, partition), 0), 0)
            return rows[low : low + records_max]

    def start(self, log_topic: str, partition: int) -> int:
        """Offset of the oldest record that is still kept."""
        return self._starts.get((log_topic, partition), 0)

    def end(self, log_topic: str, partition: int) -> int:
        """Offset that the next record will get."""
        with self._lock:
            rows = self._partitions.get((log_topic, partition), [])
            return self._starts.get((log_topic, partition), 0) + len(rows)

    def forget(self, log_topic: str, partition: int, before: int) -> None:
        """Gives up the records below offset `before`, as retention does."""
        with self._lock:
            rows = self._partitions.get((log_topic, partition), [])
            start = self._starts.get((log_topic, partition), 0)
            count = min(max(before - start, 0), len(rows))
            del rows[:count]
            self._starts[log_topic, partition] = start + count

    def close(self) -> None:
        """Does nothing: the records stay readable."""
