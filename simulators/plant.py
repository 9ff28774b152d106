"""The plant: every machine's readings as a pure function of (seed, device, time).

Any interval of any machine regenerates alone, bit for bit, however it is cut, because noise, duty, wear and faults
are all worked out from counters. Live faults are the one outside input, and an argument.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import gcd

import numpy as np
import numpy.typing as npt

from headwater.frame import Block, Float64
from headwater.instant import US_PER_S
from headwater.location import Location
from headwater.metric import Metric
from headwater.quality import MISSING
from headwater.vibration import FEATURES, features
from simulators import duty, environment, faults, vibration, wear
from simulators.catalogue import KINDS, MIX
from simulators.faults import Fault
from simulators.machines import Rotor
from simulators.noise import draw, key_of
from simulators.premises import SITES, location_of
from simulators.process import Causes, Unit, quantise, sound_values, unit_of

CHUNK_S = 2_048  # Long intervals are made piece by piece so that the pieces stay in the cache.


@dataclass(frozen=True, slots=True)
class Machine:
    """One simulated device.

    Attributes:
        index: its number in the plant.
        site, device: names.
        kind: a key of `simulators.catalogue.KINDS`.
        metrics: what it delivers: process values at 1 Hz, then vibration features once a minute if it has a shaft.
        phase_us: its samples lie this far behind each full second.
        location: where it stands, within its site.
    """

    index: int
    site: str
    device: str
    kind: str
    metrics: tuple[Metric, ...]
    phase_us: int
    location: Location


class Plant:
    """Machines of several sites, deterministic from one seed.

    >>> plant = Plant(1, 8, start_us=1_700_000_000_000_000)
    >>> plant.machines[0].site, plant.machines[0].device
    ('north-works', 'pump-001')
    >>> [block.value.shape for block in plant.readings(plant.machines[0], plant.start_us, plant.start_us + 10**7)]
    [(8, 10)]
    """

    def __init__(
        self,
        seed: int,
        devices: int,
        *,
        start_us: int,
        wear_speed: float = 1.0,
        faults_per_day: float = 0.8,
        duty_slot_s: int = 14_400,
        has_vibration: bool = True,
    ) -> None:
        assert devices >= 1
        assert duty_slot_s >= 240, "a slot of the duty must be at least four minutes long"
        self.seed = seed
        self.devices = devices
        self.start_us = start_us
        self.wear_speed = wear_speed
        self.faults_per_day = faults_per_day
        self.duty_slot_s = duty_slot_s
        self.has_vibration = has_vibration
        self._units: dict[int, Unit] = {}
        self._life_lines: dict[int, list[wear.LifeLine]] = {}

    @cached_property
    def sites(self) -> tuple[str, ...]:
        """The sites' names: one to six, three or more from three devices on."""
        return tuple(SITES)[: min(len(SITES), max(min(3, self.devices), self.devices // 8))]

    @cached_property
    def machines(self) -> tuple[Machine, ...]:
        """All machines, by index."""
        return tuple(self._machine(index) for index in range(self.devices))

    @cached_property
    def by_name(self) -> dict[tuple[str, str], Machine]:
        """Machines by (site, device)."""
        return {(machine.site, machine.device): machine for machine in self.machines}

    def _machine(self, index: int) -> Machine:
        kind = KINDS[MIX[index % len(MIX)]]
        round_, place = divmod(index, len(MIX))
        number = round_ * MIX.count(kind.name) + MIX[: place + 1].count(kind.name)
        device = f"{kind.name}-{number:03d}"
        metrics = tuple(channel.metric() for channel in kind.channels)
        if kind.rotor is not None and self.has_vibration:
            metrics += FEATURES
        phase_us = int(draw(key_of(self.seed, device, "phase"), 0) * 1_000) * 1_000
        site = self.sites[index % len(self.sites)]
        return Machine(index, site, device, kind.name, metrics, phase_us, location_of(self.seed, site, device))

    @staticmethod
    def channel_names(machine: Machine) -> tuple[str, ...]:
        """Returns the names of a machine's 1 Hz values."""
        return tuple(channel.name for channel in KINDS[machine.kind].channels)

    def _unit(self, machine: Machine) -> Unit:
        unit = self._units.get(machine.index)
        if unit is None:
            unit = unit_of(self.seed, machine.device, KINDS[machine.kind].channels)
            self._units[machine.index] = unit
        return unit

    def _sound(self, machine: Machine, start_s: int, stop_s: int) -> Float64:
        drive = self.drive(machine, start_s, stop_s)
        # Damage is joined by lines between knots, and the knots lie outside the interval.
        lives = self.lives(machine, start_s - wear.STEP_S, stop_s + wear.STEP_S)
        causes = Causes(
            drive=drive,
            ambient=environment.ambient_cel(self.seed, machine.site, start_s, stop_s),
            demand=environment.demand(self.seed, machine.site, start_s, stop_s),
            damage={name: wear.damage_between(some, start_s, stop_s) * drive.run for name, some in lives.items()},
        )
        return sound_values(self._unit(machine), causes, start_s, stop_s)

    def lives(self, machine: Machine, start_s: int, stop_s: int) -> dict[str, list[wear.Life]]:
        """Returns per component the lives that overlap `[start_s, stop_s)`."""
        lines = self._life_lines.get(machine.index)
        if lines is None:
            lines = self._life_lines[machine.index] = self._lines_of(machine)
        return {line.component.name: line.between(start_s, stop_s) for line in lines}

    def _lines_of(self, machine: Machine) -> list[wear.LifeLine]:
        # Ages at the start are spread evenly over the plant: a fixed share of the machines is near its end.
        stride = next(n for n in range(self.devices * 5 // 8 + 1, 2 * self.devices + 2) if gcd(n, self.devices) == 1)
        lines = []
        for number, component in enumerate(KINDS[machine.kind].components):
            place = (machine.index * stride + number * (self.devices // 2 + 1)) % self.devices
            age = 0.97 * (place + draw(key_of(self.seed, machine.device, component.name, "age"), 0)) / self.devices
            start_s = self.start_us // US_PER_S
            lines.append(wear.LifeLine(self.seed, machine.device, component, start_s, age, self.wear_speed))
        return lines

    def outages(self, machine: Machine, start_s: int, stop_s: int) -> list[tuple[int, int]]:
        """Returns the standstills from a failure to its repair that overlap the interval, merged, in order."""
        merged: list[tuple[int, int]] = []
        lives = self.lives(machine, start_s, stop_s)
        for lo, hi in sorted((life.failure_s, life.repaired_s) for some in lives.values() for life in some):
            if merged and lo <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(hi, merged[-1][1]))
            else:
                merged.append((lo, hi))
        return [(lo, hi) for lo, hi in merged if lo < stop_s and hi > start_s]

    def drive(self, machine: Machine, start_s: int, stop_s: int) -> duty.Drive:
        """Returns what drives the machine each second of the interval."""
        # Outages act on after their end, until everything has settled.
        outages = self.outages(machine, start_s - 20_000, stop_s)
        return duty.drive(self.seed, machine.device, self.duty_slot_s, outages, start_s, stop_s)

    def faults(self, machine: Machine, start_s: int, stop_s: int) -> list[Fault]:
        """Returns the scheduled faults that overlap `[start_s, stop_s)`, in order of their start."""
        if self.faults_per_day <= 0:
            return []
        measured = tuple(channel.name for channel in KINDS[machine.kind].channels if not channel.state)
        length = faults.slot_s(self.faults_per_day)
        found = (
            faults.scheduled(
                self.seed, machine.site, machine.device, machine.kind, measured, self.faults_per_day, index
            )
            for index in range(start_s // length - 1, (stop_s - 1) // length + 1)
        )
        return [
            fault
            for fault in found
            if fault is not None
            and fault.start_s < stop_s
            and fault.stop_s > start_s
            and self._is_possible(machine, fault)
        ]

    def _is_possible(self, machine: Machine, fault: Fault) -> bool:
        """Tells whether the machine runs all the time of a fault that needs it to run."""
        if fault.kind in ("dropout", "clock_jump"):
            return True
        # Sensor faults too wait for a running machine: a sensor at zero that sticks at zero shows nothing.
        slots = duty.slots_between(self.seed, machine.device, self.duty_slot_s, fault.start_s, fault.stop_s)
        stands = [(slot.stop_s, slot.restart_s) for slot in slots]
        stands += self.outages(machine, fault.start_s, fault.stop_s)
        return not any(lo < hi and lo < fault.stop_s and hi + 60 > fault.start_s for lo, hi in stands)

    def readings(self, machine: Machine, start_us: int, end_us: int, live: Sequence[Fault] = ()) -> tuple[Block, ...]:
        """Returns the samples taken in `[start_us, end_us)`: process values, then vibration features; see below."""
        return (
            *self.process_values(machine, start_us, end_us, live),
            *self.vibration_features(machine, start_us, end_us, live),
        )

    def process_values(
        self, machine: Machine, start_us: int, end_us: int, live: Sequence[Fault] = ()
    ) -> tuple[Block, ...]:
        """Returns the process values sampled in `[start_us, end_us)` of true time, one block unless the clock jumps.

        `live` are faults of this machine beyond the schedule. A clock jump shifts the stamps, not what is due. Values
        are float64 (m, n), the decimals nearest to a multiple of the sensor's resolution.
        """
        start_s, stop_s = self._seconds(machine, start_us, end_us)
        if start_s >= stop_s:
            return ()
        active = self._active(machine, start_s, stop_s, live)
        names = self.channel_names(machine)
        value = np.empty((len(names), stop_s - start_s))
        missing: npt.NDArray[np.bool_] = np.zeros(value.shape, np.bool_)
        for lo in range(start_s, stop_s, CHUNK_S):
            hi = min(lo + CHUNK_S, stop_s)
            span = slice(lo - start_s, hi - start_s)
            value[:, span] = self._chunk(machine, lo, hi, active, missing[:, span])
        return tuple(self._stamped(machine, names, start_s, value, missing, active))

    def _seconds(self, machine: Machine, start_us: int, end_us: int) -> tuple[int, int]:
        """Returns the half-open range of whole seconds whose samples fall into the interval."""
        return -((machine.phase_us - start_us) // US_PER_S), -((machine.phase_us - end_us) // US_PER_S)

    def _active(self, machine: Machine, start_s: int, stop_s: int, live: Sequence[Fault]) -> list[Fault]:
        extra = [fault for fault in live if fault.start_s < stop_s and fault.stop_s > start_s]
        return sorted(self.faults(machine, start_s, stop_s) + extra, key=lambda fault: (fault.start_s, fault.id))

    def _chunk(
        self,
        machine: Machine,
        start_s: int,
        stop_s: int,
        active: Sequence[Fault],
        missing: npt.NDArray[np.bool_],
    ) -> Float64:
        """Returns float64 (m, n): quantised values of a chunk, faults included."""
        unit = self._unit(machine)
        value = self._sound(machine, start_s, stop_s)
        names = tuple(channel.name for channel in unit.channels)
        canvas = faults.Canvas(names, unit.sigma, unit.fault_keys, start_s, value, missing)
        for fault in active:
            held = value[:, 0]
            if fault.kind == "stuck":
                held = self._sound(machine, fault.start_s - 1, fault.start_s)[:, 0]
            faults.paint(canvas, fault, held)
        quantise(unit, value)
        return value

    def _stamped(
        self,
        machine: Machine,
        names: tuple[str, ...],
        start_s: int,
        value: Float64,
        missing: npt.NDArray[np.bool_],
        active: Sequence[Fault],
    ) -> list[Block]:
        """Returns blocks with the machine's own time stamps, cut where its clock jumps."""
        stop_s = start_s + value.shape[1]
        jumps = [fault for fault in active if fault.kind == "clock_jump"]
        cuts = {start_s, stop_s} | {
            at for fault in jumps for at in (fault.start_s, fault.stop_s) if start_s < at < stop_s
        }
        ordered = sorted(cuts)
        blocks = []
        for lo, hi in pairwise(ordered):
            span = slice(lo - start_s, hi - start_s)
            time_us = np.arange(lo, hi) * US_PER_S + (machine.phase_us + faults.clock_shift_us(jumps, lo))
            part, gone = np.ascontiguousarray(value[:, span]), missing[:, span]
            quality = None
            if gone.any():
                part[gone] = np.nan
                quality = np.where(gone, np.uint8(MISSING), np.uint8(0))
            blocks.append(Block(names, time_us, part, quality))
        return blocks

    def vibration_features(
        self, machine: Machine, start_us: int, end_us: int, live: Sequence[Fault] = ()
    ) -> list[Block]:
        """Returns what a smart sensor makes of the vibration bursts that begin in the interval, a block of one row each."""
        rotor = KINDS[machine.kind].rotor
        if rotor is None or not self.has_vibration:
            return []
        blocks = []
        for waveform, state in self._bursts(machine, rotor, start_us, end_us, live):
            frequency = vibration.bpfo_hz(rotor, state.speed) if state.speed > vibration.STANDING_MAX else 0.0
            blocks.append(features(waveform, bpfo_hz=frequency, resonance_hz=rotor.resonance_hz))
        return blocks

    def waveforms(self, machine: Machine, start_us: int, end_us: int, live: Sequence[Fault] = ()) -> list[Block]:
        """Returns the vibration bursts that begin in the interval, one waveform block each."""
        rotor = KINDS[machine.kind].rotor
        if rotor is None or not self.has_vibration:
            return []
        return [waveform for waveform, _ in self._bursts(machine, rotor, start_us, end_us, live)]

    def _bursts(
        self, machine: Machine, rotor: Rotor, start_us: int, end_us: int, live: Sequence[Fault]
    ) -> Iterator[tuple[Block, vibration.RotorState]]:
        """Yields each burst of the interval with the state that made it."""
        start_s, stop_s = self._seconds(machine, start_us, end_us)
        offset = machine.phase_us // 1_000 % vibration.EVERY_S
        for index in range(-((offset - start_s) // vibration.EVERY_S), -((offset - stop_s) // vibration.EVERY_S)):
            second = index * vibration.EVERY_S + offset
            active = self._active(machine, second, second + 1, live)
            time_us = second * US_PER_S + machine.phase_us + faults.clock_shift_us(active, second)
            state = self._rotor_state(machine, second, active)
            yield vibration.burst(self.seed, machine.device, index, time_us, rotor, state), state

    def _rotor_state(self, machine: Machine, second: int, active: Sequence[Fault]) -> vibration.RotorState:
        drive = self.drive(machine, second, second + 1)
        lives = self.lives(machine, second, second + 1)
        speed = float(drive.run[0]) * (0.3 + 0.7 * float(drive.load[0]))
        bearing = lives["bearing"][0].damage(second) if "bearing" in lives else 0.0
        strength = {fault.kind: fault.severity * float(fault.shape(second, second + 1)[0]) for fault in active}
        return vibration.RotorState(
            speed=speed,
            bearing=bearing,
            unbalance_mm_s=max(0.0, strength.get("imbalance", 0.0)) * vibration.SIGMA_MM_S,
            roughness=max(0.0, strength.get("cavitation", 0.0)) * 0.1,
        )
