"""kill -9 of the demo and of separate processes, judged by the checker that shares no code with the pipeline."""

import subprocess
import sys
from pathlib import Path

import pytest
from gateway_server import need

ROOT = Path(__file__).parents[2]


@pytest.mark.crash
@pytest.mark.integration
@pytest.mark.parametrize(("what", "rounds"), [("demo", 3), ("stages", 3), ("broker", 1)])
def test_nothing_is_lost_or_doubled_when_processes_are_killed(what: str, rounds: int) -> None:
    if what == "broker":
        need("mosquitto")
    command = [sys.executable, str(ROOT / "scripts" / "crash.py"), "--what", what, "--rounds", str(rounds)]
    command += ["--devices", "8"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("1 passed, 0 failed\n")
