"""Reduces readings metric by metric, within a promised error, and accounts for each one.

    block ─▶ raw ────────────────────────────────▶ blocks
          ├▶ deadband, swing ─▶ kept readings ───▶ blocks      the rest is `suppressed`
          ├▶ summary ─────────▶ panes ───────────▶ summaries   the rest is `aggregated`
          └▶ around anomalies and where the quality is bad or changes: raw ("burst")

Detectors run before, on the raw samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import attrgetter

import numpy as np
import numpy.typing as npt

from edge_agent.deadband import Deadband
from edge_agent.line import Line, Point
from edge_agent.pane_summary import PaneSummaries
from edge_agent.reduction import Reduction, parse_reduction
from edge_agent.sweep import is_worth_it, sweep
from edge_agent.swing import Swing
from headwater.frame import Block, Int64, Summaries, UInt8
from headwater.instant import US_PER_S
from headwater.metric import Metric
from headwater.quality import BAD_MIN, MISSING

Bool = npt.NDArray[np.bool_]

GAP_MAX_US = 60 * US_PER_S
BURSTS_MAX = 256
PLANS_MAX = 1_024
BURST = "burst"
_is_burst = attrgetter("is_burst")
SQUARE_MAX = 1e150  # A larger reading has no finite square: it is sent as it is, not in a pane.


@dataclass(frozen=True, slots=True)
class Reduced:
    """What is left to send.

    Attributes:
        blocks: kept readings; a metric's readings ascend in time from block to block.
        summaries: panes that closed.
        suppressed: readings now known to be left out, within the promised error.
        aggregated: readings that `summaries` stand for.
    """

    blocks: list[Block] = field(default_factory=list)
    summaries: Summaries = field(default_factory=Summaries.empty)
    suppressed: int = 0
    aggregated: int = 0


@dataclass(frozen=True, slots=True)
class _Plan:
    """Which rows of a block go where: raw rows, rows that are lines, rows that go to panes and their rows there."""

    raw: Int64
    raw_names: tuple[str, ...]
    lines: tuple[tuple[int, str, Line], ...]
    swings: tuple[tuple[int, str, Swing], ...]
    summary: Int64
    summary_to: Int64


# Points of one metric with one label: (name, is burst, times, values, quality codes or None if all are good).
_Kept = tuple[str, bool, tuple[int, ...], Sequence[float], Sequence[int] | None]


class Reducer:
    """Reduces blocks as `Metric.reduction` says; readings of a metric come in ascending time.

    Conservation: every reading pushed is returned once, in a block, in `suppressed` or in `aggregated`, at once or
    later; `pending` tells how many are still held back. A swing's end stands for the reading whose time it has.

    Args:
        metrics: what will come; a metric that nobody described passes raw.
        gap_max_us: deadband and swing are heard of at least this often while readings come.

    Raises:
        SettingsError: a reduction can't be read.
    """

    def __init__(self, metrics: Sequence[Metric] = (), *, gap_max_us: int = GAP_MAX_US) -> None:
        self._reduction: dict[str, Reduction] = {metric.name: parse_reduction(metric.reduction) for metric in metrics}
        self._text = {metric.name: metric.reduction for metric in metrics}
        self._lines = {
            name: (Deadband if reduction.kind == "deadband" else Swing)(reduction.epsilon, gap_max_us)
            for name, reduction in self._reduction.items()
            if reduction.epsilon_bounded
        }
        self._summary = [name for name, reduction in self._reduction.items() if reduction.kind == "summary"]
        asked = [self._reduction[name] for name in self._summary]
        self._panes = PaneSummaries(self._summary, [r.width_us for r in asked], [r.with_sketch for r in asked])
        self._plans: dict[tuple[str, ...], _Plan] = {}
        self._bursts: list[tuple[int, int]] = []

    @property
    def pending(self) -> int:
        """Readings pushed that are neither returned nor counted yet: those of open segments and panes."""
        return sum(line.pending for line in self._lines.values()) + self._panes.pending

    def push(self, block: Block, keep: Sequence[tuple[int, int]] = ()) -> Reduced:
        """Takes one judged block; `keep` are half-open event-time intervals in which every raw reading stays.

        Intervals are remembered until a reading after them comes.
        """
        plan = self._plan(block.metrics)
        if len(plan.raw) == len(block.metrics):
            return Reduced([block] if len(block.time_us) else [])
        if not len(block.time_us):
            return Reduced()
        burst = self._burst_columns(block.time_us, keep)
        blocks: list[Block] = []
        if block.quality is None and not len(plan.summary):
            if len(plan.raw):
                blocks.append(Block(plan.raw_names, block.time_us, block.value[plan.raw], rate_hz=block.rate_hz))
        elif len(plan.raw) or len(plan.summary):
            quality = np.zeros(block.value.shape, np.uint8) if block.quality is None else block.quality
            blocks += _select(block, plan.raw, quality, quality[plan.raw] != MISSING)
            if len(plan.summary):
                blocks += self._summarise(plan, block, quality, burst)
        kept: list[_Kept] = []
        suppressed = self._push_lines(plan, block, burst, kept)
        blocks += self._gather(kept)
        if not len(plan.summary):
            return Reduced(blocks, suppressed=suppressed)
        summaries = self._panes.take()
        return Reduced(blocks, summaries, suppressed, int(summaries.count.sum()) if len(summaries) else 0)

    def _push_lines(self, plan: _Plan, block: Block, burst: Bool | None, kept: list[_Kept]) -> int:
        """Takes the rows that are lines; appends what is to send, returns how many readings are now left out."""
        is_plain = block.quality is None and burst is None
        lines, suppressed = plan.lines, 0
        if is_plain and is_worth_it(len(plan.swings), len(block.time_us)):
            swings = [(row, name, line) for row, name, line in plan.swings if line.is_good]
            before = sum(line.suppressed for _, _, line in swings)
            at = [row for row, _, _ in swings]
            swept = sweep([line for _, _, line in swings], block.time_us, block.value[at])
            suppressed = sum(line.suppressed for _, _, line in swings) - before
            start, times_us, values = swept.start.tolist(), swept.time_us.tolist(), swept.value.tolist()
            for (_, name, _), i, k in zip(swings, start, start[1:], strict=False):
                if k > i:
                    kept.append((name, False, tuple(times_us[i:k]), values[i:k], None))
            done = set(at)
            lines = tuple(line for line in lines if line[0] not in done)
        times_us = block.time_us.tolist()
        if is_plain and len(times_us) == 1:
            time_us, values = times_us[0], block.value[:, 0].tolist()
            for row, name, line in lines:
                before = line.suppressed
                points = line.step(time_us, values[row])
                suppressed += line.suppressed - before
                if points:
                    kept += _runs(name, points)
            return suppressed
        bursts = None if burst is None else burst.tolist()
        for row, name, line in lines:
            before = line.suppressed
            codes = None if block.quality is None else block.quality[row].tolist()
            points = line.push(times_us, block.value[row].tolist(), codes, bursts)
            suppressed += line.suppressed - before
            if points:
                kept += _runs(name, points)
        return suppressed

    def flush(self, now_us: int) -> Reduced:
        """Gives out everything held back, whether or not it is due by `now_us`; the next readings start afresh.

        For shutdown, a new configuration or a step of the clock; in between `due` is enough.
        """
        del now_us
        return self._drain(np.iinfo(np.int64).max // 4)

    def due(self, now_us: int) -> Reduced:
        """Gives out the panes that have ended, so that a silent metric doesn't hold them back."""
        self._panes.close(now_us)
        summaries = self._panes.take()
        return Reduced([], summaries, 0, int(summaries.count.sum()))

    def audit(self) -> dict[str, tuple[float, float, int, int]]:
        """Per error-bounded metric: (largest error so far, ε, readings kept, readings seen)."""
        return {name: (line.error_max, line.epsilon, line.kept, line.seen) for name, line in self._lines.items()}

    def _drain(self, end_us: int) -> Reduced:
        before = sum(line.suppressed for line in self._lines.values())
        kept = [run for name, line in self._lines.items() if (points := line.flush()) for run in _runs(name, points)]
        suppressed = sum(line.suppressed for line in self._lines.values()) - before
        self._panes.close(end_us)
        summaries = self._panes.take()
        return Reduced(self._gather(kept), summaries, suppressed, int(summaries.count.sum()))

    def _plan(self, names: tuple[str, ...]) -> _Plan:
        plan = self._plans.get(names)
        if plan is None:
            kinds = [self._reduction[name].kind if name in self._reduction else "raw" for name in names]
            summary = [i for i, kind in enumerate(kinds) if kind == "summary"]
            lines = tuple((i, name, self._lines[name]) for i, name in enumerate(names) if name in self._lines)
            plan = _Plan(
                np.array([i for i, kind in enumerate(kinds) if kind == "raw"], np.int64),
                tuple(name for name, kind in zip(names, kinds, strict=True) if kind == "raw"),
                lines,
                tuple((i, name, line) for i, name, line in lines if isinstance(line, Swing)),
                np.array(summary, np.int64),
                np.array([self._summary.index(names[i]) for i in summary], np.int64),
            )
            if len(self._plans) >= PLANS_MAX:
                self._plans.clear()
            self._plans[names] = plan
        return plan

    def _burst_columns(self, time_us: Int64, keep: Sequence[tuple[int, int]]) -> Bool | None:
        """Tells which columns lie in an interval to keep raw; None if there is none."""
        first_us = int(time_us[0])
        if keep or self._bursts:
            self._bursts = sorted({span for span in (*self._bursts, *keep) if span[1] > first_us})[-BURSTS_MAX:]
        burst: Bool | None = None
        for start_us, end_us in self._bursts:
            inside = (time_us >= start_us) & (time_us < end_us)
            burst = inside if burst is None else burst | inside
        return burst if burst is not None and burst.any() else None

    def _gather(self, kept: Sequence[_Kept]) -> list[Block]:
        """Makes blocks of what lines send: metrics with the same times and label share one."""
        groups: dict[tuple[bool, tuple[int, ...]], list[_Kept]] = {}
        for run in kept:
            groups.setdefault((run[1], run[2]), []).append(run)
        blocks = []
        for (is_burst, times_us), members in groups.items():
            value = np.array([run[3] for run in members])
            quality = None
            if any(run[4] for run in members):
                quality = np.array([run[4] or (0,) * len(times_us) for run in members], np.uint8)
            metrics = tuple([run[0] for run in members])
            labels = (BURST,) * len(metrics) if is_burst else tuple([self._text[name] for name in metrics])
            blocks.append(Block(metrics, np.array(times_us, np.int64), value, quality, labels))
        return sorted(blocks, key=lambda block: int(block.time_us[0])) if len(blocks) > 1 else blocks

    def _summarise(self, plan: _Plan, block: Block, quality: UInt8, burst: Bool | None) -> list[Block]:
        code = quality[plan.summary]
        there = code != MISSING
        value = block.value[plan.summary]
        exact = there & ((code >= BAD_MIN) | (np.abs(value) > SQUARE_MAX))
        if burst is not None:
            exact |= there & burst
        self._panes.push(plan.summary_to, block.time_us, value, there & ~exact)
        if not exact.any():
            return []
        chosen = _select(block, plan.summary, quality, exact)
        return [replace(part, reductions=(BURST,) * len(part.metrics)) for part in chosen]


def _runs(name: str, points: Sequence[Point]) -> list[_Kept]:
    """Divides a metric's points where the label changes."""
    if len(points) == 1:
        ((time_us, value, quality, is_burst),) = points
        return [(name, is_burst, (time_us,), (value,), (quality,) if quality else None)]
    found: list[_Kept] = []
    for is_burst, run in groupby(points, key=_is_burst):
        times_us, values, qualities, _ = zip(*run, strict=True)
        found.append((name, is_burst, times_us, values, qualities if any(qualities) else None))
    return found


def _select(block: Block, index: Int64, quality: UInt8, wanted: Bool) -> list[Block]:
    """Cuts the wanted cells of some rows out of a block as they are; [] if there are none."""
    rows, columns = wanted.any(axis=1), wanted.any(axis=0)
    if not rows.any():
        return []
    code = np.where(wanted, quality[index], MISSING)[np.ix_(rows, columns)].astype(np.uint8)
    value = block.value[index][np.ix_(rows, columns)]
    metrics = tuple(block.metrics[i] for i in index[rows].tolist())
    whole = bool(columns.all())
    return [
        Block(
            metrics,
            block.time_us if whole else block.time_us[columns],
            value,
            code if code.any() else None,
            rate_hz=block.rate_hz if whole else None,
        )
    ]
