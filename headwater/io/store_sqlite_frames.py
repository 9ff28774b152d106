"""Readings and summaries of many series out of the frames of the SQLite store, as points of `telemetry`.

As in InfluxDB (headwater.line_protocol): a usable reading has the field `value`, a bad one `bad`, one that isn't good
`quality`; a summary has `value` (its mean), `min`, `max`, `std` and `count`, a nanosecond after its start.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from headwater.frame import Int64
from headwater.io.store_sqlite_blob import decode
from headwater.io.store_sqlite_panes import decode_panes
from headwater.io.store_sqlite_schema import SPANS_US
from headwater.io.store_sqlite_series import FRAME_COLUMNS
from headwater.point_columns import Column, absent
from headwater.quality import BAD_MIN

FRAMES_PER_STEP = 500

Part = tuple[Int64, Int64, dict[str, Column]]
TELEMETRY_FIELDS = {
    "value": "float", "min": "float", "max": "float", "std": "float", "count": "int", "bad": "float", "quality": "int",
}  # fmt: skip
_OF_READINGS = frozenset({"value", "bad", "quality"})
_OF_SUMMARIES = frozenset({"value", "min", "max", "std", "count"})
MICRO_NS = 1_000
PANE_NS = 1


def read_frames(
    connection: sqlite3.Connection,
    _measurement: str,
    numbers: Int64,
    fields: Sequence[str],
    start_ns: int,
    end_ns: int,
    take_points: Callable[[int], None],
) -> Iterator[Part]:
    """Yields (series, time_ns, columns) of the points in `[start_ns, end_ns]`, in slices.

    `numbers`, int64 (n, 2), are device and metric of each series.
    """
    start_us, end_us = (start_ns - PANE_NS) // MICRO_NS, end_ns // MICRO_NS
    with_readings, with_summaries = not _OF_READINGS.isdisjoint(fields), not _OF_SUMMARIES.isdisjoint(fields)
    columns = FRAME_COLUMNS if with_readings else "start_us, readings"
    for device in np.unique(numbers[:, 0]).tolist():
        mine = np.flatnonzero(numbers[:, 0] == device)
        order = np.argsort(numbers[mine, 1])
        metrics, codes = numbers[mine, 1][order], mine[order]
        for span in range(len(SPANS_US) + 1):
            earliest = start_us - SPANS_US[span] if span < len(SPANS_US) else -(1 << 62)
            cursor = connection.execute(
                f"SELECT {columns}, summaries FROM frame WHERE device_id = ? AND span = ? AND start_us >= ? "  # noqa: S608 — constants.
                "AND start_us <= ? AND end_us > ? ORDER BY start_us, id",
                (device, span, max(earliest, -(1 << 62)), end_us, start_us),
            )
            while rows := cursor.fetchmany(FRAMES_PER_STEP):
                take_points(sum(row[1] for row in rows) if with_readings else 0)
                if with_readings:
                    yield from _readings(rows, metrics, codes, fields, start_ns, end_ns)
                blobs = [row[-1] for row in rows if row[-1] is not None] if with_summaries else []
                if blobs:
                    yield from _summaries(blobs, metrics, codes, fields, start_ns, end_ns, take_points)


def _codes(found: Int64, metrics: Int64, codes: Int64) -> Int64:
    """The series of each metric number, -1 where it wasn't asked for."""
    at = np.minimum(np.searchsorted(metrics, found), len(metrics) - 1)
    return np.where(metrics[at] == found, codes[at], -1)


def _readings(
    rows: list[Any], metrics: Int64, codes: Int64, fields: Sequence[str], start_ns: int, end_ns: int
) -> Iterator[Part]:
    read = decode([row[:7] for row in rows])
    code = _codes(read.metric, metrics, codes)
    time_ns = read.time_us * MICRO_NS
    at = np.flatnonzero((code >= 0) & (time_ns >= start_ns) & (time_ns <= end_ns))
    value, quality = read.value[at], read.quality[at]
    is_bad, is_finite = quality >= BAD_MIN, np.isfinite(value)
    told = {
        "value": Column("float", value, is_finite & ~is_bad),
        "bad": Column("float", value, is_finite & is_bad),
        "quality": Column("int", quality.astype(np.int64), quality != 0),
    }
    columns = {name: told.get(name) or absent(TELEMETRY_FIELDS[name], len(at)) for name in fields}
    yield _having(code[at], time_ns[at], columns)


def _having(code: Int64, time_ns: Int64, columns: dict[str, Column]) -> Part:
    """Leaves out points that have none of the fields."""
    held = np.zeros(len(code), np.bool_)
    for column in columns.values():
        held |= column.valid
    if held.all():
        return code, time_ns, columns
    at = np.flatnonzero(held)
    return code[at], time_ns[at], {name: column.take(at) for name, column in columns.items()}


def _summaries(
    blobs: list[bytes],
    metrics: Int64,
    codes: Int64,
    fields: Sequence[str],
    start_ns: int,
    end_ns: int,
    take_points: Callable[[int], None],
) -> Iterator[Part]:
    panes = decode_panes(blobs)
    take_points(len(panes.metric))
    code = _codes(panes.metric, metrics, codes)
    time_ns = panes.start_us * MICRO_NS + PANE_NS
    at = np.flatnonzero((code >= 0) & (time_ns >= start_ns) & (time_ns <= end_ns))
    count = panes.count[at]
    values = {
        "value": panes.mean[at],
        "min": panes.min[at],
        "max": panes.max[at],
        "std": np.sqrt(np.maximum(panes.m2[at], 0.0) / count),
        "count": count,
    }
    told = {name: Column(TELEMETRY_FIELDS[name], column, np.isfinite(column)) for name, column in values.items()}
    columns = {name: told.get(name) or absent(TELEMETRY_FIELDS[name], len(at)) for name in fields}
    yield _having(code[at], time_ns[at], columns)
