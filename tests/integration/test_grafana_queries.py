"""Every query of every dashboard and rule, as Grafana sends it, on a real InfluxDB with what the pipeline wrote."""

import json
import re
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from influx_server import Influx1, http
from plant_log import PARTITIONS, START_US, plant_log

from cloud_processor.processor import Processor
from cloud_processor.settings import ProcessorSettings
from dashboards.grafana.contents import Asked, queries_of, variables_of
from dashboards.grafana.macros import ALL, substitute
from headwater.cli.engines import open_store
from headwater.cli.influx_settings import InfluxSettings
from headwater.cli.pipeline import PipelineSettings
from headwater.testing import ManualClock

pytestmark = pytest.mark.integration

MINUTES = 35
FOLDER = Path(__file__).parents[2] / "dashboards" / "grafana" / "provisioning"
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.rglob("*.json"))}
RULES = [
    rule
    for group in yaml.safe_load((FOLDER / "alerting" / "rules.yaml").read_text())["groups"]
    for rule in group["rules"]
]
ASKED = [
    pytest.param(uid, asked, id=f"{uid}: {asked.place}")
    for uid, dashboard in DASHBOARDS.items()
    for asked in queries_of(dashboard)
]
# Nothing of the kind is in the data, and then the panel shows what it has for nothing.
EMPTY = {'"Degraded"', '"Warning"', '"Info"', '"Health below 40"'}


@dataclass(frozen=True)
class Database:
    """An InfluxQL endpoint that holds the plant's data; `name` is the data source's default database."""

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


@pytest.fixture(scope="module")
def influxdb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with Influx1(tmp_path_factory.mktemp("influx")) as server:
        server.make("raw", "windows", "events")
        pipeline = PipelineSettings(
            data=str(tmp_path_factory.mktemp("data")), store=f"influxdb://127.0.0.1:{server.port}?version=1"
        )
        store, checkpoints = open_store({"pipeline": pipeline, "influx": InfluxSettings()})
        with closing(store), closing(checkpoints):
            settings = ProcessorSettings(partitions=PARTITIONS, health_baseline=30)
            processor = Processor(settings, plant_log(MINUTES)[0], store, checkpoints, ManualClock(START_US))
            while processor.step_once():
                pass
        yield Database(server.url, "events")


def filled(text: str, dashboard: Mapping[str, Any], **chosen: str | list[str]) -> str:
    """The query over the whole time, All chosen where that can be, else the first machine and the short windows."""
    values: dict[str, Any] = {"device": "pump-001", "window": "10s", "raw": "raw", "windows": "windows"}
    values |= {name: ALL for name, variable in variables_of(dashboard).items() if variable.get("multi")}
    end_ms = START_US // 1000 + MINUTES * 60_000
    return substitute(text, values | chosen, from_ms=START_US // 1000, to_ms=end_ms, interval_ms=60_000)


def wanted(text: str) -> list[str]:
    """The columns that a query's outer SELECT names."""
    if text.startswith("SHOW"):
        return ["key", "value"]
    selected = text.removeprefix("SELECT ").split(" FROM ", 1)[0]
    return re.findall(r'AS "(\w+)"', selected) or re.findall(r'"(\w+)"', selected)


@pytest.mark.parametrize(("uid", "asked"), ASKED)
def test_a_query_gives_the_columns_that_its_panel_uses(influxdb: Database, uid: str, asked: Asked) -> None:
    series = influxdb.ask(filled(asked.text, DASHBOARDS[uid]))
    if any(name in asked.place for name in EMPTY):
        assert not series
        return
    assert series, asked.text
    tags = re.findall(r'"(\w+)"', asked.text.rpartition("GROUP BY")[2]) if "GROUP BY time" in asked.text else []
    for one in series:
        assert set(wanted(asked.text)) <= set(one["columns"]), one["columns"]
        assert set(tags) <= set(one.get("tags", {})), one
        assert one["values"]
    places = [one["columns"].index(name) for one in series for name in wanted(asked.text)]
    assert any(row[at] is not None for one in series for at in places for row in one["values"] if at < len(row))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["title"])
def test_a_rule_asks_for_series_with_the_labels_that_its_message_names(
    influxdb: Database, rule: dict[str, Any]
) -> None:
    text = rule["data"][0]["model"]["query"]
    series = influxdb.ask(filled(text, {}))
    assert series, text
    labels = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
    for one in series:
        assert labels <= set(one.get("tags", {})), one
        assert len(one["columns"]) == 2, "Grafana reduces one value a series"


def reduced(rule: dict[str, Any], series: dict[str, Any]) -> float:
    values = [row[1] for row in series["values"] if row[1] is not None]
    by = {"last": lambda some: some[-1], "max": max, "sum": sum}
    return float(by[rule["data"][1]["model"]["reducer"]](values))


def fires(rule: dict[str, Any], value: float) -> bool:
    evaluator = rule["data"][2]["model"]["conditions"][0]["evaluator"]
    return value > evaluator["params"][0] if evaluator["type"] == "gt" else value < evaluator["params"][0]


@pytest.mark.parametrize(
    ("title", "labels"),
    [
        ("Device offline", [{"site": "north-works", "device": "pump-002"}]),
        ("Critical anomaly", [{"site": "north-works", "device": "pump-001", "metric": "bearing_temp_cel"}]),
        ("Dead letters", [{"instance": "shard-0"}]),
        ("Unknown frames", []),
        ("Pipeline silent", []),
    ],
)
def test_a_rule_fires_for_what_happened_and_for_nothing_else(
    influxdb: Database, title: str, labels: list[dict[str, str]]
) -> None:
    rule = next(rule for rule in RULES if rule["title"] == title)
    series = influxdb.ask(filled(rule["data"][0]["model"]["query"], {}))
    assert [one["tags"] for one in series if fires(rule, reduced(rule, one))] == labels


def test_several_values_and_names_with_special_signs_are_taken_literally(influxdb: Database) -> None:
    dashboard = DASHBOARDS["headwater-anomalies"]
    (text,) = [asked.text for asked in queries_of(dashboard) if asked.place.startswith("variable device")]
    both = influxdb.ask(filled(text, dashboard, site=["north-works", "harbour"]))
    assert {row[1] for one in both for row in one["values"]} == {"pump-001", "pump-002", "compressor-001"}
    assert influxdb.ask(filled(text, dashboard, site="n.*")) == []
    assert influxdb.ask(filled(text, dashboard, site=["a/b", "x$/ OR 1=1"])) == []


def test_the_newest_point_speaks_for_a_component_not_an_older_one_with_more_fields(influxdb: Database) -> None:
    dashboard = DASHBOARDS["headwater-maintenance"]
    (table,) = [asked.text for asked in queries_of(dashboard) if '"Components, worst first"' in asked.place]
    rows = [dict(zip(one["columns"], one["values"][0], strict=True)) for one in influxdb.ask(filled(table, dashboard))]
    assert len(rows) == 11
    assert [row["rul_h"] for row in rows if row["health"] > 99] == [None] * sum(row["health"] > 99 for row in rows)
