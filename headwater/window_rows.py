"""Rows of the measurement `window` from merged panes."""

from dataclasses import dataclass

import numpy as np

from headwater.frame import Float64, Int64
from headwater.pane_state import KEY_BITS, KEY_MASK, KEY_OFFSET, Moments
from headwater.points import PointTable, TagColumn
from headwater.series import Directory
from headwater.sketch import quantiles_of_rows

QUANTILES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))


@dataclass(frozen=True, slots=True, eq=False)
class WindowRows:
    """n windows of one windower, a row per series.

    Attributes:
        window: label of the windower.
        time_us: int64 (n,), the row's time.
        series: int64 (n,).
        moments: aggregates of the windows.
        quantiles: float64 (3, n), NaN where no sketch covers the whole window.
        revision: int64 (n,), 0 for the first report.
    """

    window: str
    time_us: Int64
    series: Int64
    moments: Moments
    quantiles: Float64
    revision: Int64


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


def window_table(parts: list[WindowRows], directory: Directory) -> list[PointTable]:
    """One table of all rows, in the order given; [] if there are none. Fields that are not finite are left out."""
    parts = [part for part in parts if len(part.series)]
    if not parts:
        return []
    series = np.concatenate([part.series for part in parts])
    labels = tuple(dict.fromkeys(part.window for part in parts))
    window = np.concatenate([np.full(len(part.series), labels.index(part.window), np.int32) for part in parts])
    count = np.concatenate([part.moments.count for part in parts])
    quantiles = np.concatenate([part.quantiles for part in parts], axis=1)
    with np.errstate(over="ignore", invalid="ignore"):
        std = np.sqrt(np.concatenate([part.moments.m2 for part in parts]) / count)
    fields = {
        "mean": np.concatenate([part.moments.mean for part in parts]),
        "min": np.concatenate([part.moments.low for part in parts]),
        "max": np.concatenate([part.moments.high for part in parts]),
        "std": std,
        **{name: quantiles[i] for i, (name, _) in enumerate(QUANTILES)},
    }
    fields = {name: np.where(np.isfinite(column), column, np.nan) for name, column in fields.items()}
    tags = series_tags(series, directory) | {"window": TagColumn(labels, window)}
    return [
        PointTable(
            "window",
            np.concatenate([part.time_us for part in parts]),
            tags,
            {
                **fields,
                "count": count,
                "late": np.concatenate([part.moments.late for part in parts]),
                "revision": np.concatenate([part.revision for part in parts]),
            },
        )
    ]


def series_tags(series: Int64, directory: Directory) -> dict[str, TagColumn]:
    """The tags site, device and metric of n rows of series."""
    device = directory.device_of_series[series]
    tags = device_tags(device, directory)
    metrics, code = np.unique(directory.metric_of_series[series], return_inverse=True)
    names = directory.metrics.values
    return tags | {"metric": TagColumn(tuple(names[i] for i in metrics.tolist()), code.astype(np.int32))}


def device_tags(device: Int64, directory: Directory) -> dict[str, TagColumn]:
    """The tags site and device of n rows of device numbers."""
    numbers, code = np.unique(device, return_inverse=True)
    pairs = [directory.devices.values[i] for i in numbers.tolist()]
    sites = {site: at for at, site in enumerate(dict.fromkeys(site for site, _ in pairs))}
    site_code = np.array([sites[site] for site, _ in pairs], np.int32)
    names = {name: at for at, name in enumerate(dict.fromkeys(name for _, name in pairs))}
    name_code = np.array([names[name] for _, name in pairs], np.int32)
    return {"site": TagColumn(tuple(sites), site_code[code]), "device": TagColumn(tuple(names), name_code[code])}
