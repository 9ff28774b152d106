"""What a function gives per group and time, and its steps that need no more than that: transformations and fill.

A stream is in the order of the answer: by group, then by time in the direction of ORDER BY.
"""

from dataclasses import dataclass, replace

import numpy as np

from dashboards.influxql.instants import Windows
from dashboards.influxql.points import Bools, Budget, Column, Ints, absent
from dashboards.influxql.syntax import Fill


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """n results of one function.

    Attributes:
        group: int64 (n,), the group of each.
        time_ns: int64 (n,).
        column: the results; one that isn't there is null.
        row: int64 (n,), the point that a selector picked; -1 for none.
    """

    group: Ints
    time_ns: Ints
    column: Column
    row: Ints

    def __len__(self) -> int:
        return len(self.group)

    def take(self, at: Ints) -> "Stream":
        """Picks results."""
        return Stream(self.group[at], self.time_ns[at], self.column.take(at), self.row[at])


def empty_stream(kind: str) -> Stream:
    """Returns a stream without results."""
    none = np.empty(0, np.int64)
    return Stream(none, none, absent(kind, 0), none)


def is_first(group: Ints) -> Bools:
    """Tells where a group begins; bool (n,)."""
    first = np.ones(len(group), np.bool_)
    first[1:] = group[1:] != group[:-1]
    return first


def _numbers(stream: Stream, kind: str) -> Stream:
    """Drops what is null, and has the rest as this kind."""
    kept = stream.take(np.flatnonzero(stream.column.valid))
    dtype = np.float64 if kind == "float" else np.int64
    return replace(kept, column=Column(kind, kept.column.values.astype(dtype), kept.column.valid))


def _with(stream: Stream, at: Ints, kind: str, values: np.ndarray) -> Stream:
    column = Column(kind, values, np.ones(len(at), np.bool_))
    return Stream(stream.group[at], stream.time_ns[at], column, np.full(len(at), -1))


def _steps(stream: Stream) -> tuple[Stream, Ints]:
    """Drops all but the first result of a group and time; returns places that have one of their group before them."""
    begins = is_first(stream.group)
    moves = begins.copy()
    moves[1:] |= stream.time_ns[1:] != stream.time_ns[:-1]
    kept = stream.take(np.flatnonzero(moves))
    return kept, np.flatnonzero(~is_first(kept.group))


def difference(stream: Stream, *, only_rising: bool) -> Stream:
    """Each result minus the one before it."""
    kept, at = _steps(_numbers(stream, stream.column.kind))
    step = kept.column.values[at] - kept.column.values[at - 1]
    if only_rising:
        at, step = at[~(step < 0)], step[~(step < 0)]
    return _with(kept, at, kept.column.kind, step)


def derivative(stream: Stream, unit_ns: int, *, only_rising: bool, ascending: bool) -> Stream:
    """The change per `unit_ns` from the result before."""
    kept, at = _steps(_numbers(stream, "float"))
    elapsed = (kept.time_ns[at] - kept.time_ns[at - 1]).astype(np.float64)
    rate = (kept.column.values[at] - kept.column.values[at - 1]) / (elapsed if ascending else -elapsed) * unit_ns
    if only_rising:
        at, rate = at[~(rate < 0)], rate[~(rate < 0)]
    return _with(kept, at, "float", rate)


def elapsed(stream: Stream, unit_ns: int) -> Stream:
    """Whole units of time since the result before."""
    kept = stream.take(np.flatnonzero(stream.column.valid))
    at = np.flatnonzero(~is_first(kept.group))
    gone = kept.time_ns[at] - kept.time_ns[at - 1]
    return _with(kept, at, "int", np.sign(gone) * (np.abs(gone) // unit_ns))


def cumulative_sum(stream: Stream) -> Stream:
    """The sum of all results of the group so far."""
    kept = _numbers(stream, stream.column.kind)
    begins = np.flatnonzero(is_first(kept.group))
    parts = [np.cumsum(part) for part in np.split(kept.column.values, begins[1:])]
    total = np.concatenate(parts) if parts else kept.column.values
    return _with(kept, np.arange(len(kept)), kept.column.kind, total)


def moving_average(stream: Stream, length: int) -> Stream:
    """The mean of the last `length` results, once there are so many."""
    kept = _numbers(stream, "float")
    begins = np.flatnonzero(is_first(kept.group))
    count = np.diff(np.append(begins, len(kept)))
    place = np.arange(len(kept)) - np.repeat(begins, count)
    at = np.flatnonzero(place >= length - 1)
    if not len(at):
        return _with(kept, at, "float", np.empty(0))
    windows = np.lib.stride_tricks.sliding_window_view(kept.column.values, length)
    return _with(kept, at, "float", windows[at - length + 1].mean(axis=1))


def fill_gaps(
    stream: Stream, fill: Fill, windows: Windows, span_ns: tuple[int | None, int], *, ascending: bool, budget: Budget
) -> Stream:
    """Adds a result for each window of the span in which a group has none; groups without any stay away.

    Without a start the windows begin with each group's first.
    """
    if fill.kind == "none" or not len(stream):
        return stream
    start_ns, end_ns = span_ns
    begins = np.flatnonzero(is_first(stream.group))
    ends = np.append(begins[1:], len(stream))
    parts: list[tuple[Ints, Ints, Ints]] = []
    if start_ns is not None:
        budget.check_values(len(begins) * ((end_ns - start_ns) // windows.interval_ns + 1))
        grid = windows.all_starts(start_ns, end_ns)
    total = 0
    for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
        times = stream.time_ns[begin:end]
        if start_ns is None:
            first = int(times.min())
            budget.check_values(total + max(0, (end_ns - first) // windows.interval_ns + 1))
            grid = windows.all_starts(first, max(end_ns, first))
        source = np.concatenate((np.arange(begin, end), np.full(len(grid), -1)))
        both = np.concatenate((times, grid))
        both, source = _merge(both, source, ascending=ascending)
        total += len(both)
        budget.check_values(total)
        parts.append((np.full(len(both), stream.group[begin]), both, source))
    group, time_ns, source = (np.concatenate(column) for column in zip(*parts, strict=True))
    filled = Stream(group, time_ns, stream.column.take(source), np.where(source >= 0, stream.row[source], -1))
    return _filled(filled, source < 0, fill, windows.interval_ns)


def number_as(number: float, kind: str) -> object:
    """Returns the number of fill() as a value of a kind of field.

    >>> number_as(-1.5, "int"), number_as(1, "bool"), number_as(2, "string")
    (-1, False, '')
    """
    match kind:
        case "string":
            return ""
        case "bool":
            return False
        case "int":
            return int(number)
    return float(number)


def _merge(time_ns: Ints, source: Ints, *, ascending: bool) -> tuple[Ints, Ints]:
    """Sorts by time, real results first, and drops those of the grid that have a real one at their time."""
    order = np.lexsort((np.arange(len(time_ns)), time_ns if ascending else -time_ns))
    time_ns, source = time_ns[order], source[order]
    doubled = np.zeros(len(order), np.bool_)
    doubled[1:] = (time_ns[1:] == time_ns[:-1]) & (source[1:] < 0)
    return time_ns[~doubled], source[~doubled]


def _filled(stream: Stream, is_gap: Bools, fill: Fill, interval_ns: int) -> Stream:
    column = stream.column
    if fill.kind == "number":
        values = column.values.copy()
        values[is_gap] = number_as(fill.value, column.kind)
        return replace(stream, column=Column(column.kind, values, column.valid | is_gap))
    if fill.kind == "previous":
        place = np.where(is_gap, 0, np.arange(len(stream)))
        before = np.maximum.accumulate(place)
        same = stream.group[before] == stream.group
        begins = np.maximum.accumulate(np.where(is_first(stream.group), np.arange(len(stream)), 0))
        known = same & (before >= begins) & ~is_gap[before]
        return replace(stream, column=column.take(np.where(known, before, -1)))
    if fill.kind == "linear" and column.kind in ("float", "int"):
        return replace(stream, column=_lines(stream, column, interval_ns))
    return stream


def _lines(stream: Stream, column: Column, interval_ns: int) -> Column:
    # In windows, not in ns, as InfluxDB counts: the last bit decides about a whole number.
    turn = stream.time_ns // interval_ns
    n = len(stream)
    at = np.arange(n)
    before = np.maximum.accumulate(np.where(column.valid, at, -1))
    after = np.minimum.accumulate(np.where(column.valid, at, n)[::-1])[::-1]
    inside = ~column.valid & (before >= 0) & (after < n)
    inside &= (stream.group[np.maximum(before, 0)] == stream.group) & (
        stream.group[np.minimum(after, n - 1)] == stream.group
    )
    low, high = before[inside], after[inside]
    values = column.values.astype(np.float64)
    slope = (values[high] - values[low]) / (turn[high] - turn[low])
    drawn = column.values.copy()
    drawn[inside] = (slope * (turn[inside] - turn[low]) + values[low]).astype(column.values.dtype)
    return Column(column.kind, drawn, column.valid | inside)
