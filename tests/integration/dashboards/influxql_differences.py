"""How answers are compared with InfluxDB's, and where they differ on purpose; each reason stands in docs/influxql.md."""

import math
from typing import Any

from dashboards.influxql.errors import ParseError
from dashboards.influxql.parser import parse
from dashboards.influxql.plan import walk
from dashboards.influxql.syntax import Binary, Call, Duration, Expr, Pattern, Ref, Select, Star
from dashboards.influxql.values import ARITHMETIC

REASONS = (
    "subquery before its range",
    "subquery windows that don't fit",
    "LIMIT with top, bottom or percentile",
    "OFFSET without LIMIT",
    "LIMIT with several functions",
    "percentile of few or equal values",
    "mode of equally frequent values",
    "moving_average over stddev",
    "condition that compares nothing",
    "time inside an expression",
)


def _calls(select: Select) -> list[Call]:
    return [expr for field in select.fields for expr in walk(field.expr) if isinstance(expr, Call)]


def _interval(select: Select) -> int:
    for dimension in select.dimensions:
        match dimension:
            case Call("time", (Duration(ns), *_)):
                return ns
    return 0


def explained(query: str, why: str) -> str:
    """The reason why InfluxDB may answer this query otherwise; "" where it may not."""
    try:
        (select,) = parse(query)
    except (ParseError, ValueError):
        return ""
    if not isinstance(select, Select):
        return ""
    if why == "error or not":
        return _refused(select.condition)
    inner = select.sources[0]
    if isinstance(inner, Select) and _interval(inner):
        if not _interval(select):
            return "subquery before its range"
        if _interval(select) % _interval(inner):
            return "subquery windows that don't fit"
    return _by_functions(select, why)


def _by_functions(select: Select, why: str) -> str:
    calls = _calls(select)
    names = {call.name for call in calls}
    if (select.limit or select.offset) and names & {"top", "bottom", "percentile"}:
        return "LIMIT with top, bottom or percentile"
    if select.offset and not select.limit:
        return "OFFSET without LIMIT"
    if (select.limit or select.offset) and (len(_outer(select)) > 1 or any(_is_wide(call) for call in calls)):
        return "LIMIT with several functions"
    if "percentile" in names:
        return "percentile of few or equal values"
    if any(_has(call, "mode") for call in calls):
        return "mode of equally frequent values"
    if any(call.name == "moving_average" and _has(call, "stddev") for call in calls):
        return "moving_average over stddev"
    return ""


def _refused(condition: Expr | None) -> str:
    """Why we refuse a condition that InfluxDB takes."""
    if not isinstance(condition, Binary):
        return ""
    if condition.operator in ARITHMETIC:
        return "condition that compares nothing"
    if condition.operator == "AND":
        return _refused(condition.left) or _refused(condition.right)
    is_bound = Ref("time") in (condition.left, condition.right) and condition.operator != "OR"
    return "time inside an expression" if Ref("time") in walk(condition) and not is_bound else ""


def _outer(select: Select) -> list[Expr]:
    """The functions that stand side by side in the columns."""
    found, rest = [], [field.expr for field in select.fields]
    while rest:
        expr = rest.pop()
        if isinstance(expr, Call):
            found.append(expr)
        elif isinstance(expr, Binary):
            rest += [expr.left, expr.right]
    return found


def _is_wide(call: Call) -> bool:
    """Whether one call stands for several."""
    return any(isinstance(part, Star | Pattern) for part in walk(call))


def _has(expr: Expr, name: str) -> bool:
    return any(isinstance(part, Call) and part.name == name for part in walk(expr))


def same_value(ours: Any, theirs: Any) -> bool:
    """Numbers to the twelfth digit: sums are taken in another order."""
    if ours == theirs:
        return True
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (ours, theirs))
    return numbers and math.isclose(ours, theirs, rel_tol=1e-9, abs_tol=1e-9)


def difference(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    """What differs between two answers to one statement; "" for nothing. Errors must be the same kind of answer."""
    if "error" in ours or "error" in theirs:
        return "" if ("error" in ours) == ("error" in theirs) else "error or not"
    (left,), (right,) = ours["results"], theirs["results"]
    if "error" in left or "error" in right:
        return "" if ("error" in left) == ("error" in right) else "error or not"
    mine, other = left.get("series", []), right.get("series", [])
    if [(one.get("name"), one.get("tags")) for one in mine] != [(one.get("name"), one.get("tags")) for one in other]:
        return "series"
    for one, two in zip(mine, other, strict=True):
        if one["columns"] != two["columns"]:
            return "columns"
        if len(one["values"]) != len(two["values"]):
            return "rows"
        if [row[0] for row in one["values"]] != [row[0] for row in two["values"]]:
            return "times"
        for row, same in zip(one["values"], two["values"], strict=True):
            if not all(map(same_value, row, same)):
                return "values"
    return ""


def without_zeros(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer without rows that show nothing but zeros: the last bit of a sum says whether a step fell or stood still."""
    results = []
    for result in answer.get("results", []):
        series = [
            {**one, "values": [row for row in one["values"] if not all(same_value(cell or 0, 0) for cell in row[1:])]}
            for one in result.get("series", [])
        ]
        results.append({**result, "series": [one for one in series if one["values"]]})
    return {**answer, "results": results}


def error_of(answer: dict[str, Any]) -> str:
    """The text of an answer's error."""
    (result,) = answer.get("results", [{}]) or [{}]
    return str(answer.get("error", result.get("error", "")))
