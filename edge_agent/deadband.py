"""Deadband: keeps a reading that is further than ε from the last one kept; between them the last one holds."""

from collections.abc import Sequence

import numpy as np

from edge_agent.sparse import Audit, Cells, Kept
from headwater.detectors.roster import Rows
from headwater.frame import Float64

NEVER = np.iinfo(np.int64).min // 4


class Deadband:
    """Deadband of several metrics against the last *reported* reading (so that slow drift can't creep past).

    Args:
        epsilon: float64 (rows,), the promise per metric: |held − raw| ≤ ε at every reading.
        gap_max_us: a reading this long after the last kept one is kept in any case (heartbeat).

    A push costs as many passes over its cells as the busiest metric keeps readings.
    """

    def __init__(self, epsilon: Sequence[float], gap_max_us: int) -> None:
        self._epsilon: Float64 = np.array(epsilon, np.float64)
        self._gap_max_us = gap_max_us
        self._last = np.full(len(epsilon), np.nan)
        self._last_us = np.full(len(epsilon), NEVER, np.int64)
        self.audit = Audit(len(epsilon))

    @property
    def pending(self) -> int:
        """Readings held back until it is known whether they are kept: none."""
        return 0

    def push(self, rows: Rows, cells: Cells) -> Kept:
        """Decides about the cells of `rows`, in time order."""
        m, w = cells.value.shape
        keep = np.zeros((m, w), np.bool_)
        epsilon, last, last_us = self._epsilon[rows], self._last[rows].copy(), self._last_us[rows].copy()
        error_max = self.audit.error_max[rows]
        columns, start = np.arange(w), np.zeros(m, np.int64)
        live = np.arange(m)
        while len(live):
            # One pass: up to the next reading to keep of each metric that still has cells to look at.
            open_ = cells.present[live] & (columns >= start[live, None])
            with np.errstate(over="ignore", invalid="ignore"):
                error = np.abs(cells.value[live] - last[live, None])
            hit = ~(error <= epsilon[live, None]) | cells.forced[live]
            hit |= cells.time_us[live] - last_us[live, None] >= self._gap_max_us
            hit &= open_
            found = hit.any(axis=1)
            at = np.where(found, hit.argmax(axis=1), w)
            held = open_ & (columns < at[:, None])
            error_max[live] = np.maximum(error_max[live], np.where(held, error, 0.0).max(axis=1))
            live, at = live[found], at[found]
            keep[live, at] = True
            last[live], last_us[live], start[live] = cells.value[live, at], cells.time_us[live, at], at + 1
        self._last[rows], self._last_us[rows] = last, last_us
        self.audit.error_max[rows] = error_max
        seen, kept = np.count_nonzero(cells.present, axis=1), np.count_nonzero(keep, axis=1)
        self.audit.seen[rows] += seen
        self.audit.kept[rows] += kept
        return Kept(cells, keep, cells.value, int(seen.sum() - kept.sum()))

    def flush(self, rows: Rows) -> Kept | None:
        """Forgets the last readings, so that the next ones are kept; nothing is held back."""
        self._last[rows], self._last_us[rows] = np.nan, NEVER
        return None
