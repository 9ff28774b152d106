"""What the machines of a site share: weather and demand. A shared cause moves many sensors and is no fault."""

from functools import cache, lru_cache

import numpy as np

from headwater.frame import Float64
from simulators.noise import as_keys, key_of, smooth

DAY_S = 86_400
_WEATHER_PERIODS_S = (10_800, 900)


@cache
def _daily() -> tuple[Float64, Float64]:
    """Returns float64 (86400,) twice: warmth (peak at 15:00) and demand (peaks at 08:00 and 18:00), about −1 to 1."""
    hour = np.arange(DAY_S) / 3600.0
    warmth = np.cos((hour - 15.0) * (2 * np.pi / 24))
    # Distances go round the clock, so that nothing steps at midnight.
    from_morning, from_evening = ((hour - peak + 12.0) % 24.0 - 12.0 for peak in (8.0, 18.0))
    demand = np.exp(-((from_morning / 2.5) ** 2)) + np.exp(-((from_evening / 3.0) ** 2))
    return warmth, 2.0 * demand / demand.max() - 1.0


@lru_cache(maxsize=64)
def ambient_cel(seed: int, site: str, start_s: int, stop_s: int) -> Float64:
    """Returns float64 (stop_s - start_s,): outdoor temperature minus its mean, each second, in °C.

    >>> ambient_cel(1, "north-works", 0, 3).shape
    (3,)
    """
    warmth = _daily()[0][np.arange(start_s, stop_s) % DAY_S]
    key = as_keys(key_of(seed, site, "weather"))
    slow, fast = (smooth(key, start_s, stop_s, period)[0] for period in _WEATHER_PERIODS_S)
    ambient = 5.0 * warmth + 2.5 * slow + 0.3 * fast
    ambient.flags.writeable = False  # All machines of the site share it.
    return np.asarray(ambient)


@lru_cache(maxsize=64)
def demand(seed: int, site: str, start_s: int, stop_s: int) -> Float64:
    """Returns float64 (stop_s - start_s,): what consumers ask for, about −1 to 1, lower at weekends."""
    seconds = np.arange(start_s, stop_s)
    daily = _daily()[1][seconds % DAY_S]
    # 1970-01-01 was a Thursday: days 2 and 3 of each week since then are Saturday and Sunday. People come and go over
    # two hours around midnight.
    into_week_s = seconds % (7 * DAY_S)
    begun, ended = (np.clip((into_week_s - day * DAY_S) / 7_200 + 0.5, 0.0, 1.0) for day in (2, 4))
    wander = smooth(as_keys(key_of(seed, site, "demand")), start_s, stop_s, 1_800)[0]
    asked = (1.0 - 0.6 * (begun - ended)) * daily + 0.15 * wander
    asked.flags.writeable = False  # All machines of the site share it.
    return np.asarray(asked)
