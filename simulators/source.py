"""A simulated sensor board as a source of the edge agent: `headwater.sources` entry point `simulated`."""

from dataclasses import replace
from typing import Any, ClassVar, Protocol

import numpy as np

from headwater.errors import SettingsError
from headwater.frame import Block
from headwater.instant import US_PER_S
from headwater.location import Location
from headwater.metric import Metric
from headwater.ports import Clock
from headwater.vibration import WAVEFORM
from simulators.faults import Fault
from simulators.plant import Machine, Plant
from simulators.vibration import RATE_HZ

OPTIONS = frozenset(
    {"seed", "devices", "index", "device", "start_us", "wear_speed", "faults_per_day", "duty_slot_s", "vibration"}
    | {"plant", "control", "catch_up_s", "history_s", "sample_every_us"}
)
VIBRATION_MODES = ("features", "waveform", "off")
CATCH_UP_S_DEFAULT = 60


class LiveFaults(Protocol):
    """Where faults that were injected by hand come from; `simulators.control.Control` is one."""

    def live(self, machine: Machine, start_us: int, end_us: int) -> list[Fault]:
        """Returns the injected faults of a machine that overlap `[start_us, end_us)`."""


class SimulatedSource:
    """Delivers one machine's readings as time passes.

    Options: `seed`, `devices`, `start_us`, `wear_speed`, `faults_per_day`, `duty_slot_s` as in
    `simulators.plant.Plant` (or the plant itself as `plant`); `index` or `device` choose the machine; `vibration` is
    "features" (a smart sensor reduces the bursts), "waveform" (raw bursts, the agent reduces) or "off"; `control` is a
    `LiveFaults`; `catch_up_s` is how far back a late read reaches: what is older was never sampled; `history_s` is how
    long before `open` the first samples lie; `sample_every_us` is the interval of the process values, where the agent
    or its user sets another than a second. The board converts once a second: asked more often, it says the same again.
    Bursts come once a minute whatever that is.
    """

    takes_sample_every: ClassVar[bool] = True

    def __init__(self, options: dict[str, Any], clock: Clock) -> None:
        unknown = sorted(set(options) - OPTIONS)
        if unknown:
            raise SettingsError(
                f"source simulated: unknown option {unknown[0]!r}; known are {', '.join(sorted(OPTIONS))}"
            )
        self._clock = clock
        self._mode = options.get("vibration", "features")
        if self._mode not in VIBRATION_MODES:
            raise SettingsError(
                f"source simulated: vibration {self._mode!r} must be one of {', '.join(VIBRATION_MODES)}"
            )
        self._every_us = _integer(options, "sample_every_us", US_PER_S, 1_000)
        self._history_us = _integer(options, "history_s", 0, 0) * US_PER_S
        catch_up_us = _integer(options, "catch_up_s", CATCH_UP_S_DEFAULT, 1) * US_PER_S
        self._catch_up_us = max(catch_up_us, 2 * self._every_us) + self._history_us
        self._plant: Plant = options.get("plant") or _plant(options, clock, has_vibration=self._mode != "off")
        self._control: LiveFaults | None = options.get("control")
        self._machine = _choose(self._plant, options)
        self._next_us = -1

    @property
    def machine(self) -> Machine:
        """The machine that it samples."""
        return self._machine

    @property
    def location(self) -> Location:
        """Where that machine stands."""
        return self._machine.location

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What the machine delivers; with raw bursts the waveform stands for its features."""
        every = self._machine.metrics
        sampled = tuple(replace(metric, every_us=self._every_us) for metric in every if metric.every_us == US_PER_S)
        if self._mode == "features":
            return sampled + every[len(sampled) :]
        if self._mode == "waveform" and len(sampled) < len(every):
            return (*sampled, Metric(WAVEFORM, "m/s2", -2000.0, 2000.0, resolution=0.01, every_us=round(1e6 / RATE_HZ)))
        return sampled

    def open(self) -> None:
        """Starts sampling now, or `history_s` ago; after a lost connection it goes on where it was."""
        if self._next_us < 0:
            self._next_us = self._clock.now_us() - self._history_us

    def read(self, now_us: int) -> list[Block]:
        """Returns the samples that fell due since the last call, up to `now_us`; see `headwater.ports.Source`."""
        start_us = max(self._next_us, now_us - self._catch_up_us)
        if self._next_us < 0 or now_us <= start_us:
            # A wall clock that was set back is followed: a board without a clock of its own samples on.
            if now_us < self._next_us - self._catch_up_us:
                self._next_us = now_us
            return []
        self._next_us = now_us
        live = self._control.live(self._machine, start_us, now_us) if self._control is not None else []
        blocks = self._process_values(start_us, now_us, live)
        if self._mode == "features":
            blocks += self._plant.vibration_features(self._machine, start_us, now_us, live)
        elif self._mode == "waveform":
            blocks += self._plant.waveforms(self._machine, start_us, now_us, live)
        return blocks

    def _process_values(self, start_us: int, end_us: int, live: list[Fault]) -> list[Block]:
        """Returns the process values of `[start_us, end_us)`, sampled and held at the interval asked for."""
        phase_us, every_us = self._machine.phase_us, self._every_us
        first, stop = (-((phase_us - at_us) // every_us) for at_us in (start_us, end_us))
        at_us = np.arange(first, stop) * every_us + phase_us
        if not len(at_us):
            return []
        second = (at_us - phase_us) // US_PER_S
        blocks, lo, last = [], int(second[0]), int(second[-1])
        made = self._plant.process_values(self._machine, lo * US_PER_S + phase_us, last * US_PER_S + phase_us + 1, live)
        for block in made:
            # The machine's own clock may be ahead or behind; a block ends where that changes.
            shift_us = int(block.time_us[0]) - lo * US_PER_S - phase_us
            hi = lo + len(block.time_us)
            mine = (second >= lo) & (second < hi)
            held = second[mine] - lo
            quality = None if block.quality is None else np.ascontiguousarray(block.quality[:, held])
            if len(held):
                value = np.ascontiguousarray(block.value[:, held])
                blocks.append(Block(block.metrics, at_us[mine] + shift_us, value, quality))
            lo = hi
        return blocks

    @property
    def is_exhausted(self) -> bool:
        """False: a machine never ends."""
        return False

    def close(self) -> None:
        """Holds nothing."""


def _integer(options: dict[str, Any], name: str, default: int, lowest: int) -> int:
    value = options.get(name, default)
    if type(value) is not int or value < lowest:
        raise SettingsError(f"source simulated: {name} = {value!r} must be a whole number from {lowest} on")
    return value


def _number(options: dict[str, Any], name: str, default: float) -> float:
    value = options.get(name, default)
    if type(value) not in (int, float) or not 0.0 <= value < 1e9:
        raise SettingsError(f"source simulated: {name} = {value!r} must be a number from 0 on")
    return float(value)


def _plant(options: dict[str, Any], clock: Clock, *, has_vibration: bool) -> Plant:
    wear_speed = _number(options, "wear_speed", 1.0)
    if wear_speed == 0.0:
        raise SettingsError("source simulated: wear_speed must be above 0")
    devices = _integer(options, "devices", 20, 1)
    return Plant(
        _integer(options, "seed", 1, 0),
        max(devices, _integer(options, "index", 0, 0) + 1),
        start_us=_integer(options, "start_us", clock.now_us(), 0),
        wear_speed=wear_speed,
        faults_per_day=_number(options, "faults_per_day", 0.8),
        duty_slot_s=_integer(options, "duty_slot_s", 14_400, 240),
        has_vibration=has_vibration,
    )


def _choose(plant: Plant, options: dict[str, Any]) -> Machine:
    device = options.get("device")
    if device is None:
        index = _integer(options, "index", 0, 0)
        if index >= plant.devices:
            raise SettingsError(f"source simulated: index {index} is beyond the plant's {plant.devices} devices")
        return plant.machines[index]
    for machine in plant.machines:
        if device in (machine.device, f"{machine.site}/{machine.device}"):
            return machine
    known = ", ".join(machine.device for machine in plant.machines[:8])
    raise SettingsError(f"source simulated: no device {device!r} in the plant; there are {known} …")
