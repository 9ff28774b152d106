"""Gathers readings into panes `[start, start + width)`: count, mean, m2, min, max, first, last."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from headwater.frame import Float64, Int32, Int64, Summaries
from headwater.sketch import add_counts, bucket

Bool = npt.NDArray[np.bool_]
Sketch = tuple[Int32, Int64]  # Keys, ascending, and counts.

NO_SKETCH: Sketch = (np.empty(0, np.int32), np.empty(0, np.int64))

NEVER = np.iinfo(np.int64).min // 4
PARTS = ("count", "mean", "m2", "min", "max", "first", "last", "first_us", "last_us")
Parts = dict[str, npt.NDArray[Any]]


class PaneSummaries:
    """One open pane per metric; a reading of a later pane closes it.

    Args:
        names: of the metrics, a row each.
        width_us: int64 (rows,).
        with_sketch: whether a row's panes carry a quantile sketch (`headwater.sketch`).

    mean and m2 are merged after Chan, Golub, LeVeque 1979 and don't depend on block sizes beyond 1e-12.
    """

    def __init__(self, names: Sequence[str], width_us: Sequence[int], with_sketch: Sequence[bool]) -> None:
        self._names = tuple(names)
        self._width_us: Int64 = np.array(width_us, np.int64)
        self._pane = np.full(len(names), NEVER, np.int64)
        self._open: Parts = {
            part: np.zeros(len(names), np.int64 if part in {"count", "first_us", "last_us"} else np.float64)
            for part in PARTS
        }
        self._sketch: dict[int, Sketch] = {row: NO_SKETCH for row, wanted in enumerate(with_sketch) if wanted}
        self._closed: list[tuple[Int64, Int64, Parts, list[Sketch]]] = []

    @property
    def pending(self) -> int:
        """Readings in panes that are still open."""
        return int(self._open["count"].sum())

    def push(self, rows: Int64, time_us: Int64, value: Float64, wanted: Bool) -> None:
        """Takes the `wanted` cells of float64 (m, n) at int64 (n,) ascending times."""
        for width in np.unique(self._width_us[rows]).tolist():
            local = np.flatnonzero(self._width_us[rows] == width)
            pane = time_us // width * width
            starts = np.flatnonzero(np.diff(pane, prepend=pane[0] - 1))
            stops = np.append(starts[1:], len(pane))
            for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
                cells = wanted[local, start:stop]
                if cells.any():
                    self._take(rows[local], int(pane[start]), time_us[start:stop], value[local, start:stop], cells)

    def _take(self, rows: Int64, pane: int, time_us: Int64, value: Float64, wanted: Bool) -> None:
        used = wanted.any(axis=1)
        rows, value, wanted = rows[used], value[used], wanted[used]
        self._close(rows[(self._pane[rows] != pane) & (self._open["count"][rows] > 0)])
        new = _parts(time_us, value, wanted)
        fresh = self._open["count"][rows] == 0
        old = {part: self._open[part][rows] for part in PARTS}
        self._pane[rows] = pane
        n_old, n_new = old["count"].astype(np.float64), new["count"].astype(np.float64)
        delta = np.where(fresh, 0.0, new["mean"] - old["mean"])
        merged = {
            "count": old["count"] + new["count"],
            "mean": old["mean"] + delta * n_new / (n_old + n_new),
            "m2": old["m2"] + new["m2"] + delta * delta * n_old * n_new / (n_old + n_new),
            "min": np.minimum(old["min"], new["min"]),
            "max": np.maximum(old["max"], new["max"]),
            "first": old["first"],
            "last": new["last"],
            "first_us": old["first_us"],
            "last_us": new["last_us"],
        }
        for part in PARTS:
            self._open[part][rows] = np.where(fresh, new[part], merged[part])
        if self._sketch:
            self._count(rows, value, wanted)

    def _count(self, rows: Int64, value: Float64, wanted: Bool) -> None:
        """Adds the wanted readings to the sketches of those rows that carry one."""
        for local, row in enumerate(rows.tolist()):
            if row in self._sketch:
                key, count = self._sketch[row]
                new = bucket(value[local][wanted[local]])
                keys, counts = np.concatenate([key, new]), np.concatenate([count, np.ones(len(new), np.int64)])
                self._sketch[row] = add_counts(np.zeros(len(keys), np.int64), keys, counts, 1)[1:]

    def _close(self, rows: Int64) -> None:
        if len(rows):
            sketches = [self._sketch.get(row, NO_SKETCH) for row in rows.tolist()]
            parts = {part: self._open[part][rows].copy() for part in PARTS}
            self._closed.append((rows, self._pane[rows], parts, sketches))
            self._open["count"][rows] = 0
            self._sketch.update((row, NO_SKETCH) for row in rows.tolist() if row in self._sketch)

    def close(self, end_us: int) -> None:
        """Closes the panes that ended at `end_us` or before."""
        self._close(np.flatnonzero((self._open["count"] > 0) & (self._pane + self._width_us <= end_us)))

    def take(self) -> Summaries:
        """Returns the panes closed since the last call."""
        if not self._closed:
            return Summaries.empty()
        closed, self._closed = self._closed, []
        rows = np.concatenate([row for row, _, _, _ in closed])
        parts = {part: np.concatenate([parts[part] for _, _, parts, _ in closed]) for part in PARTS}
        order = np.lexsort((rows, np.concatenate([start for _, start, _, _ in closed])))
        loose = [sketch for _, _, _, sketches in closed for sketch in sketches]
        sketches = [loose[i] for i in order.tolist()]
        sketch_start = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([len(keys) for keys, _ in sketches], out=sketch_start[1:])
        used, metric = np.unique(rows[order], return_inverse=True)
        return Summaries(
            metrics=tuple(self._names[row] for row in used.tolist()),
            metric=metric.astype(np.int32),
            start_us=np.concatenate([start for _, start, _, _ in closed])[order],
            width_us=self._width_us[rows[order]],
            sketch_start=sketch_start,
            sketch_key=np.concatenate([keys for keys, _ in sketches]),
            sketch_count=np.concatenate([counts for _, counts in sketches]),
            **{part: column[order] for part, column in parts.items()},
        )


def _parts(time_us: Int64, value: Float64, wanted: Bool) -> Parts:
    """Summarises each row's wanted cells; every row has at least one."""
    columns, row = np.arange(value.shape[1]), np.arange(len(value))
    count = np.count_nonzero(wanted, axis=1)
    mean = np.where(wanted, value, 0.0).sum(axis=1) / count
    first = np.where(wanted, columns, len(columns)).min(axis=1)
    last = np.where(wanted, columns, -1).max(axis=1)
    return {
        "count": count,
        "mean": mean,
        "m2": np.square(np.where(wanted, value - mean[:, None], 0.0)).sum(axis=1),
        "min": np.where(wanted, value, np.inf).min(axis=1),
        "max": np.where(wanted, value, -np.inf).max(axis=1),
        "first": value[row, first],
        "last": value[row, last],
        "first_us": time_us[first],
        "last_us": time_us[last],
    }
