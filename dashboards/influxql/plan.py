"""What a SELECT asks of the points of its measurements, worked out before any point is read."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from dashboards.influxql.errors import QueryError
from dashboards.influxql.functions import TRANSFORMS, check_fields
from dashboards.influxql.instants import MAX_NS, MIN_NS, Span, Windows, moment_ns, split_time
from dashboards.influxql.points import Schema
from dashboards.influxql.regex import Regex
from dashboards.influxql.syntax import (
    Binary,
    Call,
    Duration,
    Expr,
    Field,
    Fill,
    Pattern,
    Ref,
    Select,
    Star,
    Text,
)

NUMERIC = frozenset({"float", "int"})
_ANY = frozenset({"float", "int", "bool", "string"})
_TAKES = {
    **dict.fromkeys(("count", "first", "last", "distinct", "elapsed", "mode"), _ANY),
    **dict.fromkeys(("min", "max"), NUMERIC | {"bool"}),
}


@dataclass(frozen=True, slots=True)
class Plan:
    """A SELECT made plain.

    Attributes:
        fields: the columns, wildcards expanded, and their names beside `time_name`.
        condition: what remains of WHERE without time.
        span: the range of time; open ends where nothing bounds it.
        tags: what the answer is grouped by, sorted.
        windows: GROUP BY time().
        fill: what empty windows show.
        ascending: the direction of time.
        calls: the functions in the columns, each once.
        known: the fields of all its measurements and their kinds: what one of them lacks is no tag of it.
    """

    fields: tuple[Expr, ...]
    names: tuple[str, ...]
    time_name: str
    condition: Expr | None
    span: Span
    tags: tuple[str, ...]
    windows: Windows
    fill: Fill
    ascending: bool
    calls: tuple[Call, ...]
    known: Mapping[str, str]

    def bounds(self) -> tuple[int, int]:
        """The range of time, both ends included."""
        start_ns = MIN_NS if self.span.start_ns is None else self.span.start_ns
        return start_ns, MAX_NS if self.span.end_ns is None else self.span.end_ns

    def read_span(self) -> tuple[int, int]:
        """The range of time of the points that are needed: transformations look some windows back."""
        start_ns, end_ns = self.bounds()
        more = max((_reach(call) for call in self.calls), default=0) * self.windows.interval_ns
        if self.ascending:
            return max(start_ns - more, MIN_NS), end_ns
        return start_ns, min(end_ns + more, MAX_NS)

    def shown_refs(self) -> list[str]:
        """The fields and tags that the columns name."""
        return [ref.name for expr in self.fields for ref in walk(expr) if isinstance(ref, Ref)]

    def refs(self) -> set[str]:
        """The fields and tags that columns and condition name."""
        exprs = [*self.fields, *([self.condition] if self.condition is not None else [])]
        return {ref.name for expr in exprs for ref in walk(expr) if isinstance(ref, Ref)}


def extra_intervals(call: Call) -> int:
    """How many windows before the range a transformation needs for its first results."""
    return int(call.name in TRANSFORMS and call.name != "cumulative_sum")


def _reach(call: Call) -> int:
    inner = call.arguments[0] if call.arguments else None
    return extra_intervals(call) + (_reach(inner) if isinstance(inner, Call) else 0)


def walk(expr: Expr) -> Iterable[Expr]:
    """Yields an expression and all within it."""
    yield expr
    if isinstance(expr, Binary):
        yield from walk(expr.left)
        yield from walk(expr.right)
    elif isinstance(expr, Call):
        for argument in expr.arguments:
            yield from walk(argument)


@dataclass(frozen=True, slots=True)
class Outer:
    """What a subquery takes over from the query around it."""

    span: Span
    windows: Windows
    ascending: bool


def make_plan(select: Select, schema: Schema, now_ns: int, outer: Outer | None = None) -> Plan:
    """Checks a SELECT and makes its plan over the tags and fields of all its measurements together.

    Raises:
        QueryError: it can't be answered.
    """
    condition, span = split_time(select.condition, now_ns, select.zone)
    windows = _windows(select, now_ns)
    ascending = select.order != "DESC"
    fill = select.fill
    is_inherited = False
    if outer is not None:
        if select.order and ascending != outer.ascending:
            raise QueryError("subqueries must be ordered in the same direction as the query itself")
        ascending = outer.ascending
        if windows.interval_ns and fill.kind == "null":
            fill = Fill("none")
    if windows.interval_ns and span.end_ns is None:
        span = replace(span, end_ns=now_ns)
    if outer is not None:
        span = span.meet(outer.span)
        if outer.windows.interval_ns and not windows.interval_ns:
            windows, is_inherited = outer.windows, True
    check_fields(select, windows.interval_ns, is_inherited=is_inherited)
    tags = _dimensions(select, schema)
    fields = _expand(select, schema, tags)
    time_name = next((f.alias for f in select.fields if f.expr == Ref("time") and f.alias), "time")
    calls = tuple(dict.fromkeys(call for field in fields for call in _outer_calls(field.expr)))
    return Plan(
        tuple(field.expr for field in fields), tuple(_names(fields)), time_name, condition, span, tags, windows, fill,
        ascending, calls, schema.fields,
    )  # fmt: skip


def _windows(select: Select, now_ns: int) -> Windows:
    windows = Windows(zone=select.zone)
    for dimension in select.dimensions:
        match dimension:
            case Ref(name) if name.lower() == "time":
                raise QueryError("time() is a function and expects at least one argument")
            case Ref() | Star() | Pattern():
                continue
            case Call("time", arguments):
                if not 1 <= len(arguments) <= 2:
                    raise QueryError("time dimension expected 1 or 2 arguments")
                if not isinstance(arguments[0], Duration) or arguments[0].ns <= 0:
                    raise QueryError("time dimension must have duration argument")
                if windows.interval_ns:
                    raise QueryError("multiple time dimensions not allowed")
                offset = _offset(arguments[1], now_ns, select.zone) if len(arguments) == 2 else 0
                interval = arguments[0].ns
                sign = -1 if offset < 0 else 1
                windows = Windows(interval, sign * (abs(offset) % interval), select.zone)
            case Call():
                raise QueryError("only time() calls allowed in dimensions")
            case _:
                raise QueryError("only time and tag dimensions allowed")
    return windows


def _offset(expr: Expr, now_ns: int, zone: str) -> int:
    match expr:
        case Duration(ns):
            return ns
        case Call("now", ()) | Text():
            return moment_ns(expr, now_ns, zone)
        case Call("now", _):
            raise QueryError("time dimension offset now() function requires no arguments")
        case Call():
            raise QueryError("time dimension offset function must be now()")
    raise QueryError("time dimension offset must be duration or now()")


def _dimensions(select: Select, schema: Schema) -> tuple[str, ...]:
    names: set[str] = set()
    for dimension in select.dimensions:
        match dimension:
            case Ref(name):
                names.add(name)
            case Star():
                names.update(schema.tags)
            case Pattern(text):
                regex = Regex(text)
                names.update(tag for tag in schema.tags if regex.search(tag))
    return tuple(sorted(names))


def _expand(select: Select, schema: Schema, tags: tuple[str, ...]) -> list[Field]:
    fields: list[Field] = []
    # Who groups by a wildcard wants the tags there, and none of them among the columns.
    is_wide = any(isinstance(dimension, Star | Pattern) for dimension in select.dimensions)
    loose = [] if is_wide else [tag for tag in schema.tags if tag not in tags]
    shown = {**dict.fromkeys(loose, "tag"), **schema.fields}
    for field in select.fields:
        match field.expr:
            case Ref("time"):
                continue
            case Star() | Pattern() as wild:
                fields += [Field(Ref(name)) for name in sorted(shown) if _is_wanted(wild, name, shown[name])]
            case Call() as call if (wild_name := _wild(call)) is not None:
                fields += _expand_call(call, wild_name, schema, field.alias or call.name)
            case Call("top" | "bottom", arguments):
                fields += [field, *(Field(argument) for argument in arguments[1:-1])]
            case _:
                fields.append(field)
    return fields


def _is_wanted(wild: Expr, name: str, kind: str) -> bool:
    match wild:
        case Star(cast):
            return not cast or (cast == "tag") == (kind == "tag")
        case Pattern(text):
            return Regex(text).search(name)
    return False


def _wild(call: Call) -> Expr | None:
    """The wildcard in the innermost call."""
    for argument in call.arguments[:1]:
        if isinstance(argument, Star | Pattern):
            return argument
        if isinstance(argument, Call):
            return _wild(argument)
    return None


def _expand_call(call: Call, wild: Expr, schema: Schema, prefix: str) -> list[Field]:
    if isinstance(wild, Star) and wild.cast == "tag":
        raise QueryError("unable to use tag as wildcard in call")
    takes = _TAKES.get(_innermost(call).name, NUMERIC)
    names = sorted(name for name, kind in schema.fields.items() if kind in takes and _is_wanted(wild, name, kind))
    return [Field(_put(call, Ref(name)), f"{prefix}_{name}") for name in names]


def _innermost(call: Call) -> Call:
    first = call.arguments[0] if call.arguments else None
    return _innermost(first) if isinstance(first, Call) else call


def _put(call: Call, ref: Ref) -> Call:
    first = call.arguments[0]
    inner: Expr = _put(first, ref) if isinstance(first, Call) else ref
    return Call(call.name, (inner, *call.arguments[1:]))


def _outer_calls(expr: Expr) -> Iterable[Call]:
    if isinstance(expr, Call):
        yield expr
    elif isinstance(expr, Binary):
        yield from _outer_calls(expr.left)
        yield from _outer_calls(expr.right)


def _names(fields: list[Field]) -> list[str]:
    """Column names as InfluxDB gives them: aliases first, then names, with a number where one is taken."""
    taken = {field.alias: 1 for field in fields if field.alias}
    names = []
    for field in fields:
        name = field.alias or _name(field.expr)
        if not field.alias:
            count = taken.get(name, 0)
            if count:
                while f"{name}_{count}" in taken:
                    count += 1
                taken[name] = count + 1
                name = f"{name}_{count}"
            taken[name] = taken.get(name, 0) + 1
        names.append(name)
    return names


def _name(expr: Expr) -> str:
    match expr:
        case Ref(name) | Call(name):
            return name
        case Binary():
            return "_".join(_parts(expr))
    return ""


def _parts(expr: Expr) -> list[str]:
    match expr:
        case Ref(name) | Call(name):
            return [name]
        case Binary(_, left, right):
            return _parts(left) + _parts(right)
    return []


def union(schemas: Iterable[Schema]) -> Schema:
    """Returns the tags and fields that any of the measurements has; of two kinds the first in float, int, string, bool."""
    order = ("float", "int", "string", "bool")
    tags: dict[str, None] = {}
    fields: dict[str, str] = {}
    for schema in schemas:
        tags.update(dict.fromkeys(schema.tags))
        for name, kind in schema.fields.items():
            fields[name] = min(kind, fields.get(name, kind), key=order.index)
    return Schema(tuple(tags), fields)
