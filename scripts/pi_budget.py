"""What the agent needs of a small machine: started under a CPU quota, with a real gateway beside it.

python scripts/pi_budget.py [--share 0.1] [--seconds 60] [--set agent.flush_every=60s] [--json]

The quota is a cgroup's (v1 or v2, which takes root); the gateway runs outside of it. Where no cgroup can be made, the
agent runs without a quota and the report says so. Ready means what systemd would be told: the spool is open and the
loop turns. Commits are frames written to the spool plus acks that free them, each one transaction with an fsync.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PERIOD_US = 100_000
V1, V2 = Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")
HEADWATER = [sys.executable, "-m", "headwater"]


@contextmanager
def quota(share: float) -> Iterator[Path | None]:
    """Makes a cgroup whose processes get `share` of one CPU; gives its list of processes, None where that can't be."""
    is_v2 = (V2 / "cgroup.controllers").exists()
    group = (V2 if is_v2 else V1) / f"headwater-budget-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        print(f"no cgroup ({error}): measuring without a quota", file=sys.stderr)
        yield None
        return
    try:
        if is_v2:
            (group / "cpu.max").write_text(f"{round(share * PERIOD_US)} {PERIOD_US}")
        else:
            (group / "cpu.cfs_quota_us").write_text(str(round(share * PERIOD_US)))
        yield group / "cgroup.procs"
    finally:
        group.rmdir()


def free_port() -> int:
    """A TCP port that nobody has at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def await_port(port: int) -> None:
    """Waits until something listens there."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"nothing listens on {port}")


def numbers(pid: int, name: str) -> dict[str, int]:
    """The lines `key: number` of a file in /proc."""
    rows = (line.split(":") for line in Path(f"/proc/{pid}/{name}").read_text().splitlines())
    return {key: int(value.split()[0]) for key, value, *_ in rows if value.split() and value.split()[0].isdigit()}


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(
    share: float, seconds: float, processes: Path | None, folder: Path, settings: list[str]
) -> dict[str, object]:
    """Runs gateway and agent and reads what /proc says of the agent."""
    port = free_port()
    up = [*HEADWATER, "up", "--no-page", "--mqtt-port", str(port), "--data", str(folder / "hub")]
    notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notices.bind(str(folder / "notify"))
    notices.settimeout(120)
    hub = subprocess.Popen(up, stderr=subprocess.DEVNULL)
    try:
        await_port(port)
        command = [*HEADWATER, "agent", "--source", "host", "--data", str(folder / "agent"), "--json"]
        for setting in (f"agent.gateway=mqtt://127.0.0.1:{port}", *settings):
            command += ["--set", setting]
        enter = (lambda: processes.write_text("0")) if processes is not None else None
        started = time.monotonic()
        agent = subprocess.Popen(
            command,
            env=os.environ | {"NOTIFY_SOCKET": str(folder / "notify")},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            preexec_fn=enter,  # noqa: PLW1509 — one thread, and the child must be in the group before it imports.
        )
        assert notices.recv(4096).startswith(b"READY=1")
        ready_s, ready_cpu_s, begun = time.monotonic() - started, cpu_s(agent.pid), numbers(agent.pid, "io")
        time.sleep(seconds)
        used_s, io, status = cpu_s(agent.pid) - ready_cpu_s, numbers(agent.pid, "io"), numbers(agent.pid, "status")
        agent.terminate()
        counters = json.loads(agent.communicate(timeout=120)[0])
    finally:
        hub.terminate()
        hub.wait()
        notices.close()
    per_hour = 3600 / seconds
    return {
        "cpu_quota": share if processes is not None else None,
        "ready_s": round(ready_s, 2),
        "ready_cpu_s": round(ready_cpu_s, 2),
        "cpu_share": round(used_s / seconds, 4),
        "rss_mib": round(status["VmRSS"] / 1024, 1),
        "rss_peak_mib": round(status["VmHWM"] / 1024, 1),
        "readings_per_hour": round(counters["sampled"] * per_hour),
        "frames_per_hour": round(counters["assigned"] * per_hour),
        "commits_per_hour": round((counters["assigned"] + counters["acks"]) * per_hour),
        "written_mib_per_hour": round((io["write_bytes"] - begun["write_bytes"]) * per_hour / 2**20, 1),
        "buffered_at_end": counters["buffered"],
        "counters": {name: value for name, value in counters.items() if isinstance(value, int | float)},
    }


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=0.1, help="of one CPU")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the agent runs after it is ready")
    parser.add_argument("--set", action="append", default=[], help="a setting of the agent; may be repeated")
    parser.add_argument("--json", action="store_true", help="print all of it as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, quota(options.share) as processes:
        found = measure(options.share, options.seconds, processes, Path(name), options.set)
    counters = found.pop("counters")
    for key, value in found.items():
        print(f"{key:<22} {value}") if not options.json else None
    if options.json:
        print(json.dumps(found | {"counters": counters}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
