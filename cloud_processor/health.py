"""Operator: health and remaining life of each machine's components, as distance from its own healthy baseline.

    window means ─▶ minus what the operating point explains ─▶ in standard deviations of the baseline ─▶ smoothed
                 ─▶ the farthest metric of a component ─▶ health 0..100 ─▶ trend ─▶ remaining life with an interval

The baseline of a metric is a line over the operating point (set point, load or speed), learnt from the machine's first
windows in steady service; beyond the learnt range its uncertainty grows, as a prediction interval does. Only windows
of a running, settled machine count. Remaining life: the trend of the distance, straight or exponential, whichever fits
better, carried on to the distance of failure; NaN without a significant trend.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cloud_processor.health_trend import Life, Trend, life_of
from headwater.arrivals import NEVER_US, Arrivals, Progress
from headwater.column_order import grown
from headwater.frame import Float64, Int64
from headwater.points import PointTable, TagColumn
from headwater.series import Directory
from headwater.snapshot import pack, unpack

_VERSION = 1
_STATS = ("n", "mean_x", "mean_r", "c_rr", "c_rx", "c_xx")
ROLE_IGNORED, ROLE_RUNNING, ROLE_REGIME, ROLE_FEATURE = 0, 1, 2, 3


@dataclass(frozen=True, slots=True)
class HealthModel:
    """What the operator judges by.

    Attributes:
        window: label of the tumbling windows that it reads.
        window_us: their width.
        baseline: windows that make a baseline.
        settle: windows in service before a machine counts as steady.
        report_every_us: time between rows of a component.
        smoothing: share of a new window in the smoothed distance.
        distance_half: distance, in standard deviations, at which health is 50.
        distance_failed: distance at which a component counts as failed.
        floor_share: smallest believable standard deviation as a share of the mean.
        horizon_h: for the probability of failure.
        components: name → parts of metric names; a metric belongs to the first that matches.
        regime: parts of names of metrics that give the operating point, the best first.
    """

    window: str = "10s"
    window_us: int = 10_000_000
    baseline: int = 60
    settle: int = 6
    report_every_us: int = 30_000_000
    smoothing: float = 0.1
    distance_half: float = 10.0
    distance_failed: float = 20.0
    floor_share: float = 0.02
    horizon_h: float = 24.0
    components: dict[str, tuple[str, ...]] = field(
        default_factory=lambda: {
            "bearing": ("bearing", "vib", "rms", "kurtosis", "crest", "envelope", "bpf", "velocity", "acceleration"),
            "winding": ("winding", "voltage"),
            "drive": ("current", "power", "motor", "torque"),
            "process": ("flow", "pressure", "discharge", "level", "oil", "temp"),
        }
    )
    regime: tuple[str, ...] = ("setpoint", "load", "speed")

    def component_of(self, metric: str) -> str | None:
        """The component that a metric speaks of; None if it speaks of none.

        >>> HealthModel().component_of("bearing_temp_cel"), HealthModel().component_of("door")
        ('bearing', None)
        """
        for component, parts in self.components.items():
            if any(part in metric for part in parts):
                return component
        return None

    def role_of(self, metric: str) -> int:
        """What a metric is used for."""
        if metric == "running":
            return ROLE_RUNNING
        if any(part in metric for part in self.regime):
            return ROLE_REGIME
        return ROLE_FEATURE if self.component_of(metric) else ROLE_IGNORED


@dataclass(frozen=True, slots=True, eq=False)
class _Report:
    """What one time's windows say of some components."""

    end_us: int
    parts: Int64
    distance: Float64
    life: Life


class Health:
    """Learns and judges the machines of a shard; must stand behind the operator that gives its windows."""

    name = "health"

    def __init__(self, model: HealthModel) -> None:
        self._model = model
        self._role = np.empty(0, np.int64)
        self._rank = np.empty(0, np.int64)
        self._component = np.empty(0, np.int64)
        self._parts: list[tuple[int, str]] = []
        self._part_of: dict[tuple[int, str], int] = {}
        self._stats = np.empty((0, len(_STATS)))
        self._distance = np.empty(0, np.float64)
        self._regime = np.empty(0, np.float64)
        self._regime_rank = np.empty(0, np.int64)
        self._running = np.empty(0, bool)
        self._steady = np.empty(0, np.int64)
        self._seen_us = np.empty(0, np.int64)
        self._trend = Trend()
        self._known = 0

    def process(self, arrivals: Arrivals) -> list[PointTable]:
        """Waits for windows."""
        del arrivals
        return []

    def advance(self, progress: Progress, tables: Sequence[PointTable]) -> list[PointTable]:
        """Judges the windows that closed in this record."""
        found: list[PointTable] = []
        self._enter(progress.directory, len(progress.watermark_us))
        for table in tables:
            if table.measurement == "window" and self._model.window in table.tags["window"].dictionary:
                found += self._judge(table, progress.directory)
        return found

    def _enter(self, directory: Directory, devices: int) -> None:
        """Makes room for new series and devices and finds what each new series is good for."""
        self._regime = grown(self._regime, devices, 0)
        self._regime_rank = grown(self._regime_rank, devices, len(self._model.regime))
        self._running = grown(self._running, devices, fill=True)
        self._steady = grown(self._steady, devices, 0)
        self._seen_us = grown(self._seen_us, devices, NEVER_US)
        count = directory.series_count
        for name, fill in (("_role", 0), ("_rank", 0), ("_component", -1)):
            setattr(self, name, grown(getattr(self, name), count, fill))
        self._stats = grown(self._stats, count, 0)
        self._distance = grown(self._distance, count, 0)
        device_of, metric_of = directory.device_of_series, directory.metric_of_series
        for series in range(self._known, count):
            metric = directory.metrics.values[int(metric_of[series])]
            self._role[series] = self._model.role_of(metric)
            ranks = [i for i, part in enumerate(self._model.regime) if part in metric]
            self._rank[series] = ranks[0] if ranks else len(self._model.regime)
            component = self._model.component_of(metric)
            if component and self._role[series] == ROLE_FEATURE:
                self._component[series] = self._part(int(device_of[series]), component)
        self._known = count
        self._trend.grow(len(self._parts))

    def _part(self, device: int, component: str) -> int:
        at = self._part_of.get((device, component))
        if at is None:
            at = self._part_of[device, component] = len(self._parts)
            self._parts.append((device, component))
        return at

    def _judge(self, table: PointTable, directory: Directory) -> list[PointTable]:
        """Takes the windows in order of time, all machines of one time together."""
        label = table.tags["window"].dictionary.index(self._model.window)
        fresh = (table.tags["window"].code == label) & (table.fields["revision"] == 0)
        mean = np.asarray(table.fields["mean"], np.float64)
        rows = np.flatnonzero(fresh & np.isfinite(mean))
        series = self._series_of(table, rows, directory)
        found: list[_Report] = []
        times = table.time_us[rows]
        for time_us in np.unique(times).tolist():
            at = np.flatnonzero(times == time_us)
            report = self._judge_window(time_us + self._model.window_us, series[at], mean[rows[at]], directory)
            if report is not None:
                found.append(report)
        return self._table(found, directory)

    def _series_of(self, table: PointTable, rows: Int64, directory: Directory) -> Int64:
        site, name, metric = (table.tags[tag] for tag in ("site", "device", "metric"))
        names = len(name.dictionary)
        pairs, inverse = np.unique(site.code[rows].astype(np.int64) * names + name.code[rows], return_inverse=True)
        places = [(site.dictionary[pair // names], name.dictionary[pair % names]) for pair in pairs.tolist()]
        devices = np.array([directory.devices.id(place) for place in places], np.int32)
        metrics = np.array([directory.metrics.id(text) for text in metric.dictionary], np.int32)
        return directory.series(devices[inverse], metrics[metric.code[rows]]).astype(np.int64)

    def _judge_window(self, end_us: int, series: Int64, mean: Float64, directory: Directory) -> _Report | None:
        device = directory.device_of_series[series]
        role = self._role[series]
        self._note_operation(series, mean, device, end_us)
        ready = (role == ROLE_FEATURE) & self._running[device] & (self._steady[device] >= self._model.settle)
        series, x, device = series[ready], mean[ready], device[ready]
        regime = self._regime[device]
        is_learnt = self._stats[series, 0] >= self._model.baseline
        self._learn(series[~is_learnt], x[~is_learnt], regime[~is_learnt])
        series, x, regime = series[is_learnt], x[is_learnt], regime[is_learnt]
        if not len(series):
            return None
        z = self._deviation(series, x, regime)
        self._distance[series] += self._model.smoothing * (z - self._distance[series])
        distance = np.full(len(self._parts), -1.0)
        np.maximum.at(distance, self._component[series], np.abs(self._distance[series]))
        parts = np.flatnonzero(distance != -1.0)
        return self._report(end_us, parts, distance[parts])

    def _note_operation(self, series: Int64, mean: Float64, device: Int64, end_us: int) -> None:
        """Keeps each machine's operating point and for how long it has been in service."""
        role, rank = self._role[series], self._rank[series]
        switch = role == ROLE_RUNNING
        self._running[device[switch]] = mean[switch] >= 1.0
        np.minimum.at(self._regime_rank, device[role == ROLE_REGIME], rank[role == ROLE_REGIME])
        best = (role == ROLE_REGIME) & (rank == self._regime_rank[device])
        self._regime[device[best]] = mean[best]
        is_new = np.zeros(len(self._seen_us), bool)
        is_new[device] = self._seen_us[device] < end_us
        new = np.flatnonzero(is_new)
        self._seen_us[new] = end_us
        self._steady[new] = np.where(self._running[new], self._steady[new] + 1, 0)

    def _learn(self, series: Int64, x: Float64, regime: Float64) -> None:
        """Adds one window to the baselines (a running covariance after Welford)."""
        if not len(series):
            return
        stats = self._stats[series]
        n = stats[:, 0] + 1
        dx, dr = x - stats[:, 1], regime - stats[:, 2]
        stats[:, 0] = n
        stats[:, 1] += dx / n
        stats[:, 2] += dr / n
        after_x = x - stats[:, 1]
        after_r = regime - stats[:, 2]
        stats[:, 3] += dr * after_r
        stats[:, 4] += dr * after_x
        stats[:, 5] += dx * after_x
        self._stats[series] = stats

    def _deviation(self, series: Int64, x: Float64, regime: Float64) -> Float64:
        """Distance from the baseline in standard deviations of a prediction."""
        n, mean_x, mean_r, c_rr, c_rx, c_xx = self._stats[series].T
        # A ridge of 1 % of the operating point's size keeps a machine that never changed it from having a slope.
        ridge = n * (0.01 * np.abs(mean_r) + 1e-9) ** 2
        slope = c_rx / (c_rr + ridge)
        off = regime - mean_r
        residual = np.maximum(c_xx - slope * c_rx, 0.0) / np.maximum(n - 2, 1)
        floor = (self._model.floor_share * np.abs(mean_x) + 1e-9) ** 2
        variance = np.maximum(residual, floor) * (1 + 1 / n + off * off / (c_rr + ridge))
        deviation = (x - mean_x - slope * off) / np.sqrt(variance)
        return np.asarray(np.clip(deviation, -1e3, 1e3), np.float64)

    def _report(self, end_us: int, parts: Int64, distance: Float64) -> _Report | None:
        """Enters distances into the trends; says where they lead when it is time for that."""
        self._trend.add(parts, end_us, distance)
        if end_us % self._model.report_every_us >= self._model.window_us:
            return None
        return _Report(
            end_us, parts, distance, life_of(self._trend, parts, self._model.distance_failed, self._model.horizon_h)
        )

    def _table(self, reports: list[_Report], directory: Directory) -> list[PointTable]:
        """All reports of a record as one table, in order of time."""
        if not reports:
            return []
        model = self._model
        parts = np.concatenate([report.parts for report in reports])
        beyond = np.maximum(np.concatenate([report.distance for report in reports]) - 1.0, 0.0)
        names = tuple(model.components)
        device = np.array([self._parts[at][0] for at in parts.tolist()], np.int64)
        component = np.array([names.index(self._parts[at][1]) for at in parts.tolist()], np.int32)
        tags = directory.device_tags(device) | {"component": TagColumn(names, component)}
        lives = [report.life for report in reports]
        fields = {
            "health": 100.0 / (1.0 + (beyond / (model.distance_half - 1.0)) ** 2),
            "rul_h": np.concatenate([life.hours for life in lives]),
            "rul_lo": np.concatenate([life.low for life in lives]),
            "rul_hi": np.concatenate([life.high for life in lives]),
            "p_fail": np.concatenate([life.p_fail for life in lives]),
            "model": np.concatenate([life.model for life in lives]),
        }
        time_us = np.repeat([report.end_us for report in reports], [len(report.parts) for report in reports])
        return [PointTable("health", time_us, tags, fields)]

    def snapshot(self) -> bytes:
        """Baselines, distances and trends."""
        values: dict[str, Any] = {
            name[1:]: getattr(self, name)
            for name in ("_stats", "_distance", "_regime", "_regime_rank", "_running", "_steady", "_seen_us")
        }
        values |= {"role": self._role, "rank": self._rank, "component": self._component, "known": self._known}
        values["parts"] = [[device, component] for device, component in self._parts]
        return pack(_VERSION, values | self._trend.state())

    def restore(self, data: bytes) -> None:
        """Becomes the operator that gave `data`."""
        state = unpack(data, _VERSION)
        for name in ("stats", "distance", "regime", "regime_rank", "running", "steady", "seen_us"):
            setattr(self, f"_{name}", state[name])
        self._role, self._rank, self._component = state["role"], state["rank"], state["component"]
        self._known = state["known"]
        self._parts = [(device, component) for device, component in state["parts"]]
        self._part_of = {part: at for at, part in enumerate(self._parts)}
        self._trend = Trend.from_state(state)
