"""Judges every reading before anything else sees it: range, rate, stuck, gap; takes out what is no reading at all."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from headwater.detectors.episode import Edge, Episodes
from headwater.detectors.roster import Field, Roster, Rows, StateTable
from headwater.detectors.stuck import RunLimits
from headwater.frame import Anomaly, Block, Float64, Int64, UInt8
from headwater.instant import US_PER_S
from headwater.metric import Metric
from headwater.quality import MISSING, Quality
from headwater.reasons import DropReason, Severity

Bool = npt.NDArray[np.bool_]

GAP_INTERVALS = 5  # A pause of more than so many sampling intervals is a gap.
GAP_MIN_US = 100_000
INTERVALS_LEARNT = 64
CLEAR_AFTER = 10
BAD_STUCK_FACTOR = 4
REGRESS_STREAK_MAX = 64
NEVER = np.iinfo(np.int64).min // 4
ALWAYS = np.iinfo(np.int64).max // 4


@dataclass(frozen=True, slots=True)
class Checked:
    """What is left of a block.

    Attributes:
        block: the readings, each with its quality.
        events: what people should hear of: range, rate and stuck, beginnings and endings.
        dropped: how many readings were taken out, by DropReason.
    """

    block: Block
    events: list[Anomaly] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)


class QualityCheck:
    """Sets the quality of readings, metric by metric, from their limits and their own past.

    Readings that are not finite, repeat a time or run behind one are taken out and counted; a clock that stays
    behind for REGRESS_STREAK_MAX columns is believed again (its first reading is UNCERTAIN_CLOCK), so that one reading
    from the future can't silence a metric for ever. Codes that a source has set are kept where they are worse.
    The same readings give the same result in blocks of any size.
    """

    def __init__(self, metrics: Sequence[Metric] = ()) -> None:
        self._roster = Roster()
        self._state = StateTable(
            {
                "last": Field(np.float64, np.nan),
                "last_us": Field(np.int64, NEVER),
                "gap_us": Field(np.int64, ALWAYS),
                "elapsed_us": Field(np.int64, 0),
                "intervals": Field(np.int64, 0),
                "behind": Field(np.int64, 0),
                "lo": Field(np.float64, -np.inf),
                "hi": Field(np.float64, np.inf),
                "rate_max": Field(np.float64, np.inf),
            }
        )
        self._runs = RunLimits(self._roster)
        self._episodes = {name: Episodes(CLEAR_AFTER) for name in ("range", "rate", "stuck")}
        self._learning = True
        self._clock_is_back = False
        self._regress_us = 0
        self.admit(metrics)

    def admit(self, metrics: Sequence[Metric]) -> None:
        """Adds metrics that a source delivers from now on; unknown names in a block are added by themselves."""
        self._roster.add(metrics)
        self._grow()

    def _grow(self) -> None:
        known, rows = len(self._state["lo"]), len(self._roster)
        if known == rows:
            return
        self._state.grow(rows)
        self._runs.grow(rows)
        for episodes in self._episodes.values():
            episodes.grow(rows)
        for row, metric in enumerate(self._roster.metrics[known:], known):
            self._state["lo"][row], self._state["hi"][row] = metric.lo, metric.hi
            self._state["rate_max"][row] = metric.rate_max
            if metric.every_us:
                self._state["gap_us"][row] = max(GAP_INTERVALS * metric.every_us, GAP_MIN_US)
        self._has_rates = bool(np.isfinite(self._state["rate_max"]).any())
        self._learning = bool((self._state["gap_us"] == ALWAYS).any())

    def check(self, block: Block) -> Checked:
        """Takes one block of raw readings, in order of arrival; returns it judged."""
        rows = self._roster.rows(block.metrics)
        self._grow()
        dropped: Counter[str] = Counter()
        raw = block
        block, present, restarted = self._admissible(rows, block, dropped)
        events = self._clock(raw, dropped[DropReason.CLOCK_REGRESS]) if dropped else []
        if not len(block.time_us):
            return Checked(block, events, dict(dropped))
        value, times, state = block.value, block.time_us, self._state
        before, before_us = _preceding(value, times, present, state["last"][rows], state["last_us"][rows])
        seen = before_us > NEVER
        dt_us = times - before_us
        gap = (dt_us > state["gap_us"][rows, None]) & seen
        hits = {"range": (value < state["lo"][rows, None]) | (value > state["hi"][rows, None])}
        if self._has_rates:
            change = np.abs(value - before) * US_PER_S
            hits["rate"] = change > state["rate_max"][rows, None] * np.where(seen & ~gap, dt_us, np.inf)
        flags = [(gap, Quality.UNCERTAIN_GAP), (hits["range"], Quality.BAD_RANGE)]
        runs = self._runs.observe(rows, value, before, present)
        if runs is not None:
            run, limit = runs
            hits["stuck"] = run >= limit
            flags += [(hits["stuck"], Quality.UNCERTAIN_STUCK), (run >= BAD_STUCK_FACTOR * limit, Quality.BAD_STUCK)]
        if "rate" in hits:
            flags.append((hits["rate"], Quality.UNCERTAIN_RATE))
        if restarted is not None:
            flags.append((restarted[:, None] & ~seen, Quality.UNCERTAIN_CLOCK))
        if present is not None:
            hits = {name: hit & present for name, hit in hits.items()}
        quality = _quality(block, present, flags)
        events += self._events(rows, block, hits)
        if self._learning:
            self._learn_gaps(rows, dt_us, seen if present is None else seen & present)
        last, last_us = _latest(value, times, present, state["last"][rows], state["last_us"][rows])
        state["last"][rows], state["last_us"][rows] = last, last_us
        return Checked(block if quality is block.quality else replace(block, quality=quality), events, dict(dropped))

    def _admissible(self, rows: Rows, block: Block, dropped: Counter[str]) -> tuple[Block, Bool | None, Bool | None]:
        """Takes out what is no reading.

        Returns (block, which cells are readings or None for all, which metrics' clocks restarted or None).
        """
        finite = np.isfinite(block.value)
        present: Bool | None = None
        if block.quality is not None:
            present = block.quality != MISSING
        if not finite.all():
            wanted = np.ones_like(finite) if present is None else present
            _count(dropped, DropReason.NOT_FINITE, wanted & ~finite)
            present = wanted & finite
        times, state = block.time_us, self._state
        restarted: Bool | None = None
        behind = state["behind"][rows]
        if behind.any():
            restarted = behind >= REGRESS_STREAK_MAX
            state["last_us"][rows] = np.where(restarted, NEVER, state["last_us"][rows])
            state["behind"][rows] = np.where(restarted, 0, behind)
        in_order = len(times) < 2 or bool((times[1:] > times[:-1]).all())
        if not in_order or (len(times) and bool((state["last_us"][rows] >= times[0]).any())):
            present = self._order(rows, times, present, block.value.shape, dropped)
        elif restarted is not None:
            state["behind"][rows] = 0
        if not dropped:
            self._clock_is_back = False
        if present is None:
            return block, None, restarted
        kept = present.any(axis=0)
        if not kept.all():
            quality = None if block.quality is None else block.quality[:, kept]
            value = np.ascontiguousarray(block.value[:, kept])
            block = Block(block.metrics, times[kept], value, quality, block.reductions)
            present = present[:, kept]
        return block, (None if present.all() else present), restarted

    def _order(
        self, rows: Rows, times: Int64, present: Bool | None, shape: tuple[int, ...], dropped: Counter[str]
    ) -> Bool:
        """Tells which readings are newer than all before, column by column: this is the rare path."""
        allowed = np.ones(shape, np.bool_) if present is None else present.copy()
        newest, behind = self._state["last_us"][rows].copy(), self._state["behind"][rows].copy()
        for column, time_us in enumerate(times.tolist()):
            here = allowed[:, column]
            regress, duplicate = here & (time_us < newest), here & (time_us == newest)
            if not self._clock_is_back and not dropped[DropReason.CLOCK_REGRESS] and regress.any():
                self._regress_us = time_us
            behind = np.where(regress, behind + 1, np.where(here, 0, behind))
            _count(dropped, DropReason.CLOCK_REGRESS, regress)
            _count(dropped, DropReason.DUPLICATE_TIME, duplicate)
            here = here & ~(regress | duplicate)
            allowed[:, column] = here
            if here.any():  # The columns that stay must ascend for every metric of the block.
                newest = np.maximum(newest, time_us)
        self._state["behind"][rows] = behind
        return allowed

    def _learn_gaps(self, rows: Rows, dt_us: Int64, seen: Bool) -> None:
        """Learns the sampling interval of metrics that don't declare one from their first intervals."""
        state = self._state
        index = np.arange(len(self._roster))[rows]
        for local in np.flatnonzero(state["gap_us"][rows] == ALWAYS).tolist():
            row = int(index[local])
            intervals = dt_us[local][seen[local]][: INTERVALS_LEARNT - int(state["intervals"][row])]
            state["elapsed_us"][row] += int(intervals.sum())
            state["intervals"][row] += len(intervals)
            if state["intervals"][row] == INTERVALS_LEARNT:
                mean_us = int(state["elapsed_us"][row]) // INTERVALS_LEARNT
                state["gap_us"][row] = max(GAP_INTERVALS * mean_us, GAP_MIN_US)
        self._learning = bool((state["gap_us"] == ALWAYS).any())

    def _events(self, rows: Rows, block: Block, hits: dict[str, Bool]) -> list[Anomaly]:
        events: list[Anomaly] = []
        for name, episodes in self._episodes.items():
            hit = hits.get(name)
            if hit is None:
                if not episodes.active(rows).any():
                    continue
                hit = np.zeros(block.value.shape, np.bool_)
            events += [self._anomaly(name, edge, rows, block) for edge in episodes.step(rows, hit)]
        return sorted(events, key=lambda event: event.time_us) if len(events) > 1 else events

    def _clock(self, block: Block, lost: int) -> list[Anomaly]:
        """Tells once that the clock of a source runs back; it is over with the first block in order."""
        begins, self._clock_is_back = lost > 0 and not self._clock_is_back, lost > 0
        if not begins:
            return []
        name, time_us = block.metrics[0], self._regress_us
        message = "the clock ran back: readings came with times that had been before"
        return [Anomaly(name, time_us, "clock", Severity.WARNING, True, 1.0, 0.0, 0.0, 0.0, 0.0, message)]

    def _anomaly(self, detector: str, edge: Edge, rows: Rows, block: Block) -> Anomaly:
        name = block.metrics[edge.row]
        metric = self._roster.metrics[int(np.arange(len(self._roster))[rows][edge.row])]
        value = float(block.value[edge.row, edge.column])
        value = value if np.isfinite(value) else 0.0  # An episode may clear where this metric has no reading.
        nearest = min(max(value, metric.lo), metric.hi)
        what = {
            "range": f"{name} is outside [{metric.lo:g}, {metric.hi:g}] {metric.unit}".rstrip(),
            "rate": f"{name} changes faster than {metric.rate_max:g} {metric.unit}/s",
            "stuck": f"{name} repeats {value:g} for longer than it ever did",
        }[detector]
        return Anomaly(
            metric=name,
            time_us=int(block.time_us[edge.column]),
            detector=detector,
            severity=Severity.WARNING if edge.is_onset else Severity.INFO,
            is_onset=edge.is_onset,
            score=1.0 if edge.is_onset else 0.0,
            value=value,
            expected=nearest,
            lo=metric.lo,
            hi=metric.hi,
            message=what if edge.is_onset else f"{name}: {detector} is over",
        )


def _count(dropped: Counter[str], reason: DropReason, where: Bool) -> None:
    count = int(np.count_nonzero(where))
    if count:
        dropped[reason] += count


def _preceding(
    value: Float64, times: Int64, present: Bool | None, last: Float64, last_us: Int64
) -> tuple[Float64, Int64]:
    """Returns for every cell the value and time of the same metric's reading before it, both (m, n)."""
    m, n = value.shape
    before, before_us = np.empty((m, n)), np.empty((m, n), np.int64)
    before[:, 0], before_us[:, 0] = last, last_us
    if present is None:
        before[:, 1:], before_us[:, 1:] = value[:, :-1], times[:-1]
        return before, before_us
    at = np.maximum.accumulate(np.where(present, np.arange(n), -1), axis=1)[:, :-1]
    before[:, 1:] = np.where(at < 0, last[:, None], np.take_along_axis(value, np.maximum(at, 0), axis=1))
    before_us[:, 1:] = np.where(at < 0, last_us[:, None], times[np.maximum(at, 0)])
    return before, before_us


def _latest(
    value: Float64, times: Int64, present: Bool | None, last: Float64, last_us: Int64
) -> tuple[Float64, Int64 | int]:
    """Returns value and time of each metric's newest reading."""
    if present is None:
        return value[:, -1], int(times[-1])
    n = len(times)
    at = np.where(present, np.arange(n), -1).max(axis=1)
    newest = np.take_along_axis(value, np.maximum(at, 0)[:, None], axis=1)[:, 0]
    return np.where(at < 0, last, newest), np.where(at < 0, last_us, times[np.maximum(at, 0)])


def _quality(block: Block, present: Bool | None, flags: Sequence[tuple[Bool, int]]) -> UInt8 | None:
    """Raises the quality codes where flags say so; None where every reading is good."""
    quality: UInt8 | None = None if block.quality is None else block.quality.copy()
    for where, code in flags:
        if where.any():
            if quality is None:
                quality = np.zeros(block.value.shape, np.uint8)
            quality[where] = np.maximum(quality[where], code)
    if present is not None:
        quality = np.zeros(block.value.shape, np.uint8) if quality is None else quality
        quality[~present] = MISSING
    return quality
