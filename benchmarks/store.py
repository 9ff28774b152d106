"""Cost of writing to the SQLite store, of the page's questions, and of line protocol for InfluxDB; CPU time, medians.

Two peers: a row per reading in SQLite (`INSERT` by `executemany`, WAL, the same synchronous level), which is what one
gets without columns; and `Point(…).to_line_protocol()` of influxdb-client for the same points.
"""

import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from influxdb_client.client.write.point import Point

from headwater.batch import Batch
from headwater.codec_batch import Arrival, decode_batch
from headwater.io.store_influx_http import pack
from headwater.io.store_sqlite import SqliteStore
from headwater.io.store_sqlite_query import StoreReader
from headwater.line_protocol import point_lines, telemetry_lines
from headwater.points import PointTable, StoreWrite, tag_column
from simulators.fleet import encoded_frames, plant_of
from simulators.settings import SimulatorSettings

T0_US = 1_700_000_000_000_000
S = 1_000_000
DEVICES, METRICS = 50, 10


def batch(rng: np.random.Generator, turn: int, frames: int, per: int, decimals: int | None) -> Batch:
    """`frames` frames of METRICS metrics with `per` readings each, at 1 Hz with jitter."""
    n = frames * METRICS * per
    number = turn * frames + np.arange(frames)
    base = T0_US + number // DEVICES * per * S
    axis = base[:, None, None] + np.arange(per) * S + rng.integers(0, 2_000, (frames, 1, per))
    value = 50 + np.cumsum(rng.normal(0, 0.05, (frames, METRICS, per)), axis=2)
    value = value if decimals is None else np.round(value, decimals)
    metric = np.broadcast_to(np.arange(METRICS, dtype=np.int32)[:, None], (frames, METRICS, per))
    return Batch(
        0, tuple(("north", f"pump-{at}") for at in range(DEVICES)), tuple(f"metric/{at}" for at in range(METRICS)),
        (number % DEVICES).astype(np.int32), np.full(frames, 7, np.uint64), number // DEVICES + 1, base, base,
        np.zeros(frames, np.uint8), np.ones(frames, np.int64), np.arange(frames + 1) * METRICS * per, metric.ravel(),
        np.broadcast_to(axis, metric.shape).ravel(), value.ravel(), np.zeros(n, np.uint8),
        np.zeros(frames + 1, np.int64), np.zeros((frames, 4), np.int64), np.zeros(frames, np.int32), T0_US,
    )  # fmt: skip


def windows(rng: np.random.Generator, turn: int, rows: int) -> PointTable:
    """One window of each of `rows` series."""
    devices = tuple(f"pump-{at}" for at in range(rows // METRICS))
    tags = {
        "site": tag_column(["north"] * rows),
        "device": tag_column([device for device in devices for _ in range(METRICS)]),
        "metric": tag_column([f"metric/{at}" for at in range(METRICS)] * len(devices)),
        "window": tag_column(["10s"] * rows),
    }
    fields: dict[str, Any] = {
        name: rng.normal(size=rows) for name in ("mean", "min", "max", "std", "p50", "p95", "p99")
    }
    fields |= {name: np.full(rows, 10) for name in ("count", "late", "revision")}
    return PointTable("window", np.full(rows, T0_US + turn * 10 * S), tags, fields)


def cpu_s(work: Callable[[], object]) -> float:
    """CPU seconds of this process for one call."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def writing(folder: Path, writes: list[StoreWrite], runs: int) -> tuple[float, int]:
    """Median CPU seconds to write all into a fresh store, and the file's size."""
    seconds, size = [], 0
    for turn in range(runs):
        path = folder / f"store-{turn}.db"
        store = SqliteStore(path)
        seconds.append(cpu_s(lambda store=store: [store.write(write) for write in writes]))
        store.close()
        size = path.stat().st_size
        if turn < runs - 1:
            path.unlink()
    return statistics.median(seconds), size


def row_per_reading(folder: Path, batches: list[Batch]) -> tuple[float, int]:
    """CPU seconds and bytes of the peer."""
    path = folder / "rows.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(
        "CREATE TABLE reading (device INTEGER, metric INTEGER, time_us INTEGER, value REAL, quality INTEGER, "
        "PRIMARY KEY (device, metric, time_us)) WITHOUT ROWID"
    )

    def write() -> None:
        for one in batches:
            columns = (one.device[one.frame_of_reading], one.metric, one.time_us, one.value, one.quality)
            connection.execute("BEGIN")
            connection.executemany(
                "INSERT OR IGNORE INTO reading VALUES (?, ?, ?, ?, ?)",
                zip(*(column.tolist() for column in columns), strict=True),
            )
            connection.execute("COMMIT")

    seconds = cpu_s(write)
    connection.close()
    return seconds, path.stat().st_size


def fleet_batch(devices: int, seconds: int) -> Batch:
    """Frames of ten seconds of the simulators' fleet, as the gateway makes a batch of them."""
    plant = plant_of(SimulatorSettings(devices=devices), T0_US)
    frames = encoded_frames(plant, T0_US, seconds, 80)
    return decode_batch([Arrival(*frame, T0_US + seconds * S) for frame in frames], shard=0, made_us=T0_US)[0]


def by_client(batch: Batch) -> bytes:
    """The same lines by influxdb-client, a Point a reading."""
    names = [batch.devices[code] for code in batch.device.tolist()]
    columns = (batch.frame_of_reading, batch.metric, batch.time_us, batch.value)
    lines = []
    for row, metric, time_us, value in zip(*(column.tolist() for column in columns), strict=True):
        site, device = names[row]
        point = Point("telemetry").tag("site", site).tag("device", device).tag("metric", batch.metrics[metric])
        lines.append(point.field("value", value).time(time_us * 1_000).to_line_protocol())
    return "\n".join(lines).encode()


def line_protocol(quick: bool) -> tuple[dict[str, float], dict[str, float]]:
    """Points a second of line protocol, ours and the client's in turn."""
    batch, few = fleet_batch(50, 60 if quick else 300), fleet_batch(20, 20 if quick else 60)
    n, rows = batch.reading_count, 2_000
    table = windows(np.random.default_rng(1), 0, rows)
    lines = b"".join(telemetry_lines(batch))
    assert lines.count(b"\n") == n
    ours, theirs, packing, tables = [], [], [], []
    for _ in range(3 if quick else 9):
        ours.append(cpu_s(lambda: telemetry_lines(batch)) / n)
        theirs.append(cpu_s(lambda: by_client(few)) / few.reading_count)
        packing.append(cpu_s(lambda: pack(lines, 1)) / n)
        tables.append(cpu_s(lambda: point_lines(table)) / rows)
    us = statistics.median(ours)
    figures = {
        "points_per_s_core": 1 / us,
        "points_and_gzip_per_s_core": 1 / (us + statistics.median(packing)),
        "client_points_per_s_core": 1 / statistics.median(theirs),
        "window_points_per_s_core": 1 / statistics.median(tables),
        "bytes_per_point": len(lines) / n,
        "gzip_bytes_per_point": len(pack(lines, 1)) / n,
    }
    return figures, {"vs_influxdb_client": statistics.median(theirs) / us}


def run(*, quick: bool = False) -> dict[str, dict[str, float]]:
    runs, turns = (1, 10) if quick else (5, 20)
    figures: dict[str, float] = {}
    ratios: dict[str, float] = {}
    rng = np.random.default_rng(1)
    # (name, frames a batch, readings a metric and frame, decimals)
    shapes = (
        ("live_1hz", 64, 1, 2),
        ("live_10s", 64, 10, 2),
        ("backlog", 512, 10, 2),
        ("backlog_float64", 512, 10, None),
    )
    for name, frames, per, decimals in shapes:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            batches = [batch(rng, turn, frames, per, decimals) for turn in range(turns)]
            readings = sum(one.reading_count for one in batches)
            seconds, size = writing(folder, [StoreWrite((one,)) for one in batches], runs)
            figures[f"{name}_us_per_reading"] = seconds / readings * 1e6
            figures[f"{name}_us_per_frame"] = seconds / (frames * turns) * 1e6
            figures[f"{name}_bytes_per_reading"] = size / readings
            figures[f"{name}_readings_per_s_core"] = readings / seconds
            if name == "backlog":
                peer_seconds, peer_size = row_per_reading(folder, batches)
                ratios["cpu_of_a_row_per_reading"] = peer_seconds / seconds
                ratios["bytes_of_a_row_per_reading"] = peer_size / size
                figures |= asking(folder / f"store-{runs - 1}.db")
    with tempfile.TemporaryDirectory() as temporary:
        rows = 2_000
        writes = [StoreWrite(tables=(windows(rng, turn, rows),)) for turn in range(turns)]
        seconds, size = writing(Path(temporary), writes, runs)
        figures["window_rows_per_s_core"] = rows * turns / seconds
        figures["window_bytes_per_row"] = size / (rows * turns)
    line_figures, line_ratios = line_protocol(quick)
    return {"figures": figures | line_figures, "ratios": ratios | line_ratios}


def asking(path: Path) -> dict[str, float]:
    """Median CPU milliseconds of the page's questions."""
    reader = StoreReader(path)
    key = ("north", "pump-1", "metric/1")
    newest = reader.newest_us()
    questions: dict[str, Callable[[], object]] = {
        "devices": reader.devices,
        "chart_500": lambda: reader.series(*key, T0_US, newest + 1, 500),
        "raw_1000": lambda: reader.raw(*key, T0_US, newest + 1, 1_000),
        "changes_of_one_write": lambda: reader.changes(reader.version() - 1, 1_000_000),
    }
    figures = {
        f"ask_{name}_ms": statistics.median(cpu_s(question) for _ in range(9)) * 1e3
        for name, question in questions.items()
    }
    reader.close()
    return figures


if __name__ == "__main__":
    for group, numbers in run().items():
        for name, number in numbers.items():
            print(f"{group:<8} {name:<36} {number:>14,.3f}")
