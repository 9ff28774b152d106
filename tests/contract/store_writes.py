"""Random writes for the tests of stores, and what a store then holds, in one form for all stores."""

import json
import sqlite3
import struct
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from headwater.batch import Batch, DeadLetter
from headwater.frame import Gap, Summaries
from headwater.io.store_influx_options import InfluxOptions
from headwater.io.store_memory import MemoryStore
from headwater.io.store_sqlite_blob import decode
from headwater.io.store_sqlite_panes import decode_summaries
from headwater.io.store_sqlite_schema import SEQ_BITS, SEQ_MASK
from headwater.points import MEASUREMENT_FIELDS, MEASUREMENT_TAGS, DeviceAccount, PointTable, StoreWrite, tag_column
from headwater.reasons import GapReason

T0_US = 1_700_000_000_000_000
DEVICES = (("north", "pump-1"), ("north", "pump-2"), ("south", "pump-1"))
METRICS = ("flow", "pressure/in", "temp", "vibration:x")
EPOCHS = (5, (1 << 64) - 3)


def summaries(rng: np.random.Generator, rows: int) -> Summaries:
    start = T0_US + rng.integers(0, 1_000, rows) * 1_000_000
    sizes = rng.integers(0, 3, rows)
    edges = np.concatenate(([0], np.cumsum(sizes)))
    floats = [rng.normal(size=rows) for _ in range(6)]
    return Summaries(
        METRICS, rng.integers(0, len(METRICS), rows).astype(np.int32), start, np.full(rows, 1_000_000),
        rng.integers(1, 50, rows), *floats, start, start + 999_999, edges,
        rng.integers(-99, 99, edges[-1]).astype(np.int32), rng.integers(1, 9, edges[-1]),
    )  # fmt: skip


def values(rng: np.random.Generator, n: int) -> np.ndarray:
    kind = rng.integers(0, 6)
    if kind == 0:
        return np.round(20 + np.cumsum(rng.normal(0, 0.1, n)), 2)
    if kind == 1:
        return rng.normal(0, 1, n)
    if kind == 2:
        return rng.integers(0, 2, n).astype(float)
    if kind == 3:
        return rng.choice([0.0, -0.0, 5e-324, 1.7e308, -1.7e308, 0.1, 1e15, 2.0**53, 2.0**53 + 2, -(2.0**63)], n)
    if kind == 4:
        return np.round(rng.normal(0, 1e-6, n), 9)
    return rng.normal(0, 5, n).astype(np.float32).astype(float)


def batch(rng: np.random.Generator, seqs: dict[tuple[int, int], int], frames: int = 6, seq_base: int = 0) -> Batch:
    device, epoch, seq, starts, pane_starts = [], [], [], [0], [0]
    columns: list[list[Any]] = [[], [], [], []]
    gaps = []
    for row in range(frames):
        which = int(rng.integers(0, len(DEVICES)))
        era = (0, *EPOCHS)[rng.integers(0, 3)]
        seqs[which, era] = seqs.get((which, era), seq_base) + 1
        device.append(which)
        epoch.append(era)
        seq.append(0 if era == 0 else seqs[which, era])
        at = T0_US + int(rng.integers(0, 10 ** int(rng.integers(1, 12))))
        n = 0
        for metric in rng.permutation(len(METRICS))[: rng.integers(0, len(METRICS) + 1)].tolist():
            size = int(rng.integers(1, 9))
            if n == 0 or rng.random() < 0.5:
                axis = at + np.cumsum(rng.integers(1, 2_000_000, size))
            size = len(axis)
            columns[0] += [metric] * size
            columns[1] += axis.tolist()
            columns[2] += values(rng, size).tolist()
            columns[3] += (rng.choice([0, 1, 65], size) if rng.random() < 0.3 else np.zeros(size, int)).tolist()
            n += size
        starts.append(starts[-1] + n)
        pane_starts.append(pane_starts[-1] + int(rng.integers(0, 3)) * int(rng.random() < 0.3))
        if rng.random() < 0.1:
            gaps.append((row, Gap(EPOCHS[0], 1, 3, GapReason.SPOOL_FULL, -1, at)))
    created = np.array([T0_US + row for row in range(frames)], np.int64)
    return Batch(
        0, DEVICES, METRICS, np.array(device, np.int32), np.array(epoch, np.uint64), np.array(seq, np.int64),
        created + 5, created, np.zeros(frames, np.uint8), np.ones(frames, np.int64), np.array(starts),
        np.array(columns[0], np.int32), np.array(columns[1], np.int64), np.array(columns[2], np.float64),
        np.array(columns[3], np.uint8), np.array(pane_starts), np.zeros((frames, 4), np.int64),
        np.zeros(frames, np.int32), T0_US, summaries=summaries(rng, pane_starts[-1]), gaps=tuple(gaps),
    )  # fmt: skip


def table(rng: np.random.Generator, measurement: str, n: int) -> PointTable:
    words = {
        "site": ["north", "south"],
        "device": ["pump-1", "pump-2"],
        "metric": list(METRICS),
        "window": ["10s", "1m"],
    }
    tags = {
        tag: tag_column([str(word) for word in rng.choice(words.get(tag, [f"{tag}-a", f"{tag}-b"]), n)])
        for tag in MEASUREMENT_TAGS[measurement]
    }
    fields: dict[str, np.ndarray] = {}
    for name, kind in MEASUREMENT_FIELDS[measurement].items():
        if rng.random() < 0.2 and name != "revision":
            continue
        if kind == "float":
            fields[name] = np.where(rng.random(n) < 0.1, np.nan, rng.normal(size=n))
        elif kind == "string":
            fields[name] = np.array([f"text {number}" for number in rng.integers(0, 9, n)], object)
        else:
            fields[name] = rng.integers(0, 2, n).astype(bool if kind == "bool" else np.int64)
    if "revision" in fields:
        fields["revision"] = rng.integers(0, 3, n)
    return PointTable(measurement, T0_US + rng.integers(0, 20, n) * 1_000_000, tags, fields)


def account(rng: np.random.Generator) -> DeviceAccount:
    site, device = DEVICES[rng.integers(0, len(DEVICES))]
    counts = [int(number) for number in rng.integers(0, 99, 12)]
    return DeviceAccount(site, device, EPOCHS[rng.integers(0, 2)], 7, ((9, 9), (11, 20)), *counts)


def letter(rng: np.random.Generator) -> DeadLetter:
    return DeadLetter(
        T0_US + int(rng.integers(0, 5)), "parse", "gateway", "hw/1/a/b/frame", "no", "a", "b", EPOCHS[1], 3, 2, b"\0x"
    )


def write(rng: np.random.Generator, seqs: dict[tuple[int, int], int]) -> StoreWrite:
    return StoreWrite(
        tuple(batch(rng, seqs) for _ in range(rng.integers(0, 3))),
        tuple(table(rng, name, int(rng.integers(0, 12))) for name in MEASUREMENT_TAGS if name != "telemetry"),
        tuple(account(rng) for _ in range(rng.integers(0, 3))),
        tuple(letter(rng) for _ in range(rng.integers(0, 3))),
        {("log", "headwater.readings", int(rng.integers(0, 3))): int(rng.integers(0, 99))},
    )


def bits(value: float) -> bytes:
    return struct.pack("<d", value)


def contents_memory(store: MemoryStore) -> dict[str, Any]:
    frames: dict[Any, Any] = {}
    for (site, device, epoch, seq), frame in store.frames.items():
        readings = tuple((name, at, bits(value), quality) for name, at, value, quality in frame.readings)
        key = (site, device, epoch, readings if epoch == 0 else seq)
        frames[key] = (frame.received_us, readings, frame.summaries)
    return {
        "frames": frames,
        "points": {name: dict(points) for name, points in store.points.items()},
        "accounts": set(store.accounts.values()),
        "gaps": {key: gap.reason for key, gap in store.gaps.items()},
        "letters": sorted(store.dead_letters, key=repr),
        "positions": store.positions,
    }


def series_of(contents: dict[str, Any]) -> dict[str, Any]:
    """What a store of series shows of contents: readings and panes by series and time instead of frames, no windows."""
    readings: dict[Any, Any] = {}
    panes = 0
    for (site, device, _, _), (_, rows, summaries) in contents["frames"].items():
        panes += summaries
        for metric, at, value, quality in rows:
            readings[site, device, metric, at * 1_000] = (value, quality)
    points = {name: rows for name, rows in contents["points"].items() if name != "window"}
    kept = {name: contents[name] for name in ("accounts", "gaps", "letters", "positions")}
    return {"readings": readings, "points": {name: filled(rows) for name, rows in points.items()}, **kept}


def filled(rows: dict[Any, Any]) -> dict[Any, Any]:
    """A point without any field is no point."""
    return {key: fields for key, fields in rows.items() if fields}


class _Server(Protocol):
    """What is asked of an InfluxDB; `influx_server.Influx1` is one, which a process that only writes need not find."""

    def query(self, database: str, text: str) -> list[dict[str, Any]]:
        """The rows of an answer."""


def contents_influx(server: _Server, options: InfluxOptions, books: Path) -> dict[str, Any]:
    """The same of a real InfluxDB 1.6 and the books beside it."""
    readings: dict[Any, Any] = {}
    for row in server.query(options.raw, 'SELECT * FROM "telemetry"'):
        if row.get("count") is not None:
            continue
        value = row["value"] if row.get("value") is not None else row["bad"]
        key = (row["site"], row["device"], row["metric"], row["time"])
        readings[key] = (bits(float(value)), row.get("quality") or 0)
    points: dict[str, Any] = {}
    for name, tags in MEASUREMENT_TAGS.items():
        if name == "telemetry":
            continue
        database = options.windows if name == "window" else options.events
        points[name] = {}
        for row in server.query(database, f'SELECT * FROM "{name}"'):
            key = (*(row[tag] for tag in tags), row["time"] // 1_000)
            fields = {field: row.get(field) for field in MEASUREMENT_FIELDS[name]}
            points[name][key] = {field: cell for field, cell in fields.items() if cell is not None}
    kept = contents_sqlite(books)
    assert not kept["frames"]
    assert not kept["points"]["window"]
    del kept["frames"], kept["points"]
    return {"readings": readings, "points": points, **kept}


def contents_sqlite(path: Path) -> dict[str, Any]:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        return _contents(connection)
    finally:
        connection.close()


def _contents(connection: sqlite3.Connection) -> dict[str, Any]:
    ask = connection.execute
    names = dict(ask("SELECT id, text FROM name"))
    devices = {number: (site, device) for number, site, device in ask("SELECT id, site, device FROM device_name")}
    streams = {number: rest for number, *rest in ask("SELECT id, device_id, epoch, seq_high FROM stream")}
    frames: dict[Any, Any] = {}
    columns = "id, received_us, summaries, start_us, readings, runs, times, scaled, exact, quality"
    for number, received_us, panes, *blobs in ask(f"SELECT {columns} FROM frame"):
        decoded = decode([tuple(blobs)])
        device_id, epoch, seq_high = streams[number >> SEQ_BITS]
        readings = tuple(
            (names[metric], at, bits(value), quality)
            for metric, at, value, quality in zip(
                decoded.metric.tolist(), decoded.time_us.tolist(), decoded.value.tolist(), decoded.quality.tolist(),
                strict=True,
            )
        )  # fmt: skip
        seq = readings if epoch == 0 else seq_high << SEQ_BITS | number & SEQ_MASK
        count = len(decode_summaries(panes, names)) if panes else 0
        key = (*devices[device_id], epoch % (1 << 64), seq)
        assert key not in frames
        frames[key] = (received_us, readings, count)
    points: dict[str, Any] = {}
    for name, tags in MEASUREMENT_TAGS.items():
        if name == "telemetry":
            continue
        fields = tuple(MEASUREMENT_FIELDS[name])
        quoted = ", ".join(f'"{column}"' for column in (*tags, "time_us", *fields))
        points[name] = {}
        for row in ask(f'SELECT {quoted} FROM "{name}"'):
            cells = zip(fields, row[len(tags) + 1 :], strict=True)
            points[name][row[: len(tags) + 1]] = {field: cell for field, cell in cells if cell is not None}
    accounts = set()
    for device_id, epoch, contiguous, ranges, *counts, _ in ask("SELECT * FROM account"):
        pairs = tuple((lo, hi) for lo, hi in json.loads(ranges))
        accounts.add(DeviceAccount(*devices[device_id], epoch % (1 << 64), contiguous, pairs, *counts))
    letters = ask(
        "SELECT at_us, reason, stage, source, detail, site, device, epoch, seq, readings, payload FROM dead_letter"
    )
    return {
        "frames": frames,
        "points": points,
        "accounts": accounts,
        "gaps": {
            (*devices[number], epoch % (1 << 64), lo, hi): reason
            for number, epoch, lo, hi, reason, *_ in ask("SELECT * FROM gap")
        },
        "letters": sorted((DeadLetter(*row[:7], row[7] % (1 << 64), *row[8:]) for row in letters), key=repr),
        "positions": {tuple(row[:3]): row[3] for row in ask("SELECT * FROM position")},
    }
