"""The machine that the agent runs on: CPU, memory, disks, network and temperatures from /proc and /sys.

Real input on any Linux, without a sensor. Rates are differences of the kernel's counters over the time between two
samples; a counter that wrapped at 32 bits is continued, one that was reset gives no reading.
"""

import os
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from edge_agent.sources.options import metric_name, read_options
from headwater.errors import ConnectError
from headwater.frame import Block
from headwater.instant import US_PER_S
from headwater.metric import Metric
from headwater.ports import Clock
from headwater.quality import MISSING, Quality
from headwater.settings import DurationUs, Table

TICKS = ("cpu/busy", "cpu/all")
SECTOR_BYTES = 512  # The unit of /proc/diskstats on every kernel.
WRAP = 1 << 32
WRAP_STEP_MAX = 1 << 31  # A larger step across the wrap is a reset.


class HostOptions(Table):
    """Options of the source `host`."""

    every_us: DurationUs = Field(US_PER_S, ge=10_000, description="how often to sample")
    interfaces: str = Field("*", description="network interfaces to report, by name or pattern; lo is left out")
    disk: str = Field("/", description="a path on the file system whose use is reported")
    root: str = Field("/", description="where proc and sys are; for tests and containers")
    reduction: str = Field("raw", description="how percentages and temperatures are reduced, such as swing:0.5")


class HostSource:
    """Implements `headwater.ports.Source` for this machine.

    >>> from headwater.testing import ManualClock
    >>> source = HostSource({}, ManualClock())
    >>> source.open(); [metric.name for metric in source.metrics][:2]
    ['cpu/load_pct', 'cpu/load1']
    """

    def __init__(self, options: dict[str, Any], clock: Clock) -> None:
        self._options = read_options(HostOptions, options, "host")
        self._clock = clock
        self._proc, self._sys = Path(self._options.root, "proc"), Path(self._options.root, "sys")
        self._metrics: tuple[Metric, ...] = ()
        self._sensors: dict[str, Path] = {}
        self._counters: dict[str, float] = {}
        self._sampled_us = -1  # On the monotonic clock: a step of the wall clock is no rate.
        self._due_us = 0
        self.unreadable = 0

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What this machine has; known after `open`."""
        return self._metrics

    @property
    def is_exhausted(self) -> bool:
        """Never."""
        return False

    def open(self) -> None:
        """Looks what there is."""
        if not (self._proc / "stat").exists():
            raise ConnectError(f"source host: {self._proc} has no stat: this needs Linux with /proc mounted")
        self._sensors = _temperatures(self._sys)
        gauges, counters = self._gauges(), self._count()
        self._metrics = tuple(self._describe(name) for name in (*gauges, *counters) if name not in TICKS)
        self._sampled_us, self._due_us = -1, 0

    def read(self, now_us: int) -> list[Block]:
        """Returns one sample if one is due."""
        monotonic_us = self._clock.monotonic_us()
        if monotonic_us < self._due_us:
            return []
        self._due_us = max(self._due_us + self._options.every_us, monotonic_us + self._options.every_us // 2)
        elapsed_s = (monotonic_us - self._sampled_us) / US_PER_S if self._sampled_us >= 0 else 0.0
        self._sampled_us = monotonic_us
        values = self._gauges()
        counters = self._count()
        for name, count in counters.items():
            before = self._counters.get(name)
            values[name] = _rate(before, count, elapsed_s) if before is not None else float("nan")
        if "cpu/busy" in counters:
            values["cpu/load_pct"] = _busy_pct(self._counters, counters)
        self._counters = counters
        value = np.array([[round(values.get(m.name, float("nan")), 1)] for m in self._metrics])
        quality = np.where(np.isfinite(value), np.uint8(Quality.GOOD), np.uint8(MISSING))
        names = tuple(metric.name for metric in self._metrics)
        return [Block(names, np.array([now_us], np.int64), value, quality if quality.any() else None)]

    def close(self) -> None:
        """Holds nothing."""

    def _describe(self, name: str) -> Metric:
        every_us, reduction = self._options.every_us, self._options.reduction
        if name.endswith("_pct"):
            return Metric(name, "%", 0.0, 100.0, resolution=0.1, every_us=every_us, reduction=reduction)
        if name.endswith("_cel"):
            return Metric(name, "Cel", -60.0, 150.0, resolution=0.1, every_us=every_us, reduction=reduction)
        if name.endswith("_bytes_s"):
            return Metric(name, "By/s", lo=0.0, resolution=1.0, every_us=every_us)
        return Metric(name, lo=0.0, resolution=0.1, every_us=every_us)

    def _lines(self, path: Path) -> list[str]:
        """Lines of a file of the kernel; [] where it is gone, which is counted."""
        try:
            return path.read_text(encoding="ascii", errors="replace").splitlines()
        except OSError:
            self.unreadable += 1
            return []

    def _gauges(self) -> dict[str, float]:
        """What is read as it is."""
        values = {"cpu/load_pct": float("nan")}
        for line in self._lines(self._proc / "loadavg")[:1]:
            values["cpu/load1"] = float(line.split()[0])
        memory = {
            key: float(rest.split()[0])
            for key, _, rest in (line.partition(":") for line in self._lines(self._proc / "meminfo"))
            if rest.split()
        }
        if memory.get("MemTotal"):
            values["mem/used_pct"] = 100 * (1 - memory.get("MemAvailable", 0.0) / memory["MemTotal"])
        if memory.get("SwapTotal"):
            values["swap/used_pct"] = 100 * (1 - memory.get("SwapFree", 0.0) / memory["SwapTotal"])
        try:
            room = os.statvfs(self._options.disk)
            values["disk/root_used_pct"] = 100 * (1 - room.f_bavail / room.f_blocks) if room.f_blocks else 0.0
        except OSError:
            self.unreadable += 1
        for name, path in self._sensors.items():
            for line in self._lines(path)[:1]:
                values[name] = _millidegrees(line)
        return values

    def _count(self) -> dict[str, float]:
        """The kernel's counters, by the name of their rate; `cpu/…` in ticks."""
        counts: dict[str, float] = {}
        for line in self._lines(self._proc / "net" / "dev")[2:]:
            interface, _, rest = line.partition(":")
            interface, numbers = interface.strip(), rest.split()
            if interface != "lo" and fnmatchcase(interface, self._options.interfaces) and len(numbers) >= 9:
                counts[metric_name("net", interface, "rx_bytes_s")] = float(numbers[0])
                counts[metric_name("net", interface, "tx_bytes_s")] = float(numbers[8])
        disks = {path.name for path in (self._sys / "block").glob("*")}
        for line in self._lines(self._proc / "diskstats"):
            words = line.split()
            if len(words) >= 10 and words[2] in disks and not words[2].startswith(("loop", "ram", "dm-", "zram")):
                for name, at in (("disk/read_bytes_s", 5), ("disk/write_bytes_s", 9)):
                    counts[name] = counts.get(name, 0.0) + float(words[at]) * SECTOR_BYTES
        return counts | self._ticks()

    def _ticks(self) -> dict[str, float]:
        for line in self._lines(self._proc / "stat")[:1]:
            ticks = [float(word) for word in line.split()[1:9]]
            if len(ticks) >= 5:
                return {"cpu/busy": sum(ticks) - ticks[3] - ticks[4], "cpu/all": sum(ticks)}
        return {}


def _busy_pct(before: dict[str, float], now: dict[str, float]) -> float:
    if "cpu/all" not in before or now["cpu/all"] <= before["cpu/all"]:
        return float("nan")
    return 100 * max(0.0, now["cpu/busy"] - before["cpu/busy"]) / (now["cpu/all"] - before["cpu/all"])


def _rate(before: float, now: float, elapsed_s: float) -> float:
    """Returns the growth of a counter per second, whole; NaN if it was reset or no time passed.

    >>> _rate(4_294_967_000.0, 704.0, 2.0), _rate(5e12, 3.0, 1.0)
    (500.0, nan)
    """
    step = now - before
    if step < 0 and before < WRAP and step + WRAP < WRAP_STEP_MAX:
        step += WRAP
    if step < 0 or elapsed_s <= 0:
        return float("nan")
    return float(round(step / elapsed_s))


def _millidegrees(text: str) -> float:
    try:
        return int(text) / 1000
    except ValueError:
        return float("nan")


def _temperatures(sys: Path) -> dict[str, Path]:
    """Finds temperature sensors: those of hwmon, else the thermal zones; {metric name: file}."""
    found: dict[str, Path] = {}

    def add(words: tuple[str, ...], path: Path) -> None:
        name = metric_name("temp", "_".join(words).lower().replace("/", "_") + "_cel")
        if name not in found and _text(path):
            found[name] = path

    for path in sorted(sys.glob("class/hwmon/hwmon*/temp*_input")):
        label = _text(path.with_name(path.name.replace("_input", "_label"))) or path.name.removesuffix("_input")
        add((_text(path.with_name("name")) or path.parent.name, label), path)
    if not found:
        for path in sorted(sys.glob("class/thermal/thermal_zone*/temp")):
            add((_text(path.with_name("type")) or path.parent.name,), path)
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
