"""The summary algebra: readings become panes, and panes merge into panes (contracts §4).

count, min, max, first, last and the sketch of a merged pane are exactly those of all its readings, in whatever order
panes are merged; mean and m2 are so to 1e-12 relative (Chan, Golub, LeVeque, "Updating formulae and a pairwise
algorithm for computing sample variances", 1979). Of readings with equal times the smaller value is first and the
larger last, so that ties don't depend on the order either. −0.0 counts as 0.0.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from headwater.columns import ragged_arange
from headwater.frame import Float64, Int32, Int64, Summaries
from headwater.sketch import add_counts, count_buckets
from headwater.summary_rows import concat_summaries

_FLOAT_MAX: Final = np.finfo(np.float64).max


def summarize(
    metrics: tuple[str, ...],
    metric: Int32,
    time_us: Int64,
    value: Float64,
    *,
    width_us: int,
    with_sketch: bool = False,
) -> Summaries:
    """Gathers n readings into epoch-aligned panes `[start, start + width_us)`, sorted by metric code and start.

    Args:
        metrics: dictionary of names.
        metric: int32 (n,), index into `metrics`.
        time_us: int64 (n,).
        value: float64 (n,), finite.
        width_us: of the panes, at least 1.
        with_sketch: whether quantiles will be asked for.

    Costs O(n) for readings sorted by metric and then time, as they lie in frames; O(n log n) otherwise.

    >>> panes = summarize(("t",), np.zeros(3, np.int32), np.array([0, 5, 10]), np.array([1.0, 3.0, 7.0]), width_us=10)
    >>> panes.start_us.tolist(), panes.count.tolist(), panes.mean.tolist()
    ([0, 10], [2, 1], [2.0, 7.0])
    """
    if not len(value):
        return Summaries.empty()
    value = value + 0.0
    if not _is_sorted(metric, time_us):
        order = np.lexsort((value, time_us, metric))
        metric, time_us, value = metric[order], time_us[order], value[order]
    start_us = time_us - time_us % width_us
    first = np.flatnonzero((np.diff(metric, prepend=metric[0] - 1) != 0) | (np.diff(start_us, prepend=0) != 0))
    end = np.append(first[1:], len(value))
    count = end - first
    mean, m2 = _moments(value, first, count)
    rows = len(first)
    sketch = np.zeros(rows + 1, np.int64), np.empty(0, np.int32), np.empty(0, np.int64)
    if with_sketch:
        sketch = count_buckets(np.repeat(np.arange(rows), count), value, rows)
    return Summaries(
        metrics=metrics,
        metric=metric[first].astype(np.int32),
        start_us=start_us[first],
        width_us=np.full(rows, width_us, np.int64),
        count=count,
        mean=mean,
        m2=m2,
        min=np.minimum.reduceat(value, first),
        max=np.maximum.reduceat(value, first),
        first=value[first],
        last=value[end - 1],
        first_us=time_us[first],
        last_us=time_us[end - 1],
        sketch_start=sketch[0],
        sketch_key=sketch[1],
        sketch_count=sketch[2],
    )


def _is_sorted(metric: Int32, time_us: Int64) -> bool:
    """Tells whether metrics ascend and times ascend strictly within each."""
    step = np.diff(metric)
    return bool(((step > 0) | ((step == 0) & (np.diff(time_us) > 0))).all())


def _moments(value: Float64, first: Int64, count: Int64) -> tuple[Float64, Float64]:
    """Returns mean and m2 of the groups that begin at `first`; the corrected two-pass algorithm around a group's value.

    m2 of values beyond 1e154 saturates at the largest float64.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        shift = value[first]
        mean = shift + np.add.reduceat(value - np.repeat(shift, count), first) / count
        if not np.isfinite(mean).all():
            mean = np.add.reduceat(value / np.repeat(count, count), first)
        distance = value - np.repeat(mean, count)
        rest = np.add.reduceat(distance, first)
        m2 = np.add.reduceat(distance * distance, first) - rest * rest / count
    mean = np.clip(mean, np.minimum.reduceat(value, first), np.maximum.reduceat(value, first))
    return mean, _saturate(m2)


def _saturate(m2: Float64) -> Float64:
    bounded: Float64 = np.where(np.isfinite(m2), np.maximum(m2, 0.0), _FLOAT_MAX)
    return bounded


def merge(a: Summaries, b: Summaries) -> Summaries:
    """Merges panes of equal (metric, start, width) from both sides; associative and commutative.

    >>> one = summarize(("t",), np.zeros(1, np.int32), np.array([3]), np.array([1.0]), width_us=10)
    >>> two = summarize(("t",), np.zeros(1, np.int32), np.array([7]), np.array([2.0]), width_us=10)
    >>> both = merge(two, one)
    >>> both.count.tolist(), both.first.tolist(), both.last.tolist()
    ([2], [1.0], [2.0])
    """
    return merge_rows(concat_summaries([a, b]))


def merge_rows(panes: Summaries) -> Summaries:
    """Merges the rows of equal (metric, start, width); returns rows sorted by metric name, start and width.

    A merged row has a sketch only if all of its parts had one: a partial sketch would lie about quantiles.
    O(n log n) for n rows, O(n) for rows that are sorted already.
    """
    if not len(panes):
        return Summaries.empty()
    names = sorted({panes.metrics[code] for code in np.unique(panes.metric).tolist()})
    place = {name: code for code, name in enumerate(names)}
    metric = np.array([place.get(name, -1) for name in panes.metrics], np.int32)[panes.metric]
    order = np.lexsort((panes.width_us, panes.start_us, metric))
    key = np.stack((metric, panes.start_us, panes.width_us))[:, order]
    first = np.flatnonzero(np.append(True, (np.diff(key, axis=1) != 0).any(axis=0)))
    size = np.diff(np.append(first, len(order)))
    if len(first) == len(order):
        size = np.ones(len(order), np.int64)
    group = np.empty(len(order), np.int64)
    group[order] = np.repeat(np.arange(len(first)), size)
    count = panes.count[order]
    total = np.add.reduceat(count, first)
    mean, m2 = _merge_moments(panes.mean[order], panes.m2[order], count, total, first, size)
    low = np.minimum.reduceat(panes.min[order] + 0.0, first)
    high = np.maximum.reduceat(panes.max[order] + 0.0, first)
    early = np.lexsort((panes.first + 0.0, panes.first_us, group))[first]
    late = np.lexsort((panes.last + 0.0, panes.last_us, group))[first + size - 1]
    sketch_start, sketch_key, sketch_count = _merge_sketches(panes, group, len(first))
    return Summaries(
        metrics=tuple(names),
        metric=key[0, first].astype(np.int32),
        start_us=key[1, first],
        width_us=key[2, first],
        count=total,
        mean=np.clip(mean, low, high),
        m2=m2,
        min=low,
        max=high,
        first=panes.first[early] + 0.0,
        last=panes.last[late] + 0.0,
        first_us=panes.first_us[early],
        last_us=panes.last_us[late],
        sketch_start=sketch_start,
        sketch_key=sketch_key,
        sketch_count=sketch_count,
    )


def _merge_moments(
    mean: Float64, m2: Float64, count: Int64, total: Int64, first: Int64, size: npt.NDArray[np.int64]
) -> tuple[Float64, Float64]:
    """Merges means and m2 of groups of rows, all parts of a group at once."""
    alone = size == 1
    with np.errstate(over="ignore", invalid="ignore"):
        shift = mean[first]
        merged = shift + np.add.reduceat((mean - np.repeat(shift, size)) * count, first) / total
        if not np.isfinite(merged).all():
            merged = np.add.reduceat(mean * (count / np.repeat(total, size)), first)
        distance = mean - np.repeat(merged, size)
        spread = np.add.reduceat(m2 + distance * distance * count, first)
    return np.where(alone, shift, merged), np.where(alone, m2[first], _saturate(spread))


def _merge_sketches(panes: Summaries, group: Int64, groups: int) -> tuple[Int64, Int32, Int64]:
    size = np.diff(panes.sketch_start)
    if not size.any():
        return np.zeros(groups + 1, np.int64), np.empty(0, np.int32), np.empty(0, np.int64)
    incomplete = np.zeros(groups, bool)
    incomplete[group[size == 0]] = True
    rows = np.flatnonzero(~incomplete[group])
    at = ragged_arange(panes.sketch_start[rows], size[rows])
    owner = np.repeat(group[rows], size[rows])
    return add_counts(owner, panes.sketch_key[at], panes.sketch_count[at], groups)
