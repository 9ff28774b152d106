"""CPU of making readings: long blocks, a fleet's short blocks, and vibration bursts.

`vs_normal` is the rate of `numpy.random.Generator.standard_normal`, one number per reading and nothing else, over ours.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from headwater.instant import US_PER_S
from simulators.plant import Plant

START_US = 1_760_000_400_000_000


def cpu_s(work: Callable[[], object], runs: int) -> float:
    """Median CPU seconds of several runs, after one to fill the tables."""
    work()
    times = []
    for _ in range(runs):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return statistics.median(times)


def run(*, quick: bool = False) -> dict[str, Any]:
    runs, hours, devices = (3, 2, 100) if quick else (7, 12, 500)
    plant = Plant(1, 2_000, start_us=START_US, has_vibration=False)
    shaking = Plant(1, 2_000, start_us=START_US)
    end_us = START_US + hours * 3_600 * US_PER_S
    readings = 8 * hours * 3_600

    def long_blocks() -> None:
        plant.process_values(plant.machines[0], START_US, end_us)

    offset = iter(range(10**6))

    def short_blocks() -> None:
        lo = START_US + next(offset) * 10 * US_PER_S
        for machine in plant.machines[:devices]:
            plant.process_values(machine, lo, lo + 10 * US_PER_S)

    def bursts() -> None:
        shaking.waveforms(shaking.machines[0], START_US, START_US + 3_000 * US_PER_S)

    def bursts_and_features() -> None:
        shaking.readings(shaking.machines[0], START_US, START_US + 3_000 * US_PER_S)

    def process_of_bursts() -> None:
        shaking.process_values(shaking.machines[0], START_US, START_US + 3_000 * US_PER_S)

    generator = np.random.default_rng(1)
    long_s = cpu_s(long_blocks, runs)
    normal_s = cpu_s(lambda: generator.standard_normal(readings), runs)
    short_s = cpu_s(short_blocks, runs) / devices
    burst_s = cpu_s(bursts, runs) / 50
    both_s = (cpu_s(bursts_and_features, runs) - cpu_s(process_of_bursts, runs)) / 50
    return {
        "figures": {
            "readings_per_s_long_blocks": round(readings / long_s),
            "us_per_device_and_10_s": round(short_s * 1e6, 1),
            "cores_for_2000_devices_at_1_hz": round(short_s * 2_000 / 10, 4),
            "us_per_burst_of_2048_samples": round(burst_s * 1e6, 1),
            "us_per_burst_with_features": round(both_s * 1e6, 1),
        },
        "ratios": {"vs_normal": round(long_s / normal_s, 2)},
    }
