"""Processes of this machine as /proc tells of them: what runs, since when, and who leads which group."""

import contextlib
from pathlib import Path

PROC = Path("/proc")


def boot_id() -> str:
    """Text that is another one after each start of the machine."""
    return (PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def command_of(pid: int) -> bytes:
    """The command line of a process; empty for one that is gone or ended."""
    try:
        return (PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return b""


def lives(pid: int) -> bool:
    """Tells whether a process is there and has not ended; its command line may be empty for a moment while it becomes Java."""
    try:
        return _fields(pid)[0] not in {"Z", "X"}
    except OSError:
        return False


def started(pid: int) -> int:
    """When a process began, in ticks since the machine's start; 0 if it is gone. A pid that is used again has another."""
    try:
        return int(_fields(pid)[19])
    except OSError:
        return 0


def groups() -> dict[int, int]:
    """{process id: its process group} of all processes."""
    found = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # It ended while we looked.
                found[int(entry.name)] = int(_fields(int(entry.name))[2])
    return found


def group_lives(group: int) -> bool:
    """Tells whether a process of the group still runs, its leader or another."""
    return any(other == group and lives(pid) for pid, other in groups().items())


def _fields(pid: int) -> list[str]:
    """What stands behind the name in /proc/PID/stat: the state first."""
    return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
