"""The page's InfluxQL beside a real InfluxDB 1.6: the same points, thousands of drawn queries, the same answers.

More of them: make influxql QUERIES=100000
"""

import http.client
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from influxql_case import START_US, fill_store, plant
from influxql_differences import REASONS, difference, error_of, explained, without_zeros
from influxql_queries import Asker

from dashboards.app import make_app
from dashboards.influxql.engine import Engine
from dashboards.influxql.errors import ParseError
from dashboards.influxql.points import Budget
from dashboards.sample import SamplePlant
from dashboards.server import PageServer
from dashboards.settings import DashboardSettings
from headwater.io.clock_system import SystemClock
from headwater.io.store_sqlite_influxql import InfluxqlReader

sys.path.insert(0, str(Path(__file__).parents[1]))
from influx_server import Influx1

pytestmark = pytest.mark.integration

QUERIES = int(os.environ.get("HEADWATER_INFLUXQL_QUERIES", "3000"))
SEED = int(os.environ.get("HEADWATER_INFLUXQL_SEED", "16"))
EPOCHS = ("ms", "ns", "s", "")
BOUNDS = '\n[coordinator]\n  query-timeout = "10s"\n  max-select-buckets = 200000\n'


class BoundedInflux(Influx1):
    """A query that goes wrong must not take the machine with it."""

    def command(self) -> list[str]:
        command = super().command()
        config = Path(command[-1])
        config.write_text(config.read_text().replace("[coordinator]\n", BOUNDS))
        return command


class Both:
    """A real InfluxDB and our engine, with the same points."""

    def __init__(self, folder: Path, server: Influx1) -> None:
        write, lines = plant(SEED)
        fill_store(folder / "store.db", write)
        server.make("headwater")
        status, body = server.write("headwater", lines)
        assert status == 204, body
        self.path = folder / "store.db"
        self.reader = InfluxqlReader(self.path)
        self._engine = Engine(self.reader, "headwater", lambda: Budget(5_000_000, 1_000_000, 10_000, lambda: False))
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        self._now_ns = time.time_ns()

    def close(self) -> None:
        self.reader.close()
        self._connection.close()

    def theirs(self, query: str, epoch: str) -> dict[str, Any]:
        form = urlencode({"db": "headwater", "q": query, "epoch": epoch})
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        self._connection.request("POST", "/query", form, headers)
        answer: dict[str, Any] = json.loads(self._connection.getresponse().read())
        return answer

    def ours(self, query: str, epoch: str) -> dict[str, Any]:
        try:
            answer = self._engine.answer(query, database="headwater", epoch=epoch, now_ns=self._now_ns)
        except ParseError as error:
            return {"error": f"error parsing query: {error}"}
        plain: dict[str, Any] = json.loads(json.dumps(answer, allow_nan=False))
        return plain


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    folder = tmp_path_factory.mktemp("influxql")
    with BoundedInflux(folder / "influx") as server:
        pair = Both(folder, server)
        yield pair
        pair.close()


def test_thousands_of_queries_have_the_same_answers(both: Both) -> None:
    asker = Asker(SEED)
    reasons: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    worded = 0
    unexplained = []
    for number in range(QUERIES):
        query, epoch = asker.query(), EPOCHS[number % len(EPOCHS)]
        ours, theirs = both.ours(query, epoch), both.theirs(query, epoch)
        why = difference(ours, theirs)
        if why and "non_negative" in query and "error" not in why:
            why = difference(without_zeros(ours), without_zeros(theirs))
        reason = explained(query, why) if why else ""
        if reason:
            reasons[reason] += 1
        elif why:
            unexplained.append((why, query, epoch))
        error = error_of(theirs)
        outcomes["error" if error else "rows" if "series" in str(theirs)[:80] else "nothing"] += 1
        worded += bool(error) and error == error_of(ours)
    print(f"{QUERIES} queries: {dict(outcomes)}, {worded} errors in the same words, {dict(reasons)}")
    assert not unexplained, f"{len(unexplained)} of {QUERIES} differ, such as {unexplained[:5]}"
    assert sum(reasons.values()) <= QUERIES * 0.04, reasons
    assert outcomes["rows"] > QUERIES * 0.45, outcomes
    assert outcomes["error"] > QUERIES * 0.01, outcomes
    assert worded >= outcomes["error"] * 0.8, (worded, outcomes)


def test_every_reason_to_differ_is_documented() -> None:
    page = (Path(__file__).parents[3] / "docs" / "influxql.md").read_text(encoding="utf-8")
    for reason in REASONS:
        assert f"**{reason}**" in page, reason


GRAFANA = (
    'SELECT mean("value") FROM "telemetry" WHERE ("device" =~ /^(pump-1|fan 3)$/ AND "metric" = \'flow\') AND {range} GROUP BY time(10s), "device" fill(null)',
    'SELECT mean("value") FROM "telemetry" WHERE ("metric" = \'temp\') AND {range} GROUP BY time(1m), "site"::tag, "device"::tag fill(none) ORDER BY time ASC',
    'SELECT last("state") AS state, last("lat") AS lat FROM "device" WHERE {range} GROUP BY "site","device"',
    'SELECT last("state") FROM "device" WHERE {range} GROUP BY time(30s), "device" fill(previous)',
    'SELECT sum("s") FROM (SELECT last("state") AS s FROM "device" WHERE {range} GROUP BY "device")',
    'SELECT "message","device","severity" FROM "anomaly" WHERE "site" =~ /^north$/ AND {range} LIMIT 500',
    'SELECT count("score") FROM "anomaly" WHERE {range} GROUP BY "severity"',
    'SELECT non_negative_derivative(last("messages"), 1s) AS rate FROM "pipeline" WHERE {range} GROUP BY time(10s), "stage" fill(null)',
    'SELECT min("health"), last("rul_h") FROM "health" WHERE {range} GROUP BY "device", "component"',
    'SELECT percentile("value", 95) FROM "telemetry" WHERE "metric" =~ /^flow$/ AND {range} GROUP BY time(1m) fill(linear)',
    'SELECT mean("mean"), max("max"), min("min") FROM "window" WHERE "window" = \'10s\' AND {range} GROUP BY time(1m), "device" fill(null)',
    'SELECT mean("value") * 1.8 + 32 AS fahrenheit FROM "telemetry" WHERE {range} GROUP BY time(1m)',
    'SHOW TAG VALUES FROM "telemetry" WITH KEY = "device" WHERE "site" =~ /^(north|south)$/',
    'SHOW TAG VALUES FROM "device" WITH KEY = "site"',
    'SHOW RETENTION POLICIES on "headwater"',
    "SHOW MEASUREMENTS LIMIT 100",
    "SHOW MEASUREMENTS WITH MEASUREMENT =~ /(?i)tele/ LIMIT 100",
    'SHOW FIELD KEYS FROM "telemetry"',
    'SHOW TAG KEYS FROM "telemetry"',
    "SHOW DATABASES LIMIT 1",
)  # fmt: skip


def test_what_grafana_sends_has_the_same_answer_over_the_page_s_socket(both: Both) -> None:
    clock = SystemClock()
    plant_page = SamplePlant(clock, devices=1)
    app = make_app(
        plant_page, counters=None, simulator=None, settings=DashboardSettings(), clock=clock, points=both.reader
    )
    server = PageServer(app, "127.0.0.1", 0)
    connection = http.client.HTTPConnection("127.0.0.1", server.start(), timeout=30)
    start_ms, end_ms = START_US // 1_000 + 61_000, START_US // 1_000 + 1_261_000
    answered = 0
    try:
        for query in GRAFANA:
            text = query.replace("{range}", f"time >= {start_ms}ms and time <= {end_ms}ms")
            connection.request("GET", f"/query?{urlencode({'db': 'headwater', 'q': text, 'epoch': 'ms'})}")
            answer = connection.getresponse()
            ours = json.loads(answer.read())
            theirs = both.theirs(text, "ms")
            assert difference(ours, theirs) == "", (text, ours, theirs)
            assert ("error" in ours) == (answer.status == 400)
            answered += "series" in json.dumps(theirs)
        connection.request("HEAD", "/ping")
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (204, b"")
    finally:
        connection.close()
        server.stop()
    assert answered == len(GRAFANA) - 1
