"""Makes the waveform of an accelerometer on a bearing housing, one burst at a time, from the machine's state."""

from dataclasses import dataclass

import numpy as np

from headwater.frame import Block, Float64
from headwater.instant import US_PER_S
from headwater.vibration import WAVEFORM, Bearing
from simulators.machines import Rotor
from simulators.noise import as_keys, draw, key_of, white

RATE_HZ = 8_000.0
SAMPLES = 2_048
EVERY_S = 60
RESOLUTION = 0.01  # m/s²
SIGMA_MM_S = 0.05  # Spread of velocity RMS from burst to burst at constant load.
STANDING_MAX = 0.05  # Below this share of full speed nothing but noise is made or judged.
_RINGING_S = 0.008
_DAMPING = 0.05


@dataclass(frozen=True, slots=True)
class RotorState:
    """What the waveform depends on.

    Attributes:
        speed: share of full speed, 0 while standing.
        bearing: damage of the bearing, 0 to 1.
        unbalance_mm_s: velocity at the shaft's frequency beyond the sound machine's.
        roughness: broadband noise beyond the sound machine's, as a factor.
    """

    speed: float
    bearing: float = 0.0
    unbalance_mm_s: float = 0.0
    roughness: float = 0.0


def bpfo_hz(rotor: Rotor, speed: float) -> float:
    """Returns the outer race's frequency at a share of full speed."""
    return Bearing(rotor.balls, rotor.ratio).bpfo_hz(rotor.shaft_hz * speed)


def burst(seed: int, device: str, index: int, time_us: int, rotor: Rotor, state: RotorState) -> Block:
    """Returns burst number `index` as a waveform block that starts at `time_us`; a pure function.

    An impulse train at the outer race's frequency with 1.5 % slip rings the housing; with more damage the impacts
    smear and broadband noise grows, so kurtosis rises early and falls again while RMS rises late.
    """
    key = key_of(seed, device, "burst")
    counters = np.arange(index * SAMPLES, (index + 1) * SAMPLES)
    damage = state.bearing
    floor = rotor.floor_m_s2 * (0.08 + 0.92 * state.speed) * (1.0 + 5.0 * damage**2 + state.roughness)
    signal: Float64 = floor * white(as_keys(key), counters)[0]
    if state.speed > STANDING_MAX:
        shaft_hz = rotor.shaft_hz * state.speed
        turns = np.arange(SAMPLES) * (shaft_hz / RATE_HZ) + draw(key, -index - 1)
        looseness = 1.0 + 2.5 * damage**2
        spread = 1.0 + 0.03 * float(white(as_keys(key), np.array([-index - 1]))[0, 0])
        velocity = (rotor.unbalance_mm_s * looseness * spread * state.speed + state.unbalance_mm_s) * 1e-3
        # A sine's peak is √2 times its RMS; acceleration is velocity times angular frequency.
        amplitude = velocity * np.sqrt(2.0) * 2 * np.pi * shaft_hz
        signal += amplitude * np.sin(2 * np.pi * turns)
        signal += 0.25 * looseness * amplitude * np.sin(4 * np.pi * turns + 0.7)
        if damage > 0.0:
            signal += _impacts(rotor, key, index, bpfo_hz(rotor, state.speed), damage)
    value = np.rint(signal / RESOLUTION) / (1.0 / RESOLUTION)
    time = time_us + (np.arange(SAMPLES) * (US_PER_S / RATE_HZ)).astype(np.int64)
    return Block((WAVEFORM,), time, value[None, :], rate_hz=RATE_HZ)


def _impacts(rotor: Rotor, key: int, index: int, frequency_hz: float, damage: float) -> Float64:
    """Returns float64 (SAMPLES,): the ringing after each ball's impact."""
    lead = int(_RINGING_S * RATE_HZ)
    count = int((SAMPLES + lead) / RATE_HZ * frequency_hz) + 1
    random = white(as_keys(key_of(key, "slip"), key_of(key, "force")), np.arange(index * 1024, index * 1024 + count))
    times = (np.arange(count) + draw(key, -index - 2) + 0.015 * random[0]) / frequency_hz
    force = 16.0 * damage**0.7 * (1.0 - 0.4 * damage) * np.maximum(1.0 + (0.1 + 0.5 * damage) * random[1], 0.0)
    place = (times * RATE_HZ).astype(np.int64)
    inside = (place >= 0) & (place < SAMPLES + lead)
    train = np.zeros(SAMPLES + lead)
    np.add.at(train, place[inside], force[inside])
    age = np.arange(lead) / RATE_HZ
    omega = 2 * np.pi * rotor.resonance_hz
    ringing = np.exp(-_DAMPING * omega * age) * np.sin(omega * age)
    return np.asarray(np.convolve(train, ringing)[lead : lead + SAMPLES])
