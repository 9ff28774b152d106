"""Turns what drives a machine into its process values: a sum of causes per channel, noise, and the sensor's steps."""

from dataclasses import dataclass

import numpy as np

from headwater.frame import Float64
from simulators.duty import Drive
from simulators.machines import Channel
from simulators.noise import UInt64, as_keys, key_of, smooth, white

_EDDY_PERIODS_S = (5, 40)
_SLOW_PERIOD_S = 90
UNIT_SPREAD = 0.02  # Standard deviation of the gain from unit to unit.


@dataclass(frozen=True, slots=True, eq=False)
class Causes:
    """What moves the channels of one machine, float64 (n,) each, a column per second.

    Attributes:
        drive: what it is asked to do.
        ambient: °C from the mean.
        demand: of the site, about −1 to 1.
        damage: component → 0 to 1.
    """

    drive: Drive
    ambient: Float64
    demand: Float64
    damage: dict[str, Float64]


@dataclass(frozen=True, slots=True, eq=False)
class Unit:
    """One machine's own numbers, a row per channel.

    Attributes:
        channels: m channels.
        gain, offset: float64 (m,), the unit's spread.
        sigma: float64 (m,), see `Channel.sigma`.
        white_keys, slow_keys, fault_keys: uint64 (m,).
        shared_keys: uint64 (4,), eddy and hum with two periods each.
        scale: float64 (m, 1), 10 to the number of decimals of the resolution.
        step: float64 (m, 1), the resolution in these decimals.
    """

    channels: tuple[Channel, ...]
    gain: Float64
    offset: Float64
    sigma: Float64
    white_keys: UInt64
    slow_keys: UInt64
    fault_keys: UInt64
    shared_keys: UInt64
    scale: Float64
    step: Float64


def unit_of(seed: int, device: str, channels: tuple[Channel, ...]) -> Unit:
    """Draws the numbers of one machine; a pure function of its arguments."""

    def keys(purpose: str) -> UInt64:
        return as_keys(*(key_of(seed, device, channel.name, purpose) for channel in channels))

    spread = white(keys("unit"), np.arange(2))
    is_measured = np.array([not channel.state for channel in channels])
    sigma = np.array([channel.sigma for channel in channels])
    places = [decimals(channel.resolution) for channel in channels]
    return Unit(
        channels=channels,
        gain=np.where(is_measured, 1.0 + UNIT_SPREAD * spread[:, 0], 1.0),
        offset=np.where(is_measured, sigma * spread[:, 1], 0.0),
        sigma=sigma,
        white_keys=keys("white"),
        slow_keys=keys("slow"),
        fault_keys=keys("fault"),
        shared_keys=as_keys(*(key_of(seed, device, name, i) for name in ("eddy", "hum") for i in (0, 1))),
        scale=np.array([[10.0**place] for place in places]),
        step=np.array([[float(round(c.resolution * 10**p))] for c, p in zip(channels, places, strict=True)]),
    )


def sound_values(unit: Unit, causes: Causes, start_s: int, stop_s: int) -> Float64:
    """Returns float64 (m, n): values without faults and before quantisation.

    Only elementwise arithmetic and table look-ups: a matrix product would round by the shape of the interval.
    """
    drive, run = causes.drive, causes.drive.run
    quick = smooth(unit.shared_keys[::2], start_s, stop_s, _EDDY_PERIODS_S[0])
    calm = smooth(unit.shared_keys[1::2], start_s, stop_s, _EDDY_PERIODS_S[1])
    eddy, hum = (0.8 * quick + 0.6 * calm) * run
    demand = causes.demand * run
    value = white(unit.white_keys, np.arange(start_s, stop_s))
    slow = smooth(unit.slow_keys, start_s, stop_s, _SLOW_PERIOD_S)
    for row, channel in enumerate(unit.channels):
        out = value[row]
        if channel.state:
            level = drive.on if channel.state == "on" else drive.setpoint
            out[:] = channel.base + channel.load * level
            continue
        physical = np.full(stop_s - start_s, channel.base, np.float64)
        for coefficient, cause in (
            (channel.run, run),
            (channel.load, drive.load),
            (channel.thermal, drive.thermal),
            (channel.demand, demand),
            (channel.ambient, causes.ambient),
            (channel.eddy, eddy),
            (channel.hum, hum),
            *((effect, causes.damage[name]) for name, effect in channel.wear.items()),
        ):
            if coefficient:
                physical += coefficient * cause
        out *= channel.white
        out += channel.slow * slow[row]
        physical *= unit.gain[row]
        out += physical
        out += unit.offset[row]
        if channel.lo == 0.0:
            np.maximum(out, 0.0, out=out)
    return value


def quantise(unit: Unit, value: Float64) -> None:
    """Rounds values in place to the sensors' steps: each is the double nearest to a decimal number."""
    value *= unit.scale / unit.step
    np.rint(value, out=value)
    value *= unit.step
    value /= unit.scale
    # Turns −0.0 into 0.0.
    value += 0.0


def decimals(resolution: float) -> int:
    """Returns how many decimal places a resolution needs, at most 9.

    >>> decimals(0.25), decimals(1.0)
    (2, 0)
    """
    for places in range(9):
        scaled = resolution * 10**places
        if abs(scaled - round(scaled)) < 1e-9:
            return places
    return 9
