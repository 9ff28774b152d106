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
from math import floor, inf, log10

from edge_agent.line import NEVER, Line, Point

HELD_MAX = 1_024  # A segment ends after so many readings; they are held for the audit.
ROUNDING = 2.0**-50  # Part of a value that float64 arithmetic along the line may cost.
EXACT_MAX = 2.0**48  # Beyond so many steps, rounding to a step is no longer exact.


def quantum(epsilon: float) -> float:
    """Returns the decimal step to which ends are rounded, so that they pack well: at most ε / 4.

    >>> quantum(0.05), quantum(3.0)
    (0.01, 0.1)
    """
    return float(10.0 ** floor(log10(epsilon / 4)))


class Swing(Line):
    """Swing filter of one metric; rounding of the ends is inside the promise. A segment is at most `gap_max_us` long.

    >>> line = Swing(0.1, 60_000_000)
    >>> line.push([0, 1, 2, 3], [0.0, 1.0, 2.0, 3.0]), line.flush()
    ([Point(time_us=0, value=0.0, quality=0, is_burst=False)], [Point(time_us=3, value=3.0, quality=0, is_burst=False)])
    """

    def __init__(self, epsilon: float, gap_max_us: int) -> None:
        super().__init__(epsilon, gap_max_us)
        self._quantum = quantum(epsilon)
        self._cone = epsilon * (1 - 1e-9) - self._quantum / 2
        self._pivot, self._pivot_us = 0.0, NEVER
        self._lower, self._upper = -inf, inf
        self._held_us: list[int] = []
        self._held: list[float] = []

    def _run(self, times_us: Sequence[int], values: Sequence[float]) -> list[Point]:
        points: list[Point] = []
        held_us, held, gap_max_us = self._held_us, self._held, self._gap_max_us
        for time_us, value in zip(times_us, values, strict=True):
            while True:
                span, rise = time_us - self._pivot_us, value - self._pivot
                reach = self._cone - (abs(value) + abs(self._pivot)) * ROUNDING
                lower, upper = (rise - reach) / span, (rise + reach) / span
                # Written out: max and min cost more than all the rest.
                lower = max(lower, self._lower)
                upper = min(upper, self._upper)
                if lower <= upper and reach > 0 and span <= gap_max_us and len(held) < HELD_MAX:
                    self._lower, self._upper = lower, upper
                    held_us.append(time_us)
                    held.append(value)
                    break
                if not held:
                    points.append(Point(time_us, value, self._line_quality, False))
                    self._pivot, self._pivot_us = value, time_us
                    break
                points.append(self._end())
        return points

    def _end(self) -> Point:
        """Ends the segment at its newest reading, which becomes the pivot, and audits it."""
        held_us, held, pivot, pivot_us = self._held_us, self._held, self._pivot, self._pivot_us
        time_us = held_us[-1]
        span = time_us - pivot_us
        slope = min(max((held[-1] - pivot) / span, self._lower), self._upper)
        end = self._rounded(pivot + slope * span)
        slope = (end - pivot) / span
        error = max([abs(pivot + slope * (at - pivot_us) - value) for at, value in zip(held_us, held, strict=True)])
        self.error_max = max(self.error_max, error)
        self.suppressed += len(held) - 1
        held_us.clear()
        held.clear()
        self._pivot, self._pivot_us, self._lower, self._upper = end, time_us, -inf, inf
        return Point(time_us, end, self._line_quality, False)

    def _rounded(self, value: float) -> float:
        scaled = value / self._quantum
        if abs(scaled) >= EXACT_MAX:
            return value
        # Division by a whole number gives the double nearest to the decimal, multiplication by 0.01 would not.
        return round(scaled) / round(1 / self._quantum) if self._quantum < 1 else round(scaled) * self._quantum

    def _exact(self, time_us: int, value: float) -> list[Point]:
        points = [self._end()] if self._held else []
        self._pivot, self._pivot_us = value, time_us
        return points

    def _finish(self) -> list[Point]:
        points = [self._end()] if self._held else []
        self._pivot, self._pivot_us = 0.0, NEVER
        return points
