"""Functions that make one result, or a few, of all values of a group and window; columns in, columns out."""

from dataclasses import dataclass

import numpy as np

from dashboards.influxql.errors import QueryError
from dashboards.influxql.points import Bools, Column, Ints


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Values in cells, a cell for each group and window that has any; all are there.

    Attributes:
        column: n values, cell by cell.
        time_ns: int64 (n,), in a cell ascending or descending.
        cell: int64 (n,), the number of the cell.
        begin: int64 (m,), where each of the m cells begins.
        ascending: whether time ascends in a cell.
    """

    column: Column
    time_ns: Ints
    cell: Ints
    begin: Ints
    ascending: bool

    @property
    def length(self) -> Ints:
        """Values per cell, int64 (m,)."""
        return np.diff(np.append(self.begin, len(self.cell)))

    def codes(self) -> np.ndarray:
        """Values as what sorts like them: numbers themselves, strings and booleans by number."""
        if self.column.kind in ("string", "bool"):
            return np.unique(self.column.values, return_inverse=True)[1].astype(np.int64)
        return self.column.values

    def first_of(self, chosen: Bools) -> Ints:
        """Returns the earliest chosen value of each cell; every cell has one."""
        at = np.flatnonzero(chosen)
        cells = self.cell[at]
        keep = np.ones(len(at), np.bool_)
        if self.ascending:
            keep[1:] = cells[1:] != cells[:-1]
        else:
            keep[:-1] = cells[1:] != cells[:-1]
        return at[keep]


def check_kind(name: str, kind: str, *allowed: str) -> None:
    """Refuses a function over values that it can't take, in InfluxDB's words."""
    if kind not in allowed:
        shown = {"int": "integer", "bool": "boolean"}.get(kind, kind)
        raise QueryError(f"unsupported {name} iterator type: *query.{shown}InterruptIterator")


def all_there(kind: str, values: np.ndarray) -> Column:
    """A column without holes."""
    return Column(kind, values, np.ones(len(values), np.bool_))


def aggregate(name: str, cells: Cells) -> Column:
    """Returns m results of count, sum, mean, median, mode, stddev or spread.

    Raises:
        QueryError: the values are of the wrong kind.
    """
    kind, values, n = cells.column.kind, cells.column.values, cells.length
    if name == "count":
        return all_there("int", n)
    if name == "mode":
        return all_there(kind, values[_mode(cells)])
    check_kind(name, kind, "float", "int")
    match name:
        case "sum":
            return all_there(kind, np.add.reduceat(values, cells.begin))
        case "spread":
            return all_there(kind, np.maximum.reduceat(values, cells.begin) - np.minimum.reduceat(values, cells.begin))
        case "mean":
            return all_there("float", np.add.reduceat(values.astype(np.float64), cells.begin) / n)
        case "median":
            return all_there("float", _median(cells))
    mean = np.add.reduceat(values.astype(np.float64), cells.begin) / n
    squares = np.add.reduceat((values - mean[cells.cell]) ** 2, cells.begin)
    # One value has no deviation: not a number, which goes on into whatever is computed with it, and is null in the end.
    return all_there("float", np.where(n > 1, np.sqrt(squares / np.maximum(n - 1, 1)), np.nan))


def _by_value(cells: Cells) -> Ints:
    """The order of values within each cell; equal ones by time."""
    order: Ints = np.lexsort((cells.time_ns, cells.codes(), cells.cell))
    return order


def _median(cells: Cells) -> np.ndarray:
    ordered = cells.column.values[_by_value(cells)].astype(np.float64)
    n = cells.length
    high = cells.begin + n // 2
    low = np.where(n % 2 == 0, high - 1, high)
    middle: np.ndarray = np.where(n % 2 == 0, ordered[low] + (ordered[high] - ordered[low]) / 2, ordered[high])
    return middle


def _mode(cells: Cells) -> Ints:
    """The most frequent value of each cell; of several the one that came first."""
    order = _by_value(cells)
    codes, cell, times = cells.codes()[order], cells.cell[order], cells.time_ns[order]
    starts = np.ones(len(order), np.bool_)
    starts[1:] = (codes[1:] != codes[:-1]) | (cell[1:] != cell[:-1])
    begin = np.flatnonzero(starts)
    count = np.diff(np.append(begin, len(order)))
    earliest = np.where(count > 1, times[begin], np.iinfo(np.int64).max)
    # Where all values differ the least one is taken, as InfluxDB does.
    ranked = np.lexsort((np.arange(len(begin)), earliest, -count, cell[begin]))
    best = np.ones(len(ranked), np.bool_)
    cells_ranked = cell[begin][ranked]
    best[1:] = cells_ranked[1:] != cells_ranked[:-1]
    return order[begin[ranked[best]]]


def select(name: str, cells: Cells) -> Ints:
    """Returns for each cell the value that max, min, first or last picks.

    Raises:
        QueryError: the values are of the wrong kind.
    """
    if name in ("min", "max"):
        check_kind(name, cells.column.kind, "float", "int", "bool")
        codes = cells.codes()
        extreme = (np.minimum if name == "min" else np.maximum).reduceat(codes, cells.begin)
        return cells.first_of(codes == extreme[cells.cell])
    end = (np.minimum if name == "first" else np.maximum).reduceat(cells.time_ns, cells.begin)
    at = np.flatnonzero(cells.time_ns == end[cells.cell])
    if len(at) == len(cells.begin):
        return at
    # Of several at one time the greatest counts.
    order = at[np.lexsort((cells.codes()[at], cells.cell[at]))]
    final = np.ones(len(order), np.bool_)
    final[:-1] = cells.cell[order][1:] != cells.cell[order][:-1]
    return order[final]


def percentile(cells: Cells, percent: float) -> Ints:
    """Returns the value of the nearest rank in each cell that has that rank."""
    check_kind("percentile", cells.column.kind, "float", "int")
    place = np.floor(cells.length * percent / 100 + 0.5).astype(np.int64) - 1
    known = (place >= 0) & (place < cells.length)
    picked: Ints = _by_value(cells)[(cells.begin + place)[known]]
    return picked


def distinct(cells: Cells) -> Ints:
    """Returns the first of each value in each cell as time goes, in ascending order of time and then of value."""
    codes = cells.codes()
    order = np.lexsort((cells.time_ns if cells.ascending else -cells.time_ns, codes, cells.cell))
    keep = np.ones(len(order), np.bool_)
    keep[1:] = (codes[order][1:] != codes[order][:-1]) | (cells.cell[order][1:] != cells.cell[order][:-1])
    chosen = order[keep]
    result: Ints = chosen[np.lexsort((codes[chosen], cells.time_ns[chosen], cells.cell[chosen]))]
    return result


def ranked(name: str, cells: Cells, limit: int, keys: Ints | None) -> Ints:
    """Returns the `limit` highest (top) or lowest (bottom) values of each cell, in ascending order of time.

    With `keys`, int64 (n,), only the best of each key counts. Of equal values the earlier wins.
    """
    check_kind(name, cells.column.kind, "float", "int")
    value = -cells.column.values if name == "top" else cells.column.values
    order = np.lexsort((cells.time_ns, value, cells.cell))
    if keys is not None:
        by_key = np.lexsort((cells.time_ns, value, keys, cells.cell))
        keep = np.ones(len(by_key), np.bool_)
        keep[1:] = (keys[by_key][1:] != keys[by_key][:-1]) | (cells.cell[by_key][1:] != cells.cell[by_key][:-1])
        best = np.zeros(len(order), np.bool_)
        best[by_key[keep]] = True
        order = order[best[order]]
    cell = cells.cell[order]
    begin = np.flatnonzero(np.append(True, cell[1:] != cell[:-1])) if len(cell) else np.empty(0, np.int64)
    place = np.arange(len(cell)) - np.repeat(begin, np.diff(np.append(begin, len(cell))))
    chosen = order[place < limit]
    picked: Ints = chosen[np.lexsort((cells.time_ns[chosen], cells.cell[chosen]))]
    return picked
