"""scripts/kafka.py starts, kills, suspends and finds again what it says."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from kafka_server import SCRIPT, load_script

pytestmark = pytest.mark.integration


def script(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False)


def test_a_node_that_was_killed_comes_back_on_its_port(kafka: Any) -> None:
    known = load_script().brokers_known_at
    assert known(kafka.nodes[0].port) == {kafka.nodes[0].port}
    kafka.kill(1)
    assert not kafka.runs(1)
    assert known(kafka.nodes[0].port) == set()
    kafka.start()
    assert known(kafka.nodes[0].port) == {kafka.nodes[0].port}


def test_the_command_line_finds_the_cluster_of_a_folder_and_refuses_another(kafka: Any, tmp_path: Path) -> None:
    status = script("status", "--data", str(kafka.folder))
    assert (status.returncode, status.stdout.splitlines()[-1]) == (0, kafka.url)
    three = script("start", "--nodes", "3", "--data", str(kafka.folder))
    assert (three.returncode, "cluster of 1 nodes" in three.stderr) == (1, True)
    assert script("stop", "--data", str(tmp_path)).returncode == 1
    (tmp_path / "mine.txt").write_text("keep me")
    other = script("start", "--data", str(tmp_path))
    assert (other.returncode, "is not empty" in other.stderr) == (1, True)
    assert (tmp_path / "mine.txt").read_text() == "keep me"


def test_a_process_id_that_belongs_to_another_process_is_not_taken_for_a_node(kafka: Any, tmp_path: Path) -> None:
    script_module = load_script()
    (tmp_path / "cluster.json").write_text(
        json.dumps({"id": "x", "nodes": [{"number": 1, "port": 1, "controller_port": 2}]})
    )
    (tmp_path / "node-1").mkdir()
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    (tmp_path / "node-1" / "pid").write_text(str(other.pid))
    found = script_module.Cluster(tmp_path)
    found.stop()
    assert other.poll() is None
    other.communicate(b"\n")
