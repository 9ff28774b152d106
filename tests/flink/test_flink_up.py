"""`headwater up --processor` sees to it that the job is there, and leaves one alone that was stopped."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from flink_world import PARTITIONS, ROOT, World, wait_until

from headwater.cli.flink_record import is_stopped

pytestmark = [pytest.mark.flink, pytest.mark.integration]

HEADWATER = [sys.executable, "-m", "headwater"]


def test_a_job_that_the_cluster_lost_comes_back_and_one_that_was_stopped_does_not(world: World, tmp_path: Path) -> None:
    data, rest = tmp_path / "data", world.cluster.rest
    common = [
        "--data", str(data), "--log", f"kafka://{world.options.servers}", "--set", f"flink.environment={world.environment.root}",
        "--set", f"pipeline.processor={world.cluster.url}", "--set", f"kafka.topic_prefix={world.options.topic_prefix}",
        "--set", f"flink.name={world.name}", "--set", f"flink.checkpoints={(tmp_path / 'checkpoints').as_uri()}",
        "--set", f"processor.partitions={PARTITIONS}", "--set", f"gateway.partitions={PARTITIONS}",
        "--set", "flink.checkpoint_every=500ms",
    ]  # fmt: skip
    world.record(devices=2, frames=10)
    with (tmp_path / "up.txt").open("w") as said:
        command = [*HEADWATER, "up", *common, "--no-page", "--mqtt-port", "0"]
        pipeline = subprocess.Popen(command, stderr=said, cwd=ROOT)
    try:
        wait_until(lambda: rest.jobs(world.name), "the job")
        (world.job,) = rest.jobs(world.name)
        world.wait_running()
        wait_until(lambda: world.status()["checkpoints"] > 0, "a checkpoint")
        # What is left of a job after its JobManager died: checkpoints, and nobody who knows it.
        rest.cancel(world.job)
        wait_until(lambda: set(rest.jobs(world.name)) - {world.job}, "the job again")
        (world.job,) = rest.jobs(world.name)
        world.wait_running()
        wait_until(lambda: "going on from file:" in (tmp_path / "up.txt").read_text(), "what up says")

        done = subprocess.run([*HEADWATER, "flink", "stop", *common], capture_output=True, text=True, cwd=ROOT, check=True)  # fmt: skip
        assert json.loads(done.stdout)["savepoint"].startswith("file:")
        wait_until(lambda: "the job was stopped" in (tmp_path / "up.txt").read_text(), "what up says")
        assert is_stopped(data / "flink")
        assert rest.jobs(world.name) == []
    finally:
        pipeline.send_signal(signal.SIGTERM)
        assert pipeline.wait(60) == 0
