"""A Flink cluster of this machine: the JobManager and TaskManagers of the wheel, on loopback, ended by their process ids.

    environment (.venv-flink) ─▶ JobManager ─ TaskManager … ─ Python workers, in the process group of their TaskManager

The folder holds configuration, messages, process ids, checkpoints and savepoints. A TaskManager that is killed leaves its
Python workers behind; they share its process group and end with it here.
"""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from headwater.errors import ConnectError, SettingsError
from headwater.io.flink_book import Entry, FlinkBook
from headwater.io.flink_configuration import Addresses, command, settings_of, variables, write_configuration
from headwater.io.flink_environment import FlinkEnvironment
from headwater.io.flink_rest import FlinkRest
from headwater.io.process_groups import command_of, group_lives, groups

START_S: Final = 120.0
STOP_S: Final = 30.0
HOST: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class ClusterSizes:
    """Memory of the processes and how much runs at once; the defaults hold with a few thousand devices.

    Attributes:
        job_manager_mib, task_manager_mib: of each Java process as a whole.
        slots: parallel tasks per TaskManager; each has a Python worker of some 200 MB beside it.
        task_managers: how many.
    """

    job_manager_mib: int = 768
    task_manager_mib: int = 1280
    slots: int = 2
    task_managers: int = 1


@dataclass(frozen=True, slots=True)
class Fallen:
    """A process that ended by itself.

    Attributes:
        role: "jobmanager" or "taskmanager".
        pid: its id.
        how: signal or exit code; "" where that can't be known, because another process started it.
    """

    role: str
    pid: int
    how: str


class FlinkCluster:
    """One JobManager and its TaskManagers over one folder; found again as it was left."""

    def __init__(self, folder: Path, environment: FlinkEnvironment) -> None:
        self.folder = folder.resolve()
        self._environment = environment
        self._book = FlinkBook(self.folder / "cluster.json")

    @property
    def url(self) -> str:
        """flink://127.0.0.1:PORT. ConnectError: it was never started."""
        return f"flink://{HOST}:{self._book.port}"

    @property
    def rest(self) -> FlinkRest:
        """Its REST interface."""
        return FlinkRest(self.url)

    @property
    def is_known(self) -> bool:
        """Tells whether it was started, and not stopped since; its processes may have died."""
        return self._book.exists

    @property
    def is_ending(self) -> bool:
        """Tells whether somebody ends it, or has ended it."""
        return self._book.is_closing

    @property
    def checkpoints(self) -> Path:
        """Where jobs of this cluster keep checkpoints."""
        return self.folder / "checkpoints"

    @property
    def savepoints(self) -> Path:
        """Where jobs of this cluster keep savepoints."""
        return self.folder / "savepoints"

    def start(self, sizes: ClusterSizes, port: int = 0, is_over: Callable[[], bool] = lambda: False) -> None:
        """Starts it and returns when all slots are there.

        Args:
            sizes: of its processes.
            port: of its REST interface; 0 lets the system choose.
            is_over: tells that nobody wants it any more; then it returns at once, and what was started runs.

        Raises:
            SettingsError: there is not enough memory for these sizes.
            ConnectError: it ended or did not answer in time.
        """
        if self.pids():
            raise SettingsError(f"{self.folder}: a cluster is running there; headwater flink cluster stop")
        _check_memory(sizes)
        self.stop()  # What a cluster that died left behind.
        self.folder.mkdir(parents=True, exist_ok=True)
        ports = _free_ports(3, port)
        settings = settings_of(
            Addresses(HOST, HOST, HOST, *ports),
            job_manager_mib=sizes.job_manager_mib,
            task_manager_mib=sizes.task_manager_mib,
            slots=sizes.slots,
            checkpoints=self.checkpoints.as_uri(),
            savepoints=self.savepoints.as_uri(),
            python=self._environment.python,
        )
        write_configuration(self.folder, self._environment, settings)
        self._book.begin(ports[0])
        try:
            self._spawn("jobmanager")
            for _ in range(sizes.task_managers):
                self._spawn("taskmanager")
            self._wait(sizes, is_over)
        except BaseException:
            self.stop()  # Nothing is left behind of a cluster that nobody got.
            raise

    def add_task_manager(self) -> int:
        """Starts one more TaskManager and returns its process id."""
        return self._spawn("taskmanager")

    def fallen(self) -> list[Fallen]:
        """What was started and has ended by itself."""
        found = []
        for entry in self._book.entries():
            how = _reap(entry.pid)
            if not entry.is_alive:
                found.append(Fallen(entry.role, entry.pid, how))
        return found

    def revive(self, pid: int) -> int:
        """Ends what a process that has ended left behind, starts another in its place and returns its id.

        Raises:
            ConnectError: the cluster is being stopped.
        """
        (entry,) = (entry for entry in self._book.entries() if entry.pid == pid)
        _end([entry])
        fresh = self._spawn(entry.role)
        self._book.remove(pid)
        return fresh

    def stop(self) -> None:
        """Ends all processes, with their Python workers, and returns when they are gone."""
        if not self._book.exists:
            return
        self._book.close()
        _end(self._book.entries())
        self._book.delete()

    def pids(self, role: str = "") -> list[int]:
        """Process ids of what still runs: "jobmanager", "taskmanager" or both."""
        return [entry.pid for entry in self._book.entries() if role in {"", entry.role} and entry.is_alive]

    def workers(self) -> list[int]:
        """Process ids of the Python workers, of TaskManagers that are gone too."""
        managers = {entry.pid for entry in self._book.entries() if entry.role == "taskmanager" and entry.owns_group}
        return [pid for pid, group in groups().items() if group in managers and b"beam_boot" in command_of(pid)]

    def last_words(self) -> str:
        """The end of what its processes said."""
        files = sorted((self.folder / "messages").iterdir(), key=lambda path: path.stat().st_mtime)
        return "\n".join(path.read_text(encoding="utf-8", errors="replace")[-1500:] for path in files[-2:])

    def _spawn(self, role: str) -> int:
        """Starts one Java process as the leader of a group of its own and enters it in the book."""

        def spawn(number: int) -> int:
            with (self.folder / "messages" / f"{role}-{number}.txt").open("ab") as said:
                process = subprocess.Popen(
                    command(self._environment, role), env=os.environ | variables(self.folder, self._environment),
                    stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True,
                )  # fmt: skip
            process.returncode = 0  # It outlives this process on purpose: whoever reads the book ends it.
            return process.pid

        return self._book.start(role, spawn)

    def _wait(self, sizes: ClusterSizes, is_over: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + START_S
        while not is_over():
            with contextlib.suppress(ConnectError):  # It is not there yet.
                if self.rest.overview()["slots-total"] >= sizes.slots * sizes.task_managers:
                    return
            if len(self.pids()) < 1 + sizes.task_managers or time.monotonic() > deadline_s:
                raise ConnectError(f"the cluster in {self.folder} did not start:\n{self.last_words()}")
            time.sleep(0.1)


def _check_memory(sizes: ClusterSizes) -> None:
    wanted = sizes.job_manager_mib + sizes.task_managers * (sizes.task_manager_mib + 200 * sizes.slots)
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    free = next(int(line.split()[1]) // 1024 for line in lines if line.startswith("MemAvailable"))
    if free < wanted:
        raise SettingsError(
            f"the cluster needs {wanted} MiB and {free} MiB are free: fewer slots (--set flink.slots=1), or another machine"
        )


def _free_ports(count: int, first: int) -> list[int]:
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for place, probe in enumerate(probes):
            try:
                probe.bind((HOST, 0 if place else first))
            except OSError as error:
                raise SettingsError(f"port {first} is taken: --port with another one, or 0 for any") from error
        return [probe.getsockname()[1] for probe in probes]


def _end(entries: Sequence[Entry]) -> None:
    """Ends processes and what they left behind in their groups, and returns when they are gone."""
    found = [entry.pid for entry in entries if entry.owns_group]
    for number in (signal.SIGTERM, signal.SIGKILL):
        for group in found:
            with contextlib.suppress(ProcessLookupError):  # It is gone, which is what was wanted.
                os.killpg(group, number)
        deadline_s = time.monotonic() + STOP_S
        while any(group_lives(group) for group in found) and time.monotonic() < deadline_s:
            time.sleep(0.05)


def _reap(pid: int) -> str:
    """How a process of this one's own ended; "" if it lives, or was started by another."""
    try:
        found, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return ""
    if not found:
        return ""
    code = os.waitstatus_to_exitcode(status)
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
