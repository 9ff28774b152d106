"""`headwater flink cluster run`: keeps a cluster of this machine up: what dies is started again, its job submitted again.

    start or take over ─▶ (twice a second) what fell? ─▶ wait ─▶ start it again ─▶ JobManager? ─▶ submit the lost job

A JobManager keeps its jobs in memory alone, so they end with it; what they were told is in the folder of the cluster
(`headwater.cli.flink_record`), and their state in the newest checkpoint.
"""

import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from headwater.cli.flink_jobs import SOURCES, FlinkJobs
from headwater.cli.flink_record import lost_job
from headwater.cli.flink_settings import FlinkSettings
from headwater.cli.shared import say
from headwater.errors import ConnectError, HeadwaterError, RejectedError, SettingsError
from headwater.instant import US_PER_S
from headwater.io.clock_system import SystemClock
from headwater.io.flink_cluster import Fallen
from headwater.io.flink_rest import FlinkRest
from headwater.io.supervisor_systemd import Supervisor

LOOK_EVERY_S: Final = 0.5
TIMEOUT_S: Final = 5.0
WAIT_FIRST_US: Final = US_PER_S
WAIT_MAX_US: Final = 60 * US_PER_S
STEADY_US: Final = 5 * 60 * US_PER_S
JOB: Final = "job"
NAMES: Final = {"jobmanager": "JobManager", "taskmanager": "TaskManager"}


class WatchedCluster(Protocol):
    """What a watch needs of a cluster; `headwater.io.flink_cluster.FlinkCluster` has it.

    Attributes:
        folder: of its files.
    """

    folder: Path

    @property
    def is_ending(self) -> bool:
        """Tells whether somebody ends it."""

    def fallen(self) -> list[Fallen]:
        """What has ended by itself."""

    def revive(self, pid: int) -> int:
        """Starts another one in its place and returns its id."""


class Backoff:
    """How long to wait before the next try: one second, two, … a minute; one again after five minutes without need.

    >>> backoff = Backoff()
    >>> [backoff.wait_us(0) // 1_000_000 for _ in range(8)]
    [1, 2, 4, 8, 16, 32, 60, 60]
    """

    def __init__(self) -> None:
        self._wait_us = 0
        self._last_us = 0

    def wait_us(self, now_us: int) -> int:
        """Returns how long to wait, for a need that was found at `now_us`."""
        if now_us - self._last_us > STEADY_US:
            self._wait_us = 0
        self._wait_us = min(max(2 * self._wait_us, WAIT_FIRST_US), WAIT_MAX_US)
        self._last_us = now_us + self._wait_us
        return self._wait_us


class FlinkWatch:
    """Starts again what died, after a wait that grows while it goes on dying.

    Args:
        cluster: which.
        submit: submits the job that the cluster lost and returns what to say, "" if there is none; None: not yet.
        tell: says a line to people.
        has_lost_job: the cluster has just been started, so a job that it had is gone.
    """

    def __init__(
        self,
        cluster: WatchedCluster,
        submit: Callable[[], str | None],
        tell: Callable[[str], None],
        *,
        has_lost_job: bool = False,
    ) -> None:
        self._cluster, self._submit, self._tell = cluster, submit, tell
        self._due_us: dict[int, int] = {}
        self._backoffs = {role: Backoff() for role in (*NAMES, JOB)}
        self._submit_us = 0
        self._has_lost_job = has_lost_job

    def turn(self, now_us: int) -> bool:
        """Looks once and does what is due; returns False when somebody else ended the cluster.

        Args:
            now_us: monotonic time.
        """
        if self._cluster.is_ending:
            return False
        fallen = self._cluster.fallen()
        for found in fallen:
            self._start_again(found, now_us)
        if self._has_lost_job and now_us >= self._submit_us and not any(one.role == "jobmanager" for one in fallen):
            self._submit_again(now_us)
        return True

    def _start_again(self, found: Fallen, now_us: int) -> None:
        name = NAMES[found.role]
        if found.pid not in self._due_us:
            wait_us = self._backoffs[found.role].wait_us(now_us)
            self._due_us[found.pid] = now_us + wait_us
            how = f" ({found.how})" if found.how else ""
            look = "" if wait_us == WAIT_FIRST_US else f"; it says why in {self._cluster.folder}/messages"
            self._tell(f"the {name} {found.pid} ended{how}: starting it again in {wait_us // US_PER_S} s{look}")
        if now_us < self._due_us[found.pid]:
            return
        try:
            fresh = self._cluster.revive(found.pid)
        except ConnectError as error:
            self._tell(str(error))
            return
        del self._due_us[found.pid]
        self._has_lost_job |= found.role == "jobmanager"
        self._tell(f"the {name} is {fresh} now")

    def _submit_again(self, now_us: int) -> None:
        try:
            said = self._submit()
        except HeadwaterError as error:
            wait_us = self._backoffs[JOB].wait_us(now_us)
            self._submit_us = now_us + wait_us
            self._tell(f"the job is not submitted again: {error}; next try in {wait_us // US_PER_S} s")
            return
        self._has_lost_job = said is None
        if said:
            self._tell(said)


def watch(jobs: FlinkJobs, flink: FlinkSettings, port: int, stop: threading.Event) -> None:
    """Runs the cluster of this data folder until `stop` is set, then ends it.

    Raises:
        SettingsError: another one watches it, or it can't be started as the settings say.
        ConnectError: it did not start.
    """
    cluster, clock, supervisor = jobs.cluster, SystemClock(), Supervisor(os.environ)
    jobs.environment.check(SOURCES)
    cluster.folder.mkdir(parents=True, exist_ok=True)
    with (cluster.folder / "watch.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SettingsError(f"{cluster.folder}: another headwater flink cluster run watches it") from error
        is_taken_over = bool(cluster.pids())
        if not is_taken_over:
            cluster.start(flink.sizes, port, stop.is_set)
        print(cluster.url, flush=True)
        say(f"flink: {'took over the ' if is_taken_over else ''}cluster on {cluster.url}, files in {cluster.folder}")
        supervisor.ready(f"cluster on {cluster.url}")

        def tell(text: str) -> None:
            say(f"flink: {text}")

        keeper = FlinkWatch(cluster, lambda: submit_lost(jobs), tell, has_lost_job=not is_taken_over)
        while not stop.wait(LOOK_EVERY_S):
            if not keeper.turn(clock.monotonic_us()):
                say("flink: the cluster was stopped by another command")
                return
            supervisor.alive(clock.monotonic_us())
        supervisor.stopping("ending the cluster")
        cluster.stop()


def submit_lost(jobs: FlinkJobs) -> str | None:
    """Submits the job that this data folder's cluster had, from its newest state.

    Returns:
        What to say; "" if it had none; None if the cluster does not answer yet.

    Raises:
        ConnectError: the log does not answer.
        SettingsError: the job can't run any more as it was.
    """
    tables = lost_job(jobs.cluster.folder)
    if tables is None:
        return ""
    try:
        if not FlinkRest(jobs.cluster.url, TIMEOUT_S).overview()["taskmanagers"]:
            return None
    except (ConnectError, RejectedError):
        return None  # It has just been started.
    again = FlinkJobs(tables, jobs.cluster.url)
    if found := again.running():
        return f"job {found} runs"
    job, state = again.submit()
    return f"submitted job {job} again, {f'going on from {state}' if state else 'without state'}"
