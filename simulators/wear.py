"""How components wear out: sound until an onset, then faster and faster until failure, repair and a new life.

Lives are Weibull with a spread of units; the onset and the growth rate differ from life to life. What is true at a
time is a pure function of (seed, device, component, time).
"""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from math import exp, expm1, log

import numpy as np

from headwater.frame import Float64
from simulators.noise import draw, key_of

DAMAGE_AT_ONSET = 0.04
STEP_S = 16  # Damage is worked out every so many seconds and joined by lines.


@dataclass(frozen=True, slots=True)
class Component:
    """A part that wears out.

    Attributes:
        name: "bearing", "impeller", "filter", …
        life_days: scale of its Weibull life at wear speed 1.
        shape: Weibull shape, above 1 for wear-out.
        repair_s: standstill after a failure.
    """

    name: str
    life_days: float
    shape: float = 2.5
    repair_s: int = 14_400


@dataclass(frozen=True, slots=True)
class Life:
    """One life of a component, in seconds since the epoch.

    Attributes:
        component: name.
        index: 0 for the life that runs at the start of the plant.
        begin_s, onset_s, failure_s, repaired_s: new, first damage, failure, back in service.
        growth: how sharply the damage bends upwards.
    """

    component: str
    index: int
    begin_s: int
    onset_s: int
    failure_s: int
    repaired_s: int
    growth: float

    def damage(self, at_s: float) -> float:
        """Returns the damage, 0 when new and 1 at the failure and until the repair.

        >>> Life("bearing", 0, 0, 100, 200, 210, 3.0).damage(200)
        1.0
        """
        if at_s >= self.failure_s:
            return 1.0
        if at_s <= self.begin_s:
            return 0.0
        if at_s < self.onset_s:
            return DAMAGE_AT_ONSET * (at_s - self.begin_s) / (self.onset_s - self.begin_s)
        share = (at_s - self.onset_s) / (self.failure_s - self.onset_s)
        return DAMAGE_AT_ONSET + (1.0 - DAMAGE_AT_ONSET) * expm1(self.growth * share) / expm1(self.growth)


def _span_s(component: Component, key: int, index: int, wear_speed: float) -> float:
    weibull = float((-log(1.0 - draw(key, 4 * index))) ** (1.0 / component.shape))
    return max(weibull, 0.15) * component.life_days * 86_400 / wear_speed


@dataclass(slots=True, eq=False)
class LifeLine:
    """All lives of one component of one machine, drawn one after another as far as they are asked for.

    Attributes:
        seed, device, component: name the line.
        start_s: start of the plant, within life 0.
        age_share: how much of its span life 0 has used up by then.
        wear_speed: how much faster than in life.
    """

    seed: int
    device: str
    component: Component
    start_s: int
    age_share: float
    wear_speed: float
    _drawn: tuple[Life, ...] = ()

    def between(self, start_s: int, stop_s: int) -> list[Life]:
        """Returns the lives that overlap `[start_s, stop_s)`, in order; life 0 covers all time before it too."""
        lives = self._drawn
        if not lives or lives[-1].repaired_s < stop_s:
            grown = list(lives)
            while not grown or grown[-1].repaired_s < stop_s:
                grown.append(self._draw(len(grown), grown[-1].repaired_s if grown else None))
            # Replaced at one stroke: two threads that draw at once draw the same.
            self._drawn = lives = tuple(grown)
        first = bisect_right(lives, start_s, key=_repaired_s)
        last = bisect_left(lives, stop_s, key=_begin_s)
        return list(lives[first : max(last, first + 1)])

    def _draw(self, index: int, begin_s: int | None) -> Life:
        component = self.component
        key = key_of(self.seed, self.device, component.name, "life")
        span = _span_s(component, key, index, self.wear_speed)
        begin = self.start_s - round(self.age_share * span) if begin_s is None else begin_s
        failure = begin + max(60, round(span))
        onset_share = 0.5 + 0.3 * draw(key, 4 * index + 1)
        return Life(
            component.name,
            index,
            begin,
            begin + round(onset_share * (failure - begin)),
            failure,
            failure + max(60, round(component.repair_s / self.wear_speed)),
            growth=exp(0.9 + 0.5 * draw(key, 4 * index + 2)),
        )


def _repaired_s(life: Life) -> int:
    return life.repaired_s


def _begin_s(life: Life) -> int:
    return life.begin_s


def damage_between(lives: list[Life], start_s: int, stop_s: int) -> Float64:
    """Returns float64 (stop_s - start_s,): the damage each second; the lives cover it and `STEP_S` on both sides.

    >>> life = Life("bearing", 0, 0, 96, 200, 210, 3.0)
    >>> damage_between([life], 96, 128).round(4).tolist()[::16]
    [0.04, 0.0695]
    """
    first = start_s // STEP_S
    knots = []
    at = 0
    for step in range(first, (stop_s - 1) // STEP_S + 2):
        second = step * STEP_S
        while at + 1 < len(lives) and second >= lives[at].repaired_s:
            at += 1
        knots.append(lives[at].damage(second))
    damage = np.array(knots)
    seconds = np.arange(start_s, stop_s)
    cell = seconds // STEP_S - first
    share = (seconds % STEP_S) / STEP_S
    return np.asarray(damage[cell] + (damage[cell + 1] - damage[cell]) * share)
