"""What is measured: a metric's name, unit, limits and how its readings are reduced."""

from dataclasses import dataclass
from math import inf


@dataclass(frozen=True, slots=True)
class Metric:
    """One named quantity of a device.

    Attributes:
        name: see `headwater.names.is_metric`.
        unit: UCUM-style text such as "Cel", "bar", "m3/h"; "" for none.
        lo, hi: readings outside are of bad quality (range), in the metric's unit.
        rate_max: largest believable change per second; beyond it the quality is uncertain (rate).
        resolution: smallest step that the sensor tells apart; 0 if unknown.
        every_us: expected sampling interval; 0 if irregular.
        reduction: "raw", "deadband:ε", "swing:ε" or "summary:width" (contracts §4).
        is_state: True for switches, modes and set points: no level detector, steps are normal.
    """

    name: str
    unit: str = ""
    lo: float = -inf
    hi: float = inf
    rate_max: float = inf
    resolution: float = 0.0
    every_us: int = 0
    reduction: str = "raw"
    is_state: bool = False
