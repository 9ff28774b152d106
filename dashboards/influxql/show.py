"""SHOW: what measurements, tags, fields and series there are."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dashboards.influxql.catalog import Catalog
from dashboards.influxql.instants import split_time
from dashboards.influxql.points import Budget, Tags
from dashboards.influxql.regex import Regex
from dashboards.influxql.sources import Stored, may_hold
from dashboards.influxql.syntax import Expr, Measurement, Pattern, Show

_KINDS = {"int": "integer", "bool": "boolean"}
_EVERYTHING = Measurement(Pattern(".*"))
_ESCAPES = str.maketrans({",": "\\,", "=": "\\=", " ": "\\ "})
POLICY_ROW = ["autogen", "0s", "168h0m0s", 1, True]

Series = list[dict[str, Any]]


def show_series(show: Show, catalog: Catalog, database: str, now_ns: int, budget: Budget) -> Series:
    """Answers a SHOW statement.

    A time range in WHERE is read and then left aside: what there is, is told whenever it was.

    Raises:
        QueryError: it can't be answered.
    """
    if show.what == "DATABASES":
        return [{"name": "databases", "columns": ["name"], "values": [[catalog.database]]}]
    database = show.database or database
    catalog.check_database(database)
    if show.what == "RETENTION POLICIES":
        columns = ["name", "duration", "shardGroupDuration", "replicaN", "default"]
        return [{"columns": columns, "values": [POLICY_ROW]}]
    condition = split_time(show.condition, now_ns, "")[0]
    stored = catalog.resolve(show.sources or (_EVERYTHING,), database)
    match show.what:
        case "MEASUREMENTS":
            names = [[origin.name] for origin in stored if condition is None or _matching(origin, condition, budget)]
            names = _page(names, show)
            return [{"name": "measurements", "columns": ["name"], "values": names}] if names else []
        case "FIELD KEYS":
            return _each(stored, show, ["fieldKey", "fieldType"], _field_rows)
        case "SERIES":
            keys = [[key] for origin in stored for key in _keys(origin, condition, budget)]
            budget.check_series(len(keys))
            keys = _page(sorted(keys), show)
            return [{"columns": ["key"], "values": keys}] if keys else []
        case "TAG KEYS":
            known = [origin for origin in stored if condition is None or _matching(origin, condition, budget)]
            return _each(known, show, ["tagKey"], lambda origin: [[tag] for tag in _wanted_keys(show, origin)])
    return _each(stored, show, ["key", "value"], lambda origin: _value_rows(show, origin, condition, budget))


def _page(rows: list[list[Any]], show: Show) -> list[list[Any]]:
    return rows[show.offset : show.offset + show.limit] if show.limit else rows[show.offset :]


def _each(stored: Sequence[Stored], show: Show, columns: list[str], rows_of: Any) -> Series:
    series = []
    for origin in stored:
        rows = _page(rows_of(origin), show)
        if rows:
            series.append({"name": origin.name, "columns": columns, "values": rows})
    first = show.soffset
    return series[first : first + show.slimit] if show.slimit else series[first:]


def _matching(origin: Stored, condition: Expr | None, budget: Budget) -> list[Tags]:
    series = origin.series(budget)
    budget.check()
    if condition is None:
        return list(series)
    return [series[at] for at in np.flatnonzero(may_hold(condition, series, origin.schema)).tolist()]


def _field_rows(origin: Stored) -> list[list[Any]]:
    return [[name, _KINDS.get(kind, kind)] for name, kind in sorted(origin.schema.fields.items())]


def _wanted_keys(show: Show, origin: Stored) -> list[str]:
    tags = sorted(origin.schema.tags)
    keys = show.keys
    if isinstance(keys, Pattern):
        regex = Regex(keys.text)
        return [tag for tag in tags if regex.search(tag) == (show.key_operator == "=~")]
    match show.key_operator:
        case "IN" | "=":
            return [tag for tag in tags if tag in keys]
        case "!=":
            return [tag for tag in tags if tag not in keys]
    return tags


def _value_rows(show: Show, origin: Stored, condition: Expr | None, budget: Budget) -> list[list[Any]]:
    wanted = _wanted_keys(show, origin)
    if not wanted:
        return []
    series = _matching(origin, condition, budget)
    place = {tag: at for at, tag in enumerate(origin.schema.tags)}
    rows = [[tag, value] for tag in wanted for value in sorted({tags[place[tag]] for tags in series}) if value]
    budget.take_values(2 * len(rows))
    return rows


def _keys(origin: Stored, condition: Expr | None, budget: Budget) -> list[str]:
    order = sorted(range(len(origin.schema.tags)), key=lambda at: origin.schema.tags[at])
    return [
        ",".join([origin.name, *(f"{origin.schema.tags[at]}={tags[at].translate(_ESCAPES)}" for at in order)])
        for tags in _matching(origin, condition, budget)
    ]
