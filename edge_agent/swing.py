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

from edge_agent.line import NEVER, NOTHING, Line, Point

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
        self.gap_max_us = gap_max_us
        self.quantum = quantum(epsilon)
        self.cone = epsilon * (1 - 1e-9) - self.quantum / 2
        self.pivot, self.pivot_us = 0.0, NEVER
        self.lower, self.upper = -inf, inf
        self.held: tuple[list[int], list[float]] = ([], [])  # Times and values of the open segment.

    def step(self, time_us: int, value: float) -> Sequence[Point]:
        """Takes one good reading: as `push`, without its lists."""
        if not self._quality:
            held_us, held = self.held
            span, rise, pivot = time_us - self.pivot_us, value - self.pivot, self.pivot
            reach = self.cone - (abs(value) + abs(pivot)) * ROUNDING
            lower, upper = (rise - reach) / span, (rise + reach) / span
            # Written out, because max and min cost more than all the rest.
            if lower < self.lower:  # noqa: PLR1730
                lower = self.lower
            if upper > self.upper:  # noqa: PLR1730
                upper = self.upper
            if lower <= upper and reach > 0 and span <= self.gap_max_us and len(held) < HELD_MAX:
                self.lower, self.upper = lower, upper
                held_us.append(time_us)
                held.append(value)
                self.seen += 1
                return NOTHING
        return self.push((time_us,), (value,))

    def _run(self, times_us: Sequence[int], values: Sequence[float]) -> list[Point]:
        points: list[Point] = []
        gap_max_us, cone = self.gap_max_us, self.cone
        held_us, held = self.held
        pivot, pivot_us, lowest, highest = self.pivot, self.pivot_us, self.lower, self.upper
        for time_us, value in zip(times_us, values, strict=True):
            while True:
                span, rise = time_us - pivot_us, value - pivot
                reach = cone - (abs(value) + abs(pivot)) * ROUNDING
                lower, upper = (rise - reach) / span, (rise + reach) / span
                if lower < lowest:  # noqa: PLR1730
                    lower = lowest
                if upper > highest:  # noqa: PLR1730
                    upper = highest
                if lower <= upper and reach > 0 and span <= gap_max_us and len(held) < HELD_MAX:
                    lowest, highest = lower, upper
                    held_us.append(time_us)
                    held.append(value)
                    break
                if not held:
                    points.append(Point(time_us, value, self._line_quality, False))
                    pivot, pivot_us = value, time_us
                    break
                self.pivot, self.pivot_us, self.lower, self.upper = pivot, pivot_us, lowest, highest
                points.append(self._end())
                pivot, pivot_us, lowest, highest = self.pivot, self.pivot_us, self.lower, self.upper
        self.pivot, self.pivot_us, self.lower, self.upper = pivot, pivot_us, lowest, highest
        return points

    def _end(self) -> Point:
        """Ends the segment at its newest reading, which becomes the pivot, and audits it."""
        (held_us, held), pivot, pivot_us = self.held, self.pivot, self.pivot_us
        time_us = held_us[-1]
        span = time_us - pivot_us
        slope = min(max((held[-1] - pivot) / span, self.lower), self.upper)
        end = self._rounded(pivot + slope * span)
        slope = (end - pivot) / span
        error = max([abs(pivot + slope * (at - pivot_us) - value) for at, value in zip(held_us, held, strict=True)])
        self.error_max = max(self.error_max, error)
        self.suppressed += len(held) - 1
        held_us.clear()
        held.clear()
        self.pivot, self.pivot_us, self.lower, self.upper = end, time_us, -inf, inf
        return Point(time_us, end, self._line_quality, False)

    def _rounded(self, value: float) -> float:
        scaled = value / self.quantum
        if abs(scaled) >= EXACT_MAX:
            return value
        # Division by a whole number gives the double nearest to the decimal, multiplication by 0.01 would not.
        return round(scaled) / round(1 / self.quantum) if self.quantum < 1 else round(scaled) * self.quantum

    def _exact(self, time_us: int, value: float) -> list[Point]:
        points = [self._end()] if self.held[0] else []
        self.pivot, self.pivot_us = value, time_us
        return points

    def _finish(self) -> list[Point]:
        points = [self._end()] if self.held[0] else []
        self.pivot, self.pivot_us = 0.0, NEVER
        return points
