"""Rows of the measurement `window` from merged panes."""

from dataclasses import dataclass

import numpy as np

from headwater.frame import Float64, Int64
from headwater.pane_state import KEY_BITS, KEY_MASK, KEY_OFFSET, Moments, joined_moments, merge_codes
from headwater.points import PointTable, TagColumn
from headwater.series import Directory
from headwater.sketch import quantiles_of_rows

QUANTILES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))


@dataclass(frozen=True, slots=True, eq=False)
class WindowPart:
    """One window of n series.

    Attributes:
        window: label of the windower.
        time_us: the rows' time.
        series: int64 (n,).
        moments: aggregates of the window.
        revision: int64 (n,), 0 for the first report.
        buckets: sketches of the window's panes: ascending `row << KEY_BITS | bucket` and counts; [] for no quantiles.
    """

    window: str
    time_us: int
    series: Int64
    moments: Moments
    revision: Int64
    buckets: list[tuple[Int64, Int64]]


def quantiles_of(codes: Int64, counts: Int64, moments: Moments) -> Float64:
    """Reads p50, p95 and p99 by nearest rank from sketches; float64 (3, n).

    Args:
        codes: ascending `row << KEY_BITS | bucket`.
        counts: readings in each bucket.
        moments: of the n rows; a row whose sketch does not hold all its readings gets NaN.
    """
    n = len(moments)
    if not len(codes):
        return np.full((len(QUANTILES), n), np.nan)
    start = np.searchsorted(codes, np.arange(n + 1, dtype=np.int64) << KEY_BITS)
    key = ((codes & KEY_MASK) - KEY_OFFSET).astype(np.int32)
    found = quantiles_of_rows(start, key, counts, [q for _, q in QUANTILES]).T
    found = np.clip(found, moments.low, moments.high)
    total = np.concatenate([[0], np.cumsum(counts)])
    found[:, total[start[1:]] - total[start[:-1]] != moments.count] = np.nan
    return found


def window_table(parts: list[WindowPart], directory: Directory) -> list[PointTable]:
    """One table of all rows, in the order given; [] if there are none. Fields that are not finite are left out."""
    if not parts:
        return []
    sizes = [len(part.series) for part in parts]
    series = np.concatenate([part.series for part in parts])
    labels = {label: at for at, label in enumerate(dict.fromkeys(part.window for part in parts))}
    window = np.repeat(np.array([labels[part.window] for part in parts], np.int32), sizes)
    moments = joined_moments([part.moments for part in parts])
    quantiles = quantiles_of(*_buckets(parts, sizes), moments)
    with np.errstate(over="ignore", invalid="ignore"):
        std = np.sqrt(moments.m2 / moments.count)
    fields = {"mean": moments.mean, "min": moments.low, "max": moments.high, "std": std}
    fields |= {name: quantiles[i] for i, (name, _) in enumerate(QUANTILES)}
    return [
        PointTable(
            "window",
            np.repeat(np.array([part.time_us for part in parts], np.int64), sizes),
            directory.series_tags(series) | {"window": TagColumn(tuple(labels), window)},
            {
                **{name: np.where(np.isfinite(column), column, np.nan) for name, column in fields.items()},
                "count": moments.count,
                "late": moments.late,
                "revision": np.concatenate([part.revision for part in parts]),
            },
        )
    ]


def _buckets(parts: list[WindowPart], sizes: list[int]) -> tuple[Int64, Int64]:
    """The sketches of all parts, rows counted through."""
    found = []
    first = 0
    for part, size in zip(parts, sizes, strict=True):
        if part.buckets:
            codes, counts = merge_codes(part.buckets)
            found.append((codes + (first << KEY_BITS), counts))
        first += size
    if not found:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    # Rows ascend from part to part, so the parts need no merging among themselves.
    return np.concatenate([codes for codes, _ in found]), np.concatenate([counts for _, counts in found])
