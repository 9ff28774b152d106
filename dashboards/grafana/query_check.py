"""Is a query right before any database sees it? Grammar, and names as `headwater.points` has them."""

from dataclasses import dataclass

from dashboards.influxql.errors import ParseError
from dashboards.influxql.parser import parse
from dashboards.influxql.syntax import Binary, Call, Expr, Integer, Measurement, Pattern, Ref, Select, Show
from headwater.points import MEASUREMENT_FIELDS, MEASUREMENT_TAGS

# What InfluxDB 1, 2 and 3 all know; those of `_NUMBERS` want numbers, the others take any field.
_NUMBERS = frozenset(
    {"mean", "median", "sum", "spread", "stddev", "percentile", "min", "max", "top", "bottom", "derivative", "difference",
     "non_negative_derivative", "non_negative_difference", "moving_average", "cumulative_sum", "abs", "round"}
)  # fmt: skip
_ANY = frozenset({"count", "distinct", "first", "last", "mode", "elapsed"})


@dataclass(frozen=True, slots=True)
class _Scope:
    """The names that a SELECT may use: its tags, and its fields with their kinds."""

    where: str
    tags: frozenset[str]
    fields: dict[str, str]

    def complaint(self, name: str) -> list[str]:
        """Says that a name is neither tag nor field nor time."""
        if name == "time" or name in self.tags or name in self.fields:
            return []
        known = ", ".join([*sorted(self.tags), *self.fields])
        return [f'"{name}" is neither a tag nor a field of {self.where}, which has {known}']


def complaints(text: str) -> list[str]:
    """Returns what is wrong with a query after substitution, one sentence each; [] if nothing.

    >>> complaints('SELECT mean("value") FROM "telemetry" GROUP BY "device"')
    []
    >>> complaints('SELECT mean("device") FROM "telemetry"')
    ['mean() of the tag "device": functions take fields']
    >>> complaints('SELECT last("health") FROM "health" GROUP BY "model"')
    ['GROUP BY the field "model": only tags make series']
    """
    try:
        statements = parse(text)
    except ParseError as error:
        return [str(error)]
    found = []
    for statement in statements:
        found += _show(statement) if isinstance(statement, Show) else _select(statement)[1]
    return found


def _measured(source: Measurement) -> tuple[_Scope, list[str]]:
    name = source.name
    if isinstance(name, Pattern) or name not in MEASUREMENT_TAGS:
        shown = f"/{name.text}/" if isinstance(name, Pattern) else f'"{name}"'
        nothing = _Scope(shown, frozenset(), {})
        return nothing, [f"FROM {shown}: there is no such measurement; known are {', '.join(MEASUREMENT_TAGS)}"]
    return _Scope(f'"{name}"', frozenset(MEASUREMENT_TAGS[name]), MEASUREMENT_FIELDS[name]), []


def _show(show: Show) -> list[str]:
    found = []
    for source in show.sources:
        scope, wrong = _measured(source)
        if wrong:
            found += wrong
            continue
        keys = show.keys if isinstance(show.keys, tuple) else ()
        names = [*keys, *(ref.name for ref in _refs(show.condition))]
        found += [f'"{name}" is no tag of {scope.where}' for name in names if name not in scope.tags]
    return found


def _select(select: Select) -> tuple[_Scope, list[str]]:
    """Returns the names that the SELECT gives to one around it, and what is wrong."""
    (source,) = select.sources[:1] or (Measurement(""),)
    scope, found = _select(source) if isinstance(source, Select) else _measured(source)
    if found:
        return scope, found
    if len(select.sources) > 1:
        found.append("FROM several sources: Grafana can't tell their series apart")
    for ref in _refs(select.condition):
        found += scope.complaint(ref.name)
    grouped = []
    for dimension in select.dimensions:
        if isinstance(dimension, Ref):
            found += scope.complaint(dimension.name)
            if dimension.name in scope.fields:
                found.append(f'GROUP BY the field "{dimension.name}": only tags make series')
            grouped.append(dimension.name)
    given: dict[str, str] = {}
    for field in select.fields:
        found += _expr(field.expr, scope)
        given[field.alias or _name_of(field.expr)] = _kind_of(field.expr, scope)
        if isinstance(field.expr, Call):
            grouped += [ref.name for ref in field.expr.arguments[1:] if isinstance(ref, Ref)]
    return _Scope("the subquery", frozenset(grouped), given), found


def _expr(expr: Expr, scope: _Scope) -> list[str]:
    if isinstance(expr, Ref):
        return scope.complaint(expr.name)
    if isinstance(expr, Binary):
        return _expr(expr.left, scope) + _expr(expr.right, scope)
    if not isinstance(expr, Call):
        return []
    if expr.name not in _NUMBERS | _ANY:
        return [f"{expr.name}() is no function that InfluxDB 1, 2 and 3 all know"]
    found = []
    for place, argument in enumerate(expr.arguments):
        found += _expr(argument, scope)
        if place == 0 and isinstance(argument, Ref) and argument.name in scope.tags - scope.fields.keys():
            found.append(f'{expr.name}() of the tag "{argument.name}": functions take fields')
        if place == 0 and expr.name in _NUMBERS and _kind_of(argument, scope) in {"string", "bool"}:
            found.append(f"{expr.name}() of a field that holds {_kind_of(argument, scope)}: it wants numbers")
        if place > 0 and isinstance(argument, Ref) and argument.name in scope.fields:
            found.append(f'{expr.name}() by the field "{argument.name}": only tags name series')
    if expr.name in {"top", "bottom"} and not isinstance(expr.arguments[-1], Integer):
        found.append(f"{expr.name}() needs a number of rows at its end")
    return found


def _refs(expr: Expr | None) -> list[Ref]:
    if isinstance(expr, Binary):
        return _refs(expr.left) + _refs(expr.right)
    if isinstance(expr, Call):
        return [ref for argument in expr.arguments for ref in _refs(argument)]
    return [expr] if isinstance(expr, Ref) else []


def _name_of(expr: Expr) -> str:
    if isinstance(expr, Ref | Call):
        return expr.name
    return "_".join(filter(None, map(_name_of, (expr.left, expr.right)))) if isinstance(expr, Binary) else ""


def _kind_of(expr: Expr, scope: _Scope) -> str:
    if isinstance(expr, Ref):
        return scope.fields.get(expr.name, "")
    if isinstance(expr, Call) and expr.name in {"first", "last", "mode", "distinct"} and expr.arguments:
        return _kind_of(expr.arguments[0], scope)
    return "float"
