"""One plant's points in the SQLite store and in a real InfluxDB 1.6, to ask both the same."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headwater.batch import Batch
from headwater.frame import Summaries
from headwater.io.store_sqlite import SqliteStore
from headwater.line_protocol import point_lines, telemetry_lines
from headwater.points import MEASUREMENT_FIELDS, MEASUREMENT_TAGS, PointTable, StoreWrite, tag_column

START_US = 1_790_000_000_000_000
SECONDS = 1_800
DEVICES = (("north", "pump-1"), ("north", "pump-2"), ("south", "fan 3"), ("south", "pump-1"))
METRICS = ("flow", "pressure/in", "temp")
FRAME_S = 30
WORDS = {
    "window": ("10s", "1m"),
    "detector": ("level", "ewma"),
    "severity": ("info", "warning", "critical"),
    "component": ("bearing", "seal"),
    "rule": ("offline", "too hot"),
    "stage": ("gateway", "processor"),
    "instance": ("a", "b"),
}
ROWS = {"window": 360, "anomaly": 120, "health": 90, "device": 160, "alert": 60, "pipeline": 120}


def telemetry(rng: np.random.Generator) -> Batch:
    """Frames of readings, some of bad quality, some summarised; no two series share a time."""
    frames: list[dict[str, Any]] = []
    for number in range(len(DEVICES)):
        for start_s in range(0, SECONDS, FRAME_S):
            if rng.random() < 0.08:
                continue
            frames.append({"device": number, "start_us": START_US + start_s * 1_000_000, "panes": rng.random() < 0.2})
    device = np.array([frame["device"] for frame in frames], np.int32)
    counts, metric, time_us, value, pane_counts = [], [], [], [], []
    pane_metric: list[int] = []
    pane_start: list[int] = []
    for frame in frames:
        n = 0
        for code in range(len(METRICS)):
            own = 1 + frame["device"] * len(METRICS) + code
            if frame["panes"] and code == 2:
                pane_metric += [code] * 3
                pane_start += [frame["start_us"] + step * 10_000_000 + own * 1_000 for step in range(3)]
                continue
            if rng.random() < 0.1:
                continue
            step_us = 1_000_000 if code else 2_500_000
            times = frame["start_us"] + own * 1_000 + np.arange(0, FRAME_S * 1_000_000, step_us)
            times = times[rng.random(len(times)) > 0.1]
            metric += [code] * len(times)
            time_us += times.tolist()
            value += np.round(rng.normal(10 * code, 3, len(times)), 2).tolist()
            n += len(times)
        counts.append(n)
        pane_counts.append(3 if frame["panes"] else 0)
    k, n, rows = len(frames), len(metric), len(pane_metric)
    quality = rng.choice(np.array([0, 0, 0, 0, 0, 0, 0, 1, 65], np.uint8), n)
    start = np.array(pane_start, np.int64)
    floats = [np.round(rng.normal(20, 3, rows), 3) for _ in range(6)]
    floats[1] = np.abs(floats[1])
    panes = Summaries(
        METRICS, np.array(pane_metric, np.int32), start, np.full(rows, 10_000_000), rng.integers(1, 30, rows), *floats,
        start, start + 9_000_000, np.zeros(rows + 1, np.int64), np.empty(0, np.int32), np.empty(0, np.int64),
    )  # fmt: skip
    created = START_US + np.arange(k, dtype=np.int64)
    starts = np.concatenate(([0], np.cumsum(counts)))
    return Batch(
        0, DEVICES, METRICS, device, np.full(k, 5, np.uint64), np.arange(1, k + 1), created, created,
        np.zeros(k, np.uint8), np.ones(k, np.int64), starts, np.array(metric, np.int32), np.array(time_us, np.int64),
        np.array(value), quality, np.concatenate(([0], np.cumsum(pane_counts))), np.zeros((k, 4), np.int64),
        np.zeros(k, np.int32), START_US, summaries=panes,
    )  # fmt: skip


def points(rng: np.random.Generator, measurement: str) -> PointTable:
    """Rows with times of their own; every field is told somewhere."""
    n = ROWS[measurement]
    where = rng.integers(0, len(DEVICES), n)
    tags = {}
    for tag in MEASUREMENT_TAGS[measurement]:
        if tag in ("site", "device"):
            values = [DEVICES[number][tag == "device"] for number in where.tolist()]
        else:
            words = METRICS if tag == "metric" else WORDS[tag]
            values = [words[number] for number in rng.integers(0, len(words), n).tolist()]
        tags[tag] = tag_column(values)
    fields: dict[str, np.ndarray] = {}
    for name, kind in MEASUREMENT_FIELDS[measurement].items():
        if kind == "float":
            fields[name] = np.where(rng.random(n) < 0.15, np.nan, np.round(rng.normal(5, 4, n), 2))
        elif kind == "string":
            fields[name] = np.array([f"text {number}" for number in rng.integers(0, 7, n)], object)
        else:
            fields[name] = rng.integers(0, 2 if kind == "bool" else 9, n).astype(bool if kind == "bool" else np.int64)
    time_us = START_US + rng.choice(SECONDS * 100, n, replace=False) * 10_000
    return PointTable(measurement, time_us, tags, fields)


def plant(seed: int) -> tuple[StoreWrite, bytes]:
    """A write for the store, and the same as lines for InfluxDB."""
    rng = np.random.default_rng(seed)
    batch = telemetry(rng)
    tables = tuple(points(rng, name) for name in ROWS)
    lines: Sequence[bytes] = [*telemetry_lines(batch), *(line for table in tables for line in point_lines(table))]
    return StoreWrite(telemetry=(batch,), tables=tables), b"".join(lines)


def fill_store(path: Path, write: StoreWrite) -> None:
    store = SqliteStore(path)
    store.write(write)
    store.close()
