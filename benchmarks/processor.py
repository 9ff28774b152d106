"""The processor's step on Theodolite's UC2: dedupe, watermarks, tumbling windows of 60 s, rows.

1,000 devices at 1 Hz, frames of ten readings, arrival out of order by up to 2 s. The peer is numpy's `bincount` and
`minimum.at`/`maximum.at` on whole columns with ready integer codes: it neither decodes, nor deduplicates, nor waits, nor
makes rows. 50 minutes of data, so that meeting a device for the first time does not weigh more than it does in service. CPU
time of the process; each figure is the median of several runs, peer and ours in turn.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from cloud_processor.settings import ProcessorSettings
from cloud_processor.topology import build_task
from headwater.batch import Batch
from headwater.batch_arrow import batch_from_arrow, batch_to_arrow
from headwater.pane_windows import PaneWindows
from headwater.task import Task
from headwater.window import parse_windower

T0_US = 1_700_000_000_000_000
S = 1_000_000
BATCH_READINGS = 65_536
LATENESS_US = 300 * S


def workload(devices: int, seconds: int, frame: int = 10, seed: int = 1, batch: int = BATCH_READINGS) -> list[Batch]:
    """Batches of about 64 Ki readings, as the gateway closes them under load; `frame` readings a frame."""
    rng = np.random.default_rng(seed)
    names = tuple(("plant", f"device-{i}") for i in range(devices))
    count = seconds // frame
    device = np.tile(np.arange(devices), count)
    number = np.repeat(np.arange(count), devices)
    end_us = T0_US + rng.integers(0, frame * S, devices)[device] + (number + 1) * frame * S
    arrival_us = end_us + rng.integers(0, 2 * S, len(end_us))
    order = np.argsort(arrival_us, kind="stable")
    device, end_us, arrival_us = device[order], end_us[order], arrival_us[order]
    seq = np.empty(len(device), np.int64)
    seq[np.argsort(device, kind="stable")] = np.tile(np.arange(1, count + 1), devices)
    batches = []
    for low in range(0, len(device), batch // frame):
        at = slice(low, low + batch // frame)
        k = len(device[at])
        time_us = (end_us[at, None] - frame * S + np.arange(frame) * S).reshape(-1)
        n = len(time_us)
        batches.append(
            Batch(
                0, names, ("power_w",), device[at].astype(np.int32), np.full(k, 7, np.uint64), seq[at], arrival_us[at],
                end_us[at], np.full(k, 3, np.uint8), np.ones(k, np.int64), np.arange(k + 1) * frame,
                np.zeros(n, np.int32), time_us, rng.normal(50, 5, n), np.zeros(n, np.uint8), np.zeros(k + 1, np.int64),
                np.zeros((k, 4), np.int64), np.full(k, 200, np.int32), int(arrival_us[at].max()),
            )
        )  # fmt: skip
    return batches


def stepped(batches: list[Batch], windows: tuple[str, ...], *, quantiles: bool = True) -> int:
    """Steps all batches through a fresh task; returns the number of rows."""
    windowers = [parse_windower(text) for text in windows]
    task = Task(0, [PaneWindows(windowers, allowed_lateness_us=LATENESS_US, quantiles=quantiles)])  # type: ignore[arg-type]
    return sum(task.step(batch, offset).counters.rows for offset, batch in enumerate(batches))


def stepped_whole(batches: list[Batch]) -> int:
    """Steps all batches through the default topology: two windows, health, twin, alerts; returns the number of rows."""
    task = build_task(ProcessorSettings(), 0)
    return sum(task.step(batch, offset).counters.rows for offset, batch in enumerate(batches))


def numpy_floor(batches: list[Batch]) -> Callable[[], int]:
    """The peer: aggregates of all windows at once, over columns and codes that lie ready."""
    value = np.concatenate([batch.value for batch in batches])
    time_us = np.concatenate([batch.time_us for batch in batches])
    device = np.concatenate([np.repeat(batch.device, np.diff(batch.reading_start)) for batch in batches]).astype(
        np.int64
    )
    window = time_us // (60 * S)
    code = device * int(window.max() - window.min() + 1) + window - window.min()
    size = int(code.max()) + 1

    def work() -> int:
        count = np.bincount(code, minlength=size)
        total = np.bincount(code, value, minlength=size)
        squares = np.bincount(code, value * value, minlength=size)
        low, high = np.full(size, np.inf), np.full(size, -np.inf)
        np.minimum.at(low, code, value)
        np.maximum.at(high, code, value)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = total / count
            variance = squares / count - mean * mean
        return len(mean) + len(variance)

    return work


def cpu_ns(work: Callable[[], object], n: int) -> float:
    """CPU nanoseconds of this process per reading."""
    begin = time.process_time_ns()
    work()
    return (time.process_time_ns() - begin) / n


def medians(works: dict[str, Callable[[], object]], n: int, runs: int) -> dict[str, float]:
    """Median nanoseconds per reading of several works, run in turn so that a busy machine hits all alike."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(runs):
        for name, work in works.items():
            found[name].append(cpu_ns(work, n))
    return {name: statistics.median(values) for name, values in found.items()}


def run(*, quick: bool = False) -> dict[str, dict[str, float]]:
    """Measures; `quick` for a smoke test."""
    seconds, runs = (600, 3) if quick else (3_000, 5)
    batches = workload(1_000, seconds)
    n = sum(batch.reading_count for batch in batches)
    records = [batch_to_arrow(batch) for batch in batches]
    ours = medians(
        {
            "step": lambda: stepped(batches, ("1m",)),
            "step_without_quantiles": lambda: stepped(batches, ("1m",), quantiles=False),
            "numpy": numpy_floor(batches),
            "two_windows": lambda: stepped(batches, ("10s", "1m")),
            "sliding_6": lambda: stepped(batches, ("1m/10s",)),
            "whole": lambda: stepped_whole(batches),
            "arrow_decode": lambda: [batch_from_arrow(record) for record in records],
        },
        n,
        runs,
    )
    # The same number of readings of few devices and of many.
    each = seconds // 100 * 10
    few, many = workload(10, each * 500), workload(5_000, each)
    size = sum(batch.reading_count for batch in few)
    assert size == sum(batch.reading_count for batch in many)
    spread = medians({"few": lambda: stepped(few, ("1m",)), "many": lambda: stepped(many, ("1m",))}, size, runs)
    single = workload(1_000, seconds // 2, frame=1)
    lone = medians({"single": lambda: stepped(single, ("1m",))}, n // 2, max(runs // 2, 1))
    little = workload(1_000, 60, batch=BATCH_READINGS // 64)
    small = medians({"small": lambda: stepped_whole(little)}, 60_000, max(runs // 2, 1))
    duplicates = [*batches, *(replace(batch, made_us=batches[-1].made_us) for batch in batches)]
    again = medians({"again": lambda: stepped(duplicates, ("1m",))}, 2 * n, max(runs // 2, 1))
    return {
        "figures": {
            "readings": n,
            "readings_per_s_core": 1e9 / ours["step"],
            "ns_per_reading": ours["step"],
            "ns_per_reading_without_quantiles": ours["step_without_quantiles"],
            "ns_per_reading_two_windows": ours["two_windows"],
            "ns_per_reading_sliding_6_panes": ours["sliding_6"],
            "ns_per_reading_default_topology": ours["whole"],
            "us_per_small_record_default_topology": small["small"] * BATCH_READINGS / 64 / 1e3,
            "ns_per_reading_frames_of_one": lone["single"],
            "ns_per_reading_half_duplicates": again["again"],
            "ns_per_reading_10_devices": spread["few"],
            "ns_per_reading_5000_devices": spread["many"],
            "ns_per_reading_arrow_decode": ours["arrow_decode"],
            "ns_per_reading_numpy": ours["numpy"],
        },
        "ratios": {
            "vs_numpy_bincount": ours["numpy"] / ours["step"],
            "vs_numpy_bincount_without_quantiles": ours["numpy"] / ours["step_without_quantiles"],
            "cost_5000_devices_vs_10": spread["many"] / spread["few"],
        },
    }


if __name__ == "__main__":
    for kind, values in run().items():
        for name, value in values.items():
            print(f"{kind[:-1]:7} {name:40} {value:14.3f}")
