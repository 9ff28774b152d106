"""Times in queries: what a WHERE says of them, and the windows of GROUP BY time()."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

import numpy as np

from dashboards.influxql.errors import QueryError
from dashboards.influxql.points import Ints
from dashboards.influxql.printer import print_expr
from dashboards.influxql.syntax import Binary, Boolean, Call, Duration, Expr, Integer, Number, Pattern, Ref, Text

MIN_NS = -(1 << 63) + 2
MAX_NS = (1 << 63) - 2
_CLOCK = r"(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?"
_MOMENT = re.compile(rf"(\d{{4}})-(\d\d)-(\d\d)(?:(?: {_CLOCK})|(?:T{_CLOCK}(Z|[+-]\d\d:\d\d)))?\Z", re.ASCII)
_LITERALS = {
    Text: "StringLiteral", Pattern: "RegexLiteral", Ref: "VarRef", Call: "Call", Boolean: "BooleanLiteral",
    Binary: "BinaryExpr",
}  # fmt: skip
_QUARTER_NS = 900_000_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Span:
    """A range of time, both ends included; None is open."""

    start_ns: int | None = None
    end_ns: int | None = None

    def meet(self, other: "Span") -> "Span":
        """Returns what both have in common."""
        starts = [value for value in (self.start_ns, other.start_ns) if value is not None]
        ends = [value for value in (self.end_ns, other.end_ns) if value is not None]
        return Span(max(starts, default=None), min(ends, default=None))


def split_time(condition: Expr | None, now_ns: int, zone: str) -> tuple[Expr | None, Span]:
    """Parts a condition into what it says of tags and fields, and the range of time.

    Raises:
        QueryError: a time is compared with what is none, or stands under OR.
    """
    if condition is None:
        return None, Span()
    match condition:
        case Binary("AND", left, right):
            first, span = split_time(left, now_ns, zone)
            second, other = split_time(right, now_ns, zone)
            rest = second if first is None else first if second is None else Binary("AND", first, second)
            return rest, span.meet(other)
        case Binary("OR", left, right):
            if _names_time(left) or _names_time(right):
                raise QueryError("cannot use OR with time: put the time range outside of the OR, with AND")
            for side in (left, right):
                split_time(side, now_ns, zone)
            return condition, Span()
        case Binary(operator, left, right) if operator not in ("+", "-", "*", "/", "%"):
            if not _is_time(left) and not _is_time(right):
                _check_comparison(condition)
                return condition, Span()
            turned = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}.get(operator, operator)
            bound = _span(operator, right, now_ns, zone) if _is_time(left) else _span(turned, left, now_ns, zone)
            return None, bound
        case Boolean():
            return condition, Span()
    raise QueryError(f"invalid condition expression: {print_expr(condition)}")


def _is_time(expr: Expr) -> bool:
    return isinstance(expr, Ref) and expr.name.lower() == "time"


def _names_time(expr: Expr) -> bool:
    if isinstance(expr, Binary):
        return _names_time(expr.left) or _names_time(expr.right)
    return _is_time(expr)


def _check_comparison(condition: Expr) -> None:
    if _names_time(condition):
        raise QueryError(f"invalid time expression: {print_expr(condition)}")
    _check_calls(condition)


def _check_calls(expr: Expr) -> None:
    if isinstance(expr, Call):
        raise QueryError(f"invalid function call in condition: {print_expr(expr)}")
    if isinstance(expr, Binary):
        _check_calls(expr.left)
        _check_calls(expr.right)


def _span(operator: str, expr: Expr, now_ns: int, zone: str) -> Span:
    at_ns = _clamp(moment_ns(expr, now_ns, zone))
    match operator:
        case "=":
            return Span(at_ns, at_ns)
        case ">":
            return Span(at_ns + 1, None)
        case ">=":
            return Span(at_ns, None)
        case "<":
            return Span(None, at_ns - 1)
        case "<=":
            return Span(None, at_ns)
    raise QueryError(f"invalid time comparison operator: {operator}")


def _clamp(ns: int) -> int:
    return min(max(ns, MIN_NS + 1), MAX_NS - 1)


def moment_ns(expr: Expr, now_ns: int, zone: str) -> int:
    """Returns the nanoseconds since the epoch that an expression means: now(), a number, a duration, a date, sums.

    Raises:
        QueryError: it means no time.
    """
    match expr:
        case Integer(value) | Duration(value):
            return value
        case Number(value) if abs(value) < 1e18:
            return int(value)
        case Call("now", ()):
            return now_ns
        case Text(value) if re.match(r"\d{4}-\d{2}-\d{2}", value):
            return parse_moment_ns(value, zone)
        case Binary("+", left, right):
            return moment_ns(left, now_ns, zone) + moment_ns(right, now_ns, zone)
        case Binary("-", left, right):
            return moment_ns(left, now_ns, zone) - moment_ns(right, now_ns, zone)
        case Binary("*", left, right):
            return moment_ns(left, now_ns, zone) * moment_ns(right, now_ns, zone)
    kind = _LITERALS.get(type(expr), type(expr).__name__)
    raise QueryError(f"invalid operation: time and *influxql.{kind} are not compatible")


def parse_moment_ns(text: str, zone: str) -> int:
    """Reads a date, a date and time with a space between, both in `zone`, or RFC 3339.

    >>> parse_moment_ns("2026-01-01T00:00:00.5Z", ""), parse_moment_ns("2026-01-01", "Europe/Berlin")
    (1767225600500000000, 1767222000000000000)

    Raises:
        QueryError: there is no such time.
    """
    found = _MOMENT.match(text)
    if not found:
        raise QueryError("invalid timestamp string")
    groups = found.groups()
    year, month, day = (int(text) for text in groups[:3])
    *clock, fraction = groups[7:11] if groups[11] else groups[3:7]
    hour, minute, second = (int(text or 0) for text in clock)
    place: tzinfo = ZoneInfo(zone) if zone else UTC
    try:
        if groups[11]:
            place = datetime.fromisoformat(f"2000-01-01T00:00:00{groups[11]}").tzinfo or UTC
        moment = datetime(year, month, day, hour, minute, second, tzinfo=place)
        seconds = (moment - EPOCH) // timedelta(seconds=1)
    except (ValueError, OverflowError) as error:
        raise QueryError("invalid timestamp string") from error
    return seconds * 1_000_000_000 + int((fraction or "").ljust(9, "0"))


@dataclass(frozen=True, slots=True)
class Windows:
    """GROUP BY time(interval, offset) in a time zone; an interval of 0 is none."""

    interval_ns: int = 0
    offset_ns: int = 0
    zone: str = ""

    def starts(self, time_ns: Ints) -> Ints:
        """Returns int64 (n,), the start of the window that each time is in.

        >>> Windows(10, 3).starts(np.array([2, 3, 12, 13])).tolist()
        [-7, 3, 3, 13]
        """
        base = time_ns - self.offset_ns
        if not self.zone:
            return time_ns - base % self.interval_ns
        away = zone_offsets(base, self.zone)
        start = base - (base + away) % self.interval_ns + self.offset_ns
        # A window that begins before a change of the clocks begins at its own local time.
        moved = away - zone_offsets(start, self.zone)
        return start + np.where((moved != 0) & (np.abs(moved) < self.interval_ns), moved, 0)

    def start(self, time_ns: int) -> int:
        """The same for one time."""
        return int(self.starts(np.array([time_ns], np.int64))[0])

    def all_starts(self, first_ns: int, last_ns: int) -> Ints:
        """Returns the starts of all windows from that of `first_ns` to that of `last_ns`, ascending."""
        first, last = self.start(first_ns), self.start(last_ns)
        starts = first + self.interval_ns * np.arange((last - first) // self.interval_ns + 1)
        if not self.zone:
            return starts
        around = starts[:, None] + np.array([0, self.interval_ns // 2])
        local = np.unique(self.starts(around.ravel()))
        return local[(local >= first) & (local <= last)]


def zone_offsets(time_ns: Ints, zone: str) -> Ints:
    """Returns int64 (n,): how far local time is ahead of UTC, ns; looks each quarter of an hour up once."""
    quarters, place = np.unique(time_ns // _QUARTER_NS, return_inverse=True)
    info = ZoneInfo(zone)
    offsets = np.empty(len(quarters), np.int64)
    for at, quarter in enumerate(quarters.tolist()):
        try:
            moment = datetime.fromtimestamp(quarter * 900, info)
        except (ValueError, OverflowError, OSError):
            offsets[at] = 0
            continue
        offsets[at] = (moment.utcoffset() or timedelta()) // timedelta(microseconds=1) * 1_000
    picked: Ints = offsets[place]
    return picked
