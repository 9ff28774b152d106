"""Points in the order of the answer, with the group of each."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dashboards.influxql.points import Column, Ints, Points, Schema, Tags, absent
from dashboards.influxql.sources import tag_column

_CASTS = {"float": "float", "integer": "int", "string": "string", "boolean": "bool"}


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Points of one measurement.

    Attributes:
        points: the points.
        group: int64 (n,), the group of each.
        groups: the values of the tags that group.
        series: the tag values of each series.
        schema: the measurement's, and the fields that others of the query have.
        is_stored: whether they come from the store, where the range of time picks them; a subquery has had its own.
    """

    points: Points
    group: Ints
    groups: Sequence[Tags]
    series: Sequence[Tags]
    schema: Schema
    is_stored: bool = True

    def column(self, name: str, cast: str = "") -> Column:
        """A field, or a tag, of each point; what there isn't is missing, and so is what `cast` doesn't allow."""
        if name in self.points.columns and cast != "tag":
            column = self.points.columns[name]
            return column if cast in ("", "field") else _cast(column, _CASTS.get(cast, "int"))
        if name in self.schema.tags and cast in ("", "tag"):
            return self._tag(name)
        return absent(self.schema.fields.get(name, "float"), len(self.group))

    def condition_column(self, name: str) -> Column:
        """The same in a condition, where a name that is nothing is an empty tag."""
        if name in self.points.columns:
            return self.points.columns[name]
        kind = self.schema.fields.get(name)
        return self._tag(name) if kind is None else absent(kind, len(self.group))

    def _tag(self, name: str) -> Column:
        return tag_column(self.series, self.schema, name).take(self.points.series)

    def take(self, at: Ints) -> "Rows":
        """Picks points."""
        points = Points(
            self.points.series[at],
            self.points.time_ns[at],
            {name: column.take(at) for name, column in self.points.columns.items()},
        )
        return replace(self, points=points, group=self.group[at])

    def sorted(self, *, ascending: bool) -> "Rows":
        """Puts them by group, then by time, then by series."""
        time_ns, series, group = self.points.time_ns, self.points.series, self.group
        step = np.diff(group)
        moved = np.diff(time_ns) if ascending else -np.diff(time_ns)
        later = (step > 0) | ((step == 0) & ((moved > 0) | ((moved == 0) & (np.diff(series) >= 0))))
        if later.all():
            return self
        return self.take(np.lexsort((series, time_ns if ascending else -time_ns, group)))


def _cast(column: Column, kind: str) -> Column:
    if column.kind == kind:
        return column
    if {column.kind, kind} <= {"float", "int"}:
        return Column(kind, column.values.astype(np.float64 if kind == "float" else np.int64), column.valid)
    return absent(kind, len(column.values))
