"""Gives the InfluxQL engine points out of the SQLite store: measurements as in contracts §8, read-only.

`telemetry` are the readings and the summaries of frames, with the fields and times that InfluxDB gets of them
(docs/decisions/0011-influxql-on-the-page.md). Every method may be called from any thread; ConnectError while there is no store.
"""

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from headwater.frame import Int64
from headwater.io.store_sqlite_connection import ReadConnections
from headwater.io.store_sqlite_frames import TELEMETRY_FIELDS, read_frames
from headwater.io.store_sqlite_points import read_rows
from headwater.io.store_sqlite_schema import POINT_MEASUREMENTS, has_device, other_tags
from headwater.point_columns import Column, Points, Schema, Tags, absent
from headwater.points import MEASUREMENT_FIELDS, MEASUREMENT_TAGS

FIELDS = {**MEASUREMENT_FIELDS, "telemetry": TELEMETRY_FIELDS}
SCHEMAS = {name: Schema(tags, FIELDS[name]) for name, tags in MEASUREMENT_TAGS.items()}
# Instructions of SQLite between two looks at the time.
STEPS = 100_000


class InfluxqlReader:
    """Reads the points of a store while another connection writes it; `dashboards.influxql.points.PointReader`."""

    def __init__(self, path: Path | str) -> None:
        self._store = ReadConnections(path)

    def close(self) -> None:
        """Closes the file."""
        self._store.close()

    def schemas(self) -> Mapping[str, Schema]:
        """The measurements that hold points; their fields are all that they may have."""
        tables = {name: "latest" if name == "telemetry" else f"{name}_row" for name in SCHEMAS}
        with self._store.snapshot() as connection:
            return {
                name: SCHEMAS[name]
                for name, table in tables.items()
                if connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone()  # noqa: S608 — our own tables.
            }

    def series(self, measurement: str, series_max: int) -> list[Tags]:
        """Tag values of the series, sorted; at most `series_max` + 1.

        Those of `window` are all kinds of windows of all metrics, whether each has been reported or not.
        """
        with self._store.snapshot() as connection:
            if measurement in ("telemetry", "window"):
                found = _metric_series(connection, measurement, series_max + 1)
            else:
                found = _row_series(connection, measurement, series_max + 1)
        return sorted(found)

    def points(
        self,
        measurement: str,
        series: Sequence[Tags],
        fields: Sequence[str],
        start_ns: int,
        end_ns: int,
        take_points: Callable[[int], None],
    ) -> Points:
        """All points of these series with `start_ns` <= time <= `end_ns` that have one of the fields.

        A series and time come once: of several values of one field the last counts. `take_points(n)` is called as
        points are read, and may raise to end it.
        """
        with self._store.snapshot() as connection:
            numbers = _series_numbers(connection, measurement, series)
            connection.set_progress_handler(lambda: _is_over(take_points), STEPS)
            try:
                read = read_frames if measurement == "telemetry" else read_rows
                parts = list(read(connection, measurement, numbers, fields, start_ns, end_ns, take_points))
            except sqlite3.OperationalError:
                take_points(0)
                raise
            finally:
                connection.set_progress_handler(None, STEPS)
        if not parts:
            empty = np.empty(0, np.int64)
            return Points(empty, empty, {name: absent(FIELDS[measurement][name], 0) for name in fields})
        series_code, time_ns, columns = zip(*parts, strict=True)
        joined = {
            name: Column(
                columns[0][name].kind,
                np.concatenate([part[name].values for part in columns]),
                np.concatenate([part[name].valid for part in columns]),
            )
            for name in fields
        }
        return once(Points(np.concatenate(series_code), np.concatenate(time_ns), joined))


def _is_over(take_points: Callable[[int], None]) -> int:
    # An exception here ends the statement; who waits for it asks again for the reason.
    take_points(0)
    return 0


def once(points: Points) -> Points:
    """Makes one point of several of one series and time; of a field's several values the last counts.

    >>> column = Column("int", np.array([5, 6]), np.ones(2, np.bool_))
    >>> once(Points(np.zeros(2, np.int64), np.array([7, 7]), {"count": column})).columns["count"].values.tolist()
    [6]
    """
    series, time_ns = points.series, points.time_ns
    order = np.lexsort((time_ns, series))
    series, time_ns = series[order], time_ns[order]
    first = np.ones(len(order), np.bool_)
    first[1:] = (series[1:] != series[:-1]) | (time_ns[1:] != time_ns[:-1])
    if first.all():
        return points
    begin = np.flatnonzero(first)
    columns = {}
    for name, column in points.columns.items():
        there = np.where(column.valid[order], np.arange(len(order)), -1)
        last = np.maximum.reduceat(there, begin)
        columns[name] = column.take(np.where(last >= 0, order[last], -1))
    return Points(series[begin], time_ns[begin], columns)


def _metric_series(connection: sqlite3.Connection, measurement: str, limit: int) -> list[Tags]:
    found: list[Tags] = connection.execute(
        "SELECT d.site, d.device, n.text FROM latest l JOIN device_name d ON d.id = l.device_id "
        "JOIN name n ON n.id = l.metric_id LIMIT ?",
        (limit,),
    ).fetchall()
    if measurement == "telemetry":
        return found
    kinds = [text for _, text in window_kinds(connection)]
    return [(*tags, kind) for kind in kinds for tags in found][:limit]


def window_kinds(connection: sqlite3.Connection) -> Iterator[tuple[int, str]]:
    """Yields number and name of each kind of windows, by hops along the table's key."""
    after = -1
    while True:
        after = connection.execute("SELECT min(window_id) FROM window_row WHERE window_id > ?", (after,)).fetchone()[0]
        if after is None:
            return
        yield after, connection.execute("SELECT text FROM name WHERE id = ?", (after,)).fetchone()[0]


def _row_series(connection: sqlite3.Connection, measurement: str, limit: int) -> list[Tags]:
    """Hops from one series to the next along the index, whatever number of points each has."""
    keys = [*(["device_id"] if has_device(measurement) else []), *(f"{tag}_id" for tag in other_tags(measurement))]
    shown, marks = ", ".join(keys), ", ".join("?" * len(keys))
    hop = f"SELECT {shown} FROM {measurement}_row WHERE ({shown}) > ({marks}) ORDER BY {shown} LIMIT 1"  # noqa: S608 — our own tables.
    found: list[Tags] = []
    key: tuple[int, ...] = (-1,) * len(keys)
    while len(found) < limit and (following := connection.execute(hop, key).fetchone()) is not None:
        key = following
        tags: tuple[str, ...] = ()
        others = list(key)
        if has_device(measurement):
            named = "SELECT site, device FROM device_name WHERE id = ?"
            tags = connection.execute(named, (others.pop(0),)).fetchone()
        texts = [connection.execute("SELECT text FROM name WHERE id = ?", (number,)).fetchone()[0] for number in others]
        found.append((*tags, *texts))
    return found


def _series_numbers(connection: sqlite3.Connection, measurement: str, series: Sequence[Tags]) -> Int64:
    """Returns int64 (n, keys): the store's numbers of each series; -1 for a name that it doesn't know."""
    devices: dict[tuple[str, ...], int] = {}
    names: dict[str, int] = {}
    rows: list[list[int]] = []
    for tags in series:
        row: list[int] = []
        rest = tags
        if has_device(measurement):
            device, rest = tags[:2], tags[2:]
            if device not in devices:
                sql = "SELECT id FROM device_name WHERE site = ? AND device = ?"
                devices[device] = (connection.execute(sql, device).fetchone() or (-1,))[0]
            row.append(devices[device])
        for text in rest:
            if text not in names:
                sql = "SELECT id FROM name WHERE text = ?"
                names[text] = (connection.execute(sql, (text,)).fetchone() or (-1,))[0]
            row.append(names[text])
        rows.append(row)
    return np.array(rows, np.int64).reshape(len(series), -1)


assert set(POINT_MEASUREMENTS) | {"telemetry"} == set(SCHEMAS)
