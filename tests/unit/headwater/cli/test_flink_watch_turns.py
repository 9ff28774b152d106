"""What the watch over a cluster starts again, when, and what it says; the real one: tests/flink."""

from pathlib import Path

from headwater.cli.flink_watch import FlinkWatch
from headwater.errors import ConnectError, HeadwaterError
from headwater.io.flink_cluster import Fallen

S = 1_000_000


class Cluster:
    """A JobManager 1 and a TaskManager 2; a new process has the next number."""

    def __init__(self) -> None:
        self.folder = Path("data/flink")
        self.processes = {1: "jobmanager", 2: "taskmanager"}
        self.dead: set[int] = set()
        self.last = 2
        self.is_ending = False
        self.refusal = ""

    def fallen(self) -> list[Fallen]:
        return [Fallen(self.processes[pid], pid, "signal SIGKILL") for pid in sorted(self.dead)]

    def revive(self, pid: int) -> int:
        if self.refusal:
            raise ConnectError(self.refusal)
        self.last += 1
        self.processes[self.last] = self.processes.pop(pid)
        self.dead.remove(pid)
        return self.last


class Job:
    """What submits, with answers that a test sets."""

    def __init__(self) -> None:
        self.answers: list[str | HeadwaterError | None] = []

    def __call__(self) -> str | None:
        answer = self.answers.pop(0)
        if isinstance(answer, HeadwaterError):
            raise answer
        return answer


class Watched:
    def __init__(self, *, has_lost_job: bool = False) -> None:
        self.cluster, self.job, self.said = Cluster(), Job(), list[str]()
        self.watch = FlinkWatch(self.cluster, self.job, self.said.append, has_lost_job=has_lost_job)


def test_a_task_manager_that_died_is_started_again_after_a_second_and_no_job_is_submitted() -> None:
    at = Watched()
    at.cluster.dead.add(2)
    assert at.watch.turn(10 * S)
    assert at.said == ["the TaskManager 2 ended (signal SIGKILL): starting it again in 1 s"]
    assert at.watch.turn(11 * S - 1)
    assert at.cluster.dead == {2}
    assert at.watch.turn(11 * S)
    assert at.said[1:] == ["the TaskManager is 3 now"]
    assert at.watch.turn(20 * S)
    assert len(at.said) == 2


def test_one_that_goes_on_dying_is_waited_for_longer_and_no_longer_than_a_minute() -> None:
    at, now_us, waits = Watched(), 0, []
    for _ in range(9):
        at.cluster.dead.add(max(at.cluster.processes))
        begun_us = now_us
        while at.cluster.dead:
            assert at.watch.turn(now_us)
            now_us += S // 2
        waits.append((now_us - begun_us) // S)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert "starting it again in 60 s; it says why in data/flink/messages" in at.said[-2]
    now_us += 301 * S
    at.cluster.dead.add(max(at.cluster.processes))
    at.watch.turn(now_us)
    assert at.said[-1].endswith("starting it again in 1 s")


def test_a_job_that_died_with_the_job_manager_is_submitted_again_when_the_cluster_is_ready() -> None:
    at = Watched()
    at.cluster.dead.add(1)
    at.watch.turn(0)
    at.job.answers = [None, None, ConnectError("no Kafka"), "submitted job ab again"]
    for half_seconds in range(1, 12):
        at.watch.turn(half_seconds * S // 2)
    assert at.said == [
        "the JobManager 1 ended (signal SIGKILL): starting it again in 1 s",
        "the JobManager is 3 now",
        "the job is not submitted again: no Kafka; next try in 1 s",
        "submitted job ab again",
    ]
    assert at.job.answers == []


def test_nothing_is_submitted_while_the_job_manager_is_dead() -> None:
    at = Watched(has_lost_job=True)
    at.cluster.dead.add(1)
    at.watch.turn(0)
    at.watch.turn(S // 2)
    at.job.answers = [""]
    at.watch.turn(S)
    at.watch.turn(2 * S)
    at.watch.turn(3 * S)
    assert at.said[-1] == "the JobManager is 3 now"


def test_a_cluster_that_another_command_ends_is_left_alone() -> None:
    at = Watched()
    at.cluster.dead.add(2)
    at.watch.turn(0)
    at.cluster.refusal = "the cluster is being stopped"
    assert at.watch.turn(2 * S)
    assert at.said[-1] == "the cluster is being stopped"
    at.cluster.is_ending = True
    assert not at.watch.turn(3 * S)
