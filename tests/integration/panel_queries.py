"""Every query of every dashboard and rule as Grafana sends it, and what its answer must hold: for tests and for scripts/panel_answers.py."""

import json
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


def comparable(series: Series) -> list[Any]:
    """An answer without what InfluxDB leaves open: the order of rows of one time, and the last bits of a sum."""
    return [
        [one.get("tags"), one["columns"], sorted((_plain(row) for row in one["values"]), key=repr)] for one in series
    ]


def differs(text: str, one: Series, other: Series) -> bool:
    """Tells whether two answers to a query are not the same, as far as InfluxQL says what they must be."""
    mine, theirs = comparable(_settled(text, one)), comparable(_settled(text, other))
    if re.match(r"SELECT (top|bottom)\(", text):
        # Of equally high rows either may be the tenth: the values are the same, not the names.
        mine, theirs = ([sorted(row[1] for row in kept[2]) for kept in answer] for answer in (mine, theirs))
    return mine != theirs


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


def _plain(row: Sequence[Any]) -> list[Any]:
    return [float(f"{cell:.12g}") if isinstance(cell, int | float) else cell for cell in row]
