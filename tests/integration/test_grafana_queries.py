"""Every query of every dashboard and rule, as Grafana sends it, on a real InfluxDB with what the pipeline wrote."""

import json
import re
import urllib.parse
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from influx_server import Influx1, http
from panel_queries import DASHBOARDS, RULES, Database, View, all_asked, complaint, differs, query_of
from plant_log import PARTITIONS, START_US, plant_log

from cloud_processor.processor import Processor
from cloud_processor.settings import ProcessorSettings
from cloud_processor.twin import OFFLINE, ONLINE
from dashboards.app import make_app
from dashboards.grafana.contents import Asked, queries_of
from dashboards.server import PageServer
from dashboards.settings import DashboardSettings
from headwater.cli.engines import open_points, open_reader, open_store
from headwater.cli.influx_settings import InfluxSettings
from headwater.cli.pipeline import PipelineSettings
from headwater.cli.shared import table
from headwater.instant import US_PER_S
from headwater.io.clock_system import SystemClock
from headwater.io.log_memory import MemoryLog
from headwater.settings import Table
from headwater.testing import ManualClock
from simulators.plant import Plant

pytestmark = pytest.mark.integration

MINUTES = 35
ASKED = [pytest.param(uid, asked, id=f"{uid}: {asked.place}") for uid, asked in all_asked()]
# Nothing of the kind is in the data, and then the panel shows what it has for nothing.
EMPTY = {'"Degraded"', '"Warning"', '"Info"', '"Health below 40"'}


@pytest.fixture(scope="module")
def log() -> MemoryLog:
    return plant_log(MINUTES)[0]


def fill(log: MemoryLog, pipeline: PipelineSettings) -> dict[str, Table]:
    """Runs the processor over the log into the store that the settings name; returns them."""
    settings: dict[str, Table] = {"pipeline": pipeline, "influx": InfluxSettings()}
    store, checkpoints = open_store(settings)
    with closing(store), closing(checkpoints):
        # As if it ran with the plant: what two shards append in 20 s, every 20 s.
        own, clock = ProcessorSettings(partitions=PARTITIONS, health_baseline=30, records_max=4), ManualClock(START_US)
        processor = Processor(own, log, store, checkpoints, clock, tell_every_us=own.pipeline_every_us)
        clock.advance(20 * US_PER_S)
        while processor.step_once():
            clock.advance(20 * US_PER_S)
    return settings


@pytest.fixture(scope="module")
def influxdb(tmp_path_factory: pytest.TempPathFactory, log: MemoryLog) -> Iterator[Database]:
    with Influx1(tmp_path_factory.mktemp("influx")) as server:
        server.make("raw", "windows", "events")
        url = f"influxdb://127.0.0.1:{server.port}?version=1"
        fill(log, PipelineSettings(data=str(tmp_path_factory.mktemp("data")), store=url))
        yield Database(server.url, "events")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, log: MemoryLog) -> Iterator[Database]:
    """The page over the embedded store, as the data source "Headwater page" asks it."""
    settings = fill(log, PipelineSettings(data=str(tmp_path_factory.mktemp("embedded"))))
    with closing(open_reader(table(settings, "pipeline", PipelineSettings))) as reader:
        points = open_points(settings)
        assert points is not None
        shown = DashboardSettings()
        app = make_app(reader, counters=None, simulator=None, settings=shown, clock=SystemClock(), points=points)
        server = PageServer(app, "127.0.0.1", 0)
        yield Database(f"http://127.0.0.1:{server.start()}", shown.influxql_database)
        server.stop()
        points.close()


# The whole time, and the first machine and the short windows where one must be chosen.
VIEW = View(START_US // 1000, START_US // 1000 + MINUTES * 60_000, chosen={"device": "pump-001", "window": "10s"})
filled = VIEW.filled


@pytest.mark.parametrize(("uid", "asked"), ASKED)
def test_a_query_gives_the_columns_that_its_panel_uses(influxdb: Database, uid: str, asked: Asked) -> None:
    series = influxdb.ask(filled(asked.text, DASHBOARDS[uid]))
    if any(name in asked.place for name in EMPTY):
        assert not series
        return
    assert complaint(asked.text, series) == ""


@pytest.mark.parametrize(("uid", "asked"), ASKED)
def test_the_page_gives_the_answer_of_influxdb(influxdb: Database, page: Database, uid: str, asked: Asked) -> None:
    text = filled(asked.text, DASHBOARDS[uid])
    mine, theirs = page.ask(text), influxdb.ask(text)
    assert not differs(text, mine, theirs), (mine, theirs)


def test_what_an_answer_lacks_and_where_two_differ_is_seen() -> None:
    text = 'SELECT max("lag") AS "lag" FROM "pipeline" WHERE time > 0 GROUP BY time(1m), "instance" fill(null)'
    right = [{"tags": {"instance": "a"}, "columns": ["time", "lag"], "values": [[0, None], [60, 0.1 + 0.2]]}]
    assert complaint(text, right) == ""
    assert complaint(text, []) == "no data"
    assert "instance" in complaint(text, [{**right[0], "tags": {}}])
    assert "lag" in complaint(text, [{**right[0], "columns": ["time", "max"]}])
    assert complaint(text, [{**right[0], "values": [[0, None]]}]) == "only empty cells"
    assert not differs(text, right, [{**right[0], "values": [[60, 0.3], [0, None]]}])
    assert differs(text, right, [{**right[0], "values": [[0, None], [60, 0.3000001]]}])
    assert differs(text, right, [{**right[0], "values": [[0, 0.0], [60, 0.3]]}])
    assert differs(text, right, [])
    # Of the rows of the last time that a LIMIT lets through, any may have been taken.
    cut = 'SELECT "value" FROM "telemetry" ORDER BY time DESC LIMIT 3'
    newest = {"columns": ["time", "value"], "values": [[9, 1], [8, 2], [7, 3]]}
    assert not differs(cut, [newest], [{**newest, "values": [[9, 1], [8, 2], [7, 4]]}])
    assert differs(cut, [newest], [{**newest, "values": [[9, 1], [8, 5], [7, 3]]}])
    assert differs("SELECT difference(x)", [newest], [{**newest, "values": [[9, 1], [8, 2], [7, 3.00001]]}])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["title"])
def test_a_rule_asks_for_series_with_the_labels_that_its_message_names(
    influxdb: Database, rule: dict[str, Any]
) -> None:
    text = query_of(rule)
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
        ("Lag grows", []),
    ],
)
def test_a_rule_fires_for_what_happened_and_for_nothing_else(
    influxdb: Database, title: str, labels: list[dict[str, str]]
) -> None:
    rule = next(rule for rule in RULES if rule["title"] == title)
    series = influxdb.ask(filled(query_of(rule), {}))
    assert [one["tags"] for one in series if fires(rule, reduced(rule, one))] == labels


def test_the_rule_of_lag_fires_where_it_grows_and_not_where_it_swings(influxdb: Database) -> None:
    rule = next(rule for rule in RULES if rule["title"] == "Lag grows")
    http("POST", f"{influxdb.url}/query", urllib.parse.urlencode({"q": 'CREATE DATABASE "lags"'}).encode())
    shapes = {
        "grows": range(0, 3_000, 100),
        "swings": [0, 8, 3] * 10,
        "stays": [700] * 30,
        "shrinks": range(900, 0, -30),
    }
    lines = [
        f"pipeline,stage=log,instance={name} lag={lag}i {(START_US + number * 10 * US_PER_S) * 1_000}"
        for name, lags in shapes.items()
        for number, lag in enumerate(lags)
    ]
    assert http("POST", f"{influxdb.url}/write?db=lags", "\n".join(lines).encode())[0] == 204
    series = Database(influxdb.url, "lags").ask(filled(query_of(rule), {}))
    assert {one["tags"]["instance"] for one in series} == shapes.keys()
    assert [one["tags"]["instance"] for one in series if fires(rule, reduced(rule, one))] == ["grows"]


def test_several_values_and_names_with_special_signs_are_taken_literally(influxdb: Database) -> None:
    dashboard = DASHBOARDS["headwater-anomalies"]
    (text,) = [asked.text for asked in queries_of(dashboard) if asked.place.startswith("variable device")]
    both = influxdb.ask(filled(text, dashboard, site=["north-works", "harbour"]))
    assert {row[1] for one in both for row in one["values"]} == {"pump-001", "pump-002", "compressor-001"}
    assert influxdb.ask(filled(text, dashboard, site="n.*")) == []
    assert influxdb.ask(filled(text, dashboard, site=["a/b", "x$/ OR 1=1"])) == []


def test_the_map_has_the_devices_that_say_where_they_stand_and_what_state_they_are_in(
    influxdb: Database, page: Database
) -> None:
    dashboard = DASHBOARDS["headwater-fleet"]
    (text,) = [asked.text for asked in queries_of(dashboard) if '"Map"' in asked.place]
    first, unlocated, third, last = Plant(7, 4, start_us=START_US).machines
    for database in (influxdb, page):
        points = {
            (one["tags"]["site"], one["tags"]["device"]): dict(zip(one["columns"], one["values"][0], strict=True))
            for one in database.ask(filled(text, dashboard))
            if len(one["values"]) == 1
        }
        assert {who: (point["lat"], point["lon"], point["state"]) for who, point in points.items()} == {
            (machine.site, machine.device): (machine.location.lat, machine.location.lon, state)
            for machine, state in ((first, ONLINE), (third, ONLINE), (last, OFFLINE))
        }
        chosen = database.ask(filled(text, dashboard, site=[unlocated.site, third.site]))
        assert [one["tags"]["device"] for one in chosen] == [third.device]


def test_a_device_that_ceases_to_say_where_it_stands_leaves_the_map(influxdb: Database) -> None:
    dashboard = DASHBOARDS["headwater-fleet"]
    (text,) = [asked.text for asked in queries_of(dashboard) if '"Map"' in asked.place]
    http("POST", f"{influxdb.url}/query", urllib.parse.urlencode({"q": 'CREATE DATABASE "moves"'}).encode())
    at_ns = START_US * 1_000
    lines = (
        f"device,site=s,device=gone state=1i,lat=47.5,lon=8.5 {at_ns}",
        f"device,site=s,device=gone state=1i {at_ns + 1}",
        f"device,site=s,device=moved state=1i,lat=47.5,lon=8.5 {at_ns}",
        f"device,site=s,device=moved state=2i,lat=-90,lon=-180 {at_ns + 1}",
        f"device,site=s,device=never state=0i {at_ns}",
    )
    assert http("POST", f"{influxdb.url}/write?db=moves", "\n".join(lines).encode())[0] == 204
    (one,) = Database(influxdb.url, "moves").ask(filled(text, dashboard))
    assert (one["tags"]["device"], one["values"][0][1:]) == ("moved", [-90, -180, 2])


def test_the_newest_point_speaks_for_a_component_not_an_older_one_with_more_fields(influxdb: Database) -> None:
    dashboard = DASHBOARDS["headwater-maintenance"]
    (table,) = [asked.text for asked in queries_of(dashboard) if '"Components, worst first"' in asked.place]
    rows = [dict(zip(one["columns"], one["values"][0], strict=True)) for one in influxdb.ask(filled(table, dashboard))]
    assert len(rows) == 11
    assert [row["rul_h"] for row in rows if row["health"] > 99] == [None] * sum(row["health"] > 99 for row in rows)
