"""A tree as text again: what it prints, the parser reads as the same tree."""

import re
from decimal import Decimal

from dashboards.influxql.expressions import PRECEDENCE
from dashboards.influxql.scanner import KEYWORDS
from dashboards.influxql.syntax import (
    Binary,
    Boolean,
    Call,
    Duration,
    Expr,
    Field,
    Fill,
    Integer,
    Literal,
    Measurement,
    Number,
    Pattern,
    Ref,
    Select,
    Show,
    Source,
    Star,
    Statement,
    Text,
)

_UNITS = (("w", 604_800), ("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def quote_name(name: str) -> str:
    r"""Quotes an identifier where it needs it.

    >>> quote_name("value"), quote_name("from"), quote_name('a"b')
    ('value', '"from"', '"a\\"b"')
    """
    if _PLAIN.match(name) and name.upper() not in KEYWORDS:
        return name
    escaped = name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def quote_text(text: str) -> str:
    r"""Quotes a string.

    >>> quote_text("it's")
    "'it\\'s'"
    """
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return f"'{escaped}'"


def print_duration(ns: int) -> str:
    """Shows a duration in its largest even unit.

    >>> print_duration(90_000_000_000), print_duration(1_500), print_duration(-86_400_000_000_000)
    ('90s', '1500ns', '-1d')
    """
    if ns == 0:
        return "0s"
    for unit, seconds in _UNITS:
        if ns % (seconds * 1_000_000_000) == 0:
            return f"{ns // (seconds * 1_000_000_000)}{unit}"
    for unit, size in (("ms", 1_000_000), ("u", 1_000)):
        if ns % size == 0:
            return f"{ns // size}{unit}"
    return f"{ns}ns"


def print_expr(expr: Expr, least: int = 0) -> str:
    """Shows an expression, in parentheses if it binds less than `least`.

    >>> print_expr(Binary("*", Binary("+", Ref("a"), Integer(1)), Ref("b")))
    '(a + 1) * b'
    """
    match expr:
        case Call(name, arguments):
            return f"{name}({', '.join(print_expr(argument) for argument in arguments)})"
        case Binary(operator, left, right):
            strength = PRECEDENCE[operator]
            text = f"{print_expr(left, strength)} {operator} {print_expr(right, strength + 1)}"
            return f"({text})" if strength < least else text
        case Ref(name, cast):
            return quote_name(name) + (f"::{cast}" if cast else "")
        case Star(cast):
            return "*" + (f"::{cast}" if cast else "")
    return _print_literal(expr)


def _print_literal(literal: Literal) -> str:
    match literal:
        case Text(value):
            return quote_text(value)
        case Duration(ns):
            return print_duration(ns)
        case Boolean(value):
            return "true" if value else "false"
        case Pattern(text):
            return "/" + text.replace("/", "\\/") + "/"
        case Number(value):
            text = f"{Decimal(value):f}" if "e" in repr(value) else repr(value)
            return text if "." in text else f"{text}.0"
        case Integer(value):
            return str(value)


def print_statement(statement: Statement) -> str:
    """Shows a statement.

    >>> from dashboards.influxql.parser import parse
    >>> print_statement(parse("select MEAN(value) from telemetry group by time(1m) limit 5")[0])
    'SELECT mean(value) FROM telemetry GROUP BY time(1m) LIMIT 5'
    """
    return _show(statement) if isinstance(statement, Show) else _select(statement)


def _select(select: Select) -> str:
    parts = ["SELECT", ", ".join(_field(field) for field in select.fields)]
    parts += ["FROM", ", ".join(_source(source) for source in select.sources)]
    parts += _where(select.condition)
    if select.dimensions:
        parts += ["GROUP BY", ", ".join(print_expr(dimension) for dimension in select.dimensions)]
    parts += _fill(select.fill)
    parts += _tail(select)
    if select.zone:
        parts.append(f"tz({quote_text(select.zone)})")
    return " ".join(parts)


def _field(field: Field) -> str:
    return print_expr(field.expr) + (f" AS {quote_name(field.alias)}" if field.alias else "")


def _source(source: Source) -> str:
    if isinstance(source, Select):
        return f"({_select(source)})"
    return _measurement(source)


def _measurement(source: Measurement) -> str:
    name = print_expr(source.name) if isinstance(source.name, Pattern) else quote_name(source.name)
    if source.database:
        return f"{quote_name(source.database)}.{quote_name(source.policy) if source.policy else ''}.{name}"
    return f"{quote_name(source.policy)}.{name}" if source.policy else name


def _where(condition: Expr | None) -> list[str]:
    return [] if condition is None else ["WHERE", print_expr(condition)]


def _fill(fill: Fill) -> list[str]:
    if fill.kind == "null":
        return []
    return [f"fill({print_expr(_literal(fill.value)) if fill.kind == 'number' else fill.kind})"]


def _literal(value: float) -> Expr:
    return Integer(value) if isinstance(value, int) else Number(value)


def _tail(statement: Statement) -> list[str]:
    parts = [f"ORDER BY time {statement.order}"] if statement.order else []
    for name in ("limit", "offset", "slimit", "soffset"):
        number = getattr(statement, name)
        parts += [f"{name.upper()} {number}"] if number else []
    return parts


def _show(show: Show) -> str:
    parts = ["SHOW", show.what]
    if show.database:
        parts += ["ON", quote_name(show.database)]
    if show.sources and show.what == "MEASUREMENTS":
        operator = "=~" if isinstance(show.sources[0].name, Pattern) else "="
        parts += ["WITH MEASUREMENT", operator, _measurement(show.sources[0])]
    elif show.sources:
        parts += ["FROM", ", ".join(_measurement(source) for source in show.sources)]
    if isinstance(show.keys, Pattern):
        parts += ["WITH KEY", show.key_operator, print_expr(show.keys)]
    elif show.key_operator:
        names = ", ".join(quote_name(key) for key in show.keys)
        parts += ["WITH KEY", show.key_operator, f"({names})" if show.key_operator == "IN" else names]
    parts += _where(show.condition)
    return " ".join(parts + _tail(show))
