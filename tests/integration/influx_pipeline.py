"""`headwater up` over a real InfluxDB with simulated devices, as processes: for tests and for scripts/panel_answers.py."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from influx_server import Influx1, Influx2

from headwater.errors import ConnectError
from headwater.io.store_sqlite_query import StoreReader

HEADWATER = [sys.executable, "-m", "headwater"]
Ask = Callable[[str, str], list[dict[str, Any]]]


def told_by(ledger: Path, event: str = "accepted") -> Counter[tuple[str, str]]:
    """Readings that the devices' own ledgers call accepted (known to be durable), or offered, by (site, device)."""
    counts: Counter[tuple[str, str]] = Counter()
    for path in ledger.glob("*.jsonl"):
        with path.open() as lines:
            for line in lines:
                if not line.endswith("\n"):
                    break  # It is being written.
                entry = json.loads(line)
                counts[entry["site"], entry["device"]] += entry["readings"] * (entry["e"] == event)
    return counts


def prepare(server: Influx1 | Influx2, data: Path) -> Ask:
    """Sets the server up as a user does; returns how to ask a bucket something in InfluxQL."""
    admin = []
    if isinstance(server, Influx2):
        (data.parent / "admin").write_text(server.token)
        admin = ["--admin-token-file", str(data.parent / "admin")]
    command = [*HEADWATER, "influx", "setup", "--url", url_of(server), "--data", str(data), *admin]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    if isinstance(server, Influx1):
        return server.query
    token, two = (data / "influx-read.token").read_text().strip(), server
    return lambda bucket, text: two.query(token, bucket, text)


def url_of(server: Influx1 | Influx2) -> str:
    """The server as pipeline.store."""
    return f"influxdb://127.0.0.1:{server.port}" + ("?org=plant" if isinstance(server, Influx2) else "")


def stored_readings(data: Path) -> int:
    """How many the books say are stored; 0 as long as there are no books."""
    reader = StoreReader(data / "store.db")
    try:
        return reader.account_total()["readings_stored"]
    except ConnectError:
        return 0
    finally:
        reader.close()


def up(data: Path, url: str, port: int, page_port: int = 0, more: Iterable[str] = ()) -> subprocess.Popen[str]:
    """Gateway and processor in one process, with a page if it has a port."""
    page = ["--port", str(page_port)] if page_port else ["--no-page"]
    return subprocess.Popen(
        [*HEADWATER, "up", "--data", str(data), "--store", url, "--mqtt-port", str(port), *page, "--json", *more],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def simulate(
    port: int, ledger: Path, seconds: float, drain: str = "60s", more: Iterable[str] = (), **options: object
) -> subprocess.Popen[str]:
    """A fleet of 12 devices at ten times the speed of life, in frames of 5 s; `options` are others of the command."""
    options = {"devices": 12, "frames_every": "5s", "speed": 10, "for": f"{seconds:g}s"} | options
    told = [text for name, value in options.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    return subprocess.Popen(
        [*HEADWATER, "simulate", "--gateway", f"mqtt://127.0.0.1:{port}", "--ledger", str(ledger), "--set",
         f"simulator.drain={drain}", "--json", *told, *more],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def ended(process: subprocess.Popen[str], within_s: float, code: int = 0) -> dict[str, Any]:
    """Waits for the end of a process and returns the JSON that it printed."""
    output, _ = process.communicate(timeout=within_s)
    assert process.returncode == code, output
    report: dict[str, Any] = json.loads(output)
    return report
