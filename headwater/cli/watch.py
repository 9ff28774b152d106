"""What the demo tells on the terminal as it happens: first point, faults, anomalies, a status line."""

import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from headwater.io.store_sqlite_query import StoreReader

EVENTS_PER_SECOND_MAX = 5
STATUS_EVERY_S = 0.5
STATUS_EVERY_S_PLAIN = 10.0


def process_age_s() -> float:
    """Seconds since this process started, imports included (from /proc, in ticks of the kernel's clock)."""
    fields = Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    started_s = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started_s


def resident_mib() -> float:
    """This process's resident memory in MiB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


class Watch:
    """Follows the store and the counters and prints what is new; on a terminal it keeps a status line."""

    def __init__(self, reader: StoreReader, counters: Callable[[], Mapping[str, Any]], *, quiet: bool) -> None:
        self._reader = reader
        self._counters = counters
        self._quiet = quiet
        self._is_terminal = sys.stderr.isatty()
        self._version = reader.version()
        self._known_faults: set[str] = set()
        self._status_s = 0.0
        self._has_status = False
        self._second = 0
        self._said = 0
        self._skipped = 0
        self.first_point_s: float | None = None
        self.anomalies: list[dict[str, Any]] = []

    def look(self, faults: list[dict[str, Any]]) -> None:
        """Prints what happened since the last look."""
        while True:
            changes = self._reader.changes(self._version)
            if changes["reset"]:
                self._version = self._reader.version()
                break
            is_same = changes["version"] == self._version
            self._version = changes["version"]
            self._tell(changes)
            if is_same:
                break
        for fault in faults:
            if fault["id"] not in self._known_faults:
                self._known_faults.add(fault["id"])
                metric = fault["metric"] or "the whole machine"
                self.say(f"injected   {fault['site']}/{fault['device']}  {fault['kind']} on {metric}")
        self._show_status()

    def _tell(self, changes: Mapping[str, Any]) -> None:
        if changes["readings"] and self.first_point_s is None:
            self.first_point_s = process_age_s()
            self.say(f"first point in the store {self.first_point_s:.2f} s after the process started")
        for row in changes["anomaly"]:
            self.anomalies.append(row)
            why = row["message"] or f"value {row['value']:.6g}, expected {row['expected']:.6g}"
            self.say(f"detected   {row['site']}/{row['device']}  {row['metric']}: {why} ({row['detector']})")
        for row in changes["alert"]:
            self.say(f"alert      {row['site']}/{row['device']}  {row['rule']} {row['state']}: {row['message']}")

    def say(self, text: str) -> None:
        """Prints a line above the status line; at most a few a second, the rest is counted."""
        if self._quiet:
            return
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._said = second, 0
        self._said += 1
        if self._said > EVENTS_PER_SECOND_MAX:
            self._skipped += 1
            return
        if self._skipped:
            text += f"   (+{self._skipped} more)"
            self._skipped = 0
        self._clear()
        print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)

    def _show_status(self) -> None:
        now_s = time.monotonic()
        every_s = STATUS_EVERY_S if self._is_terminal else STATUS_EVERY_S_PLAIN
        if self._quiet or now_s - self._status_s < every_s:
            return
        self._status_s = now_s
        counters = self._counters()
        agents, processor = counters.get("agents", {}), counters.get("processor", {})
        total = self._reader.account_total()
        line = (
            f"{agents.get('online', 0)}/{agents.get('agents', 0)} devices online · {agents.get('sampled', 0):,} sampled · "
            f"{total['stored']:,} frames stored · {agents.get('buffered', 0):,} in spools · "
            f"lag {processor.get('lag_records', 0)} · unknown {total['unknown']} · {resident_mib():.0f} MiB"
        )
        if self._is_terminal:
            self._clear()
            print(line[: os.get_terminal_size(sys.stderr.fileno()).columns - 1], end="", file=sys.stderr, flush=True)
            self._has_status = True
        else:
            print(line, file=sys.stderr, flush=True)

    def _clear(self) -> None:
        if self._has_status:
            print("\r\x1b[K", end="", file=sys.stderr)
            self._has_status = False

    def close(self) -> None:
        """Takes the status line away."""
        self._clear()
        sys.stderr.flush()
