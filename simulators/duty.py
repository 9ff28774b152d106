"""When a machine runs and what is asked of it: set-point changes, stops and starts, none of them a fault.

Time is cut into slots. At a jittered moment near the start of each slot the set point changes, and some slots have
a stop with a restart later in them. Everything settles before its slot ends, so a slot needs only its predecessor.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from headwater.frame import Float64
from simulators.noise import draw, key_of

LEVELS = (0.6, 0.7, 0.8, 0.9, 1.0)
STOP_PROBABILITY = 0.12
_SETTLED = 40  # After this many time constants an exponential is below the resolution of every sensor.


@dataclass(frozen=True, slots=True)
class Slot:
    """One slot of a machine's duty, in seconds since the epoch.

    Attributes:
        change_s: when the set point becomes `level`.
        level: share of the rated output that is asked for, 0.6 to 1.
        level_before: of the slot before.
        stop_s, restart_s: the machine stands still in `[stop_s, restart_s)`; equal if it doesn't stop.
    """

    change_s: int
    level: float
    level_before: float
    stop_s: int
    restart_s: int


@dataclass(frozen=True, slots=True)
class Drive:
    """What drives a machine's channels, float64 (n,) each: a column per second.

    Attributes:
        on: 1 while switched on, else 0.
        setpoint: the level asked for, 0.6 to 1.
        run: `on` with run-up and run-down.
        load: level delivered, follows within seconds.
        thermal: level as heat, follows within minutes.
    """

    on: Float64
    setpoint: Float64
    run: Float64
    load: Float64
    thermal: Float64


@lru_cache(maxsize=65_536)
def _key(seed: int, device: str) -> int:
    return key_of(seed, device, "duty")


def _level(key: int, index: int) -> float:
    return LEVELS[int(draw(key, 4 * index) * len(LEVELS))]


@lru_cache(maxsize=65_536)
def slot_at(seed: int, device: str, slot_s: int, index: int) -> Slot:
    """Returns the slot that begins at about `index * slot_s`; a pure function of its arguments."""
    key = _key(seed, device)
    begin = index * slot_s
    stop = restart = begin + slot_s // 2
    if draw(key, 4 * index + 2) < STOP_PROBABILITY:
        stop = begin + int(slot_s * (0.4 + 0.1 * draw(key, 4 * index + 3)))
        restart = stop + slot_s // 8
    change = begin + int(slot_s * 0.1 * draw(key, 4 * index + 1))
    return Slot(change, _level(key, index), _level(key, index - 1), stop, restart)


def slots_between(seed: int, device: str, slot_s: int, start_s: int, stop_s: int) -> list[Slot]:
    """Returns the slots that govern `[start_s, stop_s)`, in order.

    >>> len(slots_between(1, "pump-001", 14_400, 0, 28_800))
    3
    """
    return [slot_at(seed, device, slot_s, index) for index in range(start_s // slot_s - 1, (stop_s - 1) // slot_s + 1)]


@lru_cache(maxsize=64)
def decay(tau_s: float) -> Float64:
    """Returns exp(−t/τ) for t = 0, 1, 2 … s until it is as good as zero; the last entry is zero."""
    table = np.exp(-np.arange(int(_SETTLED * tau_s) + 2) / tau_s)
    table[-1] = 0.0
    return np.asarray(table)


def _lagged(steps: list[tuple[int, float]], before: float, tau_s: float, start_s: int, stop_s: int) -> Float64:
    """Returns float64 (n,): steps (second, target) seen through a first-order lag; `before` holds until the first."""
    table = decay(tau_s)
    last = len(table) - 1
    out = np.full(stop_s - start_s, before)
    at_step, target = before, before
    for i, (begin, value) in enumerate(steps):
        if i:
            at_step = target + (at_step - target) * float(table[min(begin - steps[i - 1][0], last)])
        target = value
        end = steps[i + 1][0] if i + 1 < len(steps) else stop_s
        lo, hi = max(begin, start_s), min(end, stop_s)
        if lo < hi:
            age = np.minimum(np.arange(lo - begin, hi - begin), last)
            out[lo - start_s : hi - start_s] = target + (at_step - target) * table[age]
    return out


def _held(steps: list[tuple[int, float]], before: float, start_s: int, stop_s: int) -> Float64:
    """Returns float64 (n,): the steps themselves."""
    out = np.full(stop_s - start_s, before)
    for begin, value in steps:
        out[max(begin - start_s, 0) :] = value
    return out


def drive(seed: int, device: str, slot_s: int, outages: list[tuple[int, int]], start_s: int, stop_s: int) -> Drive:
    """Returns what drives the machine in each second of `[start_s, stop_s)`.

    `seed`, `device` and `slot_s` name the duty; `outages` are further standstills `[from, to)` in seconds, ascending
    and apart: a failure until its repair.
    """
    slots = slots_between(seed, device, slot_s, start_s, stop_s)
    levels = [(slot.change_s, slot.level) for slot in slots]
    stands = [(slot.stop_s, slot.restart_s) for slot in slots if slot.stop_s < slot.restart_s]
    switches = [(at, value) for stand in stands for at, value in zip(stand, (0.0, 1.0), strict=True)]
    before = slots[0].level_before
    quick, slow = min(6.0, slot_s / 400), min(240.0, slot_s / 60)
    on = _held(switches, 1.0, start_s, stop_s)
    run = _lagged(switches, 1.0, quick, start_s, stop_s)
    heat = _lagged(switches, 1.0, slow, start_s, stop_s)
    # Twice the settling time: then what is left out had settled before what is kept began.
    near = [(lo, hi) for lo, hi in outages if hi + 2 * _SETTLED * slow >= start_s and lo < stop_s]
    if near:
        breaks = [(at, value) for outage in near for at, value in zip(outage, (0.0, 1.0), strict=True)]
        on *= _held(breaks, 1.0, start_s, stop_s)
        run *= _lagged(breaks, 1.0, quick, start_s, stop_s)
        heat *= _lagged(breaks, 1.0, slow, start_s, stop_s)
    load = run * _lagged(levels, before, 2 * quick, start_s, stop_s)
    thermal = heat * _lagged(levels, before, slow, start_s, stop_s)
    return Drive(on, _held(levels, before, start_s, stop_s), run, load, thermal)
