"""What the agent costs: CPU per reading of the whole chain (quality to spool), memory of a real agent process.

The limit that figures are set against is the same work at its simplest, measured in the same run: json.dumps of one
reading for the scalar chain, zlib level 1 of the same float64 bytes for the block chain.
"""

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.chain import Chain
from edge_agent.settings import AgentSettings
from edge_agent.spool import Spool
from gateway.bridge import Gateway
from gateway.settings import GatewaySettings
from headwater.frame import Block
from headwater.io.clock_system import SystemClock
from headwater.io.log_sqlite import SqliteLog
from headwater.metric import Metric
from headwater.reasons import ClockQuality

START_US = 1_760_000_400_000_000
METRICS = 100
SIGMA = 0.1

# A process as a device runs it: numpy, pydantic, protobuf, paho and SQLite, and nothing of the hub. What `headwater
# agent` does first comes first here too.
DEVICE = """
from headwater.cli.thrift import save_resources
save_resources()
import sys, threading
from pathlib import Path
from edge_agent.agent import Agent, AgentHost
from edge_agent.registry import make_source
from edge_agent.settings import AgentSettings
from headwater.io.clock_system import SystemClock

def status(name):
    return next(int(l.split()[1]) for l in Path("/proc/self/status").read_text().splitlines() if l.startswith(name))

folder, url, seconds, source = sys.argv[1:]
options = {"seed": 1, "devices": 8, "index": 0} if source == "simulated" else {}
every = "1s" if source == "simulated" else "100ms"
settings = AgentSettings(gateway=url, source=source, options=options, flush_every="200ms", sample_every=every)
clock = SystemClock()
agent = Agent("bench", source, make_source(source, options, clock), settings, clock, folder + "/spool.db")
stop = threading.Event()
threading.Timer(float(seconds), stop.set).start()
AgentHost([agent], drain_max_us=2_000_000).run(stop)
counters = agent.counters()
heavy = [m for m in ("pyarrow", "starlette", "uvicorn", "mqtt5", "asyncio", "pandas") if m in sys.modules]
print(status("VmRSS"), status("VmHWM"), counters["assigned"], counters["acks"], ",".join(heavy) or "-")
"""

DRIVE = """
from headwater.cli.thrift import save_resources
save_resources()
import json, sys
from benchmarks.edge import drive
print(json.dumps(drive(*map(int, sys.argv[1:]))))
"""


def metrics(count: int = METRICS) -> tuple[Metric, ...]:
    kinds = ("swing:0.4", "deadband:0.4", "swing:0.4", "raw", "swing:0.4")
    return tuple(
        Metric(f"m{i:03d}", "Cel", -1e3, 1e3, resolution=0.01, every_us=1_000_000, reduction=kinds[i % len(kinds)])
        for i in range(count)
    )


def signals(count: int, samples: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Slow walks with sensor noise, two decimals."""
    rng = np.random.default_rng(5)
    drift = np.cumsum(rng.normal(0, 0.005, (count, samples)), axis=1)
    return np.round(50 + drift + rng.normal(0, SIGMA, (count, samples)), 2)


def drive(samples: int, width: int, flush_every: int) -> tuple[float, int, float]:
    """CPU µs per reading of the chain with blocks of `width` samples, frame bytes, share of readings kept."""
    described = metrics()
    names = tuple(metric.name for metric in described)
    value = signals(METRICS, samples)
    time_us = START_US + np.arange(samples) * 1_000_000
    size_bytes = 0
    with tempfile.TemporaryDirectory() as folder:
        spool = Spool(folder + "/spool.db", site="bench", device="one", now_us=START_US)
        chain = Chain(described)
        started = time.process_time()
        for turn, at in enumerate(range(0, samples, width)):
            part = slice(at, at + width)
            chain.push(Block(names, time_us[part], np.ascontiguousarray(value[:, part])))
            if turn % flush_every == flush_every - 1:
                stored, _ = spool.append(chain.seal(int(time_us[at]), ClockQuality.SYNCED), START_US)
                size_bytes += sum(len(one.payload) for one in stored)
                spool.acknowledge(spool.epoch, spool.assigned, START_US)
        spool.append(chain.finish(int(time_us[-1]), ClockQuality.SYNCED), START_US)
        cpu_us = (time.process_time() - started) * 1e6
        spool.close()
    readings = samples * METRICS
    return cpu_us / readings, size_bytes, chain.counters.kept / readings


def drive_apart(samples: int, width: int, flush_every: int) -> tuple[float, int, float]:
    """Drives the chain in a process of its own, which has the environment that `headwater agent` gives itself.

    A pool of BLAS threads spins where it waits: on two cores that is two thirds of the CPU time.
    """
    done = subprocess.run(
        [sys.executable, "-c", DRIVE, str(samples), str(width), str(flush_every)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[1],
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    cpu_us, size_bytes, kept = json.loads(done.stdout)
    return cpu_us, size_bytes, kept


def limits(samples: int) -> tuple[float, float]:
    """(µs to write one reading as JSON, µs per reading to deflate the same values), CPU time."""
    value = signals(METRICS, samples)
    started = time.process_time()
    for i in range(20_000):
        json.dumps({"site": "bench", "device": "one", "metric": "m000", "ts": START_US + i, "value": 50.25})
    one = (time.process_time() - started) * 1e6 / 20_000
    started = time.process_time()
    zlib.compress(value.tobytes(), 1)
    return one, (time.process_time() - started) * 1e6 / value.size


def device_memory(seconds: float, source: str) -> dict[str, float]:
    """Memory of an agent process that samples and sends to a gateway over loopback."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    with tempfile.TemporaryDirectory() as folder:
        log = SqliteLog(Path(folder) / "log.db")
        gateway = Gateway(GatewaySettings(port=0, ack_level="backbone"), log, SystemClock(), None)
        port = asyncio.run_coroutine_threadsafe(gateway.start(), loop).result()
        done = subprocess.run(
            [sys.executable, "-c", DEVICE, folder, f"mqtt://127.0.0.1:{port}", str(seconds), source],
            capture_output=True,
            text=True,
            check=False,
        )
        asyncio.run_coroutine_threadsafe(gateway.stop(), loop).result()
        log.close()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
    if done.returncode:
        raise RuntimeError(done.stderr)
    rss, peak, frames, acks, heavy = done.stdout.split()
    assert heavy == "-", f"the device imported {heavy}"
    assert int(acks) > 0, "no durable ack came: this measured nothing"
    return {"rss_mib": int(rss) / 1024, "rss_peak_mib": int(peak) / 1024, "frames": int(frames)}


def run(*, quick: bool = False) -> dict[str, Any]:
    rounds = 1 if quick else 9
    block = [drive_apart(2_000 if quick else 10_000, 1_000, 1) for _ in range(rounds)]
    scalar = [
        drive_apart(300 if quick else 1_000, 1, AgentSettings().flush_every_us // 1_000_000) for _ in range(rounds)
    ]
    one_json, deflate = (
        statistics.median(column) for column in zip(*(limits(1_000) for _ in range(rounds)), strict=True)
    )
    memory = device_memory(5 if quick else 120, "host")
    block_us = statistics.median(row[0] for row in block)
    scalar_us = statistics.median(row[0] for row in scalar)
    return {
        "figures": {
            "cpu_us_per_reading_block": round(block_us, 3),
            "cpu_us_per_reading_scalar": round(scalar_us, 2),
            "bytes_per_reading_block": round(block[0][1] / ((2_000 if quick else 10_000) * METRICS), 3),
            "kept_ratio_block": round(block[0][2], 4),
            "rss_mib": round(memory["rss_mib"], 1),
            "rss_peak_mib": round(memory["rss_peak_mib"], 1),
            "device_frames": memory["frames"],
        },
        "ratios": {
            "scalar_to_one_json_dumps": round(scalar_us / one_json, 2),
            "block_to_deflate_of_the_values": round(block_us / deflate, 2),
        },
    }


if __name__ == "__main__":
    print(json.dumps(run(quick="--quick" in sys.argv), indent=2))
