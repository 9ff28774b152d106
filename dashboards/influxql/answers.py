"""Tables as the series of a JSON answer."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from dashboards.influxql.points import Budget, Column, Ints
from dashboards.influxql.sources import Table
from dashboards.influxql.syntax import Select

EPOCHS_NS = {
    "ns": 1, "n": 1, "u": 1_000, "µ": 1_000, "ms": 1_000_000, "s": 1_000_000_000, "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}  # fmt: skip


def select_series(select: Select, tables: Sequence[Table], epoch: str, budget: Budget) -> list[dict[str, Any]]:
    """Returns {"name", "tags", "columns", "values"} for each group that has rows, LIMIT and OFFSET applied.

    Raises:
        QueryError: the answer is too long.
    """
    series: list[dict[str, Any]] = []
    for table in tables:
        if not len(table.group):
            continue
        starts = np.ones(len(table.group), np.bool_)
        starts[1:] = table.group[1:] != table.group[:-1]
        begins = np.flatnonzero(starts).tolist()
        for begin, end in zip(begins, [*begins[1:], len(table.group)], strict=True):
            first = min(begin + select.offset, end)
            last = min(first + select.limit, end) if select.limit else end
            if first == last:
                continue
            budget.take_values((last - first) * (len(table.names) + 1))
            series.append(_series(table, first, last, epoch, select.zone))
    return series


def _series(table: Table, first: int, last: int, epoch: str, zone: str) -> dict[str, Any]:
    columns = [times(table.time_ns[first:last], epoch, zone)]
    columns += [cells(column, first, last) for column in table.columns]
    found: dict[str, Any] = {"name": table.measurement}
    if table.tags:
        found["tags"] = dict(zip(table.tags, table.groups[int(table.group[first])], strict=True))
    found["columns"] = [table.time_name, *table.names]
    found["values"] = [list(row) for row in zip(*columns, strict=True)]
    return found


def cells(column: Column, first: int, last: int) -> list[Any]:
    """Returns values for JSON; what isn't there, and what JSON can't say, is None."""
    values, valid = column.values[first:last], column.valid[first:last]
    if column.kind == "float":
        valid = valid & np.isfinite(values)
    listed: list[Any] = values.tolist()
    if not valid.all():
        listed = [value if is_there else None for value, is_there in zip(listed, valid.tolist(), strict=True)]
    return listed


def times(time_ns: Ints, epoch: str, zone: str) -> list[Any]:
    """Returns times as whole units since the epoch, or as RFC 3339 in the query's time zone.

    >>> times(np.array([1_500_000_000], np.int64), "ms", ""), times(np.array([1_500_000_000], np.int64), "", "")
    ([1500], ['1970-01-01T00:00:01.5Z'])
    """
    if epoch:
        unit = EPOCHS_NS[epoch]
        numbers: list[Any] = (np.sign(time_ns) * (np.abs(time_ns) // unit)).tolist()
        return numbers
    return [_rfc3339(ns, zone) for ns in time_ns.tolist()]


def _rfc3339(ns: int, zone: str) -> str:
    seconds, rest = divmod(ns, 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, UTC)
    away = "Z"
    if zone:
        moment = moment.astimezone(ZoneInfo(zone))
        away = moment.isoformat()[19:]
        away = "Z" if away == "+00:00" else away
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    return f"{moment:%Y-%m-%dT%H:%M:%S}{fraction}{away}"
