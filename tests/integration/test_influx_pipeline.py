"""`headwater up` over a real InfluxDB (1.6, and 2.7 where one was built) that is killed and comes back: every reading is in it once, and the books say so."""

import json
import os
import signal
import subprocess
import time
import urllib.parse
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gateway_server import until
from influx_pipeline import HEADWATER, Ask, ended, prepare, simulate, stored_readings, told_by, up, url_of
from influx_server import Influx1, Influx2, free_port, http

from headwater.batch_arrow import batch_from_arrow
from headwater.io.log_sqlite import SqliteLogReader
from headwater.io.store_sqlite_query import StoreReader
from headwater.log_topics import PARTITIONS_DEFAULT, READINGS

pytestmark = pytest.mark.integration

# For a long campaign: HEADWATER_CAMPAIGN_S=600.
SECONDS = float(os.environ.get("HEADWATER_CAMPAIGN_S", "6"))


def logged(path: Path) -> dict[tuple[tuple[str, str], str, int], bytes]:
    """{((site, device), metric, time in ns): bits of the value} of all frames in the log."""
    log, readings = SqliteLogReader(path), {}
    for partition in range(PARTITIONS_DEFAULT):
        for record in log.read(READINGS, partition, 0, 1_000_000):
            batch = batch_from_arrow(record.value)
            names = [batch.devices[code] for code in batch.device.tolist()]
            for row, metric, at, value in zip(
                batch.frame_of_reading.tolist(), batch.metric.tolist(), batch.time_us.tolist(), batch.value, strict=True
            ):
                readings[names[row], batch.metrics[metric], at * 1_000] = value.tobytes()
    log.close()
    return readings


def in_influx(ask: Ask) -> dict[tuple[tuple[str, str], str, int], bytes]:
    rows = ask("raw", 'SELECT * FROM "telemetry"')
    values = [row["value"] if row.get("value") is not None else row["bad"] for row in rows]
    return {
        ((row["site"], row["device"]), row["metric"], row["time"]): np.float64(value).tobytes()
        for row, value in zip(rows, values, strict=True)
    }


def asked(page_port: int, question: str) -> dict[str, Any]:
    """An answer of the page."""
    status, data = http("GET", f"http://127.0.0.1:{page_port}/api/v1/{question}")
    assert status == 200, data
    answer: dict[str, Any] = json.loads(data)
    return answer


def check_page(page_port: int) -> str:
    """The fleet is drawn from the books and charts from InfluxDB; returns SITE/DEVICE of one device."""
    devices = asked(page_port, "fleet")["devices"]
    assert len(devices) == 12
    site, device = devices[0]["site"], devices[0]["device"]
    metric, newest = next(iter(asked(page_port, f"devices/{site}/{device}")["row"]["metrics"].items()))
    span = f"start_us={newest['last_us'] - 60_000_000}&end_us={newest['last_us'] + 1}"
    key = f"site={site}&device={device}&metric={urllib.parse.quote(metric)}&{span}"
    assert sum(asked(page_port, f"series?{key}")["columns"]["count"]) > 10
    assert asked(page_port, f"raw?{key}")["columns"]["value"][-1] == newest["value"]
    assert all(row["unknown"] == 0 for row in asked(page_port, "accounts")["rows"])
    return f"{site}/{device}"


@pytest.mark.parametrize("kind", [Influx1, Influx2])
def test_a_kill_of_the_store_loses_and_doubles_nothing(tmp_path: Path, kind: type[Influx1 | Influx2]) -> None:
    data, ledger, port, page_port = tmp_path / "data", tmp_path / "ledger", free_port(), free_port()
    with kind(tmp_path / "influx") as server:
        ask = prepare(server, data)
        pipeline = up(data, url_of(server), port, page_port)
        try:
            until(lambda: pipeline.poll() is not None or (data / "log.db").exists())
            fleet = simulate(port, ledger, SECONDS)
            until(lambda: stored_readings(data) > 1_000)
            for _ in range(max(1, round(SECONDS / 30))):
                server.kill()
                time.sleep(1.0)
                server.start()
                time.sleep(min(SECONDS / 6, 10))
            assert ended(fleet, SECONDS + 90)["waiting"] == 0
            device = check_page(page_port)
        finally:
            pipeline.send_signal(signal.SIGTERM)
            counters = ended(pipeline, 60)
        trace = subprocess.run(
            [*HEADWATER, "trace", device, "--data", str(data), "--store", url_of(server), "--json"],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        traced = json.loads(trace.stdout)["store"]
        assert (traced["unknown"], traced["stored"]) == (0, traced["assigned"])
        assert counters["processor"]["errors"] > 0
        assert counters["store"]["points"] > counters["store"]["readings"] > 0 == counters["store"]["refused"]
        check_account(data, told_by(ledger), ask)
        assert ask("windows", 'SELECT count("mean") FROM "window"')[0]["count"] > 0


def check_account(data: Path, told: Counter[tuple[str, str]], ask: Ask) -> None:
    """The books are clean, and InfluxDB holds what ledgers and log tell: each reading once, bit for bit."""
    books = StoreReader(data / "store.db")
    total, letters = books.account_total(), books.dead_letters(10)
    books.close()
    assert (total["unknown"], total["dead_lettered"], total["gap"], letters) == (0, 0, 0, [])
    assert total["stored"] == total["assigned"] > 0
    stored = in_influx(ask)
    assert Counter(device for device, _, _ in stored) == told
    assert total["readings_stored"] == told.total() == len(stored)
    assert stored == logged(data / "log.db")


def test_a_store_that_is_not_there_stops_nothing_and_gets_all_later(tmp_path: Path) -> None:
    data, ledger, port = tmp_path / "data", tmp_path / "ledger", free_port()
    server = Influx1(tmp_path / "influx")
    pipeline = up(data, url_of(server), port)
    until(lambda: pipeline.poll() is not None or (data / "log.db").exists())
    # Nothing is durable in a store that is away, so the devices keep their frames and say so.
    assert ended(simulate(port, ledger, 1, drain="1s"), 60, code=1)["waiting"] > 0
    pipeline.send_signal(signal.SIGTERM)
    assert ended(pipeline, 60)["processor"]["errors"] > 0
    offered = told_by(ledger, "offered")
    assert offered.total() > 0 == stored_readings(data) == told_by(ledger).total()
    with server:
        ask = prepare(server, data)
        pipeline = up(data, url_of(server), port)
        try:
            until(lambda: stored_readings(data) == offered.total())
        finally:
            pipeline.send_signal(signal.SIGTERM)
            ended(pipeline, 60)
        check_account(data, offered, ask)
