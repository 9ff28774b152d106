"""The page on a real socket: it starts on a free port, streams, ends its streams when it stops, reads a real store."""

import http.client
import json
import time

import pytest

from dashboards.app import make_app
from dashboards.sample import SamplePlant
from dashboards.server import PageServer
from dashboards.settings import DashboardSettings
from headwater.errors import ConnectError
from headwater.io.clock_system import SystemClock
from headwater.io.store_sqlite import SqliteStore
from headwater.io.store_sqlite_query import StoreReader

pytestmark = pytest.mark.integration


def serve(reader=None) -> tuple[PageServer, int]:
    clock = SystemClock()
    plant = SamplePlant(clock, devices=3)
    settings = DashboardSettings(tick_us=100_000)
    app = make_app(reader or plant, counters=None, simulator=None, settings=settings, clock=clock)
    server = PageServer(app, "127.0.0.1", 0)
    return server, server.start()


def get(port: int, path: str) -> tuple[int, dict]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    body = json.loads(answer.read())
    connection.close()
    return answer.status, body


def test_a_stream_runs_until_the_page_stops_and_stopping_is_quick() -> None:
    server, port = serve()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/api/v1/events?channels=fleet")
    answer = connection.getresponse()
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = [answer.readline() for _ in range(12)]
    assert b"event: hello\n" in lines
    assert b"event: fleet\n" in lines
    began = time.monotonic()
    server.stop()
    answer.read()
    connection.close()
    assert time.monotonic() - began < 5


def test_a_port_that_is_taken_is_said_so() -> None:
    server, port = serve()
    try:
        with pytest.raises(ConnectError, match=f"can't listen on 127.0.0.1:{port}"):
            PageServer(server._app, "127.0.0.1", port).start()
    finally:
        server.stop()


def test_an_empty_store_and_one_that_is_not_there_are_answered(tmp_path) -> None:
    absent = StoreReader(tmp_path / "nothing.db")
    server, port = serve(absent)
    try:
        status, body = get(port, "/api/v1/fleet")
        assert status == 503
        assert body["error"]["message"].startswith("the store can't be read now")
    finally:
        server.stop()
        absent.close()
    store = SqliteStore(tmp_path / "store.db")
    reader = StoreReader(tmp_path / "store.db")
    server, port = serve(reader)
    try:
        status, body = get(port, "/api/v1/fleet")
        assert (status, body["devices"], body["figures"]["unknown"]) == (200, [], 0)
        for path in ("pipeline", "anomalies", "health", "accounts", "dead-letters", "gaps", "alerts"):
            assert get(port, f"/api/v1/{path}")[0] == 200
        assert get(port, "/api/v1/devices/north/pump-01")[0] == 404
        status, body = get(port, "/api/v1/series?site=north&device=pump-01&metric=flow_m3h")
        assert (status, body["columns"]["time_us"], body["expected"]["time_us"]) == (200, [], [])
    finally:
        server.stop()
        reader.close()
        store.close()
