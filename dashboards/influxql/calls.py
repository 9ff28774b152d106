"""One function over the points: its cells, its stream, and the fill of its empty windows."""

from dataclasses import dataclass

import numpy as np

from dashboards.influxql import aggregates, streams
from dashboards.influxql.aggregates import Cells, all_there, check_kind
from dashboards.influxql.functions import AGGREGATES, SELECTORS, TRANSFORMS
from dashboards.influxql.plan import Plan, extra_intervals
from dashboards.influxql.points import Budget, Column, Ints
from dashboards.influxql.rows import Rows
from dashboards.influxql.streams import Stream
from dashboards.influxql.syntax import Call, Duration, Expr, Fill, Integer, Number, Ref

_SECOND_NS = 1_000_000_000
_UNIT_NS = 1


@dataclass(frozen=True, slots=True)
class _Reach:
    """The range of time that one function looks at, ends included."""

    start_ns: int
    end_ns: int
    has_start: bool


def call_stream(call: Call, plan: Plan, rows: Rows, budget: Budget) -> Stream:
    """Returns the results of a function, and of those within it.

    Raises:
        QueryError: it can't take the kind of its field, or a bound is hit.
    """
    start_ns, end_ns = plan.bounds()
    return _stream(call, plan, rows, _Reach(start_ns, end_ns, plan.span.start_ns is not None), budget)


def _stream(call: Call, plan: Plan, rows: Rows, reach: _Reach, budget: Budget) -> Stream:
    if call.name in TRANSFORMS:
        return _transform(call, plan, rows, reach, budget)
    stream = _aggregated(call, plan, rows, reach)
    if not plan.windows.interval_ns or call.name in ("top", "bottom", "distinct"):
        return stream
    fill = plan.fill
    if fill.kind == "null" and call.name == "count":
        fill = Fill("number", 0)
    span = (reach.start_ns if reach.has_start else None, reach.end_ns)
    return streams.fill_gaps(stream, fill, plan.windows, span, ascending=plan.ascending, budget=budget)


def _transform(call: Call, plan: Plan, rows: Rows, reach: _Reach, budget: Budget) -> Stream:
    more = extra_intervals(call) * plan.windows.interval_ns
    if plan.ascending and reach.has_start:
        reach = _Reach(reach.start_ns - more, reach.end_ns, has_start=True)
    elif not plan.ascending:
        reach = _Reach(reach.start_ns, reach.end_ns + more, reach.has_start)
    first = call.arguments[0]
    inner = _stream(first, plan, rows, reach, budget) if isinstance(first, Call) else _raw(first, rows, reach)
    if call.name != "elapsed":
        check_kind(call.name, inner.column.kind, "float", "int")
    match call.name:
        case "derivative" | "non_negative_derivative":
            unit = _unit(call, plan.windows.interval_ns or _SECOND_NS)
            only_rising = call.name != "derivative"
            return streams.derivative(inner, unit, only_rising=only_rising, ascending=plan.ascending)
        case "difference" | "non_negative_difference":
            return streams.difference(inner, only_rising=call.name != "difference")
        case "cumulative_sum":
            return streams.cumulative_sum(inner)
        case "moving_average":
            assert isinstance(call.arguments[1], Integer)
            return streams.moving_average(inner, call.arguments[1].value)
    return streams.elapsed(inner, _unit(call, _UNIT_NS))


def _unit(call: Call, default_ns: int) -> int:
    unit = call.arguments[1] if len(call.arguments) == 2 else None
    return unit.ns if isinstance(unit, Duration) else default_ns


def _raw(expr: Expr, rows: Rows, reach: _Reach) -> Stream:
    assert isinstance(expr, Ref)
    at, column = _held(expr, rows, reach)
    return Stream(rows.group[at], rows.points.time_ns[at], column.take(at), at)


def _held(ref: Ref, rows: Rows, reach: _Reach) -> tuple[Ints, Column]:
    """The points that have a field, within reach; a tag is no field and is had by none."""
    column = rows.column(ref.name, ref.cast or "field")
    time_ns, held = rows.points.time_ns, column.valid
    if rows.is_stored:
        held = held & (time_ns >= reach.start_ns) & (time_ns <= reach.end_ns)
    return np.flatnonzero(held), column


def _aggregated(call: Call, plan: Plan, rows: Rows, reach: _Reach) -> Stream:
    first = call.arguments[0]
    inner = first.arguments[0] if isinstance(first, Call) else first
    assert isinstance(inner, Ref)
    at, column = _held(inner, rows, reach)
    kind = column.kind
    if not len(at):
        return streams.empty_stream(_empty_kind(call.name, kind))
    group, time_ns = rows.group[at], rows.points.time_ns[at]
    window = plan.windows.starts(time_ns) if plan.windows.interval_ns else np.zeros(len(at), np.int64)
    starts = np.ones(len(at), np.bool_)
    starts[1:] = (group[1:] != group[:-1]) | (window[1:] != window[:-1])
    begin = np.flatnonzero(starts)
    cells = Cells(column.take(at), time_ns, np.cumsum(starts) - 1, begin, plan.ascending)
    if isinstance(first, Call):
        picked = aggregates.distinct(cells)
        result, cell, row = _count_of(picked, cells), np.arange(len(begin)), np.full(len(begin), -1)
    elif call.name in AGGREGATES:
        result, cell, row = aggregates.aggregate(call.name, cells), np.arange(len(begin)), np.full(len(begin), -1)
    else:
        picked = _pick(call, cells, at, rows)
        result, cell, row = cells.column.take(picked), cells.cell[picked], at[picked]
    if plan.windows.interval_ns:
        when = window[begin][cell]
    else:
        when = np.full(len(cell), reach.start_ns if reach.has_start else 0)
    keeps_time = call.name in ("top", "bottom") or (
        not plan.windows.interval_ns and len(plan.calls) == 1 and call.name in SELECTORS
    )
    if keeps_time:
        when = time_ns[np.searchsorted(at, row)]
    return Stream(group[begin][cell], when, result, row)


def _count_of(picked: Ints, cells: Cells) -> Column:
    return all_there("int", np.bincount(cells.cell[picked], minlength=len(cells.begin)).astype(np.int64))


def _pick(call: Call, cells: Cells, at: Ints, rows: Rows) -> Ints:
    name, arguments = call.name, call.arguments
    if name == "distinct":
        return aggregates.distinct(cells)
    if name == "percentile":
        percent = arguments[1]
        assert isinstance(percent, Integer | Number)
        return aggregates.percentile(cells, float(percent.value))
    if name in ("top", "bottom"):
        limit = arguments[-1]
        assert isinstance(limit, Integer)
        keys = None
        if len(arguments) > 2:
            columns = [rows.column(ref.name).take(at) for ref in arguments[1:-1] if isinstance(ref, Ref)]
            codes = [np.unique(column.values.astype(str), return_inverse=True)[1] for column in columns]
            keys = np.unique(np.stack(codes, axis=1), axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
        return aggregates.ranked(name, cells, limit.value, keys)
    return aggregates.select(name, cells)


def _empty_kind(name: str, kind: str) -> str:
    if name in ("mean", "median", "stddev"):
        return "float"
    return "int" if name == "count" else kind
