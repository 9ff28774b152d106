"""Which functions there are, what they take, and which go together: InfluxDB's rules, said in its words."""

from dataclasses import dataclass, field

from dashboards.influxql.errors import QueryError
from dashboards.influxql.printer import print_duration, print_expr
from dashboards.influxql.syntax import (
    Binary,
    Boolean,
    Call,
    Duration,
    Expr,
    Integer,
    Number,
    Pattern,
    Ref,
    Select,
    Star,
    Text,
)

SELECTORS = frozenset({"max", "min", "first", "last", "percentile", "top", "bottom"})
AGGREGATES = frozenset({"count", "sum", "mean", "median", "mode", "stddev", "spread"})
TRANSFORMS = frozenset(
    {
        "derivative", "non_negative_derivative", "difference", "non_negative_difference", "cumulative_sum",
        "moving_average", "elapsed",
    }
)  # fmt: skip
_TYPES = {
    Text: "StringLiteral", Integer: "IntegerLiteral", Number: "NumberLiteral", Duration: "DurationLiteral",
    Boolean: "BooleanLiteral", Pattern: "RegexLiteral", Ref: "VarRef", Call: "Call", Star: "Wildcard",
    Binary: "BinaryExpr",
}  # fmt: skip
MOVING_MAX = 10_000
TOP_MAX = 100_000


@dataclass(slots=True)
class _Findings:
    """What the fields of a statement turned out to be."""

    interval_ns: int
    limit: int
    is_inherited: bool
    calls: list[Call] = field(default_factory=list)
    only_selectors: bool = True
    has_distinct: bool = False
    has_fields: bool = False
    ranked: str = ""


def type_name(expr: Expr) -> str:
    """InfluxDB's name for the type of a piece of a query."""
    return f"*influxql.{_TYPES[type(expr)]}"


def check_fields(select: Select, interval_ns: int, *, is_inherited: bool = False) -> None:
    """Checks the selected columns of a statement and that they go together.

    Raises:
        QueryError: they don't, in InfluxDB's words.
    """
    findings = _Findings(interval_ns, select.limit, is_inherited)
    fields = [item.expr for item in select.fields if not (isinstance(item.expr, Ref) and item.expr.name == "time")]
    for expr in fields:
        _check(expr, findings, is_alone=True)
    if not fields:
        raise QueryError("at least 1 non-time field must be queried")
    if len(findings.calls) > 1 and findings.ranked:
        raise QueryError(f"selector function {findings.ranked}() cannot be combined with other functions")
    if not findings.calls:
        if select.fill.kind in ("none", "linear"):
            raise QueryError(f"fill({select.fill.kind}) must be used with a function")
        if interval_ns and not is_inherited:
            raise QueryError("GROUP BY requires at least one aggregate function")
    if findings.has_distinct and (len(findings.calls) != 1 or findings.has_fields):
        raise QueryError("aggregate function distinct() cannot be combined with other functions or fields")
    if findings.has_fields and not findings.only_selectors:
        raise QueryError("mixing aggregate and non-aggregate queries is not supported")
    if findings.has_fields and len(findings.calls) > 1:
        raise QueryError("mixing multiple selector functions with tags or fields is not supported")


def is_constant(expr: Expr) -> bool:
    """Tells whether an expression names no field and calls no function."""
    if isinstance(expr, Binary):
        return is_constant(expr.left) and is_constant(expr.right)
    return not isinstance(expr, Ref | Call | Star | Pattern)


def _check(expr: Expr, findings: _Findings, *, is_alone: bool) -> None:
    match expr:
        case Ref():
            findings.has_fields = True
        case Star() | Pattern():
            findings.has_fields = True
            if not is_alone:
                what = "wildcard" if isinstance(expr, Star) else "regex"
                raise QueryError(f"unable to use {what} in a binary expression")
        case Call():
            findings.calls.append(expr)
            _check_call(expr, findings, is_alone=is_alone)
        case Binary(_, left, right) if not is_constant(expr):
            for side in (left, right):
                if not is_constant(side):
                    _check(side, findings, is_alone=False)
        case _:
            raise QueryError("field must contain at least one variable")


def _check_call(call: Call, findings: _Findings, *, is_alone: bool) -> None:
    name, arguments = call.name, call.arguments
    if name in TRANSFORMS:
        _check_transform(call, findings, is_alone=is_alone)
        return
    if name == "distinct":
        _check_distinct(arguments)
        findings.has_distinct, findings.only_selectors = True, False
        return
    if name in ("top", "bottom"):
        _check_ranked(call, findings)
        return
    if name == "percentile":
        if len(arguments) != 2:
            raise QueryError(f"invalid number of arguments for percentile, expected 2, got {len(arguments)}")
        if not isinstance(arguments[1], Integer | Number):
            raise QueryError("expected float argument in percentile()")
    elif name in SELECTORS | AGGREGATES:
        findings.only_selectors &= name in SELECTORS
        if len(arguments) != 1:
            raise QueryError(f"invalid number of arguments for {name}, expected 1, got {len(arguments)}")
        match arguments[0]:
            case Call("distinct", inner) if name == "count":
                _check_distinct(inner)
                return
    else:
        raise QueryError(f"undefined function {name}()")
    _check_symbol(name, arguments[0], findings, is_alone=is_alone)


def _check_symbol(name: str, argument: Expr, findings: _Findings, *, is_alone: bool) -> None:
    match argument:
        case Ref():
            return
        case Star() | Pattern():
            if not is_alone:
                what = "wildcard" if isinstance(argument, Star) else "regex field"
                raise QueryError(f"unsupported expression with {what}: {name}()")
            findings.only_selectors = False
            return
    raise QueryError(f"expected field argument in {name}()")


def _check_distinct(arguments: tuple[Expr, ...]) -> None:
    if not arguments:
        raise QueryError("distinct function requires at least one argument")
    if len(arguments) != 1:
        raise QueryError("distinct function can only have one argument")
    if not isinstance(arguments[0], Ref):
        raise QueryError("expected field argument in distinct()")


def _check_ranked(call: Call, findings: _Findings) -> None:
    name, arguments = call.name, call.arguments
    if findings.ranked:
        raise QueryError(f"selector function {findings.ranked}() cannot be combined with other functions")
    if len(arguments) < 2:
        raise QueryError(f"invalid number of arguments for {name}, expected at least 2, got {len(arguments)}")
    limit = arguments[-1]
    if not isinstance(limit, Integer):
        raise QueryError(f"expected integer as last argument in {name}(), found {print_expr(limit)}")
    if limit.value <= 0:
        raise QueryError(f"limit ({limit.value}) in {name} function must be at least 1")
    if 0 < findings.limit < limit.value:
        raise QueryError(
            f"limit ({limit.value}) in {name} function can not be larger than the LIMIT ({findings.limit}) in the "
            "select statement"
        )
    if limit.value > TOP_MAX:
        raise QueryError(f"limit ({limit.value}) in {name} function must be at most {TOP_MAX} here")
    if not isinstance(arguments[0], Ref):
        raise QueryError(f"expected first argument to be a field in {name}(), found {print_expr(arguments[0])}")
    for argument in arguments[1:-1]:
        if not isinstance(argument, Ref):
            raise QueryError(f"only fields or tags are allowed in {name}(), found {print_expr(argument)}")
        findings.has_fields = True
    findings.ranked = name


def _check_transform(call: Call, findings: _Findings, *, is_alone: bool) -> None:
    _check_transform_arguments(call)
    findings.only_selectors = False
    name, inner = call.name, call.arguments[0]
    if not isinstance(inner, Call):
        if findings.interval_ns and not findings.is_inherited:
            raise QueryError(f"aggregate function required inside the call to {name}")
        _check_symbol(name, inner, findings, is_alone=is_alone)
        return
    if not findings.interval_ns:
        raise QueryError(f"{name} aggregate requires a GROUP BY interval")
    if inner.name == "distinct":
        _check_distinct(inner.arguments)
    elif inner.name in ("top", "bottom"):
        raise QueryError(f"{inner.name}() inside of {name}() is not available here")
    else:
        _check_call(inner, findings, is_alone=is_alone)


def _check_transform_arguments(call: Call) -> None:
    name, arguments = call.name, call.arguments
    got = len(arguments)
    if name in ("derivative", "non_negative_derivative", "elapsed"):
        if not 1 <= got <= 2:
            raise QueryError(
                f"invalid number of arguments for {name}, expected at least 1 but no more than 2, got {got}"
            )
        if got == 2:
            _check_unit(name, arguments[1])
    elif name == "moving_average":
        if got != 2:
            raise QueryError(f"invalid number of arguments for moving_average, expected 2, got {got}")
        _check_length(arguments[1])
    elif got != 1:
        raise QueryError(f"invalid number of arguments for {name}, expected 1, got {got}")


def _check_unit(name: str, unit: Expr) -> None:
    if not isinstance(unit, Duration):
        raise QueryError(f"second argument to {name} must be a duration, got {type_name(unit)}")
    if unit.ns <= 0:
        raise QueryError(f"duration argument must be positive, got {print_duration(unit.ns)}")


def _check_length(length: Expr) -> None:
    if not isinstance(length, Integer):
        raise QueryError(f"second argument for moving_average must be an integer, got {type_name(length)}")
    if length.value <= 1:
        raise QueryError(f"moving_average window must be greater than 1, got {length.value}")
    if length.value > MOVING_MAX:
        raise QueryError(f"moving_average window must be at most {MOVING_MAX} here, got {length.value}")
