"""InfluxQL over the SQLite store beside a real InfluxDB 1.6 with the same points: a day at 1 Hz of ten series.

CPU time of this process against CPU time of `influxd`, from its start of the query to the answer's last byte; medians.
What JSON costs is in both; HTTP is in neither of ours and in the peer's. Needs the Debian package influxdb.
"""

import json
import os
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from dashboards.influxql.engine import Engine
from dashboards.influxql.points import Budget
from headwater.batch import Batch
from headwater.errors import SettingsError
from headwater.io.store_sqlite import SqliteStore
from headwater.io.store_sqlite_influxql import InfluxqlReader
from headwater.line_protocol import telemetry_lines
from headwater.points import StoreWrite

T0_US = 1_789_948_800_000_000  # Midnight UTC.
S = 1_000_000
METRICS = 10
PER_FRAME = 60
DAY_S = 86_400
RANGE = "time >= {start}s AND time < {end}s"
QUERIES = {
    "mean by 1m, a day, 10 series": 'SELECT mean("value") FROM "telemetry" WHERE {day} GROUP BY time(1m), "metric"',
    "mean by 10s, an hour, 1 series": 'SELECT mean("value") FROM "telemetry" WHERE "metric" = \'metric/3\' AND {hour} GROUP BY time(10s)',
    "min, max, p95 by 10m, a day, 1 series": 'SELECT min("value"), max("value"), percentile("value", 95) FROM "telemetry" WHERE "metric" = \'metric/3\' AND {day} GROUP BY time(10m)',
    "last of 10 series, an hour": 'SELECT last("value") FROM "telemetry" WHERE {hour} GROUP BY "metric"',
    "raw, ten minutes, 10 series": 'SELECT "value" FROM "telemetry" WHERE {minutes} GROUP BY "metric"',
}  # fmt: skip


def batch(rng: np.random.Generator, first_s: int, frames: int) -> Batch:
    """Frames of a minute of ten metrics at 1 Hz, with two decimals as a sensor has them."""
    n = frames * METRICS * PER_FRAME
    base = T0_US + (first_s + np.arange(frames) * PER_FRAME) * S
    axis = np.broadcast_to((base[:, None] + np.arange(PER_FRAME) * S)[:, None, :], (frames, METRICS, PER_FRAME))
    value = np.round(50 + np.cumsum(rng.normal(0, 0.05, (frames, METRICS, PER_FRAME)), axis=2), 2)
    metric = np.broadcast_to(np.arange(METRICS, dtype=np.int32)[:, None], value.shape)
    return Batch(
        0, (("north", "pump-1"),), tuple(f"metric/{at}" for at in range(METRICS)), np.zeros(frames, np.int32),
        np.full(frames, 7, np.uint64), first_s // PER_FRAME + 1 + np.arange(frames), base, base,
        np.zeros(frames, np.uint8), np.ones(frames, np.int64), np.arange(frames + 1) * METRICS * PER_FRAME,
        metric.ravel(), axis.ravel(), value.ravel(), np.zeros(n, np.uint8), np.zeros(frames + 1, np.int64),
        np.zeros((frames, 4), np.int64), np.zeros(frames, np.int32), T0_US,
    )  # fmt: skip


@contextmanager
def influxd(folder: Path) -> Iterator[tuple[str, int]]:
    """A real InfluxDB on loopback: its URL and its process id; ends with the block."""
    program = shutil.which("influxd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if program is None:
        raise SettingsError("influxd is not installed: python scripts/install_servers.py influxdb")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = folder / "influxdb.conf"
    config.write_text(
        f'reporting-disabled = true\nbind-address = "127.0.0.1:0"\n[meta]\n  dir = "{folder}/meta"\n[data]\n'
        f'  dir = "{folder}/data"\n  wal-dir = "{folder}/wal"\n  query-log-enabled = false\n[monitor]\n  store-enabled = false\n'
        f'[http]\n  bind-address = "127.0.0.1:{port}"\n  log-enabled = false\n'
    )
    with (folder / "influxd.log").open("wb") as log:
        process = subprocess.Popen([program, "-config", str(config)], stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + 30
        while True:
            try:
                urllib.request.urlopen(f"{url}/ping", timeout=5).close()
                break
            except (OSError, urllib.error.URLError):
                if process.poll() is not None or time.monotonic() > end:
                    raise
                time.sleep(0.05)
        yield url, process.pid
    finally:
        process.terminate()
        process.wait()


def cpu_of(pid: int) -> float:
    """CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def post(url: str, path: str, body: bytes) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(f"{url}{path}", body), timeout=120) as answer:
        return bytes(answer.read())


def theirs(url: str, query: str) -> bytes:
    return post(url, "/query", urllib.parse.urlencode({"db": "headwater", "q": query, "epoch": "ms"}).encode())


def compare(engine: Engine, url: str, pid: int, query: str, runs: int) -> tuple[float, float, float, float]:
    """Median CPU and wall seconds of ours, then of the peer's, taken in turns; both must answer the same rows."""

    def ours() -> bytes:
        found = engine.answer(query, database="headwater", epoch="ms", now_ns=T0_US * 1_000)
        return json.dumps(found, separators=(",", ":")).encode()

    counts = [
        sum(len(one["values"]) for one in json.loads(text)["results"][0]["series"])
        for text in (ours(), theirs(url, query))
    ]
    assert counts[0] == counts[1] > 0, counts
    taken: list[list[float]] = [[], [], [], []]
    for _ in range(runs):
        begin, cpu = time.perf_counter(), time.process_time()
        ours()
        taken[0].append(time.process_time() - cpu)
        taken[1].append(time.perf_counter() - begin)
        # The clock of another process ticks in hundredths, so several queries share one reading.
        begin, cpu = time.perf_counter(), cpu_of(pid)
        for _ in range(5):
            theirs(url, query)
        taken[2].append((cpu_of(pid) - cpu) / 5)
        taken[3].append((time.perf_counter() - begin) / 5)
    cpu_ours, wall_ours, cpu_theirs, wall_theirs = (statistics.median(column) for column in taken)
    return cpu_ours, wall_ours, cpu_theirs, wall_theirs


def run(*, quick: bool = False) -> dict[str, Any]:
    """Figures and ratios."""
    rng = np.random.default_rng(3)
    seconds = DAY_S // 8 if quick else DAY_S
    batches = [batch(rng, first, 60) for first in range(0, seconds, 60 * PER_FRAME)]
    start = T0_US // S
    spans = {
        "day": (start, start + seconds),
        "hour": (start + seconds - 3_600, start + seconds),
        "minutes": (start + 600, start + 1_200),
    }
    ranges = {name: RANGE.format(start=first, end=last) for name, (first, last) in spans.items()}
    figures: dict[str, Any] = {"readings": seconds * METRICS}
    ratios: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name, influxd(Path(name)) as (url, pid):
        store = SqliteStore(Path(name) / "store.db")
        theirs(url, "CREATE DATABASE headwater")
        for one in batches:
            store.write(StoreWrite(telemetry=(one,)))
            for lines in telemetry_lines(one):
                post(url, "/write?db=headwater", lines)
        store.close()
        reader = InfluxqlReader(Path(name) / "store.db")
        engine = Engine(reader, "headwater", lambda: Budget(5_000_000, 1_000_000, 10_000, lambda: False))
        for title, query in QUERIES.items():
            cpu_ours, wall_ours, cpu_theirs, wall_theirs = compare(
                engine, url, pid, query.format(**ranges), 3 if quick else 7
            )
            figures[f"{title}: CPU ms"] = cpu_ours * 1e3
            figures[f"{title}: CPU ms, influxd"] = cpu_theirs * 1e3
            figures[f"{title}: ms"] = wall_ours * 1e3
            figures[f"{title}: ms, influxd"] = wall_theirs * 1e3
            ratios[f"{title}: CPU of influxd to ours"] = cpu_theirs / cpu_ours if cpu_ours else None
        reader.close()
    return {"figures": figures, "ratios": ratios}
