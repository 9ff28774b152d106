"""Where a distance is going: its recent history per component, and the time until it reaches that of a failure."""

from dataclasses import dataclass
from math import erf, exp, log, sqrt
from typing import Any, Self

import numpy as np

from headwater.column_order import grown
from headwater.frame import Float64, Int64

HISTORY = 90
POINTS_MIN = 30
DISTANCE_MIN = 4.0  # Below it seasons, heat and habits look like wear.
# Smoothed distances lean on their predecessors; so the scatter of a fit understates what is not known by about this.
CORRELATION = 4.0
NORMAL_90 = 1.645
HOUR_US = 3_600_000_000.0


class Trend:
    """The newest `HISTORY` distances of every component."""

    __slots__ = ("count", "distance", "time_us")

    def __init__(self) -> None:
        self.count: Int64 = np.empty(0, np.int64)
        self.time_us: Int64 = np.empty((0, HISTORY), np.int64)
        self.distance: Float64 = np.empty((0, HISTORY))

    def grow(self, count: int) -> None:
        """Makes room for `count` components."""
        self.count = grown(self.count, count, 0)
        self.time_us = grown(self.time_us, count, 0)
        self.distance = grown(self.distance, count, 0)

    def add(self, parts: Int64, time_us: int, distance: Float64) -> None:
        """Adds one distance per component (distinct numbers)."""
        for column, new in ((self.time_us, np.full(len(parts), time_us)), (self.distance, distance)):
            column[parts, :-1] = column[parts, 1:]
            column[parts, -1] = new
        self.count[parts] = np.minimum(self.count[parts] + 1, HISTORY)

    def state(self) -> dict[str, Any]:
        """What `from_state` needs, for a snapshot."""
        return {"trend_count": self.count, "trend_time_us": self.time_us, "trend_distance": self.distance}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """The trend that `state` describes."""
        trend = cls()
        trend.count, trend.time_us, trend.distance = (
            state["trend_count"],
            state["trend_time_us"],
            state["trend_distance"],
        )
        return trend


@dataclass(frozen=True, slots=True, eq=False)
class Life:
    """Remaining life of n components: hours with a 90 % interval, probability of failure, and by which model."""

    hours: Float64
    low: Float64
    high: Float64
    p_fail: Float64
    model: Any


def life_of(trend: Trend, parts: Int64, failed: float, horizon_h: float) -> Life:
    """Carries the trends of some components on to the distance `failed`; NaN where there is no significant trend."""
    n = len(parts)
    hours, low, high, p_fail = (np.full(n, np.nan) for _ in range(4))
    model = np.full(n, "steady", object)
    count = trend.count[parts]
    candidates = np.flatnonzero((count >= POINTS_MIN) & (trend.distance[parts, -1] >= DISTANCE_MIN))
    for i in candidates.tolist():
        have = int(count[i])
        time = (trend.time_us[parts[i], -have:] - trend.time_us[parts[i], -1]) / HOUR_US
        distance = trend.distance[parts[i], -have:]
        straight, bent = _fit(time, distance), _fit(time, np.log(np.maximum(distance, 0.1)))
        error_bent = float(np.sum((np.exp(bent.level + bent.slope * time) - distance) ** 2))
        is_bent = error_bent < straight.error
        lives = straight.reaches(failed), bent.reaches(float(np.log(failed)))
        if lives[is_bent] is None:
            continue
        # Both shapes vote by how well they fit, so that the figure does not jump when they fit alike.
        votes = [
            (log(max(life[0], 1e-6)), 1.0 / max(error, 1e-12))
            for life, error in zip(lives, (straight.error, error_bent), strict=True)
            if life
        ]
        hours[i] = exp(sum(vote * weight for vote, weight in votes) / sum(weight for _, weight in votes))
        # Which of the two shapes goes on is not known either: the interval holds what both say.
        low[i] = min(life[1] for life in lives if life)
        high[i] = max(life[2] for life in lives if life)
        spread = max((high[i] - low[i]) / (2 * NORMAL_90), 1e-6)
        p_fail[i] = 0.5 * (1 + erf((horizon_h - hours[i]) / (spread * sqrt(2))))
        model[i] = "exponential" if is_bent else "linear"
    return Life(hours, low, high, p_fail, model)


@dataclass(frozen=True, slots=True)
class _Line:
    """`level + slope * time`, with the error of the slope and the sum of squared residuals."""

    level: float
    slope: float
    slope_error: float
    error: float

    def reaches(self, goal: float) -> tuple[float, float, float] | None:
        """Hours until the line is at `goal`, with a 90 % interval; None if it does not rise for sure."""
        margin = NORMAL_90 * self.slope_error
        if self.slope <= margin:
            return None
        left = max(goal - self.level, 0.0)
        return left / self.slope, left / (self.slope + margin), left / (self.slope - margin)


def _fit(time: Float64, y: Float64) -> _Line:
    """Fits a straight line by least squares; time 0 is now."""
    off = time - time.mean()
    spread = float(np.sum(off * off))
    if spread <= 0:
        return _Line(float(y[-1]), 0.0, np.inf, np.inf)
    slope = float(np.sum(off * (y - y.mean()))) / spread
    level = float(y.mean() - slope * time.mean())
    error = float(np.sum((y - level - slope * time) ** 2))
    slope_error = CORRELATION * sqrt(error / max(len(y) - 2, 1) / spread)
    return _Line(level, slope, slope_error, error)
