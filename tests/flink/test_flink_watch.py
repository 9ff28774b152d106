"""`headwater flink cluster run` on a real Flink: what is killed comes back, and the job with its state."""

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from flink_world import PARTITIONS, ROOT, SETTINGS, World, content, wait_until

from headwater.cli.flink_record import is_stopped
from headwater.io.flink_cluster import FlinkCluster
from headwater.io.flink_environment import FlinkEnvironment
from headwater.io.process_groups import group_lives
from headwater.ports import LogRecord

pytestmark = [pytest.mark.flink, pytest.mark.integration, pytest.mark.crash]

HEADWATER = [sys.executable, "-m", "headwater"]
SAY_S = 120.0


class Run:
    """`headwater flink cluster run` and what it says."""

    def __init__(self, common: list[str], notify: Path) -> None:
        self.process = subprocess.Popen(
            [*HEADWATER, "flink", "cluster", "run", "--port", "0", *common], env=os.environ | {"NOTIFY_SOCKET": str(notify)},
            cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as said:
            for line in said:
                self._lines.put(line)

    def says(self, words: str) -> str:
        """Waits for a line with these words in it."""
        while words not in (line := self._lines.get(timeout=SAY_S)):
            pass
        return line

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        code = self.process.wait(60)
        self._reader.join()
        return code


@contextmanager
def ended(cluster: FlinkCluster, world: World) -> Iterator[None]:
    """Nothing stays behind, however the test ends."""
    try:
        yield
    finally:
        cluster.stop()
        world.reader.close()
        world.log.close()


def kill(cluster: FlinkCluster, role: str) -> int:
    (victim,) = cluster.pids(role)
    os.kill(victim, signal.SIGKILL)
    return victim


def submitted(line: str) -> str:
    """The job that a watch says it submitted again, from its state."""
    assert "going on from file:" in line
    return line.partition("submitted job ")[2].split()[0]


def told(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*HEADWATER, "flink", *words], capture_output=True, text=True, cwd=ROOT, check=True)


def settings_of(world: World, data: Path, log: str) -> list[str]:
    return [
        "--data", str(data), "--log", log, "--set", f"flink.environment={world.environment.root}",
        "--set", f"kafka.topic_prefix={world.options.topic_prefix}", "--set", f"flink.name={world.name}",
        "--set", f"processor.partitions={PARTITIONS}", "--set", f"gateway.partitions={PARTITIONS}",
        "--set", f"processor.windows={json.dumps(SETTINGS.windows)}", "--set", "processor.health_baseline=10",
        "--set", "flink.checkpoint_every=3s",
    ]  # fmt: skip


def kill_one_after_the_other(world: World, watch: "Run", parts: list[list[LogRecord]]) -> None:
    """The TaskManager, which the job survives, and the JobManager, which loses it."""
    cluster = world.cluster
    world.append_while_uncommitted(parts[0])
    victim = kill(cluster, "taskmanager")
    watch.says(f"the TaskManager {victim} ended")
    watch.says("the TaskManager is")
    wait_until(lambda: world.status()["failures"] > 0, "the job fails")
    world.wait_running()
    assert cluster.rest.overview()["slots-total"] == 2
    assert not group_lives(victim)
    world.append_while_uncommitted(parts[1])
    kill(cluster, "jobmanager")
    watch.says("the JobManager is")
    world.job = submitted(watch.says("submitted job"))
    world.wait_all()
    assert content(world.store) == world.embedded()


def test_what_is_killed_comes_back_and_the_job_goes_on(
    kafka: object, environment: FlinkEnvironment, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    cluster = FlinkCluster(data / "flink", environment)
    world = World(kafka.url.removeprefix("kafka://"), cluster, environment, tmp_path)  # type: ignore[attr-defined]
    common = settings_of(world, data, kafka.url)  # type: ignore[attr-defined]
    with ended(cluster, world), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(SAY_S)
        first = Run(common, tmp_path / "notify")
        first.says("files in")
        assert systemd.recv(4096).startswith(b"READY=1\n")
        beside = subprocess.run([*HEADWATER, "flink", "cluster", "run", *common], capture_output=True, text=True, check=False)  # fmt: skip
        assert beside.returncode == 78
        assert "another headwater flink cluster run watches it" in beside.stderr
        first_part, *others = parts = world.parts(4, devices=8, frames=120, per_record=2)
        world.log.append(first_part)
        world.job = json.loads(told("submit", *common).stdout)["job"]
        world.wait_running()

        # The watch itself is killed: its cluster goes on, and the next one takes it over.
        processes = cluster.pids()
        first.process.kill()
        first.wait()
        assert cluster.pids() == processes
        second = Run(common, tmp_path / "notify")
        second.says("took over the cluster")
        assert systemd.recv(4096).startswith(b"READY=1\n")

        kill_one_after_the_other(world, second, others)
        assert world.results() > sum(map(len, parts[:3])), "nothing was written twice: the kills proved nothing"

        # All of it ends and begins again, as with the machine; the job was not stopped, so it comes back too.
        processes = cluster.pids()
        second.process.send_signal(signal.SIGTERM)
        assert second.wait() == 0
        assert systemd.recv(4096).startswith(b"STOPPING=1\n")
        assert not any(group_lives(pid) for pid in processes)
        third = Run(common, tmp_path / "notify")
        world.job = submitted(third.says("submitted job"))
        world.wait_running()
        world.log.append(others[2])
        world.wait_all()
        assert content(world.store) == world.embedded()

        # One that was stopped does not, and another command may end the cluster under the watch.
        told("stop", *common)
        assert is_stopped(data / "flink")
        told("cluster", "stop", *common)
        third.says("stopped by another command")
        assert third.wait() == 0
