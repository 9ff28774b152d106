"""Readings of one series out of the SQLite store: as they were kept, or in buckets for a chart."""

import sqlite3
from collections.abc import Iterator
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

Place = tuple[int, int]
FIRST: Place = (-(1 << 62), -1)
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


def frame_ids(
    connection: sqlite3.Connection, device_id: int, start_us: int, end_us: int, after: Place, limit: int
) -> list[Place]:
    """Returns (start_us, id) of the frames that touch the interval and come after a place, in order, at most `limit`."""
    found: list[Place] = []
    for span in range(len(SPANS_US) + 1):
        earliest = start_us - SPANS_US[span] if span < len(SPANS_US) else -(1 << 62)
        found += connection.execute(
            "SELECT start_us, id FROM frame WHERE device_id = ? AND span = ? AND (start_us, id) > (?, ?) "
            "AND start_us < ? AND end_us > ? ORDER BY start_us, id LIMIT ?",
            (device_id, span, *max((earliest, -1), after), end_us, start_us, limit),
        ).fetchall()
    found.sort()
    return found[:limit]


def slices(connection: sqlite3.Connection, device_id: int, start_us: int, end_us: int) -> Iterator[list[Place]]:
    """Yields the places of all frames that touch the interval, in order, in slices."""
    after = FIRST
    while places := frame_ids(connection, device_id, start_us, end_us, after, SLICE_FRAMES):
        yield places
        after = places[-1]


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
    time_us, value, quality = np.empty(0, np.int64), np.empty(0), np.empty(0, np.uint8)
    for places in slices(connection, series.device_id, start_us, end_us):
        # Frames come by their start: once `limit` readings are older than the next start, nothing older can come.
        if len(time_us) >= limit and time_us[limit - 1] < places[0][0]:
            break
        columns = load(connection, [number for _, number in places])
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
    touched = frame_ids(connection, series.device_id, start_us, end_us, FIRST, CHART_FRAMES_MAX + 1)
    buckets = _Buckets(start_us, end_us, points_max)
    source, truncated = "readings", False
    if len(touched) > CHART_FRAMES_MAX:
        chosen = _window_table(connection, series, (end_us - start_us) // points_max, start_us, end_us)
        if chosen is not None:
            source, truncated = f"window {chosen[0]}", len(chosen[1]) == WINDOW_ROWS_MAX
            _add_windows(chosen[1], buckets)
    if source == "readings":
        frames = 0
        for places in slices(connection, series.device_id, start_us, end_us):
            if frames >= FRAMES_MAX:
                truncated = True
                break
            frames += len(places)
            _add_frames(connection, series, [number for _, number in places], start_us, end_us, buckets)
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


def window_rows(
    connection: sqlite3.Connection, series: Series, window_id: int, columns: str, start_us: int, end_us: int, limit: int
) -> list[Any]:
    """Returns the oldest `limit` windows of a series that begin in the interval, ascending.

    The table is clustered by time, so this hops from one start to the next that any series has and looks there.
    """
    return connection.execute(
        "WITH RECURSIVE start (time_us) AS ("  # noqa: S608 — column names of ours.
        "SELECT min(time_us) FROM window_row WHERE window_id = :window AND time_us >= :start UNION ALL "
        "SELECT (SELECT min(w.time_us) FROM window_row w WHERE w.window_id = :window AND w.time_us > start.time_us) "
        "FROM start WHERE start.time_us < :end) "
        f"SELECT {columns} FROM start CROSS JOIN window_row r ON r.window_id = :window AND r.time_us = start.time_us "
        "AND r.device_id = :device AND r.metric_id = :metric WHERE start.time_us < :end LIMIT :limit",
        {
            "window": window_id,
            "start": start_us,
            "end": end_us,
            "device": series.device_id,
            "metric": series.metric_id,
            "limit": limit,
        },
    ).fetchall()


def _window_kinds(connection: sqlite3.Connection, width_us: int) -> list[tuple[int, str]]:
    """Numbers and tags of the tumbling windows, the best for buckets of this width first.

    That is the widest that is no wider than a bucket, then narrower ones, then wider ones.
    """
    found: list[tuple[int, int, str]] = []
    after = -1
    while True:
        row = connection.execute("SELECT min(window_id) FROM window_row WHERE window_id > ?", (after,)).fetchone()
        if row[0] is None:
            break
        after = row[0]
        tag = connection.execute("SELECT text FROM name WHERE id = ?", (after,)).fetchone()[0]
        try:
            found.append((parse_duration_us(tag), after, tag))
        except SettingsError:
            continue  # A session or sliding window overlaps or leaves holes, so a chart can't add it up.
    found.sort(key=lambda kind: (kind[0] > width_us, abs(kind[0] - width_us)))
    return [kind[1:] for kind in found]


def _window_table(
    connection: sqlite3.Connection, series: Series, width_us: int, start_us: int, end_us: int
) -> tuple[str, list[Any]] | None:
    for number, tag in _window_kinds(connection, width_us):
        columns = "r.time_us, r.count, r.mean, r.min, r.max"
        rows = window_rows(connection, series, number, columns, start_us, end_us, WINDOW_ROWS_MAX)
        if rows:
            return tag, rows
    return None


def _add_windows(rows: list[Any], buckets: _Buckets) -> None:
    told = [row for row in rows if row[1] and None not in row]
    if told:
        time_us, count, *values = zip(*told, strict=True)
        columns = (np.array(column, np.float64) for column in values)
        buckets.add(np.array(time_us, np.int64), np.array(count, np.int64), *columns)
