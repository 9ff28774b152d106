"""A pane of many series: count, mean, m2, min, max and a quantile sketch per series, mergeable in any order.

Means and squared distances merge by Chan, Golub and LeVeque (1979), exactly for counts, extremes and sketches.
Per series a row; rows ascend by series number, so a lookup is a binary search and a merge a gather.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from headwater.arrivals import Bool
from headwater.column_order import group_starts
from headwater.frame import Float64, Int64

PIECES_MAX = 8  # So many sorted pieces may wait before they are merged.
SPARSE = 32  # Of more codes a series than this, few are wanted.
KEY_BITS = 18  # A key of `headwater.sketch` and its sign.
KEY_OFFSET = 1 << (KEY_BITS - 1)
KEY_MASK = (1 << KEY_BITS) - 1


@dataclass(slots=True, eq=False)
class Moments:
    """Aggregates of n groups of readings as columns: int64 count and late, float64 mean, m2, low and high."""

    count: Int64
    late: Int64
    mean: Float64
    m2: Float64
    low: Float64
    high: Float64

    def __len__(self) -> int:
        return len(self.count)

    @classmethod
    def empty(cls, n: int) -> "Moments":
        """N groups of no readings."""
        zero, nothing = np.zeros(n, np.int64), np.zeros(n)
        return cls(zero, zero.copy(), nothing, nothing.copy(), np.full(n, np.inf), np.full(n, -np.inf))

    def take(self, at: Any) -> "Moments":
        """The groups at the given places."""
        return Moments(self.count[at], self.late[at], self.mean[at], self.m2[at], self.low[at], self.high[at])

    def merge_at(self, at: Any, other: "Moments") -> None:
        """Merges `other`, group by group, into the groups at the distinct places `at`."""
        mine, theirs = self.count[at], other.count
        total = mine + theirs
        mean = self.mean[at]
        with np.errstate(over="ignore", invalid="ignore"):
            delta = other.mean - mean
            share = theirs / total
            self.mean[at] = mean + delta * share
            self.m2[at] += other.m2 + delta * delta * (mine * share)
        self.count[at] = total
        self.late[at] += other.late
        self.low[at] = np.minimum(self.low[at], other.low)
        self.high[at] = np.maximum(self.high[at], other.high)

    def joined(self, starts: Int64) -> "Moments":
        """Merges neighbouring groups: result i is those in `[starts[i], starts[i + 1])`, in a fixed order."""
        if len(starts) == len(self):
            return self
        length = np.diff(starts, append=len(self))
        count = np.add.reduceat(self.count, starts)
        with np.errstate(over="ignore", invalid="ignore"):
            # A weighted mean of the distances from the first mean loses no digits to a large common offset.
            first = self.mean[starts]
            mean = first + np.add.reduceat(self.count * (self.mean - np.repeat(first, length)), starts) / count
            distance = self.mean - np.repeat(mean, length)
            m2 = np.add.reduceat(self.m2 + self.count * distance * distance, starts)
        return Moments(
            count,
            np.add.reduceat(self.late, starts),
            mean,
            m2,
            np.minimum.reduceat(self.low, starts),
            np.maximum.reduceat(self.high, starts),
        )


class BucketCounts:
    """Counts per (series, bucket): integers, so that any order of merging gives the same.

    What is added waits in sorted pieces and is merged when the pieces outgrow what is merged already: linear on average.
    """

    __slots__ = ("_codes", "_counts", "_pending", "_waiting")

    def __init__(self) -> None:
        self._codes: Int64 = np.empty(0, np.int64)
        self._counts: Int64 = np.empty(0, np.int64)
        self._pending: list[tuple[Int64, Int64]] = []
        self._waiting = 0

    def add(self, codes: Int64, counts: Int64) -> None:
        """Adds counts to ascending distinct codes `series << KEY_BITS | bucket + KEY_OFFSET`."""
        self._pending.append((codes, counts))
        self._waiting += len(codes)
        if self._waiting > 2 * len(self._codes) + 65_536:
            self.compact()

    def compact(self) -> tuple[Int64, Int64]:
        """Merges what waits; returns ascending distinct codes and their counts."""
        if self._pending:
            pieces = [(self._codes, self._counts), *self._pending] if len(self._codes) else self._pending
            self._codes, self._counts = merge_codes(pieces)
            self._pending, self._waiting = [], 0
        return self._codes, self._counts

    def take(self, series: Int64) -> list[tuple[Int64, Int64]]:
        """The codes and counts of some series (ascending), with their place in `series` instead of their number.

        Pieces that wait stay apart: whoever takes them merges them with those of other panes in one go.
        """
        if len(self._pending) > PIECES_MAX:
            self.compact()
        pieces = [_taken(codes, counts, series) for codes, counts in [(self._codes, self._counts), *self._pending]]
        return [piece for piece in pieces if len(piece[0])]

    def keep(self, series: Int64) -> None:
        """Forgets all but these series (ascending)."""
        codes, counts = self.compact()
        at = np.minimum(np.searchsorted(series, codes >> KEY_BITS), max(len(series) - 1, 0))
        here = series[at] == codes >> KEY_BITS if len(series) else np.zeros(len(codes), bool)
        self._codes, self._counts = codes[here], counts[here]


def _taken(codes: Int64, counts: Int64, series: Int64) -> tuple[Int64, Int64]:
    if not len(codes) or not len(series):
        return codes[:0], counts[:0]
    if SPARSE * len(series) < len(codes):
        low = np.searchsorted(codes, series << KEY_BITS)
        length = np.searchsorted(codes, (series + 1) << KEY_BITS) - low
        row = np.repeat(np.arange(len(series)), length)
        at = np.arange(len(row)) + np.repeat(low - (np.cumsum(length) - length), length)
        return row << KEY_BITS | codes[at] & KEY_MASK, counts[at]
    # Where many of the codes are wanted, a table of places and a gather each cost less than searches.
    owner = codes >> KEY_BITS
    place = np.full(max(int(owner[-1]), int(series[-1])) + 1, -1)
    place[series] = np.arange(len(series))
    row = place[owner]
    here = row >= 0
    if here.all():
        return row << KEY_BITS | codes & KEY_MASK, counts
    return row[here] << KEY_BITS | codes[here] & KEY_MASK, counts[here]


def merge_codes(pieces: list[tuple[Int64, Int64]]) -> tuple[Int64, Int64]:
    """Merges sorted pieces of (codes, counts) into one with distinct codes.

    >>> [column.tolist() for column in merge_codes([(np.array([1, 4]), np.array([1, 1])), (np.array([4]), np.array([2]))])]
    [[1, 4], [1, 3]]
    """
    if len(pieces) == 1:
        return pieces[0]
    codes = np.concatenate([codes for codes, _ in pieces])
    counts = np.concatenate([counts for _, counts in pieces])
    # Timsort finds the sorted pieces and merges them, which is why the stable kind is the fast one here.
    order = np.argsort(codes, kind="stable")
    codes = codes[order]
    starts = group_starts(codes)
    if not len(starts):
        return codes, counts
    return codes[starts], np.add.reduceat(counts[order], starts)


class PaneState:
    """One pane: a row per series that has readings in it."""

    __slots__ = ("buckets", "moments", "series")

    def __init__(self) -> None:
        self.series: Int64 = np.empty(0, np.int64)
        self.moments = Moments.empty(0)
        self.buckets = BucketCounts()

    def merge(self, series: Int64, moments: Moments) -> None:
        """Merges one group per series (ascending, distinct) into the pane."""
        if not len(self.series):
            # The sum gives a mean of -0.0 the sign that merging it into an empty group would.
            self.series, self.moments = series.copy(), moments.take(np.arange(len(series)))
            self.moments.mean += 0.0
            return
        self.series, (self.moments,), at = placed(self.series, [self.moments], series)
        self.moments.merge_at(at, moments)

    def find(self, series: Int64) -> tuple[Int64, Int64]:
        """Returns (places in `series`, rows of the pane) of those of the given series that are in the pane."""
        if not len(self.series):
            return np.empty(0, np.int64), np.empty(0, np.int64)
        at = np.minimum(np.searchsorted(self.series, series), len(self.series) - 1)
        here = np.flatnonzero(self.series[at] == series)
        return here, at[here]

    def keep(self, mask: Bool) -> None:
        """Forgets the rows where `mask` is False."""
        self.series, self.moments = self.series[mask], self.moments.take(mask)
        self.buckets.keep(self.series)


def placed(have: Int64, tables: list[Moments], want: Int64) -> tuple[Int64, list[Moments], Int64]:
    """Makes room for the series `want` among the sorted `have`; returns (series, tables, places of `want`)."""
    at = np.searchsorted(have, want)
    if len(have):
        is_new = have[np.minimum(at, len(have) - 1)] != want
        if not is_new.any():
            return have, tables, at
        new = want[is_new]
    else:
        new = want
    both = np.concatenate([have, new])
    order = np.argsort(both, kind="stable")
    wide = [extended(table, len(new)).take(order) for table in tables]
    both = both[order]
    return both, wide, np.searchsorted(both, want)


def extended(moments: Moments, n: int) -> Moments:
    """The groups, with n groups of no readings behind them."""
    return joined_moments([moments, Moments.empty(n)])


def joined_moments(parts: list[Moments]) -> Moments:
    """The groups of all parts, one after another."""
    if len(parts) == 1:
        return parts[0]
    return Moments(*(np.concatenate([getattr(part, name) for part in parts]) for name in Moments.__slots__))
