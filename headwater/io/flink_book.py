"""The book of a cluster's processes: one JSON file, by which whoever comes later finds and ends them.

Several may write it at a time: a watch that starts again what died, and a command that ends all. A book that is closing
takes no new process.
"""

import contextlib
import fcntl
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from headwater.errors import ConnectError, CorruptStateError
from headwater.io.process_groups import boot_id, lives, started


@dataclass(frozen=True, slots=True)
class Entry:
    """One process.

    Attributes:
        role: "jobmanager" or "taskmanager".
        pid: its id, and that of the process group which it leads.
        started: when it began, in ticks since the machine's start: another process of that id began at another time.
    """

    role: str
    pid: int
    started: int

    @property
    def is_alive(self) -> bool:
        """Tells whether it still runs."""
        return lives(self.pid) and started(self.pid) == self.started

    @property
    def owns_group(self) -> bool:
        """Tells whether the group of that id is still its own, be it alone with what it left behind."""
        return started(self.pid) in {0, self.started}


class FlinkBook:
    """The book in one file; it is there from a cluster's start until it was ended."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def exists(self) -> bool:
        """Tells whether a cluster was started and not ended."""
        return self._path.exists()

    @property
    def is_closing(self) -> bool:
        """Tells whether somebody ends the cluster, or has ended it."""
        return not self.exists or bool(self._read().get("closing"))

    @property
    def port(self) -> int:
        """REST port. ConnectError: there is no cluster."""
        return int(self._read()["port"])

    def begin(self, port: int) -> None:
        """Opens a new book without processes."""
        with self._held():
            self._write({"port": port, "boot": boot_id(), "started": 0, "processes": []})

    def entries(self) -> list[Entry]:
        """All processes that were started, dead ones too; none where the machine was started anew since."""
        if not self.exists:
            return []
        known = self._read()
        return [Entry(**entry) for entry in known["processes"]] if known.get("boot") == boot_id() else []

    def start(self, role: str, spawn: Callable[[int], int]) -> int:
        """Starts a process and enters it, while nobody else may close the book; returns its id.

        Args:
            role: "jobmanager" or "taskmanager".
            spawn: starts it and returns its id; gets how many processes were started before.

        Raises:
            ConnectError: there is no cluster, or somebody is ending it.
        """
        with self._held():
            known = self._read()
            if known.get("closing"):
                raise ConnectError(f"the cluster in {self._path.parent} is being stopped")
            pid = spawn(known["started"])
            known["started"] += 1
            known["processes"].append(asdict(Entry(role, pid, started(pid))))
            self._write(known)
            return pid

    def remove(self, pid: int) -> None:
        """Takes a process out."""
        with self._held():
            known = self._read()
            known["processes"] = [entry for entry in known["processes"] if entry["pid"] != pid]
            self._write(known)

    def close(self) -> None:
        """Lets no watch start anything again from now on."""
        with self._held():
            if self.exists:
                self._write(self._read() | {"closing": True})

    def delete(self) -> None:
        """Forgets the cluster."""
        self._path.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any]:
        try:
            known: dict[str, Any] = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ConnectError(f"no cluster in {self._path.parent}: headwater flink cluster start") from error
        except ValueError as error:
            raise CorruptStateError(f"{self._path} is damaged: end its processes by hand and remove it") from error
        return known

    def _write(self, known: dict[str, Any]) -> None:
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps(known), encoding="utf-8")
        fresh.replace(self._path)

    @contextlib.contextmanager
    def _held(self) -> Iterator[None]:
        with (self._path.parent / "cluster.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
