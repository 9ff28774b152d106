"""The parser's upper half: statements. The grammar stands in docs/influxql.md; what isn't in it is refused."""

from collections.abc import Mapping
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from dashboards.influxql.errors import ParseError
from dashboards.influxql.expressions import INT64_MAX, PRECEDENCE, Cursor
from dashboards.influxql.scanner import END, at_place, scan, unexpected
from dashboards.influxql.syntax import (
    Binary,
    Call,
    Expr,
    Field,
    Fill,
    Integer,
    Measurement,
    Number,
    Ref,
    Select,
    Show,
    Source,
    Statement,
    Text,
)

LENGTH_MAX = 64 * 1024
STATEMENTS_MAX = 200
SUBQUERIES_MAX = 3
# What InfluxDB knows besides; these are understood and refused, the rest is no statement at all.
WRITING = ("DELETE", "CREATE", "DROP", "EXPLAIN", "GRANT", "REVOKE", "ALTER", "SET", "KILL")
SHOWN = (
    "CONTINUOUS", "DATABASES", "DIAGNOSTICS", "FIELD", "GRANTS", "MEASUREMENT", "MEASUREMENTS", "QUERIES", "RETENTION",
    "SERIES", "SHARD", "SHARDS", "STATS", "SUBSCRIPTIONS", "TAG", "USERS",
)  # fmt: skip


def parse(text: str, parameters: Mapping[str, object] | None = None) -> tuple[Statement, ...]:
    """Returns the statements of a query; `parameters` are the values of its `$name`s.

    >>> parse("SHOW DATABASES")
    (Show(what='DATABASES', database='', sources=(), key_operator='', keys=(), condition=None, order='', limit=0, \
offset=0, slimit=0, soffset=0),)

    Raises:
        ParseError: it isn't in the grammar, or too long, or not a statement that only reads.
    """
    if len(text) > LENGTH_MAX:
        raise ParseError(f"the query is longer than {LENGTH_MAX} characters")
    cursor = Cursor(text, parameters)
    statements: list[Statement] = []
    while True:
        while cursor.accept(";"):
            pass
        if cursor.peek().kind == END:
            return tuple(statements)
        if len(statements) >= STATEMENTS_MAX:
            raise ParseError(f"the query has more than {STATEMENTS_MAX} statements")
        statements.append(_statement(cursor))
        if cursor.peek().kind not in (";", END):
            raise unexpected(text, cursor.peek(), ";")


def _statement(cursor: Cursor) -> Statement:
    token = cursor.take()
    if token.kind == "SELECT":
        return _select(cursor, 0)
    if token.kind == "SHOW":
        return _show(cursor)
    if token.kind in WRITING:
        raise ParseError(f"{token.kind} is refused: this endpoint only reads, use SELECT or SHOW")
    raise unexpected(cursor.text, token, "SELECT", "DELETE", "SHOW", *WRITING[1:])


def _select(cursor: Cursor, depth: int) -> Select:
    fields = _fields(cursor)
    if cursor.peek().kind == "INTO":
        raise ParseError("SELECT … INTO is refused: this endpoint only reads")
    cursor.expect("FROM")
    sources = [_source(cursor, depth)]
    while cursor.accept(","):
        sources.append(_source(cursor, depth))
    condition = _condition(cursor)
    dimensions = _dimensions(cursor)
    fill = _fill(cursor)
    order = _order(cursor)
    numbers = {name: _number_after(cursor, name.upper()) for name in ("limit", "offset", "slimit", "soffset")}
    return Select(fields, tuple(sources), condition, dimensions, fill, order, zone=_zone(cursor), **numbers)


def _fields(cursor: Cursor) -> tuple[Field, ...]:
    fields: list[Field] = []
    while True:
        start = cursor.peek().start
        expr = cursor.pattern() or cursor.expression()
        wrong = _comparison(expr)
        if wrong:
            where = at_place(f"invalid operator {wrong} in SELECT clause", cursor.text, start)
            raise ParseError(f"{where}; operator is intended for WHERE clause")
        alias = cursor.identifier() if cursor.accept("AS") else ""
        fields.append(Field(expr, alias))
        if not cursor.accept(","):
            return tuple(fields)


def _comparison(expr: Expr) -> str:
    """The first operator in an expression that makes it no number; "" for none."""
    match expr:
        case Binary(operator, left, right):
            return operator if PRECEDENCE[operator] < PRECEDENCE["+"] else _comparison(left) or _comparison(right)
        case Call(_, arguments):
            return next(filter(None, map(_comparison, arguments)), "")
    return ""


def _source(cursor: Cursor, depth: int) -> Source:
    if depth < SUBQUERIES_MAX and cursor.accept("("):
        cursor.expect("SELECT")
        inner = _select(cursor, depth + 1)
        cursor.expect(")")
        return inner
    return _measurement(cursor)


def _measurement(cursor: Cursor) -> Measurement:
    pattern = cursor.pattern()
    if pattern is not None:
        return Measurement(pattern)
    names = cursor.segments()
    if len(names) == 3:
        return Measurement(names[2], names[0], names[1])
    is_open = cursor.text[cursor.at - 1 : cursor.at] == "."
    pattern = cursor.pattern() if is_open else None
    if pattern is not None:
        return Measurement(pattern, names[0] if len(names) == 2 else "", names[-1])
    return Measurement(names[-1], "", names[0] if len(names) == 2 else "")


def _condition(cursor: Cursor) -> Expr | None:
    return cursor.expression() if cursor.accept("WHERE") else None


def _dimensions(cursor: Cursor) -> tuple[Expr, ...]:
    if not cursor.accept("GROUP"):
        return ()
    cursor.expect("BY")
    dimensions: list[Expr] = []
    while True:
        dimensions.append(cursor.pattern() or cursor.expression())
        if not cursor.accept(","):
            return tuple(dimensions)


def _fill(cursor: Cursor) -> Fill:
    if not cursor.accept_word("fill"):
        return Fill()
    call = _special(cursor, "fill")
    if len(call.arguments) != 1:
        raise ParseError("fill requires an argument, e.g.: 0, null, none, previous, linear")
    match call.arguments[0]:
        case Ref(name) if name in ("null", "none", "previous", "linear"):
            return Fill(name)
        case Integer(value) | Number(value):
            return Fill("number", value)
    raise ParseError("expected number argument in fill()")


def _special(cursor: Cursor, name: str) -> Call:
    token = cursor.take()
    after = scan(cursor.text, token.end)
    if after.kind != "(" or after.is_apart:
        raise ParseError(f"{name} must be a function call")
    cursor.at = after.end
    return cursor.call(name)


def _order(cursor: Cursor) -> str:
    if not cursor.accept("ORDER"):
        return ""
    cursor.expect("BY")
    if alone := cursor.accept("ASC", "DESC"):
        return alone.kind
    token = cursor.expect("identifier", "identifier", "ASC", "DESC")
    if token.text != "time" or cursor.peek().kind == ",":
        raise ParseError("only ORDER BY time supported at this time")
    direction = cursor.accept("ASC", "DESC")
    return direction.kind if direction else "ASC"


def _number_after(cursor: Cursor, keyword: str) -> int:
    if not cursor.accept(keyword):
        return 0
    return min(int(cursor.expect("integer").text[:19]), INT64_MAX)


def _zone(cursor: Cursor) -> str:
    if not cursor.accept_word("tz"):
        return ""
    call = _special(cursor, "tz")
    if len(call.arguments) != 1:
        raise ParseError("tz requires exactly one argument")
    name = call.arguments[0]
    if not isinstance(name, Text):
        raise ParseError("expected string argument in tz()")
    try:
        ZoneInfo(name.value or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ParseError(f"unable to find time zone {name.value}") from error
    return name.value or "UTC"


def _show(cursor: Cursor) -> Show:
    token = cursor.take()
    match token.kind:
        case "DATABASES":
            return Show("DATABASES")
        case "MEASUREMENTS":
            return _show_measurements(cursor)
        case "RETENTION":
            cursor.expect("POLICIES")
            return Show("RETENTION POLICIES", _on(cursor))
        case "TAG" | "FIELD":
            return _show_keys(cursor, token.kind)
        case "SERIES":
            return _with_condition(cursor, "SERIES")
    if token.kind in SHOWN:
        raise ParseError(f"SHOW {token.kind} is not available here")
    raise unexpected(cursor.text, token, *SHOWN)


def _show_measurements(cursor: Cursor) -> Show:
    database = _on(cursor)
    sources: tuple[Measurement, ...] = ()
    if cursor.accept("WITH"):
        cursor.expect("MEASUREMENT")
        if not cursor.accept("=", "=~"):
            raise unexpected(cursor.text, cursor.peek(), "=", "=~")
        sources = (_measurement(cursor),)
    condition, order = _condition(cursor), _order(cursor)
    limit, offset = _number_after(cursor, "LIMIT"), _number_after(cursor, "OFFSET")
    return Show("MEASUREMENTS", database, sources, condition=condition, order=order, limit=limit, offset=offset)


def _show_keys(cursor: Cursor, kind: str) -> Show:
    token = cursor.take()
    if kind == "TAG" and token.kind == "VALUES":
        return _with_condition(cursor, "TAG VALUES")
    if token.kind != "KEYS":
        raise unexpected(cursor.text, token, "KEY", "KEYS", *(("VALUES",) if kind == "TAG" else ()))
    if kind == "TAG":
        return _with_condition(cursor, "TAG KEYS")
    database, sources, order = _on(cursor), _from(cursor), _order(cursor)
    limit, offset = _number_after(cursor, "LIMIT"), _number_after(cursor, "OFFSET")
    return Show("FIELD KEYS", database, sources, order=order, limit=limit, offset=offset)


def _with_condition(cursor: Cursor, what: str) -> Show:
    if cursor.peek().kind in ("CARDINALITY", "EXACT"):
        raise ParseError(f"SHOW {what} CARDINALITY is not available here")
    database, sources = _on(cursor), _from(cursor)
    operator, keys = "", ()
    if what == "TAG VALUES" or (what == "TAG KEYS" and cursor.peek().kind == "WITH"):
        operator, keys = _key(cursor)
    condition, order = _condition(cursor), _order(cursor)
    numbers = {name: _number_after(cursor, name.upper()) for name in ("limit", "offset")}
    if what == "TAG KEYS":
        numbers |= {name: _number_after(cursor, name.upper()) for name in ("slimit", "soffset")}
    return Show(what, database, sources, operator, keys, condition, order, **numbers)


def _key(cursor: Cursor) -> tuple[str, Any]:
    cursor.expect("WITH")
    cursor.expect("KEY")
    token = cursor.take()
    match token.kind:
        case "IN":
            cursor.expect("(")
            names = [cursor.identifier()]
            while cursor.accept(","):
                names.append(cursor.identifier())
            cursor.expect(")")
            return "IN", tuple(names)
        case "=" | "!=" | "<>":
            return "=" if token.kind == "=" else "!=", (cursor.identifier(),)
        case "=~" | "!~":
            pattern = cursor.pattern()
            if pattern is None:
                raise unexpected(cursor.text, cursor.peek(), "regex")
            return token.kind, pattern
    raise unexpected(cursor.text, token, "IN", "=", "=~")


def _on(cursor: Cursor) -> str:
    return cursor.identifier() if cursor.accept("ON") else ""


def _from(cursor: Cursor) -> tuple[Measurement, ...]:
    if not cursor.accept("FROM"):
        return ()
    sources = [_measurement(cursor)]
    while cursor.accept(","):
        sources.append(_measurement(cursor))
    return tuple(sources)
