"""Units where the store knows only a metric's name: many names end in theirs."""

from collections.abc import Mapping
from typing import Any

SUFFIXES = {
    "cel": "Cel", "c": "Cel", "bar": "bar", "a": "A", "v": "V", "kw": "kW", "kwh": "kWh", "hz": "Hz", "rpm": "{rpm}",
    "m3h": "m3/h", "lpm": "L/min", "mms": "mm/s", "ms2": "m/s2", "g": "g", "pct": "%", "percent": "%", "mm": "mm",
    "um": "um", "ms": "ms", "db": "dB", "nm": "N.m", "pa": "Pa", "kpa": "kPa", "ppm": "[ppm]", "mm_s": "mm/s", "m_s": "m/s", "m_s2": "m/s2", "m3_h": "m3/h", "l_min": "L/min", "dbm": "dBm", "s": "s",
}  # fmt: skip
STATE_WORDS = ("running", "setpoint", "mode", "state", "on", "enabled", "step")
FIRST_WORDS = ("bearing_temp", "temp", "pressure", "flow", "current", "speed", "vibration_rms", "vibration")


def unit_of(metric: str) -> str:
    """Returns the UCUM unit that the last word of a metric's name says; "" if it says none.

    >>> unit_of("bearing_temp_cel"), unit_of("vibration_rms_mm_s"), unit_of("running")
    ('Cel', 'mm/s', '')
    """
    words = metric.lower().split("_")
    for length in (2, 1):
        unit = SUFFIXES.get("_".join(words[-length:])) if len(words) > length else None
        if unit is not None:
            return unit
    return ""


def main_metric(metrics: list[str]) -> str:
    """Returns the metric whose small chart stands for a device; "" if there is none.

    >>> main_metric(["running", "flow_m3h", "bearing_temp_cel"])
    'bearing_temp_cel'
    """
    ordered = order_metrics(metrics)
    return ordered[0] if ordered else ""


def order_metrics(metrics: list[str]) -> list[str]:
    """Returns metrics as people read them: heat and flow first, shaking then, switches and set points last, else by name.

    >>> order_metrics(["running", "flow_m3h", "vibration_rms_mm_s", "bearing_temp_cel"])
    ['bearing_temp_cel', 'flow_m3h', 'vibration_rms_mm_s', 'running']
    """

    def rank(metric: str) -> tuple[int, str]:
        if any(word in STATE_WORDS for word in metric.split("_")):
            return len(FIRST_WORDS) + 1, metric
        found = [at for at, word in enumerate(FIRST_WORDS) if word in metric]
        return (found[0] if found else len(FIRST_WORDS)), metric

    return sorted(metrics, key=rank)


def with_units(row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a device's row with its metrics in reading order, each with a unit.

    >>> with_units({"metrics": {"flow_m3h": {"value": 3.0}}})["metrics"]
    {'flow_m3h': {'unit': 'm3/h', 'value': 3.0}}
    """
    metrics = row.get("metrics") or {}
    return {
        **row,
        "metrics": {name: {"unit": unit_of(name), **(metrics[name] or {})} for name in order_metrics(list(metrics))},
    }
