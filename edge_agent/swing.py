"""Swing filter: connected line segments, at most ε away from every reading.

Elmeleegy, Elmagarmid, Cecchet, Aref, Zwaenepoel: Online Piece-wise Linear Approximation of Numerical Streams with
Precision Guarantees, VLDB 2009. From the last point sent (the pivot) a cone of slopes is kept that passes every
reading since within ε. When a reading empties the cone, the segment ends at the time of the reading before it, with
its value clamped into the cone, and that end is the next pivot:

        pivot ●──────╱──────● end = clamp(reading, cone)
              └ every reading between is within ε of the line

Sending the *reading* before instead (swinging door as commonly coded) breaks the promise by up to a factor of two.
"""

from collections.abc import Sequence

import numpy as np

from edge_agent.sparse import Audit, Bool, Cells, Kept
from headwater.detectors.roster import Rows
from headwater.frame import Float64, Int64

NEVER = np.iinfo(np.int64).min // 4
HELD_MAX = 256  # A segment ends after so many readings; they are held for the audit.
HUGE = 1e300  # Beyond, differences overflow; such readings are sent as they are.
ROUNDING = 2.0**-50  # Part of a value that float64 arithmetic along the line may cost.


def quantum(epsilon: float) -> float:
    """Returns the decimal step to which ends are rounded, so that they pack well: at most ε / 4.

    >>> quantum(0.05), quantum(3.0)
    (0.01, 0.1)
    """
    return float(10.0 ** np.floor(np.log10(epsilon / 4)))


class Swing:
    """Swing filter of several metrics.

    Args:
        epsilon: float64 (rows,), the promise per metric: |line − raw| ≤ ε at every reading, rounding included.
        gap_max_us: a segment is at most this long, so that a slow signal is heard of.

    State per metric: the pivot and the readings since. A push costs as many passes over its cells as the busiest
    metric ends segments.
    """

    def __init__(self, epsilon: Sequence[float], gap_max_us: int) -> None:
        rows = len(epsilon)
        self._quantum: Float64 = np.array([quantum(e) for e in epsilon], np.float64)
        self._cone: Float64 = np.array(epsilon, np.float64) * (1 - 1e-9) - self._quantum / 2
        self._gap_max_us = gap_max_us
        self._pivot, self._pivot_us = np.full(rows, np.nan), np.full(rows, NEVER, np.int64)
        self._held_us = np.full((rows, HELD_MAX), NEVER, np.int64)
        self._held = np.zeros((rows, HELD_MAX))
        self._held_quality = np.zeros((rows, HELD_MAX), np.uint8)
        self._count = np.zeros(rows, np.int64)  # Columns of the right end of the held tables that are in use.
        self.audit = Audit(rows)

    @property
    def pending(self) -> int:
        """Readings held back until it is known whether they are ends: one per open segment."""
        return int(np.count_nonzero(self._count))

    def push(self, rows: Rows, cells: Cells) -> Kept:
        """Decides about the cells of `rows`, in time order."""
        self.audit.seen[rows] += np.count_nonzero(cells.present, axis=1)
        was_open = int(np.count_nonzero(self._count[rows]))
        cells, before = self._with_held(rows, cells)
        keep, value, start = self._segments(rows, cells)
        self._hold(rows, cells, start)
        kept = np.count_nonzero(keep, axis=1)
        self.audit.kept[rows] += kept
        now_open = int(np.count_nonzero(self._count[rows]))
        # Of the readings held before, one was undecided; the others had been counted as suppressed.
        new = int(np.count_nonzero(cells.present[:, before:]))
        return Kept(cells, keep, value, new + was_open - now_open - int(kept.sum()))

    def flush(self, rows: Rows) -> Kept | None:
        """Ends the open segments of `rows` at their newest readings; the next readings start afresh."""
        if not self._count[rows].any():
            self._pivot[rows], self._pivot_us[rows] = np.nan, NEVER
            return None
        m = len(self._count[rows])
        # A forced reading after the newest one ends every segment; it is not itself sent.
        stop = np.full((m, 1), np.iinfo(np.int64).max // 4, np.int64)
        true = np.ones((m, 1), np.bool_)
        end = Cells(stop, np.zeros((m, 1)), np.zeros((m, 1), np.uint8), true, true, ~true)
        cells, _ = self._with_held(rows, end)
        open_ = int(np.count_nonzero(self._count[rows]))
        keep, value, _ = self._segments(rows, cells)
        keep[:, -1] = False
        self._count[rows] = 0
        self._pivot[rows], self._pivot_us[rows] = np.nan, NEVER
        kept = np.count_nonzero(keep, axis=1)
        self.audit.kept[rows] += kept
        return Kept(cells, keep, value, open_ - int(kept.sum()))

    def _with_held(self, rows: Rows, cells: Cells) -> tuple[Cells, int]:
        """Puts the readings of the open segments before the new ones; returns the cells and how many columns it put."""
        width = int(self._count[rows].max(initial=0))
        if not width:
            return cells, 0
        held_us = self._held_us[rows, HELD_MAX - width :]
        used = np.arange(width) >= width - self._count[rows][:, None]
        nothing = np.zeros(held_us.shape, np.bool_)
        return Cells(
            np.concatenate([held_us, cells.time_us], axis=1),
            np.concatenate([self._held[rows, HELD_MAX - width :], cells.value], axis=1),
            np.concatenate([self._held_quality[rows, HELD_MAX - width :], cells.quality], axis=1),
            np.concatenate([used, cells.present], axis=1),
            np.concatenate([nothing, cells.forced], axis=1),
            np.concatenate([nothing, cells.burst], axis=1),
        ), width

    @np.errstate(over="ignore", invalid="ignore")
    def _segments(self, rows: Rows, cells: Cells) -> tuple[Bool, Float64, Int64]:
        """Ends segments pass by pass; returns (kept cells, values to send, first column of the open segments)."""
        m, w = cells.value.shape
        keep, value = np.zeros((m, w), np.bool_), cells.value.copy()
        pivot, pivot_us = self._pivot[rows].copy(), self._pivot_us[rows].copy()
        step, error_max = self._quantum[rows], self.audit.error_max[rows].copy()
        size = np.abs(cells.value)
        reach, forced = self._cone[rows][:, None] - size * ROUNDING, cells.forced | (size > HUGE)
        columns, start, live = np.arange(w), np.zeros(m, np.int64), np.arange(m)
        while len(live):
            row = np.arange(len(live))
            open_ = cells.present[live] & (columns >= start[live, None])
            dt = (cells.time_us[live] - pivot_us[live, None]).astype(np.float64)
            np.copyto(dt, 1.0, where=~open_)
            rise = cells.value[live] - pivot[live, None]
            around = reach[live] - np.abs(pivot[live, None]) * ROUNDING
            upper = np.minimum.accumulate(np.where(open_, (rise + around) / dt, np.inf), axis=1)
            lower = np.maximum.accumulate(np.where(open_, (rise - around) / dt, -np.inf), axis=1)
            # `not <=` is true without a pivot, too: then the first reading is the next pivot.
            broken = ~(lower <= upper) | forced[live] | (dt > self._gap_max_us)
            if w > HELD_MAX:
                broken |= np.cumsum(open_, axis=1) > HELD_MAX
            broken &= open_
            found = broken.any(axis=1)
            if not found.any():
                break
            row, live = row[found], live[found]
            at = broken[row].argmax(axis=1)
            last = np.where(open_[row] & (columns < at[:, None]), columns, -1).max(axis=1)
            ends = last >= 0
            row_e, live_e, last_e = row[ends], live[ends], last[ends]
            if len(live_e):
                span = dt[row_e, last_e]
                slope = np.clip(rise[row_e, last_e] / span, lower[row_e, last_e], upper[row_e, last_e])
                end = _rounded(pivot[live_e] + slope * span, step[live_e])
                inside = open_[row_e] & (columns <= last_e[:, None])
                line = pivot[live_e, None] + ((end - pivot[live_e]) / span)[:, None] * dt[row_e]
                error = np.where(inside, np.abs(line - cells.value[live_e]), 0.0).max(axis=1)
                error_max[live_e] = np.maximum(error_max[live_e], error)
                keep[live_e, last_e], value[live_e, last_e] = True, end
                pivot[live_e], pivot_us[live_e] = end, cells.time_us[live_e, last_e]
            exact = forced[live, at] | ~ends
            live_x, at_x = live[exact], at[exact]
            keep[live_x, at_x] = True
            pivot[live_x], pivot_us[live_x] = cells.value[live_x, at_x], cells.time_us[live_x, at_x]
            start[live] = np.where(exact, at + 1, at)
        self._pivot[rows], self._pivot_us[rows] = pivot, pivot_us
        self.audit.error_max[rows] = error_max
        return keep, value, start

    def _hold(self, rows: Rows, cells: Cells, start: Int64) -> None:
        """Remembers the readings of the open segments, packed to the right end of the tables."""
        open_ = cells.present & (np.arange(cells.value.shape[1]) >= start[:, None])
        time_us, value, quality = cells.time_us, cells.value, cells.quality
        count = np.count_nonzero(open_, axis=1)
        width = int(count.max(initial=0))
        if width and bool((open_ != (np.arange(open_.shape[1]) >= open_.shape[1] - count[:, None])).any()):
            order = np.argsort(open_, axis=1, kind="stable")
            time_us, value = np.take_along_axis(time_us, order, axis=1), np.take_along_axis(value, order, axis=1)
            quality = np.take_along_axis(quality, order, axis=1)
        if width:
            into = slice(HELD_MAX - width, HELD_MAX)
            self._held_us[rows, into] = time_us[:, -width:]
            self._held[rows, into] = value[:, -width:]
            self._held_quality[rows, into] = quality[:, -width:]
        self._count[rows] = count


def _rounded(value: Float64, step: Float64) -> Float64:
    """Rounds to a multiple of `step` where that is exact enough."""
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = value / step
        near = np.where(step < 1, np.rint(scaled) / np.rint(1 / step), np.rint(scaled) * step)
    return np.where(np.abs(scaled) < 2.0**48, near, value)
