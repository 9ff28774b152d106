"""Readings of one series out of the SQLite store: as they were kept, or in buckets for a chart."""

import sqlite3
from dataclasses import dataclass
from typing import Any

import numpy as np

from headwater.errors import SettingsError
from headwater.frame import Float64, Int64
from headwater.instant import parse_duration_us
from headwater.io.store_sqlite_blob import FrameColumns, decode
from headwater.io.store_sqlite_panes import decode_panes
from headwater.io.store_sqlite_schema import SPANS_US
from headwater.quality import BAD_MIN

# A chart reads readings while the range has at most this many frames, and windows beyond.
CHART_FRAMES_MAX = 4_000
FRAMES_MAX = 200_000
WINDOW_ROWS_MAX = 200_000
SLICE_FRAMES = 500

FRAME_COLUMNS = "start_us, readings, runs, times, scaled, exact, quality"


@dataclass(frozen=True, slots=True)
class Series:
    """One metric of one device, by the store's numbers."""

    device_id: int
    metric_id: int


def find_series(connection: sqlite3.Connection, site: str, device: str, metric: str) -> Series | None:
    """Returns the numbers of a series; None if the store has never seen one of the names."""
    row = connection.execute(
        "SELECT d.id, n.id FROM device_name d, name n WHERE d.site = ? AND d.device = ? AND n.text = ?",
        (site, device, metric),
    ).fetchone()
    return None if row is None else Series(*row)


def frame_ids(connection: sqlite3.Connection, device_id: int, start_us: int, end_us: int, limit: int) -> list[Any]:
    """Returns (start_us, id) of the frames that touch the interval, oldest first, at most `limit`."""
    found: list[Any] = []
    for span in range(len(SPANS_US) + 1):
        earliest = start_us - SPANS_US[span] if span < len(SPANS_US) else -(1 << 62)
        found += connection.execute(
            "SELECT start_us, id FROM frame WHERE device_id = ? AND span = ? AND start_us >= ? AND start_us < ? "
            "AND end_us > ? ORDER BY start_us LIMIT ?",
            (device_id, span, earliest, end_us, start_us, limit),
        ).fetchall()
    found.sort()
    return found[:limit]


def load(connection: sqlite3.Connection, ids: list[int]) -> FrameColumns:
    """Reads and decodes frames by their row ids; a frame that went meanwhile is left out.

    Raises:
        CorruptStateError: a blob contradicts itself.
    """
    sql = f"SELECT {FRAME_COLUMNS} FROM frame WHERE id = ?"  # noqa: S608 — a constant.
    rows = [connection.execute(sql, (number,)).fetchone() for number in ids]
    return decode([row for row in rows if row is not None])


def read_raw(connection: sqlite3.Connection, series: Series, start_us: int, end_us: int, limit: int) -> dict[str, Any]:
    """Returns the oldest `limit` readings in `[start_us, end_us)`, ascending: time_us, value, quality."""
    frames = frame_ids(connection, series.device_id, start_us, end_us, FRAMES_MAX)
    time_us, value, quality = np.empty(0, np.int64), np.empty(0), np.empty(0, np.uint8)
    for at in range(0, len(frames), SLICE_FRAMES):
        # Frames come by their start: once `limit` readings are older than the next start, nothing older can come.
        if len(time_us) >= limit and time_us[limit - 1] < frames[at][0]:
            break
        columns = load(connection, [number for _, number in frames[at : at + SLICE_FRAMES]])
        mine = (columns.metric == series.metric_id) & (columns.time_us >= start_us) & (columns.time_us < end_us)
        time_us = np.concatenate((time_us, columns.time_us[mine]))
        order = np.argsort(time_us, kind="stable")
        time_us = time_us[order][:limit]
        value = np.concatenate((value, columns.value[mine]))[order][:limit]
        quality = np.concatenate((quality, columns.quality[mine]))[order][:limit]
    return {"time_us": time_us, "value": value, "quality": quality}


class _Buckets:
    """Count, mean, minimum and maximum per bucket of equal width."""

    def __init__(self, start_us: int, end_us: int, points_max: int) -> None:
        self._start_us = start_us
        self._width_us = max(1, -(-(end_us - start_us) // points_max))
        self._count = np.zeros(points_max, np.int64)
        self._sum = np.zeros(points_max)
        self._min = np.full(points_max, np.inf)
        self._max = np.full(points_max, -np.inf)

    def add(self, time_us: Int64, count: Int64, mean: Float64, low: Float64, high: Float64) -> None:
        at = (time_us - self._start_us) // self._width_us
        self._count += np.bincount(at, count, len(self._count)).astype(np.int64)
        self._sum += np.bincount(at, mean * count, len(self._count))
        np.minimum.at(self._min, at, low)
        np.maximum.at(self._max, at, high)

    def columns(self) -> dict[str, Any]:
        held = np.flatnonzero(self._count)
        # A mean of equal values must not leave the range by rounding.
        mean = np.clip(self._sum[held] / self._count[held], self._min[held], self._max[held])
        return {
            "time_us": self._start_us + held * self._width_us,
            "mean": mean,
            "min": self._min[held],
            "max": self._max[held],
            "count": self._count[held],
        }


def read_chart(
    connection: sqlite3.Connection, series: Series, start_us: int, end_us: int, points_max: int
) -> dict[str, Any]:
    """Returns at most `points_max` buckets that hold usable readings: time_us (start), mean, min, max, count.

    `source` says from what: "readings" (with summaries), or "window <tag>" where the range holds too many frames;
    `truncated` is True if even then only the oldest part could be read.
    """
    frames = frame_ids(connection, series.device_id, start_us, end_us, CHART_FRAMES_MAX + 1)
    buckets = _Buckets(start_us, end_us, points_max)
    source, truncated = "readings", False
    if len(frames) > CHART_FRAMES_MAX:
        width_us = (end_us - start_us) // points_max
        chosen = _best_window(connection, series, width_us)
        if chosen is not None:
            number, source = chosen[0], f"window {chosen[1]}"
            truncated = _add_windows(connection, series, number, start_us, end_us, buckets)
        else:
            frames = frame_ids(connection, series.device_id, start_us, end_us, FRAMES_MAX)
            truncated = len(frames) == FRAMES_MAX
    if source == "readings":
        for at in range(0, len(frames), SLICE_FRAMES):
            ids = [number for _, number in frames[at : at + SLICE_FRAMES]]
            _add_frames(connection, series, ids, start_us, end_us, buckets)
    return {**buckets.columns(), "source": source, "truncated": truncated}


def _add_frames(
    connection: sqlite3.Connection, series: Series, ids: list[int], start_us: int, end_us: int, buckets: _Buckets
) -> None:
    columns = load(connection, ids)
    mine = (columns.metric == series.metric_id) & (columns.quality < BAD_MIN)
    mine &= (columns.time_us >= start_us) & (columns.time_us < end_us)
    value = columns.value[mine]
    buckets.add(columns.time_us[mine], np.ones(len(value), np.int64), value, value, value)
    blobs = [
        row[0]
        for number in ids
        for row in connection.execute("SELECT summaries FROM frame WHERE id = ? AND summaries IS NOT NULL", (number,))
    ]
    if blobs:
        panes = decode_panes(blobs)
        mine = (panes.metric == series.metric_id) & (panes.start_us >= start_us) & (panes.start_us < end_us)
        buckets.add(panes.start_us[mine], panes.count[mine], panes.mean[mine], panes.min[mine], panes.max[mine])


def _best_window(connection: sqlite3.Connection, series: Series, width_us: int) -> tuple[int, str] | None:
    """The widest tumbling window that is no wider than a bucket, or else the narrowest there is."""
    tags: list[tuple[int, int, str]] = []
    after = -1
    while True:
        row = connection.execute(
            "SELECT w.window_id, n.text FROM window_row w JOIN name n ON n.id = w.window_id "
            "WHERE w.device_id = ? AND w.metric_id = ? AND w.window_id > ? ORDER BY w.window_id LIMIT 1",
            (series.device_id, series.metric_id, after),
        ).fetchone()
        if row is None:
            break
        after = row[0]
        try:
            tags.append((parse_duration_us(row[1]), row[0], row[1]))
        except SettingsError:
            continue  # A session or sliding window overlaps or leaves holes, so a chart can't add it up.
    narrow = [tag for tag in tags if tag[0] <= width_us]
    if not tags:
        return None
    best = max(narrow) if narrow else min(tags)
    return best[1], best[2]


def _add_windows(
    connection: sqlite3.Connection, series: Series, window_id: int, start_us: int, end_us: int, buckets: _Buckets
) -> bool:
    rows = connection.execute(
        "SELECT time_us, count, mean, min, max FROM window_row WHERE device_id = ? AND metric_id = ? "
        "AND window_id = ? AND time_us >= ? AND time_us < ? AND count > 0 AND mean IS NOT NULL ORDER BY time_us LIMIT ?",
        (series.device_id, series.metric_id, window_id, start_us, end_us, WINDOW_ROWS_MAX),
    ).fetchall()
    if rows:
        table = [np.array(column) for column in zip(*rows, strict=True)]
        buckets.add(
            table[0].astype(np.int64), table[1].astype(np.int64), *(column.astype(float) for column in table[2:])
        )
    return len(rows) == WINDOW_ROWS_MAX
