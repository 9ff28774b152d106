"""The tree of a query; parentheses are its shape, so `parse(print(tree))` is `tree`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ref:
    """A field, a tag or `time` by name; `cast` is what stood after `::`, or ""."""

    name: str
    cast: str = ""


@dataclass(frozen=True, slots=True)
class Text:
    """A string in single quotes."""

    value: str


@dataclass(frozen=True, slots=True)
class Integer:
    """A whole number."""

    value: int


@dataclass(frozen=True, slots=True)
class Number:
    """A number with a point."""

    value: float


@dataclass(frozen=True, slots=True)
class Duration:
    """A span of time in nanoseconds."""

    ns: int


@dataclass(frozen=True, slots=True)
class Boolean:
    """true or false."""

    value: bool


@dataclass(frozen=True, slots=True)
class Pattern:
    """A regular expression, already found sound (`dashboards.influxql.regex`)."""

    text: str


@dataclass(frozen=True, slots=True)
class Star:
    """`*`; `cast` is "tag", "field" or ""."""

    cast: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """A function with its arguments; the name is in small letters."""

    name: str
    arguments: tuple["Expr", ...] = ()


@dataclass(frozen=True, slots=True)
class Binary:
    """Two operands and what stands between them: AND OR = != < <= > >= =~ !~ + - * / %."""

    operator: str
    left: "Expr"
    right: "Expr"


Literal = Text | Integer | Number | Duration | Boolean | Pattern
Expr = Ref | Text | Integer | Number | Duration | Boolean | Pattern | Star | Call | Binary


@dataclass(frozen=True, slots=True)
class Field:
    """One selected column; "" is no alias."""

    expr: Expr
    alias: str = ""


@dataclass(frozen=True, slots=True)
class Measurement:
    """Where from: a name, or a pattern over names; "" is the default database or retention policy."""

    name: str | Pattern
    database: str = ""
    policy: str = ""


@dataclass(frozen=True, slots=True)
class Fill:
    """What empty windows show: "null", "none", "previous", "linear" or "number" with its value."""

    kind: str = "null"
    value: int | float = 0


@dataclass(frozen=True, slots=True)
class Select:
    """A SELECT; limits of 0 are none, `zone` "" is UTC; `order` is "", "ASC" or "DESC"."""

    fields: tuple[Field, ...]
    sources: tuple["Source", ...]
    condition: Expr | None = None
    dimensions: tuple[Expr, ...] = ()
    fill: Fill = Fill()
    order: str = ""
    limit: int = 0
    offset: int = 0
    slimit: int = 0
    soffset: int = 0
    zone: str = ""


Source = Measurement | Select


@dataclass(frozen=True, slots=True)
class Show:
    """A SHOW statement.

    Attributes:
        what: "DATABASES", "MEASUREMENTS", "TAG KEYS", "TAG VALUES", "FIELD KEYS", "RETENTION POLICIES" or "SERIES".
        database: after ON, or "".
        sources: after FROM, or after WITH MEASUREMENT.
        key_operator, keys: after WITH KEY: "IN" with names, "=" and "!=" with one, "=~" and "!~" with a pattern.
        condition, order, limit, offset, slimit, soffset: as in a SELECT.
    """

    what: str
    database: str = ""
    sources: tuple[Measurement, ...] = ()
    key_operator: str = ""
    keys: tuple[str, ...] | Pattern = ()
    condition: Expr | None = None
    order: str = ""
    limit: int = 0
    offset: int = 0
    slimit: int = 0
    soffset: int = 0


Statement = Select | Show
