"""Runs a SELECT: points in columns through cells, streams and expressions to a table per measurement.

WHERE on tags ─▶ series ─▶ points ─▶ WHERE on fields ─▶ sorted by group and time
─▶ each function: cells ─▶ stream ─▶ fill ─▶ side by side ─▶ arithmetic ─▶ table
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dashboards.influxql.calls import call_stream
from dashboards.influxql.plan import Plan
from dashboards.influxql.points import Budget, Column, Ints, Points, Schema, Tags, absent
from dashboards.influxql.rows import Rows
from dashboards.influxql.sources import Origin, Stored, Table, may_hold, names_field, tag_column
from dashboards.influxql.streams import Stream, number_as
from dashboards.influxql.syntax import Call, Expr, Fill, Ref
from dashboards.influxql.values import evaluate, holds


def run_plan(plan: Plan, origin: Origin, slimit: tuple[int, int], budget: Budget) -> Table:
    """Returns the answer from one measurement; `slimit` is (SLIMIT, SOFFSET).

    Raises:
        QueryError: a bound is hit, or a function can't take the kind of a field.
    """
    rows = load(plan, origin, slimit, budget)
    if plan.calls:
        streams = {call: call_stream(call, plan, rows, budget) for call in plan.calls}
        group, time_ns, places = side_by_side(plan, list(streams.values()))
        budget.check_values(len(group) * max(1, len(plan.fields)))
        columns = {
            call: _beside(stream.column, place, plan.fill)
            for (call, stream), place in zip(streams.items(), places, strict=True)
        }
        # Only one selector may have fields and tags beside it, so its points are those of all.
        only = next(iter(streams.values()))
        picked = np.where(places[0] >= 0, only.row[places[0]], -1) if len(only) else np.full(len(group), -1)
    else:
        picked = raw_rows(plan, rows)
        budget.check_values(len(picked) * max(1, len(plan.fields)))
        group, time_ns, columns = rows.group[picked], rows.points.time_ns[picked], {}

    def lookup(expr: Expr) -> Column:
        if isinstance(expr, Call):
            return columns[expr]
        assert isinstance(expr, Ref)
        return rows.column(expr.name, expr.cast).take(picked)

    cells = tuple(evaluate(expr, len(group), lookup) for expr in plan.fields)
    return Table(origin.name, plan.tags, rows.groups, group, time_ns, plan.time_name, plan.names, cells)


def load(plan: Plan, origin: Origin, slimit: tuple[int, int], budget: Budget) -> Rows:
    """Reads the points that the plan needs, and puts them in the answer's order."""
    own = origin.schema
    elsewhere = {name: kind for name, kind in plan.known.items() if name not in own.tags}
    wide = Schema(own.tags, {**elsewhere, **own.fields})
    series = origin.series(budget)
    series = [series[at] for at in np.flatnonzero(may_hold(plan.condition, series, wide)).tolist()]
    groups, group_of = group_series(plan, series, own, slimit)
    kept = np.flatnonzero(group_of >= 0)
    series, group_of = [series[at] for at in kept.tolist()], group_of[kept]
    names = plan.refs()
    fields = [name for name in own.fields if name in names]
    start_ns, end_ns = plan.read_span()
    if not series or not fields or start_ns > end_ns:
        none = np.empty(0, np.int64)
        points = Points(none, none, {name: absent(own.fields[name], 0) for name in fields})
    else:
        points = origin.points(series, fields, start_ns, end_ns, budget)
    rows = Rows(
        points, group_of[points.series] if series else points.series, groups, series, wide, isinstance(origin, Stored)
    )
    if names_field(plan.condition, wide):

        def lookup(expr: Expr) -> Column:
            assert isinstance(expr, Ref)
            return rows.condition_column(expr.name)

        assert plan.condition is not None
        rows = rows.take(np.flatnonzero(holds(plan.condition, len(points.time_ns), lookup)))
    budget.check()
    return rows.sorted(ascending=plan.ascending)


def group_series(
    plan: Plan, series: Sequence[Tags], schema: Schema, slimit: tuple[int, int]
) -> tuple[list[Tags], Ints]:
    """Returns the groups in the answer's order, and int64 (n,): the group of each series, -1 where SLIMIT cuts it."""
    columns = [tag_column(series, schema, tag).values.tolist() for tag in plan.tags]
    keys: list[Tags] = list(zip(*columns, strict=True)) if columns else [()] * len(series)
    groups = sorted(set(keys))
    limit, offset = slimit
    groups = groups[offset : offset + limit] if limit else groups[offset:]
    if not plan.ascending:
        groups.reverse()
    number = {key: at for at, key in enumerate(groups)}
    return groups, np.array([number.get(key, -1) for key in keys], np.int64)


def raw_rows(plan: Plan, rows: Rows) -> Ints:
    """Returns the points of a query without functions: those that have one of the fields that are shown."""
    held = np.zeros(len(rows.group), np.bool_)
    for name in plan.shown_refs():
        if name in rows.points.columns:
            held |= rows.points.columns[name].valid
    return np.flatnonzero(held)


def _beside(column: Column, place: Ints, fill: Fill) -> Column:
    """Picks the results of one function beside others; where it has none, a number of fill() stands."""
    picked = column.take(place)
    gaps = place < 0
    if fill.kind != "number" or not gaps.any():
        return picked
    values = picked.values.copy()
    # Beside a text InfluxDB shows the number as it is, though it fills a text's own gaps with an empty one.
    values[gaps] = fill.value if column.kind == "string" else number_as(fill.value, column.kind)
    return Column(column.kind, values, picked.valid | gaps)


@dataclass(frozen=True, slots=True, eq=False)
class _Keys:
    """What brings results side by side: group, time in its direction, and which of several at one time."""

    group: Ints
    turn: Ints
    place: Ints


def side_by_side(plan: Plan, streams: list[Stream]) -> tuple[Ints, Ints, list[Ints]]:
    """Brings streams together by group and time.

    Returns group and time, int64 (n,) each, and for each stream int64 (n,), its result there or -1.
    """
    if len(streams) == 1:
        stream = streams[0]
        return stream.group, stream.time_ns, [np.arange(len(stream))]
    keys = [_keys(stream, ascending=plan.ascending) for stream in streams]
    rows = np.concatenate([np.stack((key.group, key.turn, key.place), axis=1) for key in keys])
    united, where = np.unique(rows, axis=0, return_inverse=True)
    where = where.reshape(-1)
    places, begin = [], 0
    for stream in streams:
        place = np.full(len(united), -1)
        place[where[begin : begin + len(stream)]] = np.arange(len(stream))
        places.append(place)
        begin += len(stream)
    turn = united[:, 1]
    return united[:, 0], turn if plan.ascending else -turn, places


def _keys(stream: Stream, *, ascending: bool) -> _Keys:
    n = len(stream)
    turn = stream.time_ns if ascending else -stream.time_ns
    starts = np.ones(n, np.bool_)
    starts[1:] = (stream.group[1:] != stream.group[:-1]) | (turn[1:] != turn[:-1])
    begin = np.flatnonzero(starts)
    place = np.arange(n) - np.repeat(begin, np.diff(np.append(begin, n)))
    return _Keys(stream.group, turn, place)
