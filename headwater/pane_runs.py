"""From runs of readings to groups of one series and pane, without a Python step per reading.

    runs of a series ─▶ cut where the pane changes ─▶ count, mean, m2, min, max by reduceat ─▶ joined per (pane, series)

Squared distances are taken from each run's own mean (two passes), so no digits are lost to a large offset.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from headwater.arrivals import Arrivals
from headwater.column_order import group_starts, stable_order
from headwater.frame import Int32, Int64
from headwater.pane_state import KEY_BITS, KEY_MASK, KEY_OFFSET, Moments
from headwater.sketch import bucket

# Buckets are counted in place while there are at most so many places per reading; beyond, a sort is cheaper.
DENSE_MAX = 4


@dataclass(frozen=True, slots=True, eq=False)
class PaneGroups:
    """n groups, ascending by pane and then by series.

    Attributes:
        pane: int64 (n,), number of the pane since 1970.
        series: int64 (n,).
        moments: the aggregates.
    """

    pane: Int64
    series: Int64
    moments: Moments

    def per_pane(self) -> Iterator[tuple[int, slice]]:
        """(pane, its rows) in ascending order."""
        starts = group_starts(self.pane)
        ends = np.append(starts[1:], len(self.pane))
        for lo, hi, pane in zip(starts.tolist(), ends.tolist(), self.pane[starts].tolist(), strict=True):
            yield pane, slice(lo, hi)


@dataclass(frozen=True, slots=True, eq=False)
class CutRuns:
    """Runs cut at panes: where they begin, how long they are, and of which pane and series they are."""

    start: Int64
    length: Int64
    pane: Int64
    series: Int64


def cut_runs(arrivals: Arrivals, pane_us: int) -> CutRuns:
    """Cuts the runs of a record where the pane changes."""
    n = len(arrivals.time_us)
    pane = arrivals.time_us // pane_us
    is_start = np.empty(n, bool)
    np.not_equal(pane[1:], pane[:-1], out=is_start[1:])
    is_start[arrivals.run_start] = True
    start = np.flatnonzero(is_start)
    is_run = np.zeros(n, bool)
    is_run[arrivals.run_start] = True
    run = np.cumsum(is_run[start]) - 1
    return CutRuns(start, np.diff(start, append=n), pane[start], arrivals.run_series[run].astype(np.int64))


def group_moments(arrivals: Arrivals, runs: CutRuns) -> PaneGroups:
    """Aggregates the readings per pane and series."""
    value, start, length = arrivals.value, runs.start, runs.length
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.add.reduceat(value, start) / length
        distance = value - np.repeat(mean, length)
        np.multiply(distance, distance, out=distance)
        m2 = np.add.reduceat(distance, start)
    late = np.zeros(len(start), np.int64)
    if arrivals.is_late is not None:
        late = np.add.reduceat(arrivals.is_late, start, dtype=np.int64)
    moments = Moments(length, late, mean, m2, np.minimum.reduceat(value, start), np.maximum.reduceat(value, start))
    low = runs.pane.min()
    span, width = int(runs.pane.max() - low) + 1, int(runs.series.max()) + 1
    if span * width < 1 << 62:
        key = (runs.pane - low) * width + runs.series
        order = stable_order(key)
        starts = group_starts(key[order])
    else:
        order = np.lexsort((runs.series, runs.pane))
        starts = np.union1d(group_starts(runs.pane[order]), group_starts(runs.series[order]))
    first = order[starts]
    return PaneGroups(runs.pane[first], runs.series[first], moments.take(order).joined(starts))


def group_buckets(arrivals: Arrivals, runs: CutRuns) -> Iterator[tuple[int, Int64, Int64]]:
    """Counts the readings per pane, series and bucket: (pane, ascending codes, counts) in order of panes.

    A place for every bucket that there may be, where those are few; else one sort of integers for all panes together
    where pane, series and bucket fit into 63 bits.
    """
    low = int(runs.pane.min())
    span, bits = int(runs.pane.max()) - low, KEY_BITS + int(runs.series.max()).bit_length()
    key = bucket(arrivals.value)
    dense = _count_densely(runs, key)
    if dense is not None:
        yield from dense
        return
    if span.bit_length() + bits > 62:
        code = np.repeat((runs.series << KEY_BITS) + KEY_OFFSET, runs.length) + key
        pane = np.repeat(runs.pane, runs.length)
        for number in np.unique(runs.pane).tolist():
            yield number, *_distinct(np.sort(code[pane == number]))
        return
    # Half the width sorts in half the time, and most records fit into it.
    kind = np.int64 if span.bit_length() + bits > 31 else np.int32
    group = (runs.pane - low) << bits | runs.series << KEY_BITS
    code = np.repeat((group + KEY_OFFSET).astype(kind), runs.length)
    code += key
    code.sort()
    codes, counts = _distinct(code)
    codes = codes.astype(np.int64)
    panes = codes >> bits
    starts = group_starts(panes)
    codes &= (1 << bits) - 1
    for lo, hi in zip(starts.tolist(), [*starts[1:].tolist(), len(codes)], strict=True):
        yield low + int(panes[lo]), codes[lo:hi], counts[lo:hi]


def _count_densely(runs: CutRuns, key: Int32) -> Iterator[tuple[int, Int64, Int64]] | None:
    """Counts without a sort; None where the buckets between the lowest and the highest are too many for that."""
    low, low_key = int(runs.pane.min()), int(key.min())
    panes, series, width = int(runs.pane.max()) - low + 1, int(runs.series.max()) + 1, int(key.max()) - low_key + 1
    if panes * series * width > DENSE_MAX * len(key):
        return None
    group = ((runs.pane - low) * series + runs.series) * width - low_key
    place = np.repeat(group, runs.length)
    place += key
    count = np.bincount(place)
    filled = np.flatnonzero(count != 0)  # Of a mask, which is several times as fast as of integers.
    group = filled // width
    pane = group // series
    codes = ((group - pane * series) << KEY_BITS) + (filled - group * width + (low_key + KEY_OFFSET))
    starts = group_starts(pane)
    return (
        (low + int(pane[lo]), codes[lo:hi], count[filled[lo:hi]])
        for lo, hi in zip(starts.tolist(), [*starts[1:].tolist(), len(filled)], strict=True)
    )


def summary_buckets(arrivals: Arrivals, row: int) -> tuple[Int64, Int64]:
    """The sketch of one summary as (ascending codes, counts)."""
    panes = arrivals.summaries
    low, high = int(panes.sketch_start[row]), int(panes.sketch_start[row + 1])
    key = panes.sketch_key[low:high].astype(np.int64) + KEY_OFFSET
    return int(arrivals.summary_series[row]) << KEY_BITS | key & KEY_MASK, panes.sketch_count[low:high]


def _distinct(codes: Int64 | Int32) -> tuple[Any, Int64]:
    starts = group_starts(codes)
    return codes[starts], np.diff(starts, append=len(codes))
