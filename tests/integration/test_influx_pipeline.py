"""`headwater up` over a real InfluxDB that is killed and comes back: every reading is in it once, and the books say so."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gateway_server import until
from influx_server import Influx1, free_port

from headwater.batch_arrow import batch_from_arrow
from headwater.errors import ConnectError
from headwater.io.log_sqlite import SqliteLogReader
from headwater.io.store_sqlite_query import StoreReader
from headwater.log_topics import PARTITIONS_DEFAULT, READINGS

pytestmark = pytest.mark.integration

HEADWATER = [sys.executable, "-m", "headwater"]
# For a long campaign: HEADWATER_CAMPAIGN_S=600.
SECONDS = float(os.environ.get("HEADWATER_CAMPAIGN_S", "6"))


def accepted(ledger: Path) -> Counter[str]:
    """Readings that the devices' own ledgers call accepted, by device."""
    counts: Counter[str] = Counter()
    for path in ledger.glob("*.jsonl"):
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            counts[entry["device"]] += entry["readings"] * (entry["e"] == "accepted")
    return counts


def logged(path: Path) -> dict[tuple[str, str, int], bytes]:
    """{(device, metric, time in ns): bits of the value} of all frames in the log."""
    log, readings = SqliteLogReader(path), {}
    for partition in range(PARTITIONS_DEFAULT):
        for record in log.read(READINGS, partition, 0, 1_000_000):
            batch = batch_from_arrow(record.value)
            names = [batch.devices[code][1] for code in batch.device.tolist()]
            for row, metric, at, value in zip(
                batch.frame_of_reading.tolist(), batch.metric.tolist(), batch.time_us.tolist(), batch.value, strict=True
            ):
                readings[names[row], batch.metrics[metric], at * 1_000] = value.tobytes()
    log.close()
    return readings


def in_influx(server: Influx1) -> dict[tuple[str, str, int], bytes]:
    rows = server.query("raw", 'SELECT * FROM "telemetry"')
    values = [row["value"] if row.get("value") is not None else row["bad"] for row in rows]
    return {
        (row["device"], row["metric"], row["time"]): np.float64(value).tobytes()
        for row, value in zip(rows, values, strict=True)
    }


def stored_readings(data: Path) -> int:
    """How many the books say are stored; 0 as long as there are no books."""
    reader = StoreReader(data / "store.db")
    try:
        return reader.account_total()["readings_stored"]
    except ConnectError:
        return 0
    finally:
        reader.close()


def up(data: Path, url: str, port: int, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*HEADWATER, "up", "--data", str(data), "--store", url, "--mqtt-port", str(port),
         "--no-page", "--json"],
        stdout=subprocess.PIPE, text=True, env=os.environ | environment,
    )  # fmt: skip


def simulate(port: int, ledger: Path, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*HEADWATER, "simulate", "--devices", "12", "--gateway", f"mqtt://127.0.0.1:{port}", "--for", f"{seconds:g}s",
         "--frames-every", "5s", "--speed", "10", "--ledger", str(ledger), "--set", "simulator.drain=60s", "--json"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def ended(process: subprocess.Popen[str], within_s: float) -> dict[str, Any]:
    output, _ = process.communicate(timeout=within_s)
    assert process.returncode == 0, output
    report: dict[str, Any] = json.loads(output)
    return report


def test_a_kill_of_the_store_loses_and_doubles_nothing(tmp_path: Path) -> None:
    data, ledger, port = tmp_path / "data", tmp_path / "ledger", free_port()
    with Influx1(tmp_path / "influx") as server:
        server.make("raw", "windows", "events")
        pipeline = up(data, f"influxdb://127.0.0.1:{server.port}", port)
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
        finally:
            pipeline.send_signal(signal.SIGTERM)
            counters = ended(pipeline, 60)
        books = StoreReader(data / "store.db")
        total, letters = books.account_total(), books.dead_letters(10)
        books.close()
        assert (total["unknown"], total["dead_lettered"], total["gap"], letters) == (0, 0, 0, [])
        assert total["stored"] == total["assigned"] > 0
        assert counters["processor"]["errors"] > 0
        told = accepted(ledger)
        stored = in_influx(server)
        assert Counter(device for device, _, _ in stored) == told
        assert total["readings_stored"] == told.total() == len(stored)
        assert stored == logged(data / "log.db")
        assert server.query("windows", 'SELECT count("mean") FROM "window"')[0]["count"] > 0
