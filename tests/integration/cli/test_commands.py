"""The command line as a user meets it: real processes, real exit codes."""

import json
import math
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from headwater.io.store_sqlite_query import StoreReader
from headwater.location import Location
from simulators.plant import Plant

ROOT = Path(__file__).parents[3]
HEADWATER = [sys.executable, "-W", "error::ResourceWarning", "-m", "headwater"]
SUMMARY = {
    "assigned", "stored", "dead_letters", "gaps", "in_flight", "unknown", "duplicates", "readings_sampled",
    "bytes_published", "first_point_s", "latency_ms", "anomalies", "rss_mib",
}  # fmt: skip

pytestmark = pytest.mark.integration


def headwater(*arguments: str, timeout_s: float = 90) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*HEADWATER, *arguments], capture_output=True, text=True, cwd=ROOT, timeout=timeout_s, check=False
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def demo(data: Path, *arguments: str) -> dict[str, Any]:
    done = headwater("demo", "--port", "0", "--data", str(data), "--json", *arguments)
    assert done.returncode == 0, done.stderr
    summary: dict[str, Any] = json.loads(done.stdout)
    assert summary.keys() >= SUMMARY
    assert summary["unknown"] == summary["duplicates"] == summary["in_flight"] == 0
    assert summary["assigned"] == summary["stored"] + summary["dead_letters"] + summary["gaps"]
    assert summary["stored"] > 0
    return summary


def check_ledger(data: Path) -> dict[str, Any]:
    command = [sys.executable, str(ROOT / "scripts" / "check_ledger.py"), "--ledger", str(data / "truth" / "ledger")]
    command += ["--store", str(data / "store.db"), "--log", str(data / "log.db"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_the_demo_accounts_for_every_reading_and_resumes_on_the_same_data(tmp_path: Path) -> None:
    first = demo(tmp_path, "--for", "6s", "--devices", "6")
    again = demo(tmp_path, "--for", "4s", "--devices", "6")
    assert first["first_point_s"] is not None
    with closing(StoreReader(tmp_path / "store.db")) as store:
        told = {(row["site"], row["device"]): Location(row["lat"], row["lon"]) for row in store.devices()}
    assert told == {(machine.site, machine.device): machine.location for machine in Plant(1, 6, start_us=0).machines}
    assert again["stored"] > first["stored"]
    assert check_ledger(tmp_path)["accepted"] == again["stored"]


def test_the_demo_runs_on_this_machines_own_sensors(tmp_path: Path) -> None:
    summary = demo(tmp_path, "--for", "6s", "--source", "host")
    assert summary["readings_sampled"] > 0


def test_the_demo_runs_on_a_file_and_ends_with_it(tmp_path: Path) -> None:
    path = tmp_path / "readings.csv"
    rows = [f"2026-01-01 00:{i // 60:02d}:{i % 60:02d},{20 + math.sin(i / 30):.2f},{i % 7}" for i in range(600)]
    path.write_text("time,temperature,level\n" + "\n".join(rows) + "\n", encoding="utf-8")
    started_s = time.monotonic()
    summary = demo(tmp_path / "data", "--for", "60s", "--source", f"csv:{path}")
    assert summary["readings_sampled"] == 1200
    assert time.monotonic() - started_s < 60


def test_wrong_settings_exit_with_78_and_say_where(tmp_path: Path) -> None:
    path = tmp_path / "headwater.toml"
    path.write_text("[gateway]\nprot = 1\n", encoding="utf-8")
    done = headwater("check", "--config", str(path))
    assert done.returncode == 78
    assert 'did you mean "port"' in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["gateway", "--set", "gateway.port=99999"],
        ["gateway", "--config", "nowhere.toml"],
        ["demo", "--source", "nonsense", "--for", "1s"],
        ["demo", "--source", "csv", "--for", "1s"],
        ["agent", "--once", "--source", "nonsense"],
        ["up", "--log", "kafka://somewhere"],
        ["gateway", "--log", "ftp://somewhere"],
        ["gateway", "--log", "kafka://127.0.0.1:9", "--set", "kafka.message_max_bytes=1000000"],
        ["processor", "--set", "processor.shards=11-12"],
        ["up", "--set", 'page.host="0.0.0.0"'],
        ["up", "--processor", "storm://127.0.0.1"],
        ["processor", "--set", 'pipeline.processor="flink://127.0.0.1:1"'],
        ["flink", "cluster", "start", "--set", 'flink.environment="nowhere"'],
        ["flink", "submit", "--url", "flink://127.0.0.1:1", "--set", 'flink.environment="nowhere"'],
        ["flink", "status", "--url", "http://127.0.0.1:8081"],
        ["flink", "stop", "--set", "flink.parallelism=0"],
        ["trace", "No Such Name"],
        ["bench", "nonsense"],
    ],
    ids=lambda arguments: " ".join(arguments[:3]),
)
def test_every_command_refuses_wrong_settings_without_a_traceback(arguments: list[str], tmp_path: Path) -> None:
    if arguments[0] not in {"bench", "agent"}:
        arguments = [*arguments, "--data", str(tmp_path)]
    done = headwater(*arguments)
    assert done.returncode == 78, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith(f"headwater {arguments[0]}: settings: ")


def test_ctrl_c_ends_the_demo_cleanly_with_a_summary(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*HEADWATER, "demo", "--port", "0", "--devices", "3", "--data", str(tmp_path), "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    time.sleep(6)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert json.loads(out)["unknown"] == 0
    assert "Traceback" not in err


def test_the_stages_run_as_processes_of_their_own_and_the_tools_see_them(tmp_path: Path) -> None:
    port, page_port = free_port(), free_port()
    stages = {
        "gateway": ["--data", str(tmp_path), "--set", f"gateway.port={port}"],
        "processor": ["--data", str(tmp_path)],
        "page": ["--data", str(tmp_path), "--port", str(page_port)],
        "agent": [
            "--data", str(tmp_path), "--ledger", str(tmp_path / "truth" / "ledger"), "--source", "host",
            "--set", f"agent.gateway=mqtt://127.0.0.1:{port}", "--set", "agent.site=lab", "--set", "agent.device=pi-1",
            "--set", "agent.flush_every=1s",
        ],
    }  # fmt: skip
    running = {
        name: subprocess.Popen([*HEADWATER, name, *options], stderr=subprocess.PIPE, text=True, cwd=ROOT)
        for name, options in stages.items()
    }
    common = ["--data", str(tmp_path), "--set", f"gateway.port={port}", "--set", f"page.port={page_port}"]
    try:
        deadline_s = time.monotonic() + 40
        while headwater("doctor", *common).returncode and time.monotonic() < deadline_s:
            assert all(process.poll() is None for process in running.values())
        doctor = headwater("doctor", "--json", *common)
        assert doctor.returncode == 0, doctor.stdout
        trace = json.loads(headwater("trace", "lab/pi-1", "--json", *common).stdout)
        assert trace["store"]["unknown"] == 0
        tap = headwater("tap", "lab/pi-1", "--from-start", "--count", "1", "--json", "--data", str(tmp_path))
        assert json.loads(tap.stdout)["device"] == "lab/pi-1"
    finally:
        said = {}
        for name in ("agent", "page", "gateway", "processor"):
            running[name].terminate()
            said[name] = (running[name].communicate(timeout=60)[1], running[name].returncode)
    assert {name: code for name, (_, code) in said.items()} == dict.fromkeys(said, 0), said
    assert check_ledger(tmp_path)["accepted"] > 0


def test_a_machine_with_nothing_running_is_told_what_to_start(tmp_path: Path) -> None:
    done = headwater("doctor", "--json", "--data", str(tmp_path), "--set", f"gateway.port={free_port()}")
    findings = {row["hop"]: row for row in json.loads(done.stdout)["findings"]}
    assert done.returncode == 1
    assert not findings["gateway"]["is_good"]
    assert "headwater" in findings["gateway"]["mend"]
    assert findings["machine"]["is_good"]


def test_a_closed_pipe_ends_a_command_quietly() -> None:
    command = f"{sys.executable} -m headwater config | head -1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stdout.startswith("# Settings")
    assert done.stderr == ""
