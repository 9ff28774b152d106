"""What a machine is made of: channels, components that wear out and a rotor; `simulators.catalogue` lists the kinds."""

from dataclasses import dataclass, field
from math import hypot, inf

from headwater.instant import US_PER_S
from headwater.metric import Metric
from simulators.wear import Component


@dataclass(frozen=True, slots=True)
class Channel:
    """One process value, sampled once a second.

    Attributes:
        name, unit, lo, hi, resolution: as in `headwater.metric.Metric`.
        base: value at standstill and mean ambient temperature.
        run, load, thermal: added at full `simulators.duty.Drive`.
        demand, ambient: added per unit of the site's demand and per °C.
        eddy, hum: standard deviations of two noises that all channels of the machine share; they vanish at standstill.
        white, slow: standard deviations of the channel's own noises.
        wear: component → added at damage 1.
        state: "" for a measured value, "on" or "setpoint" for a state (no noise, `base + load * level`).
    """

    name: str
    unit: str
    lo: float
    hi: float
    resolution: float
    base: float = 0.0
    run: float = 0.0
    load: float = 0.0
    thermal: float = 0.0
    demand: float = 0.0
    ambient: float = 0.0
    eddy: float = 0.0
    hum: float = 0.0
    white: float = 0.0
    slow: float = 0.0
    wear: dict[str, float] = field(default_factory=dict)
    state: str = ""

    @property
    def sigma(self) -> float:
        """Standard deviation of all noise at constant load: what a fault's severity is counted in."""
        return max(hypot(self.white, self.slow, self.eddy, self.hum), self.resolution)

    def metric(self) -> Metric:
        """What the device declares; sampled values are reduced by the swing filter within one sigma."""
        if self.state:
            return Metric(
                self.name, self.unit, self.lo, self.hi, inf, self.resolution, US_PER_S, "deadband:0", is_state=True
            )
        return Metric(
            name=self.name,
            unit=self.unit,
            lo=self.lo,
            hi=self.hi,
            rate_max=(self.hi - self.lo) / 2,
            resolution=self.resolution,
            every_us=US_PER_S,
            reduction=f"swing:{self.sigma:.2g}",
        )


@dataclass(frozen=True, slots=True)
class Rotor:
    """What makes a machine's vibration: none for machines without a shaft.

    Attributes:
        shaft_hz: turns per second at full speed.
        balls, ratio: the bearing: rolling elements, and ball to pitch diameter (contact angle 0).
        resonance_hz: of the housing, rung by each impact.
        unbalance_mm_s: velocity at the shaft's frequency when sound.
        floor_m_s2: standard deviation of broadband acceleration.
    """

    shaft_hz: float
    balls: int
    ratio: float
    resonance_hz: float
    unbalance_mm_s: float
    floor_m_s2: float


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of machine."""

    name: str
    channels: tuple[Channel, ...]
    components: tuple[Component, ...] = ()
    rotor: Rotor | None = None
