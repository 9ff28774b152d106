"""`headwater flink` and `headwater up --processor`: from MQTT to the store by a job, stopped, and gone on from."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from flink_world import ROOT, wait_until

from headwater.errors import ConnectError
from headwater.io.flink_environment import FlinkEnvironment
from headwater.io.store_sqlite_query import StoreReader

pytestmark = [pytest.mark.flink, pytest.mark.integration]

HEADWATER = [sys.executable, "-m", "headwater"]


def headwater(*arguments: str) -> Any:
    done = subprocess.run([*HEADWATER, *arguments], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if done.stdout.startswith("{") else done.stdout.strip()


def stored(data: Path) -> int:
    reader = StoreReader(data / "store.db")
    try:
        return int(reader.account_total()["stored"])
    except ConnectError:
        return 0
    finally:
        reader.close()


def up(options: list[str], port: int) -> "subprocess.Popen[str]":
    command = [*HEADWATER, "up", *options, "--mqtt-port", str(port), "--no-page", "--json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


def simulate(port: int, seconds: int) -> dict[str, Any]:
    found: dict[str, Any] = headwater(
        "simulate", "--devices", "6", "--gateway", f"mqtt://127.0.0.1:{port}", "--for", f"{seconds}s",
        "--frames-every", "5s", "--speed", "10", "--set", "simulator.drain=60s", "--json",
    )  # fmt: skip
    return found


def test_from_mqtt_to_the_store_and_on_again_from_a_savepoint(
    kafka: object, environment: FlinkEnvironment, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    common = [
        "--data", str(data), "--log", kafka.url, "--set", "kafka.topic_prefix=commands.",  # type: ignore[attr-defined]
        "--set", f"flink.environment={environment.root}", "--set", "flink.checkpoint_every=1s",
        "--set", "gateway.partitions=4", "--set", "processor.partitions=4",
    ]  # fmt: skip
    url = headwater("flink", "cluster", "start", "--port", "0", *common)
    try:
        assert headwater("flink", "cluster", "status", *common)["slots-total"] == 2
        with_job = [*common, "--processor", url]
        total = 0
        for round_ in range(2):
            pipeline = up(with_job, port := 21_883 + round_)
            try:
                said = pipeline.stderr
                assert said is not None
                first = said.readline()
                assert ("without state" if round_ == 0 else "going on from file:") in first
                wait_until(lambda said=said: "MQTT on" in said.readline(), "the gateway listens")
                report = simulate(port, 4)
                assert report["waiting"] == 0
                total += report["frames"]
                wait_until(lambda total=total: stored(data) == total, lambda: f"{stored(data)} frames are stored")
            finally:
                pipeline.send_signal(signal.SIGTERM)
                pipeline.communicate(timeout=60)
            assert pipeline.returncode == 0
            status = headwater("flink", "status", *common)
            assert (status["state"], status["restarts"]) == ("RUNNING", 0)
            savepoint = headwater("flink", "stop", *common)["savepoint"]
            assert savepoint.startswith("file:")
        reader = StoreReader(data / "store.db")
        account, doubled = reader.account_total(), reader.frames_doubled()
        reader.close()
        assert (account["unknown"], doubled) == (0, 0)
        refused = subprocess.run([*HEADWATER, "flink", "stop", *common], capture_output=True, text=True, check=False)
        assert refused.returncode == 78
        assert "no job" in refused.stderr
    finally:
        headwater("flink", "cluster", "stop", *common)


def test_a_wrong_size_and_a_port_that_is_taken_are_told_before_anything_starts(
    environment: FlinkEnvironment, kafka: object, tmp_path: Path
) -> None:
    common = ["--data", str(tmp_path), "--set", f"flink.environment={environment.root}"]
    port = kafka.url.rpartition(":")[2]  # type: ignore[attr-defined]
    for wrong, words in (
        (["--set", "flink.task_manager_mib=10000000", "--port", "0"], "MiB are free"),
        (["--port", port], f"port {port} is taken"),
    ):
        command = [*HEADWATER, "flink", "cluster", "start", *common, *wrong]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 78, done.stderr
        assert words in done.stderr
        assert "Traceback" not in done.stderr
