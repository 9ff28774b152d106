"""Points of many series out of the tables of the SQLite store, as columns."""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from headwater.frame import Int64
from headwater.io.store_sqlite_frames import MICRO_NS, Part
from headwater.io.store_sqlite_schema import key_columns
from headwater.point_columns import DTYPES, Bools, Column
from headwater.points import MEASUREMENT_FIELDS

ROWS_PER_STEP = 20_000
# Up to so many series are asked for one by one; of more the whole time range is read and sorted out here.
SERIES_ALONE_MAX = 200
DEVICES_NAMED_MAX = 500


def read_rows(
    connection: sqlite3.Connection,
    measurement: str,
    numbers: Int64,
    fields: Sequence[str],
    start_ns: int,
    end_ns: int,
    take_points: Callable[[int], None],
) -> Iterator[Part]:
    """Yields (series, time_ns, columns) of the points in `[start_ns, end_ns]` that have one of the fields.

    `numbers`, int64 (n, k), are the store's numbers of each series, in the order of its key.
    """
    keys = key_columns(measurement)[:-1]
    held = " OR ".join(f"{name} IS NOT NULL" for name in fields)
    shown = ", ".join((*keys, "time_us", *fields))
    sql = f"SELECT {shown} FROM {measurement}_row WHERE time_us BETWEEN ? AND ? AND ({held})"  # noqa: S608 — names of our own tables.
    alone = "".join(f" AND {key} = ?" for key in keys)
    kinds = [MEASUREMENT_FIELDS[measurement][name] for name in fields]
    for clause, parameters in _questions(measurement, numbers, alone):
        cursor = connection.execute(sql + clause, (-(-start_ns // MICRO_NS), end_ns // MICRO_NS, *parameters))
        while rows := cursor.fetchmany(ROWS_PER_STEP):
            take_points(len(rows))
            table = list(zip(*rows, strict=True))
            found = np.array(table[: len(keys)], np.int64).T
            code = _codes(found, numbers)
            at = np.flatnonzero(code >= 0)
            cells = zip(fields, kinds, table[len(keys) + 1 :], strict=True)
            columns = {name: _column(kind, values).take(at) for name, kind, values in cells}
            yield code[at], np.array(table[len(keys)], np.int64)[at] * MICRO_NS, columns


def _questions(measurement: str, numbers: Int64, alone: str) -> Iterator[tuple[str, list[int]]]:
    """Yields further conditions and their parameters: a statement for each series, or for each kind of windows."""
    if measurement == "window":
        for window in np.unique(numbers[:, 2]).tolist():
            devices = np.unique(numbers[numbers[:, 2] == window, 0]).tolist()
            if len(devices) <= DEVICES_NAMED_MAX:
                marks = ", ".join("?" * len(devices))
                yield f" AND window_id = ? AND device_id IN ({marks})", [window, *devices]
            else:
                yield " AND window_id = ?", [window]
    elif len(numbers) <= SERIES_ALONE_MAX:
        for row in numbers.tolist():
            yield alone, row
    else:
        yield "", []


def _codes(found: Int64, numbers: Int64) -> Int64:
    """Returns int64 (n,): which row of `numbers` each row of `found` equals, -1 for none."""
    wanted, code = np.zeros(len(numbers), np.int64), np.zeros(len(found), np.int64)
    known = np.ones(len(found), np.bool_)
    for column in range(numbers.shape[1]):
        values = np.unique(numbers[:, column])
        at = np.minimum(np.searchsorted(values, found[:, column]), len(values) - 1)
        known &= values[at] == found[:, column]
        wanted = wanted * len(values) + np.searchsorted(values, numbers[:, column])
        code = code * len(values) + at
    order = np.argsort(wanted)
    place = order[np.minimum(np.searchsorted(wanted[order], code), len(order) - 1)]
    return np.where(known & (wanted[place] == code), place, -1)


def _column(kind: str, values: Sequence[Any]) -> Column:
    valid: Bools = np.array([value is not None for value in values], np.bool_)
    absent: Any = "" if kind == "string" else 0
    array = np.empty(len(values), DTYPES[kind])
    array[:] = [absent if value is None else value for value in values]
    return Column(kind, array, valid)
