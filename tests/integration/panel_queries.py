"""Every query of every dashboard and rule as Grafana sends it, and what its answer must hold: for tests and for scripts/panel_answers.py."""

import json
import math
import re
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from influx_server import http

from dashboards.grafana.contents import Asked, queries_of, variables_of
from dashboards.grafana.macros import ALL, substitute

Series = Sequence[Mapping[str, Any]]

FOLDER = Path(__file__).parents[2] / "dashboards" / "grafana" / "provisioning"
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.rglob("*.json"))}
RULES = [
    rule
    for group in yaml.safe_load((FOLDER / "alerting" / "rules.yaml").read_text())["groups"]
    for rule in group["rules"]
]


def all_asked() -> Iterator[tuple[str, Asked]]:
    """Yields (uid of the dashboard, query) of all panels, variables and annotations."""
    for uid, dashboard in DASHBOARDS.items():
        for asked in queries_of(dashboard):
            yield uid, asked


def query_of(rule: Mapping[str, Any]) -> str:
    """The query of an alert rule."""
    text: str = rule["data"][0]["model"]["query"]
    return text


@dataclass(frozen=True)
class Database:
    """An InfluxQL endpoint that holds a plant's data; `name` is the data source's default database."""

    url: str
    name: str

    def ask(self, text: str) -> list[dict[str, Any]]:
        """The series of the answer, asked for as Grafana does: POST, times in ms."""
        body = urllib.parse.urlencode({"db": self.name, "q": text, "epoch": "ms"}).encode()
        status, data = http("POST", f"{self.url}/query", body, **{"Content-Type": "application/x-www-form-urlencoded"})
        assert status == 200, (text, data)
        (result,) = json.loads(data)["results"]
        assert "error" not in result, (text, result)
        return list(result.get("series", []))


@dataclass(frozen=True)
class View:
    """What somebody looks at: a time range, the interval that follows from it, and a value for each variable that holds one."""

    from_ms: int
    to_ms: int
    interval_ms: int = 60_000
    chosen: Mapping[str, str] = field(default_factory=dict)

    def filled(self, text: str, dashboard: Mapping[str, Any], **others: str | list[str]) -> str:
        """The query as Grafana sends it: All where that can be chosen, the view's own choice elsewhere."""
        values: dict[str, Any] = {"raw": "raw", "windows": "windows", **self.chosen}
        values |= {name: ALL for name, variable in variables_of(dashboard).items() if variable.get("multi")}
        return substitute(text, values | others, from_ms=self.from_ms, to_ms=self.to_ms, interval_ms=self.interval_ms)


def wanted(text: str) -> list[str]:
    """The columns that a query's outer SELECT names."""
    if text.startswith("SHOW"):
        return ["key", "value"]
    selected = text.removeprefix("SELECT ").split(" FROM ", 1)[0]
    return re.findall(r'AS "(\w+)"', selected) or re.findall(r'"(\w+)"', selected)


def complaint(text: str, series: Series) -> str:
    """What an answer lacks of what the panel of a query shows; "" if nothing."""
    if not series:
        return "no data"
    tags = re.findall(r'"(\w+)"', text.rpartition("GROUP BY")[2]) if "GROUP BY time" in text else []
    for one in series:
        lacking = set(wanted(text)) - set(one["columns"]) | set(tags) - set(one.get("tags", {}))
        if lacking or not one["values"]:
            return f"a series of {one.get('tags')} lacks {sorted(lacking) or 'rows'}"
    cells = (row[one["columns"].index(name)] for one in series for name in wanted(text) for row in one["values"])
    return "" if any(cell is not None for cell in cells) else "only empty cells"


def differs(text: str, one: Series, other: Series) -> bool:
    """Tells whether two answers to a query are not the same, as far as InfluxQL says what they must be.

    The order of rows of one time is left open, and the last bits of a sum; those are all that is left where one sum is
    taken from another that is nearly the same.
    """
    mine, theirs = _settled(text, one), _settled(text, other)
    if [(kept.get("tags"), kept["columns"], len(kept["values"])) for kept in mine] != [
        (kept.get("tags"), kept["columns"], len(kept["values"])) for kept in theirs
    ]:
        return True
    rows, others = _rows(mine), _rows(theirs)
    if re.match(r"SELECT (top|bottom)\(", text):
        # Of equally high rows either may be the tenth: the values are the same, not the names.
        rows, others = (sorted([row[1]] for row in found) for found in (rows, others))
    least = 1e-9 if re.search(r"(derivative|difference)\(", text) else 0.0
    cells = zip((cell for row in rows for cell in row), (cell for row in others for cell in row), strict=True)
    return not all(_alike(cell, others_cell, least) for cell, others_cell in cells)


def _rows(series: Series) -> list[Sequence[Any]]:
    """All rows, those of a series sorted by what is in them."""
    return [
        row
        for one in series
        for row in sorted(
            one["values"], key=lambda row: [("", cell) if _is_number(cell) else (repr(cell), 0) for cell in row]
        )
    ]


def _alike(one: Any, other: Any, least: float) -> bool:
    if _is_number(one) and _is_number(other):
        return math.isclose(one, other, rel_tol=1e-11, abs_tol=least)
    return type(one) is type(other) and one == other


def _is_number(cell: Any) -> bool:
    return isinstance(cell, int | float) and not isinstance(cell, bool)


def _settled(text: str, series: Series) -> Series:
    """Without the rows of the last time where a LIMIT cut: which of them are in is left open."""
    limit = re.search(r" LIMIT (\d+)$", text)
    if limit is None:
        return series
    return [
        {**one, "values": [row for row in one["values"] if row[0] != one["values"][-1][0]]}
        if len(one["values"]) == int(limit[1])
        else one
        for one in series
    ]
