"""`headwater doctor` on a real Kafka and a real Flink: it names what was taken away, and is content when it is back."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from flink_world import PARTITIONS, ROOT, World, wait_until

pytestmark = [pytest.mark.flink, pytest.mark.integration]

HEADWATER = [sys.executable, "-m", "headwater"]


class Doctor:
    """Asks about one world, whose store is in `folder`."""

    def __init__(self, world: World, folder: Path) -> None:
        self.arguments = [
            "--data", str(folder), "--log", f"kafka://{world.options.servers}", "--processor", world.cluster.url,
            "--set", f"kafka.topic_prefix={world.options.topic_prefix}", "--set", f"flink.name={world.name}",
            "--set", f"processor.partitions={PARTITIONS}",
        ]  # fmt: skip
        self.last: dict[str, Any] = {}

    def finds(self, hop: str) -> dict[str, Any]:
        command = [*HEADWATER, "doctor", "--json", "--hop", hop, *self.arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=90, check=False)
        assert done.returncode in {0, 1}, done.stderr
        (self.last,) = json.loads(done.stdout)["findings"]
        return self.last

    def until(self, hop: str, *, is_good: bool, words: str) -> None:
        wait_until(
            lambda: (found := self.finds(hop))["is_good"] == is_good and words in found["what"],
            lambda: f"{words}: {self.last}",
        )


def test_the_failing_hop_is_named_and_mended(world: World, tmp_path: Path) -> None:
    doctor = Doctor(world, tmp_path / "data")
    found = doctor.finds("flink")
    assert f"no job {world.name!r}" in found["what"]
    assert "headwater flink submit" in found["mend"]
    assert doctor.finds("sink")["is_idle"]

    first, second = world.parts(2, devices=3, frames=20)
    world.log.append(first)
    world.submit()
    doctor.until("flink", is_good=True, words="0 records behind the log")
    found = doctor.finds("sink")
    assert not found["is_good"]
    assert "headwater sink" in found["mend"]

    sink = subprocess.Popen([*HEADWATER, "sink", *doctor.arguments[:4], *doctor.arguments[6:]], cwd=ROOT)
    doctor.until("sink", is_good=True, words="0 records behind the results")
    sink.send_signal(signal.SIGTERM)
    assert sink.wait(60) == 0
    world.log.append(second)
    doctor.until("flink", is_good=True, words="0 records behind the log")
    assert "nothing moves" in doctor.finds("sink")["what"]

    (victim,) = world.cluster.pids("taskmanager")
    os.kill(victim, signal.SIGKILL)
    doctor.until("flink", is_good=False, words="has no TaskManager")
    world.cluster.add_task_manager()
    doctor.until("flink", is_good=True, words="0 records behind the log")
