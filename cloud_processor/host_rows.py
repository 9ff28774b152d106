"""What a host tells of itself: rows of the measurement `pipeline` that no replay gives again (docs/store.md).

    attempts, latencies ─▶ sums and sketches of an interval ─▶ a row a stage ─▶ the next write to the store

The rows of shards (`cloud_processor.pipeline_rows`) depend on the log alone. These depend on clocks and on peers, so they
have stages of their own, and a host makes them only where it is told to. While the store is away they wait.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np

from cloud_processor.event_rows import event_table
from headwater.errors import ConnectError
from headwater.frame import Int32, Int64
from headwater.points import PointTable
from headwater.ports import Clock
from headwater.sketch import add_counts, bucket, quantiles_of_rows

LOG, STORE, CHECKPOINTS, END_TO_END = "log", "store", "checkpoints", "end-to-end"
WAITING_MAX = 360
HELD_MAX = 65_536
_QUANTILES = {"p50_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99}


class Latencies:
    """A sketch of latencies, each within 2^-7 of itself; empties itself when it is read."""

    def __init__(self) -> None:
        self._held: list[Int64] = []
        self._held_size = 0
        self._key: Int32 = np.empty(0, np.int32)
        self._count: Int64 = np.empty(0, np.int64)

    def add(self, latency_us: Int64) -> None:
        """Takes latencies in µs, int64 (n,)."""
        self._held.append(latency_us)
        self._held_size += len(latency_us)
        if self._held_size >= HELD_MAX:
            self._fold()

    def take(self) -> dict[str, list[float]]:
        """Returns the quantiles in ms as fields of one row, and begins anew; {} if there was none.

        >>> latencies = Latencies()
        >>> latencies.add(np.array([1_000, 2_000, 4_000]))
        >>> {name: round(value, 1) for name, (value,) in latencies.take().items()}
        {'p50_ms': 2.0, 'p95_ms': 4.0, 'p99_ms': 4.0}
        >>> latencies.take()
        {}
        """
        self._fold()
        if not len(self._key):
            return {}
        start = np.array([0, len(self._key)], np.int64)
        (found,) = quantiles_of_rows(start, self._key, self._count, tuple(_QUANTILES.values())).tolist()
        self._key, self._count = self._key[:0], self._count[:0]
        return {name: [value] for name, value in zip(_QUANTILES, found, strict=True)}

    def _fold(self) -> None:
        if not self._held_size:
            return
        found = bucket(np.concatenate(self._held) / 1e3)
        lowest = int(found.min())
        counts = np.bincount(found - lowest)
        (filled,) = np.nonzero(counts)
        key = np.concatenate([self._key, (filled + lowest).astype(np.int32)])
        count = np.concatenate([self._count, counts[filled]])
        _, self._key, self._count = add_counts(np.zeros(len(key), np.int64), key, count, 1)
        self._held, self._held_size = [], 0


@dataclass(slots=True)
class _Tally:
    """Attempts at one peer: how many of this interval found it away, how many repeated one that had, how the last ended."""

    errors: int = 0
    retries: int = 0
    is_away: bool = False


class HostRows:
    """Gathers what a host sees of its peers and of time, and makes rows of it; for one thread.

    Args:
        instance: names the host; with `shards` behind it where it takes only some.
        shards: as in the settings, "" for all.
        every_us: time between rows; 0 makes none.
        started_us: monotonic time.
    """

    def __init__(self, instance: str, shards: str, *, every_us: int, started_us: int) -> None:
        self._instance = f"{instance}:{shards}" if shards else instance
        self._every_us = every_us
        self._made_us = started_us
        self._tallies = {stage: _Tally() for stage in (LOG, STORE, CHECKPOINTS)}
        self._latencies = {STORE: Latencies(), END_TO_END: Latencies()}
        self._waiting: list[list[PointTable]] = []

    @contextmanager
    def attempt(self, stage: str) -> Iterator[None]:
        """Counts what is done inside as one attempt at the peer behind a stage; a ConnectError goes on to the caller."""
        tally = self._tallies[stage]
        tally.retries += tally.is_away
        try:
            yield
        except ConnectError:
            tally.errors += 1
            tally.is_away = True
            raise
        tally.is_away = False

    def stored(self, from_event_us: Int64, from_receipt_us: Int64) -> None:
        """Notes latencies of frames that are now in the store, in µs, int64 (n,) and (m,)."""
        if self._every_us:
            self._latencies[END_TO_END].add(from_event_us)
            self._latencies[STORE].add(from_receipt_us)

    def tell(self, clock: Clock, lag: Callable[[], int]) -> None:
        """Makes the rows of an interval that is over; `lag` may raise a ConnectError, then the lag is not told.

        When WAITING_MAX intervals wait for the store, the next one grows until they are gone: no count is lost.
        """
        is_over = clock.monotonic_us() - self._made_us >= self._every_us
        if not self._every_us or not is_over or len(self._waiting) >= WAITING_MAX:
            return
        fields: dict[str, dict[str, Sequence[float]]] = {stage: {} for stage in (LOG, STORE, CHECKPOINTS, END_TO_END)}
        if not self._tallies[LOG].is_away:
            with suppress(ConnectError), self.attempt(LOG):
                fields[LOG]["lag"] = [lag()]
        for stage, tally in self._tallies.items():
            fields[stage] |= {"errors": [tally.errors], "retries": [tally.retries]}
            tally.errors = tally.retries = 0
        for stage, latencies in self._latencies.items():
            fields[stage] |= latencies.take()
        now_us = clock.now_us()
        tables = [
            event_table("pipeline", [now_us], [(stage, self._instance)], found)
            for stage, found in fields.items()
            if found
        ]
        self._waiting.append([table for (table,) in tables])
        self._made_us = clock.monotonic_us()

    def take(self) -> list[PointTable]:
        """Returns the rows that wait for a write; they are the caller's now."""
        tables = [table for interval in self._waiting for table in interval]
        self._waiting.clear()
        return tables
