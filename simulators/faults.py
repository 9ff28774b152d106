"""Faults: what they are, when they come by schedule, and what they do to the values.

A severity counts standard deviations of the channel's own noise; of `clock_jump` it counts seconds (signed).
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from headwater.frame import Float64
from headwater.instant import US_PER_S
from simulators.noise import draw, key_of, white

DAY_S = 86_400
SPARED_SHARE = 0.3  # This share of the devices never has a scheduled fault.
FADE_FROM = 0.75  # Slow faults fade from this share of their time on.
SEVERITY_MAX = 1_000.0

# Where a process fault shows: metric → change at severity 1, in that metric's sigmas.
PROCESS_EFFECTS: dict[str, dict[str, float]] = {
    "leak": {"pressure_bar": -1.0, "level_pct": -1.0, "suction_bar": -1.0, "flow_m3h": 0.5, "outflow_m3h": 0.3},
    "cavitation": {"pressure_bar": -0.3, "flow_m3h": -0.6, "current_a": -0.3},
    "imbalance": {"bearing_temp_cel": 0.4, "oil_temp_cel": 0.4},
    "over_temperature": {
        "bearing_temp_cel": 1.0,
        "motor_temp_cel": 0.6,
        "winding_temp_cel": 1.0,
        "discharge_temp_cel": 1.0,
        "oil_temp_cel": 0.8,
        "condenser_temp_cel": 1.0,
        "temperature_cel": 1.0,
    },
    "clogging": {
        "filter_dp_mbar": 1.0,
        "strainer_dp_mbar": 1.0,
        "flow_m3h": -0.7,
        "inflow_m3h": -0.7,
        "current_a": 0.2,
    },
}
_PROCESS_KINDS: dict[str, tuple[str, ...]] = {
    "pump": ("leak", "cavitation", "imbalance", "over_temperature", "clogging"),
    "motor": ("imbalance", "over_temperature"),
    "compressor": ("leak", "imbalance", "over_temperature", "clogging"),
    "chiller": ("leak", "over_temperature", "clogging"),
    "tank": ("leak", "over_temperature", "clogging"),
}


@dataclass(frozen=True, slots=True)
class FaultKind:
    """How a kind of fault is drawn and how it sets in.

    Attributes:
        name: what it is called in truth and on the page.
        onset: "step", "ramp" (grows all the time) or "exp" (most of it comes in the first third); the latter two fade in
            the last quarter, as a machine recovers.
        seconds: shortest and longest duration of a scheduled one.
        severity: lowest and highest of a scheduled one.
        weight: how often it comes, relative to the others.
    """

    name: str
    onset: str
    seconds: tuple[int, int]
    severity: tuple[float, float]
    weight: float

    @property
    def is_process(self) -> bool:
        """True if the machine is ill, not its sensor."""
        return self.name in PROCESS_EFFECTS


KINDS: dict[str, FaultKind] = {
    kind.name: kind
    for kind in (
        FaultKind("spike", "step", (1, 2), (6.0, 15.0), 0.8),
        FaultKind("drift", "ramp", (180, 600), (6.0, 12.0), 1.5),
        FaultKind("bias", "step", (60, 300), (3.0, 8.0), 1.2),
        FaultKind("stuck", "step", (60, 300), (0.0, 0.0), 1.5),
        FaultKind("dropout", "step", (5, 60), (0.0, 0.0), 0.6),
        FaultKind("noise", "step", (60, 300), (2.0, 5.0), 0.8),
        FaultKind("clock_jump", "step", (30, 120), (2.0, 30.0), 0.4),
        FaultKind("leak", "ramp", (180, 600), (6.0, 14.0), 1.0),
        FaultKind("cavitation", "step", (60, 300), (5.0, 10.0), 1.0),
        FaultKind("imbalance", "exp", (180, 600), (6.0, 14.0), 1.0),
        FaultKind("over_temperature", "exp", (180, 600), (8.0, 20.0), 1.0),
        FaultKind("clogging", "ramp", (180, 600), (6.0, 14.0), 1.0),
    )
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One episode `[start_s, stop_s)`, in whole seconds of the machine's samples.

    Attributes:
        id: unique in the plant.
        site, device: where.
        metric: which channel; "" for the whole machine.
        kind: a key of `KINDS`.
        start_s, stop_s: from the first changed sample to the first sound one.
        severity: see the module.
        cause: "schedule" or "live".
    """

    id: str
    site: str
    device: str
    metric: str
    kind: str
    start_s: int
    stop_s: int
    severity: float
    cause: str = "schedule"

    def shape(self, start_s: int, stop_s: int) -> Float64:
        """Returns float64 (n,): how far it has set in each second, 0 outside and up to 1 inside.

        >>> Fault("f", "s", "d", "m", "drift", 10, 18, 8.0).shape(9, 19).round(2).tolist()
        [0.0, 0.17, 0.33, 0.5, 0.67, 0.83, 1.0, 1.0, 0.5, 0.0]
        """
        seconds = np.arange(start_s, stop_s)
        lasts = self.stop_s - self.start_s
        share = np.minimum((seconds - self.start_s + 1) / (FADE_FROM * lasts), 1.0)
        onset = KINDS[self.kind].onset
        if onset == "step":
            share = np.ones(len(seconds))
        else:
            if onset == "exp":
                share = np.minimum(3.0 * FADE_FROM * share, 1.0)
                share *= 2.0 - share
            share *= np.minimum((self.stop_s - seconds) / ((1.0 - FADE_FROM) * lasts), 1.0)
        return np.asarray(np.where((seconds >= self.start_s) & (seconds < self.stop_s), share, 0.0))


def kinds_of(machine_kind: str) -> tuple[str, ...]:
    """Returns the kinds of faults that a kind of machine can have.

    >>> "cavitation" in kinds_of("pump"), "cavitation" in kinds_of("motor")
    (True, False)
    """
    sensor = tuple(name for name, kind in KINDS.items() if not kind.is_process)
    return sensor + _PROCESS_KINDS[machine_kind]


def slot_s(faults_per_day: float) -> int:
    """Returns the length of a slot of the schedule: at most one fault begins in each.

    >>> slot_s(2.0), slot_s(144.0)
    (3600, 300)
    """
    return max(30, min(3_600, int(DAY_S / (2 * faults_per_day))))


@lru_cache(maxsize=65_536)
def scheduled(
    seed: int, site: str, device: str, machine_kind: str, metrics: tuple[str, ...], faults_per_day: float, index: int
) -> Fault | None:
    """Returns the fault that begins in slot `index` of the schedule, if one does; a pure function.

    It lasts at most one slot, so it ends within the next. `metrics` are those that can have sensor faults.
    """
    if faults_per_day <= 0 or draw(key_of(seed, device, "spared"), 0) < SPARED_SHARE:
        return None
    length, key = slot_s(faults_per_day), key_of(seed, device, "faults")

    def number(which: int) -> float:
        return draw(key, 8 * index + which)

    if number(0) >= min(0.9, faults_per_day * length / DAY_S / (1 - SPARED_SHARE)):
        return None
    kinds = [KINDS[name] for name in kinds_of(machine_kind)]
    place = number(1) * sum(kind.weight for kind in kinds)
    kind = kinds[-1]
    for candidate in kinds:
        if place < candidate.weight:
            kind = candidate
            break
        place -= candidate.weight
    begin = index * length + int(number(2) * length)
    lasts = min(int(kind.seconds[0] + number(3) * (kind.seconds[1] - kind.seconds[0] + 1)), length)
    severity = kind.severity[0] + number(4) * (kind.severity[1] - kind.severity[0])
    if kind.name in ("spike", "drift", "bias", "clock_jump") and number(5) < 0.5:
        severity = -severity
    is_whole = kind.is_process or kind.name == "clock_jump"
    metric = "" if is_whole else metrics[int(number(6) * len(metrics))]
    name = f"{device}-{begin}-{kind.name}"
    return Fault(name, site, device, metric, kind.name, begin, begin + lasts, round(severity, 2))


@dataclass(frozen=True, slots=True, eq=False)
class Canvas:
    """The sound values of one machine that faults are painted on.

    Attributes:
        names: m metrics.
        sigmas: float64 (m,).
        keys: uint64 (m,), keys of extra noise.
        start_s: second of the first column.
        value: float64 (m, n), a column per second; changed in place.
        missing: bool (m, n), readings that were not taken; changed in place.
    """

    names: tuple[str, ...]
    sigmas: Float64
    keys: npt.NDArray[np.uint64]
    start_s: int
    value: Float64
    missing: npt.NDArray[np.bool_]


def paint(canvas: Canvas, fault: Fault, held: Float64) -> None:
    """Applies one fault to the values; a clock jump changes none (see `clock_shift_us`).

    Args:
        canvas: what it falls on.
        fault: one of this machine.
        held: float64 (m,), for "stuck": the sound values of the second before it began.
    """
    lo = max(fault.start_s, canvas.start_s)
    hi = min(fault.stop_s, canvas.start_s + canvas.value.shape[1])
    if lo >= hi or fault.kind == "clock_jump":
        return
    span = slice(lo - canvas.start_s, hi - canvas.start_s)
    rows = list(range(len(canvas.names))) if not fault.metric else [canvas.names.index(fault.metric)]
    if fault.kind == "stuck":
        canvas.value[rows, span] = held[rows, None]
    elif fault.kind == "dropout":
        canvas.missing[rows, span] = True
    elif fault.kind == "noise":
        _roughen(canvas, rows, fault, lo, hi)
    elif fault.kind in PROCESS_EFFECTS:
        effects = PROCESS_EFFECTS[fault.kind]
        weights = np.array([effects.get(name, 0.0) for name in canvas.names])
        canvas.value[:, span] += (fault.severity * weights * canvas.sigmas)[:, None] * fault.shape(lo, hi)
        if fault.kind == "cavitation":
            _roughen(canvas, [i for i, name in enumerate(canvas.names) if name in effects], fault, lo, hi)
    else:
        canvas.value[rows, span] += (fault.severity * canvas.sigmas[rows])[:, None] * fault.shape(lo, hi)


def _roughen(canvas: Canvas, rows: list[int], fault: Fault, lo: int, hi: int) -> None:
    extra = white(canvas.keys[rows], np.arange(lo, hi))
    strength = abs(fault.severity) * (0.4 if fault.kind == "cavitation" else 1.0)
    canvas.value[rows, lo - canvas.start_s : hi - canvas.start_s] += strength * canvas.sigmas[rows, None] * extra


def clock_shift_us(faults: list[Fault], at_s: int) -> int:
    """Returns by how much the machine's clock is wrong at a second."""
    return sum(
        round(fault.severity * US_PER_S)
        for fault in faults
        if fault.kind == "clock_jump" and fault.start_s <= at_s < fault.stop_s
    )
