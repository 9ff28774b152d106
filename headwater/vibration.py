"""Reduces a vibration waveform to the few figures that tell a bearing's state; runs on the device.

Velocity RMS from 10 Hz to 1 kHz is what ISO 20816 judges; kurtosis and the envelope spectrum at the outer race's
frequency (Randall and Antoni, Mechanical Systems and Signal Processing 25, 2011) show a bearing's damage early.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from headwater.frame import Block, Float64
from headwater.instant import US_PER_S
from headwater.metric import Metric

WAVEFORM = "vibration_m_s2"
_MINUTE_US = 60 * US_PER_S
FEATURES = (
    Metric("vibration_rms_mm_s", "mm/s", 0.0, 100.0, resolution=0.001, every_us=_MINUTE_US),
    Metric("vibration_kurtosis", "", 0.0, 1000.0, resolution=0.001, every_us=_MINUTE_US),
    Metric("vibration_peak", "m/s2", 0.0, 2000.0, resolution=0.01, every_us=_MINUTE_US),
    Metric("envelope_bpfo", "m/s2", 0.0, 1000.0, resolution=0.001, every_us=_MINUTE_US),
)
_DECIMALS = (3, 3, 2, 3)
_VELOCITY_HZ = (10.0, 1_000.0)


@dataclass(frozen=True, slots=True)
class Bearing:
    """A rolling bearing with a standing outer race.

    Attributes:
        balls: number of rolling elements.
        ratio: ball diameter over pitch diameter, times the cosine of the contact angle.
    """

    balls: int
    ratio: float

    def bpfo_hz(self, shaft_hz: float) -> float:
        """Returns how often per second a ball passes a spot of the outer race.

        >>> Bearing(8, 0.188_75).bpfo_hz(25.0)
        81.125
        """
        return self.balls / 2 * shaft_hz * (1.0 - self.ratio)


@lru_cache(maxsize=16)
def _hann(n: int) -> Float64:
    return np.asarray(np.hanning(n))


def features(waveform: Block, *, bpfo_hz: float, resonance_hz: float) -> Block:
    """Returns a block of one time (the waveform's first) with the metrics of `FEATURES`.

    Args:
        waveform: one metric in m/s², `rate_hz` set, at least 64 samples, all usable.
        bpfo_hz: ball pass frequency, outer race, at the present speed; 0 while the shaft stands.
        resonance_hz: centre of the band that impacts ring in; the band reaches 40 % to each side.

    Costs three FFTs: about 0.2 ms for 2048 samples.
    """
    assert waveform.rate_hz is not None, "only a waveform can be reduced to features"
    assert len(waveform.metrics) == 1
    n, rate = len(waveform.time_us), waveform.rate_hz
    assert n >= 64, f"{n} samples are too few"
    signal = waveform.value[0] - waveform.value[0].mean()
    power = float(np.mean(signal * signal))
    kurtosis = float(np.mean(signal**4)) / power**2 if power > 0.0 else 0.0
    figures = (
        _velocity_rms_mm_s(signal, rate),
        kurtosis,
        float(np.abs(signal).max()),
        _envelope_amplitude(signal, rate, bpfo_hz, resonance_hz) if bpfo_hz > 0.0 else 0.0,
    )
    value = np.array([[round(figure, places)] for figure, places in zip(figures, _DECIMALS, strict=True)])
    return Block(tuple(metric.name for metric in FEATURES), waveform.time_us[:1].copy(), value)


def _velocity_rms_mm_s(signal: Float64, rate_hz: float) -> float:
    """Integrates acceleration in the frequency domain and returns the RMS of velocity in the ISO band."""
    n = len(signal)
    window = _hann(n)
    spectrum = np.fft.rfft(signal * window)
    hertz = np.fft.rfftfreq(n, 1.0 / rate_hz)
    band = (hertz >= _VELOCITY_HZ[0]) & (hertz <= _VELOCITY_HZ[1])
    velocity = np.abs(spectrum[band]) / (2 * np.pi * hertz[band])
    return float(np.sqrt(2.0 * np.sum(velocity**2) / (n * np.sum(window**2)))) * 1e3


def _envelope_amplitude(signal: Float64, rate_hz: float, target_hz: float, resonance_hz: float) -> float:
    """Demodulates the resonance band and returns the envelope's amplitude at `target_hz` ± 2 % (at least one bin)."""
    n = len(signal)
    spectrum: npt.NDArray[np.complex128] = np.fft.fft(signal)
    hertz = np.fft.fftfreq(n, 1.0 / rate_hz)
    spectrum[(hertz < 0.6 * resonance_hz) | (hertz > 1.4 * resonance_hz)] = 0.0
    envelope = 2.0 * np.abs(np.fft.ifft(spectrum))
    window = _hann(n)
    lines = np.abs(np.fft.rfft((envelope - envelope.mean()) * window)) * (2.0 / window.sum())
    width = rate_hz / n
    reach = max(0.02 * target_hz, width)
    lo, hi = int(np.ceil((target_hz - reach) / width)), int((target_hz + reach) / width)
    return float(lines[max(lo, 1) : hi + 1].max(initial=0.0))
