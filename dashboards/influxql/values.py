"""Arithmetic and comparisons over columns: what a missing value touches is missing, and compares as false."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from dashboards.influxql.errors import QueryError
from dashboards.influxql.points import Bools, Column, absent
from dashboards.influxql.regex import Regex
from dashboards.influxql.syntax import Binary, Boolean, Call, Duration, Expr, Integer, Number, Pattern, Ref, Star, Text

COMPARISONS = ("=", "!=", "<", "<=", ">", ">=")
ARITHMETIC = ("+", "-", "*", "/", "%")
Lookup = Callable[[Expr], Column]


def constant(expr: Expr, n: int) -> Column:
    """Returns a literal n times.

    Raises:
        QueryError: it is none that has a value.
    """
    there = np.ones(n, np.bool_)
    match expr:
        case Integer(value) | Duration(value):
            return Column("int", np.full(n, value, np.int64), there)
        case Number(value):
            return Column("float", np.full(n, value), there)
        case Boolean(value):
            return Column("bool", np.full(n, value), there)
        case Text(value):
            return Column("string", np.full(n, value, object), there)
    raise QueryError(f"invalid expression: {type(expr).__name__.lower()}")


def evaluate(expr: Expr, n: int, lookup: Lookup, *, is_strict: bool = True) -> Column:
    """Computes an expression over n rows; `lookup` gives the columns of references and calls.

    Arithmetic with what is no number is an error, or, if not `is_strict` as in conditions, not there.
    """
    match expr:
        case Ref() | Call():
            return lookup(expr)
        case Binary(operator, left, right) if operator in ARITHMETIC:
            sides = (evaluate(side, n, lookup, is_strict=is_strict) for side in (left, right))
            return arithmetic(operator, *sides, is_strict=is_strict)
        case Binary(("AND" | "OR") as operator, left, right):
            first, second = holds(left, n, lookup), holds(right, n, lookup)
            return Column("bool", first & second if operator == "AND" else first | second, np.ones(n, np.bool_))
        case Binary():
            return Column("bool", holds(expr, n, lookup), np.ones(n, np.bool_))
        case Star() | Pattern():
            raise QueryError("unable to use wildcard or regex in a binary expression")
    return constant(expr, n)


def holds(expr: Expr, n: int, lookup: Lookup) -> Bools:
    """Tells for n rows whether a condition holds; bool (n,)."""
    match expr:
        case Binary("AND", left, right):
            return holds(left, n, lookup) & holds(right, n, lookup)
        case Binary("OR", left, right):
            return holds(left, n, lookup) | holds(right, n, lookup)
        case Binary(("=~" | "!~") as operator, left, Pattern(pattern)):
            return matches(evaluate(left, n, lookup, is_strict=False), pattern, is_wanted=operator == "=~")
        case Binary(operator, left, right) if operator in COMPARISONS:
            sides = (evaluate(side, n, lookup, is_strict=False) for side in (left, right))
            return compare(operator, *sides)
        case Boolean(value):
            return np.full(n, value)
    raise QueryError("invalid condition expression: compare something with something")


def matches(column: Column, pattern: str, *, is_wanted: bool) -> Bools:
    """Matches each distinct string once; what is no string never matches."""
    if column.kind != "string" or not column.valid.any():
        return np.zeros(len(column.values), np.bool_)
    regex = Regex(pattern)
    known = {value: regex.search(value) == is_wanted for value in set(column.values[column.valid].tolist())}
    found = np.fromiter((known.get(value, False) for value in column.values.tolist()), np.bool_, len(column.values))
    return found & column.valid


def compare(operator: str, left: Column, right: Column) -> Bools:
    """Compares rows; numbers with numbers, strings and booleans with their like, all else is false."""
    numbers = ("float", "int")
    if left.kind != right.kind and not (left.kind in numbers and right.kind in numbers):
        return np.zeros(len(left.values), np.bool_)
    if left.kind in ("string", "bool") and operator not in ("=", "!="):
        return np.zeros(len(left.values), np.bool_)
    a, b = left.values, right.values
    result: npt.NDArray[Any]
    match operator:
        case "=":
            result = a == b
        case "!=":
            result = a != b
        case "<":
            result = a < b
        case "<=":
            result = a <= b
        case ">":
            result = a > b
        case _:
            result = a >= b
    return result.astype(np.bool_) & left.valid & right.valid


def arithmetic(operator: str, left: Column, right: Column, *, is_strict: bool = True) -> Column:
    """Adds, subtracts, multiplies, divides, takes the rest; a division by zero is 0, as InfluxDB has it.

    Raises:
        QueryError: an operand is no number, and `is_strict`.
    """
    for side in (left, right):
        if side.kind not in ("float", "int"):
            if not is_strict:
                return absent("float", len(left.values))
            raise QueryError(f"type error: {operator} needs numbers on both sides: incompatible types: {side.kind}")
    valid = left.valid & right.valid
    is_int = left.kind == right.kind == "int" and operator != "/"
    dtype = np.int64 if is_int else np.float64
    a, b = left.values.astype(dtype), right.values.astype(dtype)
    with np.errstate(all="ignore"):
        match operator:
            case "+":
                values = a + b
            case "-":
                values = a - b
            case "*":
                values = a * b
            case "/":
                values = np.where(b == 0, 0.0, a / np.where(b == 0, 1, b))
            case _:
                values = np.where(b == 0, 0, np.fmod(a, np.where(b == 0, 1, b)))
    return Column("int" if is_int else "float", values, valid & np.isfinite(values.astype(np.float64)))
