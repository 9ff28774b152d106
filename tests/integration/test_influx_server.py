"""The real servers that the tests of the InfluxDB store stand on do what those tests take for granted."""

from pathlib import Path

import pytest
from influx_server import Influx1, Victoria, http

pytestmark = pytest.mark.integration

LINE = b"telemetry,site=a,device=b,metric=c value=0.1 1700000000000000000\n"


def test_influxdb_keeps_acknowledged_points_over_a_kill(tmp_path: Path) -> None:
    with Influx1(tmp_path) as server:
        server.make("raw")
        assert server.write("raw", LINE)[0] == 204
        server.kill()
        server.start()
        rows = server.query("raw", 'SELECT * FROM "telemetry" WHERE "device" = $device', {"device": "b"})
    assert rows == [{"time": 1700000000000000000, "site": "a", "device": "b", "metric": "c", "value": 0.1}]


def test_victoria_metrics_takes_the_write_path_of_influxdb_2(tmp_path: Path) -> None:
    with Victoria(tmp_path) as server:
        assert http("POST", f"{server.url}/api/v2/write?bucket=raw&org=o", LINE)[0] == 204
        assert server.export() == {("telemetry_value", "a", "b", "c"): {1700000000000: 0.1}}
