"""Reduces readings metric by metric, within a promised error, and accounts for each one.

    block ─▶ raw ────────────────────────────────▶ blocks
          ├▶ deadband, swing ─▶ kept readings ───▶ blocks      the rest is `suppressed`
          ├▶ summary ─────────▶ panes ───────────▶ summaries   the rest is `aggregated`
          └▶ around anomalies and where the quality is bad or changes: raw ("burst")

Detectors run before, on the raw samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from edge_agent.deadband import Deadband
from edge_agent.pane_summary import PaneSummaries
from edge_agent.reduction import Reduction, parse_reduction
from edge_agent.sparse import Bool, Cells, Kept
from edge_agent.swing import Swing
from headwater.detectors.roster import Rows
from headwater.frame import Block, Int64, Summaries, UInt8
from headwater.instant import US_PER_S
from headwater.metric import Metric
from headwater.quality import BAD_MIN, MISSING

GAP_MAX_US = 60 * US_PER_S
BURSTS_MAX = 256
BURST = "burst"
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
    """Which rows of a block go where; `to` are rows of the technique's own tables."""

    raw: Int64
    deadband: Int64
    deadband_to: Rows
    swing: Int64
    swing_to: Rows
    summary: Int64
    summary_to: Int64


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
        self._names = {
            kind: [name for name, reduction in self._reduction.items() if reduction.kind == kind]
            for kind in ("deadband", "swing", "summary")
        }
        self._deadband = Deadband([self._reduction[name].epsilon for name in self._names["deadband"]], gap_max_us)
        self._swing = Swing([self._reduction[name].epsilon for name in self._names["swing"]], gap_max_us)
        summary = self._names["summary"]
        self._panes = PaneSummaries(summary, [self._reduction[name].width_us for name in summary])
        self._quality: dict[str, UInt8] = {kind: np.zeros(len(names), np.uint8) for kind, names in self._names.items()}
        self._plans: dict[tuple[str, ...], _Plan] = {}
        self._bursts: list[tuple[int, int]] = []

    @property
    def pending(self) -> int:
        """Readings pushed that are neither returned nor counted yet: candidates for segment ends, open panes."""
        return self._swing.pending + self._panes.pending

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
        quality = np.zeros(block.value.shape, np.uint8) if block.quality is None else block.quality
        present = quality != MISSING
        blocks, suppressed = _select(block, plan.raw, quality, present[plan.raw]), 0
        for kind, index, to in (("deadband", plan.deadband, plan.deadband_to), ("swing", plan.swing, plan.swing_to)):
            if len(index):
                names = [block.metrics[i] for i in index.tolist()]
                technique = self._deadband if kind == "deadband" else self._swing
                kept = technique.push(to, self._cells(kind, index, to, block, quality, present, burst))
                blocks += self._emit(names, kept)
                suppressed += kept.suppressed
        if len(plan.summary):
            blocks += self._summarise(plan, block, quality, present, burst)
        summaries = self._panes.take()
        return Reduced(blocks, summaries, suppressed, int(summaries.count.sum()))

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
        return {
            name: (
                float(technique.audit.error_max[row]),
                self._reduction[name].epsilon,
                int(technique.audit.kept[row]),
                int(technique.audit.seen[row]),
            )
            for kind, technique in (("deadband", self._deadband), ("swing", self._swing))
            for row, name in enumerate(self._names[kind])
        }

    def _drain(self, end_us: int) -> Reduced:
        blocks, suppressed = [], 0
        for kind, technique in (("deadband", self._deadband), ("swing", self._swing)):
            kept = technique.flush(slice(None))
            if kept is not None:
                blocks += self._emit(self._names[kind], kept)
                suppressed += kept.suppressed
        self._panes.close(end_us)
        summaries = self._panes.take()
        return Reduced(blocks, summaries, suppressed, int(summaries.count.sum()))

    def _plan(self, names: tuple[str, ...]) -> _Plan:
        plan = self._plans.get(names)
        if plan is None:
            kinds = [self._reduction[name].kind if name in self._reduction else "raw" for name in names]

            def of(kind: str) -> tuple[Int64, Int64]:
                index = [i for i, found in enumerate(kinds) if found == kind]
                to = [self._names[kind].index(names[i]) for i in index] if kind != "raw" else []
                return np.array(index, np.int64), np.array(to, np.int64)

            deadband, swing, summary = of("deadband"), of("swing"), of("summary")
            plan = _Plan(of("raw")[0], deadband[0], _narrow(deadband[1]), swing[0], _narrow(swing[1]), *summary)
            if len(self._plans) >= 1_024:
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

    def _cells(
        self, kind: str, index: Int64, to: Rows, block: Block, quality: UInt8, present: Bool, burst: Bool | None
    ) -> Cells:
        """Cuts the rows of one technique out of the block and marks what has to be kept as it is."""
        there, code = present[index], quality[index]
        shape = code.shape
        around = np.zeros(shape, np.bool_) if burst is None else there & burst
        if block.quality is None and not self._quality[kind][to].any():
            forced = around
        else:
            before = _preceding(code, there, self._quality[kind][to])
            forced = there & ((code >= BAD_MIN) | (code != before)) | around
            at = np.where(there, np.arange(shape[1]), -1).max(axis=1)
            newest = np.take_along_axis(code, np.maximum(at, 0)[:, None], axis=1)[:, 0]
            self._quality[kind][to] = np.where(at < 0, self._quality[kind][to], newest)
        times = np.broadcast_to(block.time_us, shape)
        return Cells(times, block.value[index], code, there, forced, around)

    def _emit(self, names: Sequence[str], kept: Kept) -> list[Block]:
        """Makes blocks of the kept cells: metrics with the same times and label share one."""
        groups: dict[tuple[bytes, bool], list[tuple[int, Int64]]] = {}
        cells = kept.cells
        for row in np.flatnonzero(kept.keep.any(axis=1)).tolist():
            columns = np.flatnonzero(kept.keep[row])
            label = cells.burst[row, columns]
            for part in np.split(columns, np.flatnonzero(np.diff(label)) + 1) if label.any() else [columns]:
                key = (cells.time_us[row, part].tobytes(), bool(cells.burst[row, part[0]]))
                groups.setdefault(key, []).append((row, part))
        blocks = []
        for (_, is_burst), members in groups.items():
            value = np.stack([kept.value[row, part] for row, part in members])
            quality = np.stack([cells.quality[row, part] for row, part in members])
            metrics = tuple(names[row] for row, _ in members)
            labels = tuple(BURST if is_burst else self._text[name] for name in metrics)
            times = cells.time_us[members[0][0], members[0][1]]
            blocks.append(Block(metrics, times, value, quality if quality.any() else None, labels))
        return sorted(blocks, key=lambda block: int(block.time_us[0]))

    def _summarise(self, plan: _Plan, block: Block, quality: UInt8, present: Bool, burst: Bool | None) -> list[Block]:
        there, code = present[plan.summary], quality[plan.summary]
        value = block.value[plan.summary]
        exact = there & ((code >= BAD_MIN) | (np.abs(value) > SQUARE_MAX))
        if burst is not None:
            exact |= there & burst
        self._panes.push(plan.summary_to, block.time_us, value, there & ~exact)
        if not exact.any():
            return []
        chosen = _select(block, plan.summary, quality, exact)
        return [replace(part, reductions=(BURST,) * len(part.metrics)) for part in chosen]


def _narrow(index: Int64) -> Rows:
    """Returns the rows as a slice where they lie side by side."""
    if len(index) and bool((np.diff(index) == 1).all()):
        return slice(int(index[0]), int(index[-1]) + 1)
    return index


def _preceding(code: UInt8, there: Bool, last: UInt8) -> UInt8:
    """Returns for every cell the quality of the same metric's reading before it."""
    at = np.maximum.accumulate(np.where(there, np.arange(code.shape[1]), -1), axis=1)
    at = np.concatenate([np.full((len(code), 1), -1), at[:, :-1]], axis=1)
    before: npt.NDArray[np.uint8] = np.where(at < 0, last[:, None], np.take_along_axis(code, np.maximum(at, 0), axis=1))
    return before


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
