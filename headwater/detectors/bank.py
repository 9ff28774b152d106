"""All detectors of a device behind one call: judged samples in, anomalies out."""

from collections.abc import Sequence
from functools import partial
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from headwater.detectors.dropout import Silences
from headwater.detectors.lane import SLOT, Hit, Lane
from headwater.detectors.roster import Roster
from headwater.errors import CorruptStateError
from headwater.frame import Anomaly, Block, Int64
from headwater.instant import US_PER_S
from headwater.metric import Metric
from headwater.quality import BAD_MIN, MISSING
from headwater.reasons import Severity
from headwater.snapshot import pack, unpack

SNAPSHOT_VERSION = 1
LANES_MAX = 256
WEEK_US = 604_800 * US_PER_S
LONG_AGO = np.iinfo(np.int64).max // 4
NEVER = np.iinfo(np.int64).min // 4
_SAYS = {
    "level": "{metric} has moved to another level",
    "spike": "{metric} jumped and came back",
    "change": "{metric} drifts away from where it was",
    "noise": "{metric} is noisier than it used to be",
    "dropout": "{metric} delivers nothing any more",
}


class DetectorBank:
    """Detectors of all metrics of one device, vectorised over the metrics that share a time axis.

    Args:
        metrics: what is known of the metrics; those with `is_state` tell when the machine was told to change.
        budget_per_week: false alarms that the device may cost per week at 1 Hz; the limits follow from it.

    Feed every block after `QualityCheck`, in order. Readings of bad quality are left out. The same samples
    give the same anomalies whether they come one by one or in blocks.
    """

    def __init__(self, metrics: Sequence[Metric] = (), *, budget_per_week: float = 1.0) -> None:
        self._roster = Roster(metrics)
        self._budget = budget_per_week
        self._silences = Silences(self._roster)
        self._silences.grow(len(self._roster))
        self._lanes: dict[tuple[str, ...], Lane] = {}
        self._changed_us = NEVER  # When a state last moved.
        self._states: dict[str, float] = {}
        self._state_rows_of: dict[tuple[str, ...], list[int]] = {}

    def admit(self, metrics: Sequence[Metric]) -> None:
        """Adds metrics that a source delivers from now on; unknown names in a block are added by themselves."""
        self._roster.add(metrics)
        self._silences.grow(len(self._roster))

    def process(self, block: Block) -> list[Anomaly]:
        """Takes one block of judged readings; returns what begins and what clears, in time order."""
        if not len(block.time_us):
            return []
        rows = self._roster.rows(block.metrics)
        if len(self._silences.table["silent"]) < len(self._roster):
            self._silences.grow(len(self._roster))
        present = None if block.quality is None else block.quality < BAD_MIN
        there = None if block.quality is None else block.quality != MISSING
        found = [
            (column, self._dropout(block.metrics[row], int(block.time_us[column]), is_onset))
            for row, column, is_onset in self._silences.step(rows, block.time_us, there)
        ]
        lane = self._lane(block.metrics)
        since_us = self._since(block, present)
        start, steps = 0, len(block.time_us)
        while start < steps:
            stop = min(steps, start + SLOT - int(lane.state["position"][0]) % SLOT)
            part = slice(start, stop)
            here = None if present is None else present[:, part]
            hits = lane.step(block.time_us[part], block.value[:, part], here, since_us[part])
            found += [(start + hit.edge.column, self._anomaly(block, start, hit)) for hit in hits]
            start = stop
        return (
            [anomaly for _, anomaly in sorted(found, key=lambda item: item[0])]
            if len(found) > 1
            else [anomaly for _, anomaly in found]
        )

    def silence(self, now_us: int) -> list[Anomaly]:
        """Returns a dropout for every metric that has been silent for too long by now; once per silence."""
        return [
            self._dropout(self._roster.metrics[row].name, now_us, is_onset=True)
            for row in self._silences.silence(now_us)
        ]

    def expected(self, metric: str) -> tuple[float, float, float]:
        """Returns (expected, lo, hi) of the next reading; NaN while that is unknown."""
        for names, lane in self._lanes.items():
            if metric in names:
                row = names.index(metric)
                middle = float(lane.state["before"][row])
                reach = float(lane.reach()[row])
                if not np.isfinite(middle + reach):
                    break
                return middle, middle - reach, middle + reach
        return np.nan, np.nan, np.nan

    def snapshot(self) -> bytes:
        """Returns everything learnt, for `restore`."""
        values: dict[str, Any] = {f"silence/{k}": v for k, v in self._silences.table.columns().items()}
        values["metrics"] = [metric.name for metric in self._roster.metrics]
        values["changed_us"] = self._changed_us
        values["states"] = list(self._states)
        values["state_values"] = np.array(list(self._states.values()), np.float64)
        values["lanes"] = ["\n".join(names) for names in self._lanes]
        for number, lane in enumerate(self._lanes.values()):
            values |= {f"lane/{number}/{name}": array for name, array in lane.arrays().items()}
        return pack(SNAPSHOT_VERSION, values)

    def restore(self, snapshot: bytes) -> None:
        """Goes on from a `snapshot` of a bank with the same metrics.

        Raises:
            CorruptStateError: it can't be read, or the metrics are others.
        """
        values = unpack(snapshot, SNAPSHOT_VERSION)
        names = values["metrics"]
        self._roster.add([Metric(name) for name in names])
        if [metric.name for metric in self._roster.metrics] != names:
            raise CorruptStateError("the snapshot of the detectors was taken with other metrics")
        self._silences.grow(len(names))
        self._silences.table.load({k: values[f"silence/{k}"] for k in self._silences.table.columns()})
        self._changed_us = values["changed_us"]
        self._states = dict(zip(values["states"], values["state_values"].tolist(), strict=True))
        self._lanes.clear()
        for number, joined in enumerate(values["lanes"]):
            prefix = f"lane/{number}/"
            arrays = {key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)}
            self._lane(tuple(joined.split("\n"))).load(arrays)

    def _lane(self, names: tuple[str, ...]) -> Lane:
        lane = self._lanes.get(names)
        if lane is None:
            if len(self._lanes) >= LANES_MAX:  # A source that never repeats a set of metrics can't be learnt.
                self._lanes.pop(next(iter(self._lanes)))
            described = [self._roster.metrics[self._roster.row(name) or 0] for name in names]
            lane = self._lanes[names] = Lane(described, partial(limits_for, self._budget))
        return lane

    def _since(self, block: Block, present: npt.NDArray[np.bool_] | None) -> Int64:
        """Returns int64 (n,): for each sample the time since a state of the device last moved."""
        states = self._state_rows(block.metrics)
        n = len(block.time_us)
        changed: Int64 | None = None
        for row in states:
            name, value, times = block.metrics[row], block.value[row], block.time_us
            if present is not None:
                value, times = value[present[row]], times[present[row]]
            if not len(value):
                continue
            before = self._states.get(name, float(value[0]))
            self._states[name] = float(value[-1])
            if bool((value == before).all()):
                continue
            changed = np.full(n, NEVER, np.int64) if changed is None else changed
            moved = np.flatnonzero(np.diff(value, prepend=before))
            at = np.searchsorted(block.time_us, times[moved])
            changed[at] = block.time_us[at]
        if changed is None:
            if self._changed_us == NEVER:
                return np.full(n, LONG_AGO)
            return block.time_us - self._changed_us
        changed[0] = max(int(changed[0]), self._changed_us)
        latest = np.maximum.accumulate(changed)
        self._changed_us = int(latest[-1])
        return np.where(latest == NEVER, LONG_AGO, block.time_us - latest)

    def _state_rows(self, names: tuple[str, ...]) -> list[int]:
        """Rows of a block that are states."""
        rows = self._state_rows_of.get(names)
        if rows is None:
            if len(self._state_rows_of) >= LANES_MAX:
                self._state_rows_of.clear()
            described = [self._roster.metrics[self._roster.row(name) or 0] for name in names]
            rows = self._state_rows_of[names] = [i for i, metric in enumerate(described) if metric.is_state]
        return rows

    def _anomaly(self, block: Block, start: int, hit: Hit) -> Anomaly:
        name = block.metrics[hit.edge.row]
        says = _SAYS[hit.detector].format(metric=name)
        is_onset = hit.edge.is_onset
        return Anomaly(
            metric=name,
            time_us=int(block.time_us[start + hit.edge.column]),
            detector=hit.detector,
            severity=_severity(hit.score) if is_onset else Severity.INFO,
            is_onset=is_onset,
            score=hit.score,
            value=hit.value,
            expected=hit.expected,
            lo=hit.expected - hit.reach,
            hi=hit.expected + hit.reach,
            message=says if is_onset else f"{name}: {hit.detector} is over",
        )

    def _dropout(self, name: str, time_us: int, is_onset: bool) -> Anomaly:
        message = _SAYS["dropout"].format(metric=name) if is_onset else f"{name}: dropout is over"
        severity = Severity.WARNING if is_onset else Severity.INFO
        return Anomaly(name, time_us, "dropout", severity, is_onset, 1.0, 0.0, 0.0, 0.0, 0.0, message)


def limits_for(budget_per_week: float, every_us: int = US_PER_S) -> dict[str, float]:
    """Returns each detector's limit in standard deviations (noise: a ratio) for a device with some eight metrics.

    The budget is split evenly over detectors and metrics; what is sampled less often may be judged more sharply.

    >>> limits_for(10.0)["level"] < limits_for(1.0)["level"]
    True
    """
    share = budget_per_week / (4 * 8)
    readings = max(1_000.0, WEEK_US / every_us)

    def normal(independent: float) -> float:
        return -NormalDist().inv_cdf(min(0.1, share / independent / 2))

    return {
        # Learnt scales and tails are those of normal variables only roughly: a little on top for what comes most often.
        "level": 1.06 * normal(readings),
        "spike": 1.2 * normal(readings),
        "change": normal(max(1_000.0, readings / SLOT)),
        "noise": 1.6,
    }


def _severity(score: float) -> Severity:
    return Severity.CRITICAL if score >= 3.0 else Severity.WARNING
