"""How components wear out: sound until an onset, then faster and faster until failure, repair and a new life.

Lives are Weibull with a spread of units; the onset and the growth rate differ from life to life. What is true at a
time is a pure function of (seed, device, component, time).
"""

from dataclasses import dataclass
from functools import lru_cache
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


@lru_cache(maxsize=65_536)
def life_at(
    seed: int, device: str, component: Component, index: int, start_s: int, age_share: float, wear_speed: float
) -> Life:
    """Returns life number `index`; life 0 has used up `age_share` of its span at `start_s`."""
    key = key_of(seed, device, component.name, "life")
    span = _span_s(component, key, index, wear_speed)
    begin = start_s - round(age_share * span)
    if index:
        begin = life_at(seed, device, component, index - 1, start_s, age_share, wear_speed).repaired_s
    onset_share = 0.5 + 0.3 * draw(key, 4 * index + 1)
    growth = exp(0.9 + 0.5 * draw(key, 4 * index + 2))
    failure = begin + max(60, round(span))
    repair = max(60, round(component.repair_s / wear_speed))
    return Life(
        component.name, index, begin, begin + round(onset_share * (failure - begin)), failure, failure + repair, growth
    )


def lives_between(
    seed: int,
    device: str,
    component: Component,
    plant_start_s: int,
    age_share: float,
    wear_speed: float,
    span: tuple[int, int],
) -> list[Life]:
    """Returns the lives that overlap `span`, a half-open interval in seconds; life 0 covers all before it."""
    lives: list[Life] = []
    index = 0
    while True:
        life = life_at(seed, device, component, index, plant_start_s, age_share, wear_speed)
        if life.begin_s >= span[1] and lives:
            return lives
        if life.repaired_s > span[0]:
            lives.append(life)
        index += 1


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
