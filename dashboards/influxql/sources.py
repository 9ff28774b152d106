"""Where a SELECT reads: a stored measurement, or the table that a subquery made."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dashboards.influxql.points import Bools, Budget, Column, Ints, PointReader, Points, Schema, Tags
from dashboards.influxql.syntax import Binary, Expr, Ref
from dashboards.influxql.values import holds


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Rows of one measurement, by group and then in the direction of time.

    Attributes:
        measurement: its name.
        tags: the names of what it is grouped by, sorted.
        groups: the values of those, group by group.
        group: int64 (n,), the group of each row.
        time_ns: int64 (n,).
        time_name, names: the columns.
        columns: the values of `names`.
    """

    measurement: str
    tags: tuple[str, ...]
    groups: Sequence[Tags]
    group: Ints
    time_ns: Ints
    time_name: str
    names: tuple[str, ...]
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class Stored:
    """A measurement of the store."""

    name: str
    schema: Schema
    reader: PointReader

    def series(self, budget: Budget) -> Sequence[Tags]:
        """The tag values of its series, sorted."""
        found = self.reader.series(self.name, budget.series_max)
        budget.check_series(len(found))
        return found

    def points(
        self, series: Sequence[Tags], fields: Sequence[str], start_ns: int, end_ns: int, budget: Budget
    ) -> Points:
        """Its points; see `PointReader.points`."""
        return self.reader.points(self.name, series, fields, start_ns, end_ns, budget.take_points)


@dataclass(frozen=True, slots=True, eq=False)
class Derived:
    """A table as a measurement: its groups are series, its columns fields."""

    table: Table

    @property
    def name(self) -> str:
        """The measurement that it came from."""
        return self.table.measurement

    @property
    def schema(self) -> Schema:
        """Its groups' tags and its columns."""
        fields = {name: column.kind for name, column in zip(self.table.names, self.table.columns, strict=True)}
        return Schema(self.table.tags, fields)

    def series(self, budget: Budget) -> Sequence[Tags]:
        """The groups, sorted."""
        budget.check_series(len(self.table.groups))
        return sorted(self.table.groups)

    def points(
        self, series: Sequence[Tags], fields: Sequence[str], _start_ns: int, _end_ns: int, budget: Budget
    ) -> Points:
        """The rows of these groups that have one of the fields; the subquery has bounded their time."""
        budget.check()
        place = {values: at for at, values in enumerate(series)}
        wanted = np.array([place.get(values, -1) for values in self.table.groups], np.int64)
        code = wanted[self.table.group] if len(wanted) else np.empty(0, np.int64)
        chosen = dict(zip(self.table.names, self.table.columns, strict=True))
        columns = {name: chosen[name] for name in fields}
        held = np.zeros(len(code), np.bool_)
        for column in columns.values():
            held |= column.valid
        rows = np.flatnonzero((code >= 0) & held)
        return Points(
            code[rows], self.table.time_ns[rows], {name: column.take(rows) for name, column in columns.items()}
        )


Origin = Stored | Derived


def tag_column(series: Sequence[Tags], schema: Schema, name: str) -> Column:
    """Returns the values of a tag, series by series; a tag that there isn't is empty everywhere."""
    if name not in schema.tags:
        return Column("string", np.full(len(series), "", object), np.ones(len(series), np.bool_))
    at = schema.tags.index(name)
    values = np.empty(len(series), object)
    values[:] = [tags[at] for tags in series]
    return Column("string", values, np.ones(len(series), np.bool_))


def may_hold(condition: Expr | None, series: Sequence[Tags], schema: Schema) -> Bools:
    """Tells of each series whether a point of it could meet the condition; bool (n,).

    Without fields in the condition that is whether all of its points do.
    """
    n = len(series)
    match condition:
        case None:
            return np.ones(n, np.bool_)
        case Binary("AND", left, right):
            return may_hold(left, series, schema) & may_hold(right, series, schema)
        case Binary("OR", left, right):
            return may_hold(left, series, schema) | may_hold(right, series, schema)
    if names_field(condition, schema):
        return np.ones(n, np.bool_)

    def lookup(expr: Expr) -> Column:
        assert isinstance(expr, Ref)
        return tag_column(series, schema, expr.name)

    return holds(condition, n, lookup)


def names_field(expr: Expr | None, schema: Schema) -> bool:
    """Tells whether an expression names a field."""
    if isinstance(expr, Binary):
        return names_field(expr.left, schema) or names_field(expr.right, schema)
    return isinstance(expr, Ref) and expr.name in schema.fields
