import numpy as np
import pytest

from headwater.frame import Block
from headwater.vibration import FEATURES, WAVEFORM, Bearing, features
from simulators.catalogue import KINDS
from simulators.vibration import RATE_HZ, SAMPLES, RotorState, bpfo_hz, burst

ROTOR = KINDS["pump"].rotor
NAMES = tuple(metric.name for metric in FEATURES)


def waveform(signal):
    time_us = (np.arange(len(signal)) * (1e6 / RATE_HZ)).astype(np.int64)
    return Block((WAVEFORM,), time_us, np.asarray(signal)[None, :], rate_hz=RATE_HZ)


def reduced(block, **options):
    options = {"bpfo_hz": 90.0, "resonance_hz": 2_400.0} | options
    return dict(zip(NAMES, features(block, **options).value[:, 0], strict=True))


def mean_features(count=40, **state):
    rows = []
    for index in range(count):
        block = burst(3, "pump-001", index, 0, ROTOR, RotorState(speed=1.0, **state))
        rows.append(reduced(block, bpfo_hz=bpfo_hz(ROTOR, 1.0), resonance_hz=ROTOR.resonance_hz))
    return {name: np.mean([row[name] for row in rows]) for name in NAMES}


def test_the_bearing_frequencies_are_those_of_the_mfpt_rig():
    bearing = Bearing(8, 0.188_75)
    assert bearing.bpfo_hz(25.0) == pytest.approx(81.125)
    assert 8 * 25.0 - bearing.bpfo_hz(25.0) == pytest.approx(118.875)


@pytest.mark.parametrize("frequency_hz", [25.0, 50.0, 160.0, 800.0])
def test_the_velocity_of_a_sine_is_its_acceleration_over_its_angular_frequency(frequency_hz):
    rms_mm_s = 4.0
    acceleration = rms_mm_s * 1e-3 * np.sqrt(2) * 2 * np.pi * frequency_hz
    signal = acceleration * np.sin(2 * np.pi * frequency_hz * np.arange(SAMPLES) / RATE_HZ)
    row = reduced(waveform(signal))
    assert row["vibration_rms_mm_s"] == pytest.approx(rms_mm_s, rel=0.03)
    assert row["vibration_kurtosis"] == pytest.approx(1.5, abs=0.05)
    assert row["vibration_peak"] == pytest.approx(acceleration, rel=0.05)


def test_velocity_outside_the_iso_band_does_not_count():
    signal = np.sin(2 * np.pi * 3_000.0 * np.arange(SAMPLES) / RATE_HZ)
    assert reduced(waveform(signal))["vibration_rms_mm_s"] == 0.0


def test_a_modulated_resonance_shows_its_depth_at_the_modulating_frequency():
    time_s = np.arange(SAMPLES) / RATE_HZ
    signal = (1.0 + 0.5 * np.cos(2 * np.pi * 90.0 * time_s)) * np.sin(2 * np.pi * 2_400.0 * time_s)
    assert reduced(waveform(signal))["envelope_bpfo"] == pytest.approx(0.5, rel=0.1)
    assert reduced(waveform(signal), bpfo_hz=140.0)["envelope_bpfo"] < 0.05


def test_a_still_sensor_gives_zeros():
    assert set(reduced(waveform(np.zeros(SAMPLES))).values()) == {0.0}


def test_features_come_as_a_block_of_one_time():
    block = features(waveform(np.random.default_rng(1).normal(size=SAMPLES)), bpfo_hz=90.0, resonance_hz=2_400.0)
    assert block.metrics == NAMES
    assert block.value.shape == (4, 1)
    assert block.time_us.tolist() == [0]


def test_kurtosis_rises_early_then_falls_while_velocity_rises_late():
    sound, early, late = (mean_features(bearing=damage) for damage in (0.0, 0.12, 1.0))
    assert sound["vibration_kurtosis"] == pytest.approx(2.8, abs=0.6)
    assert early["vibration_kurtosis"] > sound["vibration_kurtosis"] + 1.5
    assert late["vibration_kurtosis"] < early["vibration_kurtosis"]
    assert early["vibration_rms_mm_s"] < 1.15 * sound["vibration_rms_mm_s"]
    assert late["vibration_rms_mm_s"] > 2.0 * sound["vibration_rms_mm_s"]


def test_the_envelope_finds_a_damaged_outer_race_long_before_velocity_does():
    sound, early = (mean_features(bearing=damage) for damage in (0.0, 0.08))
    assert early["envelope_bpfo"] > 4.0 * sound["envelope_bpfo"]


def test_imbalance_shows_in_velocity_and_cavitation_does_not():
    sound, unbalanced, rough = mean_features(), mean_features(unbalance_mm_s=1.0), mean_features(roughness=1.0)
    assert unbalanced["vibration_rms_mm_s"] == pytest.approx(sound["vibration_rms_mm_s"] + 1.0, rel=0.15)
    assert rough["vibration_rms_mm_s"] < 1.3 * sound["vibration_rms_mm_s"]
    assert rough["vibration_peak"] > 1.4 * sound["vibration_peak"]


def test_a_burst_is_the_same_alone():
    state = RotorState(speed=0.8, bearing=0.3)
    first = burst(3, "pump-001", 7, 0, ROTOR, state)
    again = burst(3, "pump-001", 7, 0, ROTOR, state)
    other = burst(3, "pump-001", 8, 0, ROTOR, state)
    assert first.value.tobytes() == again.value.tobytes() != other.value.tobytes()
