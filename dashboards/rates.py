"""Rates from counters: nested dictionaries of totals become flat names and changes per second."""

from collections.abc import Mapping
from typing import Any

DEPTH_MAX = 6
SETTLING_MOVES = 5


def flatten(counters: Mapping[str, Any], *, prefix: str = "", depth: int = 0) -> dict[str, Any]:
    """Returns {"a.b": value} for the numbers and strings of a nested dictionary, without `devices`.

    >>> flatten({"frames": 3, "drops": {"overload": 1}, "devices": {"a/b": {}}})
    {'frames': 3, 'drops.overload': 1}
    """
    flat: dict[str, Any] = {}
    for key, value in counters.items():
        if key == "devices" or depth > DEPTH_MAX:
            continue
        if isinstance(value, Mapping):
            flat |= flatten(value, prefix=f"{prefix}{key}.", depth=depth + 1)
        elif isinstance(value, bool | int | float | str):
            flat[f"{prefix}{key}"] = value
    return flat


class Rates:
    """Keeps the totals seen last and smooths their change per second over about `smooth_us`.

    The first moves of a total have no rate: they count what had waited since before anybody looked. Its rate begins when a
    move is less than half of the largest so far, or after SETTLING_MOVES of them.

    >>> rates = Rates(smooth_us=1)
    >>> [rates.update(second * 1_000_000, {"frames": total}) for second, total in enumerate((0, 5_000, 5_010))]
    [{}, {}, {}]
    >>> rates.update(3_000_000, {"frames": 5_020})
    {'frames': 10.0}
    """

    def __init__(self, *, smooth_us: int) -> None:
        self._smooth_us = smooth_us
        self._then_us: int | None = None
        self._totals: dict[str, float] = {}
        self._rates: dict[str, float] = {}
        self._settling: dict[str, tuple[int, float]] = {}

    def update(self, monotonic_us: int, flat: Mapping[str, Any]) -> dict[str, float]:
        """Takes totals at a time and returns the rates per second; a total that fell starts anew (a restart)."""
        totals = {key: float(value) for key, value in flat.items() if type(value) in (int, float)}
        if self._then_us is not None and monotonic_us > self._then_us:
            elapsed_us = monotonic_us - self._then_us
            weight = elapsed_us / (elapsed_us + self._smooth_us)
            for key, total in totals.items():
                if key not in self._totals:
                    continue
                rate = max(0.0, total - self._totals[key]) * 1e6 / elapsed_us
                if self._is_settling(key, rate):
                    self._rates.pop(key, None)
                    continue
                before = self._rates.get(key)
                self._rates[key] = rate if before is None or weight >= 0.99 else before + weight * (rate - before)
        self._then_us = monotonic_us
        self._totals = totals
        self._rates = {key: rate for key, rate in self._rates.items() if key in totals}
        self._settling = {key: found for key, found in self._settling.items() if key in totals}
        return {key: round(rate, 3) for key, rate in self._rates.items()}

    def _is_settling(self, key: str, rate: float) -> bool:
        """Tells whether this move of a total still counts what had waited."""
        moves, peak = self._settling.get(key, (0, 0.0))
        if moves >= SETTLING_MOVES or not (moves or rate):
            return False
        self._settling[key] = (SETTLING_MOVES if rate < peak / 2 else moves + 1, max(peak, rate))
        return True
