"""Runs the swing filter over many metrics at once: one segment of each metric per round, in numpy.

    metric 0  ●────window────┊        rounds go on until every metric has come to its end; a segment that is longer
    metric 1  ●──────× ends  ┊        than the window carries its cone of slopes into the next round
    metric 2  ●───────────× ends

The arithmetic is that of `edge_agent.swing`, operation by operation, so the points are the same bit for bit. A loop over
plain floats costs ten times as much per reading, but has no cost per round: it stays for few metrics and short blocks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_agent.swing import EXACT_MAX, HELD_MAX, ROUNDING, Swing
from headwater.columns import ragged_arange, starts_of
from headwater.frame import Float64, Int64

METRICS_MIN, STEPS_MIN = 12, 32  # Below, the plain loop is faster.
WINDOW = 16
_WINDOW = np.arange(WINDOW)


@dataclass(frozen=True, slots=True)
class Swept:
    """Points to send: those of metric i are `[start[i], start[i + 1])`, in time order."""

    start: Int64
    time_us: Int64
    value: Float64


def is_worth_it(metrics: int, steps: int) -> bool:
    """Tells whether `sweep` is faster than one line after the other."""
    return metrics >= METRICS_MIN and steps >= STEPS_MIN


def sweep(lines: Sequence[Swing], time_us: Int64, value: Float64) -> Swept:
    """Does for each of m lines what `push` does with good readings: int64 (n,) times, float64 (m, n) values."""
    # Overflow is how a reading shows that it is too large for any line.
    with np.errstate(all="ignore"):
        rounds = _Rounds(lines, time_us, value)
        while len(rounds.active):
            rounds.step()
        return rounds.finish(len(time_us))


class _Rounds:
    """Where each metric is: readings held from earlier blocks come again before those of this one."""

    def __init__(self, lines: Sequence[Swing], time_us: Int64, value: Float64) -> None:
        self.lines = lines
        held = [line.held for line in lines]
        length = np.array([len(times) for times, _ in held]) + len(time_us)
        start = starts_of(length)
        self.time_us = np.concatenate(
            [*[part for times, _ in held for part in (np.array(times, np.int64), time_us)], np.zeros(WINDOW, np.int64)]
        )
        self.value = np.concatenate(
            [*[part for (_, kept), row in zip(held, value, strict=True) for part in (kept, row)], np.zeros(WINDOW)]
        )
        # Times since the start of the block are exact as floats; a line that has no pivot yet has it long ago.
        self.origin_us = int(time_us[0])
        self.at = (self.time_us - self.origin_us).astype(np.float64)
        self.position, self.end = start[:-1].copy(), start[1:]
        self.segment = self.position.copy()
        self.pivot = np.array([line.pivot for line in lines])
        self.pivot_us = np.array([line.pivot_us for line in lines], np.int64)
        self.pivot_at = (self.pivot_us - self.origin_us).astype(np.float64)
        self.lower, self.upper = np.full(len(lines), -np.inf), np.full(len(lines), np.inf)
        self.cone = np.array([line.cone for line in lines])
        self.quantum = np.array([line.quantum for line in lines])
        self.inverse = np.array([float(round(1 / line.quantum)) if line.quantum < 1 else 1.0 for line in lines])
        self.gap_max = np.array([float(line.gap_max_us) for line in lines])
        self.has_coarse = bool((self.quantum >= 1).any())
        self.active = np.arange(len(lines))
        self.row_start = self.active * WINDOW - 1
        self.points: list[tuple[npt.NDArray[Any], ...]] = []
        self.segments: list[tuple[npt.NDArray[Any], ...]] = []

    def step(self) -> None:
        """Follows every active metric to the end of its segment or of the window."""
        active = self.active
        # While nobody has finished, views save copies.
        at: slice | Int64 = slice(None) if len(active) == len(self.lines) else active
        position, segment, end = self.position[at], self.segment[at], self.end[at]
        index = np.add(position[:, None], _WINDOW)
        value = self.value.take(index)
        pivot = self.pivot[at][:, None]
        span = self.at.take(index)
        span -= self.pivot_at[at][:, None]
        reach = np.abs(value)
        reach += np.abs(pivot)
        reach *= ROUNDING
        np.subtract(self.cone[at][:, None], reach, out=reach)
        value -= pivot
        lower = value - reach
        lower /= span
        upper = np.add(value, reach, out=value)
        upper /= span
        np.maximum(lower[:, 0], self.lower[at], out=lower[:, 0])
        np.minimum(upper[:, 0], self.upper[at], out=upper[:, 0])
        np.maximum.accumulate(lower, axis=1, out=lower)
        np.minimum.accumulate(upper, axis=1, out=upper)
        fits = np.zeros((len(active), WINDOW + 1), np.bool_)
        inner = fits[:, :WINDOW]
        np.less_equal(lower, upper, out=inner)
        inner &= reach > 0
        inner &= span <= self.gap_max[at][:, None]
        # Neither behind the readings of this metric nor beyond what a segment may hold.
        inner &= index < np.minimum(end, segment + HELD_MAX)[:, None]
        taken = fits.argmin(axis=1)
        last = self.row_start[: len(active)] + taken
        some = taken > 0
        self.lower[at] = np.where(some, lower.take(last), self.lower[at])
        self.upper[at] = np.where(some, upper.take(last), self.upper[at])
        reached = self.position[at] = position + taken
        broken = (taken < WINDOW) & (reached < end)
        held = reached > segment
        self._end(active[broken & held])
        self._start(active[broken & ~held])
        if (reached >= end - 1).any():
            self.active = active[self.position[active] < self.end[active]]

    def _end(self, metric: Int64) -> None:
        """Ends segments at the reading before, as `Swing` does."""
        if not len(metric):
            return
        stop = self.position[metric]
        last = stop - 1
        pivot, pivot_at, at = self.pivot[metric], self.pivot_at[metric], self.at[last]
        span = at - pivot_at
        slope = np.minimum(np.maximum((self.value[last] - pivot) / span, self.lower[metric]), self.upper[metric])
        end = self._rounded(pivot + slope * span, metric)
        self.points.append((metric, last, end))
        self.segments.append((metric, self.segment[metric], stop, pivot, pivot_at, (end - pivot) / span))
        self.pivot[metric], self.pivot_at[metric], self.pivot_us[metric] = end, at, self.time_us[last]
        self.lower[metric], self.upper[metric] = -np.inf, np.inf
        self.segment[metric] = stop

    def _start(self, metric: Int64) -> None:
        """Takes readings that are sent as they are: the lines begin there."""
        if not len(metric):
            return
        here = self.position[metric]
        value = self.value[here]
        self.points.append((metric, here, value))
        self.pivot[metric], self.pivot_at[metric], self.pivot_us[metric] = value, self.at[here], self.time_us[here]
        self.position[metric] = self.segment[metric] = here + 1

    def _rounded(self, value: Float64, metric: Int64) -> Float64:
        scaled = value / self.quantum[metric]
        rounded = np.rint(scaled)
        rounded += 0.0  # No zero keeps a sign.
        if self.has_coarse:
            quantum = self.quantum[metric]
            rounded = np.where(quantum < 1, rounded / self.inverse[metric], rounded * quantum)
        else:
            rounded /= self.inverse[metric]
        return np.where(np.abs(scaled) >= EXACT_MAX, value, rounded)

    def finish(self, steps: int) -> Swept:
        """Hands the lines their new state and audit; returns the points."""
        error, ended, suppressed = self._audit()
        for i, line in enumerate(self.lines):
            open_part = slice(int(self.segment[i]), int(self.end[i]))
            line.pivot, line.pivot_us = float(self.pivot[i]), int(self.pivot_us[i])
            line.lower, line.upper = float(self.lower[i]), float(self.upper[i])
            line.held = (self.time_us[open_part].tolist(), self.value[open_part].tolist())
            line.error_max = max(line.error_max, float(error[i]))
            line.seen += steps
            line.suppressed += int(suppressed[i]) - int(ended[i])
        if not self.points:
            return Swept(np.zeros(len(self.lines) + 1, np.int64), np.empty(0, np.int64), np.empty(0))
        metric, index, value = (np.concatenate(parts) for parts in zip(*self.points, strict=True))
        order = np.argsort(metric, kind="stable")
        count = np.bincount(metric, minlength=len(self.lines))
        for line, points in zip(self.lines, count.tolist(), strict=True):
            line.kept += points
        return Swept(starts_of(count), self.time_us[index[order]], value[order])

    def _audit(self) -> tuple[Float64, Int64, Int64]:
        """Works out for each metric the largest error of its ended segments, their number and their readings."""
        m = len(self.lines)
        error = np.zeros(m)
        if not self.segments:
            return error, np.zeros(m, np.int64), np.zeros(m, np.int64)
        metric, start, stop, pivot, pivot_at, slope = (
            np.concatenate(parts) for parts in zip(*self.segments, strict=True)
        )
        length = stop - start
        index = ragged_arange(start, length)
        line = self.at[index]
        line -= np.repeat(pivot_at, length)
        line *= np.repeat(slope, length)
        line += np.repeat(pivot, length)
        line -= self.value[index]
        largest = np.maximum.reduceat(np.abs(line), starts_of(length)[:-1])
        np.maximum.at(error, metric, largest)
        readings = np.bincount(metric, weights=length, minlength=m).astype(np.int64)
        return error, np.bincount(metric, minlength=m), readings
