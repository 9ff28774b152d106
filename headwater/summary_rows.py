"""Rows of summaries put together and picked out, sketches included."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from headwater.columns import ragged_arange, starts_of
from headwater.frame import Int64, Summaries

_EMPTY = Summaries.empty()
_PLAIN = ("start_us", "width_us", "count", "mean", "m2", "min", "max", "first", "last", "first_us", "last_us")


def concat_summaries(parts: Sequence[Summaries]) -> Summaries:
    """Returns the rows of all parts in order, over one dictionary of names in order of appearance.

    >>> len(concat_summaries([Summaries.empty(), Summaries.empty()]))
    0
    """
    parts = [part for part in parts if len(part)]
    if not parts:
        return _EMPTY
    if len(parts) == 1:
        return parts[0]
    codes: dict[str, int] = {}
    metric = [
        np.array([codes.setdefault(name, len(codes)) for name in part.metrics], np.int32)[part.metric] for part in parts
    ]
    sizes = np.concatenate([np.diff(part.sketch_start) for part in parts])
    sketch_start = starts_of(sizes)
    return Summaries(
        metrics=tuple(codes),
        metric=np.concatenate(metric),
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in _PLAIN},
        sketch_start=sketch_start,
        sketch_key=np.concatenate([part.sketch_key for part in parts]),
        sketch_count=np.concatenate([part.sketch_count for part in parts]),
    )


def take_summaries(summaries: Summaries, rows: Int64 | npt.NDArray[np.bool_]) -> Summaries:
    """Returns the chosen rows in the given order; `rows` is a mask or places. The dictionary of names stays."""
    at = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows.astype(np.int64)
    start = summaries.sketch_start[:-1][at]
    size = summaries.sketch_start[1:][at] - start
    sketch_start = starts_of(size)
    buckets = ragged_arange(start, size)
    return Summaries(
        metrics=summaries.metrics,
        metric=summaries.metric[at],
        **{name: getattr(summaries, name)[at] for name in _PLAIN},
        sketch_start=sketch_start,
        sketch_key=summaries.sketch_key[buckets],
        sketch_count=summaries.sketch_count[buckets],
    )
