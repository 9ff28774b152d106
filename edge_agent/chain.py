"""The agent's pure core: raw blocks in, drafts of frames out.

    block ─▶ quality ─▶ detect ─▶ reduce ─▶ pending ─▶ seal ─▶ drafts ─▶ spool
                │          │         ▲          ▲
                └─ events ─┴─ onset ─┴─ burst ──┘        raw samples from before and after go first

No clock, file or network: the same blocks and the same calls give the same drafts.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from edge_agent.burst import BURST, BurstRing
from edge_agent.ledger import Account
from edge_agent.pack import Draft, Lane, columns, drafts
from edge_agent.quality import QualityCheck
from edge_agent.reduce import Reduced, Reducer
from edge_agent.settings import AgentSettings
from headwater.detectors.bank import DetectorBank
from headwater.frame import Anomaly, Block, Summaries
from headwater.metric import Metric
from headwater.quality import MISSING
from headwater.reasons import ClockQuality
from headwater.summary_rows import concat_summaries

ANOMALIES_PENDING_MAX = 1_024
SPLITS_MAX = 1_024
FOREVER_US = 1 << 62


@dataclass(frozen=True, slots=True)
class ChainLimits:
    """See the settings of the same names."""

    burst_before_us: int = 5_000_000
    burst_after_us: int = 5_000_000
    burst_samples_max: int = 65_536
    false_alarms_per_week: float = 1.0
    silence_max_us: int = 10_000_000


def chain_limits(settings: AgentSettings) -> ChainLimits:
    """Takes the limits out of the settings."""
    return ChainLimits(
        settings.burst_before_us,
        settings.burst_after_us,
        settings.burst_samples_max,
        settings.false_alarms_per_week,
        settings.silence_max_us,
    )


@dataclass(slots=True)
class ChainCounters:
    """What passed through: `acquired` as delivered, the rest as decided so far."""

    acquired: int = 0
    kept: int = 0
    suppressed: int = 0
    aggregated: int = 0
    dropped: int = 0
    anomalies: int = 0
    anomalies_lost: int = 0


class Chain:
    """Quality, detection, reduction and packing of one device.

    Metrics reduced to summaries pass a delay line of `burst_before_us` first, so that the samples before an anomaly can
    stay out of the panes; all others are reduced at once, and what a burst needs from before comes out of a ring.

    Raises:
        SettingsError: a metric's reduction can't be read.
    """

    def __init__(self, metrics: Sequence[Metric], limits: ChainLimits | None = None) -> None:
        self.limits = limits or ChainLimits()
        self.counters = ChainCounters()
        self._account = Account()
        self._pending: list[Block] = []
        self._panes: list[Summaries] = []
        self._anomalies: list[Anomaly] = []
        self._waiting = 0
        self._delivered_us: int | None = None
        self._lag_us = 0
        self.metrics: tuple[Metric, ...] = ()
        self._line: deque[Block] = deque()
        self._line_samples = 0
        self._quality = QualityCheck(metrics)
        self._bank = DetectorBank(metrics, budget_per_week=self.limits.false_alarms_per_week)
        self._keep_until_us = 0
        self._reduce_as(metrics)

    def _reduce_as(self, metrics: Sequence[Metric]) -> None:
        self.metrics = tuple(metrics)
        bounded = {m.name: m.reduction for m in metrics if m.reduction.startswith(("swing", "deadband"))}
        self._bounded = frozenset(bounded)
        self._delayed = frozenset(m.name for m in metrics if m.reduction.startswith("summary"))
        self._reducer = Reducer(
            [m for m in metrics if m.name not in self._delayed], gap_max_us=self.limits.silence_max_us
        )
        self._later = Reducer([m for m in metrics if m.name in self._delayed])
        self._ring = BurstRing(bounded, self.limits.burst_before_us, self.limits.burst_samples_max)
        self._rows: dict[tuple[str, ...], tuple[list[int], list[int], list[int]]] = {}
        self._kept_later: list[tuple[int, int]] = []

    def describe(self, metrics: Sequence[Metric]) -> bool:
        """Takes over what the source says now; True if anything changed (then everything held back comes out first)."""
        if tuple(metrics) == self.metrics:
            return False
        self.restart()
        self._quality.admit(metrics)
        self._bank.admit(metrics)
        self._reduce_as(metrics)
        return True

    def restart(self) -> None:
        """Ends all segments and panes, as before a jump of the clock; what was learnt stays."""
        self._advance(FOREVER_US)
        self._take(self._reducer.flush(0))
        self._take(self._later.flush(0))
        self._ring.clear()

    def learnt(self) -> bytes:
        """What the detectors know, for `recall`."""
        return self._bank.snapshot()

    def recall(self, learnt: bytes) -> None:
        """Goes on with what detectors of the same metrics knew.

        Raises:
            CorruptStateError: it can't be read, or the metrics are others.
        """
        self._bank.restore(learnt)

    def listen(self, now_us: int) -> bool:
        """Looks for metrics that have fallen silent; True if one has.

        A source whose clock is behind, or that delivers the past, is not silent: the lag of its newest delivery is
        taken off the time that has passed.
        """
        if self._delivered_us is not None:
            self._lag_us = max(0, now_us - self._delivered_us)
            self._delivered_us = None
        silent = self._bank.silence(now_us - self._lag_us)
        self._note(silent)
        return bool(silent)

    # ── readings in ────────────────────────────────────────────────────────────────────────────────────────────

    def push(self, raw: Block) -> bool:
        """Takes one block as the source delivered it; True if something happened that is to be sent at once."""
        self.counters.acquired += raw.reading_count
        if len(raw.time_us):
            self._delivered_us = max(int(raw.time_us[-1]), self._delivered_us or 0)
        checked = self._quality.check(raw)
        if checked.dropped:
            self._account.drop(checked.dropped)
            self.counters.dropped += sum(checked.dropped.values())
        block = checked.block
        events = [*checked.events, *(self._bank.process(block) if len(block.time_us) else ())]
        onsets = [event.time_us for event in events if event.is_onset]
        self._note(events)
        if not len(block.time_us):
            return bool(onsets)
        keep: list[tuple[int, int]] = []
        if onsets:
            first_us = int(block.time_us[0])
            keep = [
                (
                    min(first_us, *onsets) - self.limits.burst_before_us,
                    max(first_us, *onsets) + self.limits.burst_after_us + 1,
                )
            ]
            self._keep_until_us = max(self._keep_until_us, keep[0][1])
        self._reduce(block, keep)
        return bool(onsets)

    def _reduce(self, block: Block, keep: Sequence[tuple[int, int]]) -> None:
        at_once, bounded, later = self._split(block)
        if at_once is not None:
            reduced = self._reducer.push(at_once, keep)
            self._take(reduced)
            if bounded is not None:
                self._ring.remember(bounded, [part for part in reduced.blocks if self._bounded & set(part.metrics)])
                for start_us, end_us in keep:
                    self._burst(bounded, start_us, end_us)
        if self._delayed:
            self._kept_later += keep
            if later is not None:
                self._line.append(later)
                self._line_samples += later.value.size
            self._advance(int(block.time_us[-1]) - self.limits.burst_before_us)

    def _split(self, block: Block) -> tuple[Block | None, Block | None, Block | None]:
        """Divides a block: what is reduced at once, what of it the ring remembers, what goes through the line."""
        rows = self._rows.get(block.metrics)
        if rows is None:
            names = list(enumerate(block.metrics))
            rows = (
                [row for row, name in names if name not in self._delayed],
                [row for row, name in names if name in self._bounded],
                [row for row, name in names if name in self._delayed],
            )
            if len(self._rows) >= SPLITS_MAX:
                self._rows.clear()
            self._rows[block.metrics] = rows
        at_once, bounded, later = rows
        raw = columns(block, at_once)
        return raw, raw if bounded == at_once else columns(block, bounded), columns(block, later)

    def _burst(self, block: Block, start_us: int, end_us: int) -> None:
        """Sends what the ring has from before `block`, for the metrics that go on raw in it."""
        here = block.time_us < end_us
        names = [
            name
            for row, name in enumerate(block.metrics)
            if block.quality is None or (block.quality[row, here] != MISSING).any()
        ]
        found = self._ring.take(names, start_us, int(block.time_us[0]))
        readings = sum(part.reading_count for part in found)
        self._account.suppress(-readings)
        self.counters.suppressed -= readings
        self._pending[:0] = found
        self._waiting += readings

    def _advance(self, until_us: int) -> None:
        """Lets blocks that are old enough out of the delay line into their panes."""
        while self._line and (
            self._line[0].time_us[-1] < until_us or self._line_samples > self.limits.burst_samples_max
        ):
            block = self._line.popleft()
            self._line_samples -= block.value.size
            self._kept_later = [span for span in self._kept_later if span[1] > block.time_us[0]]
            self._take(self._later.push(block, self._kept_later))

    def _take(self, reduced: Reduced) -> None:
        self._pending += reduced.blocks
        self._waiting += sum(part.reading_count for part in reduced.blocks)
        if len(reduced.summaries):
            self._panes.append(reduced.summaries)
        self._account.suppress(reduced.suppressed)
        self._account.aggregate(reduced.aggregated)
        self.counters.suppressed += reduced.suppressed
        self.counters.aggregated += reduced.aggregated

    def _note(self, events: Sequence[Anomaly]) -> None:
        room = max(0, ANOMALIES_PENDING_MAX - len(self._anomalies))
        self._anomalies += events[:room]
        self.counters.anomalies += len(events)
        self.counters.anomalies_lost += max(0, len(events) - room)

    # ── drafts out ─────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def waiting(self) -> int:
        """Readings that wait for a frame."""
        return self._waiting

    @property
    def has_news(self) -> bool:
        """True when `seal` would make a frame."""
        return bool(self._pending or self._panes or self._anomalies or self._account.dropped)

    def seal(self, now_us: int, clock: ClockQuality) -> list[Draft]:
        """Makes drafts of what waits; those around an anomaly are urgent."""
        if self._delayed:
            self._take(self._later.due(now_us - 2 * self.limits.burst_before_us))
        if not self.has_news:
            return []
        around = any(part.time_us[0] < self._keep_until_us for part in self._pending)
        urgent = any(event.is_onset for event in self._anomalies) or around
        made = drafts(
            created_us=now_us,
            clock=clock,
            lane=Lane.URGENT if urgent else Lane.NORMAL,
            blocks=sorted(self._pending, key=_bursts_first),
            summaries=concat_summaries(self._panes),
            anomalies=self._anomalies,
            ledger=self._account.close(self._ring.held),
        )
        self.counters.kept += self._waiting
        self._pending, self._panes, self._anomalies, self._waiting = [], [], [], 0
        return made

    def declaration(self, now_us: int, clock: ClockQuality) -> list[Draft]:
        """Makes a frame without readings, for a gap that has to be told."""
        return [Draft(now_us, clock, Lane.NORMAL, ledger=self._account.close(self._ring.held))]

    def refuse(self, refused: Sequence[Draft]) -> None:
        """Counts the readings of drafts that could not be accepted as dropped; their anomalies go with the next frame."""
        for draft in refused:
            readings = draft.reading_count
            self._account.refuse(readings, draft.ledger)
            self.counters.kept -= readings
            self.counters.aggregated -= draft.ledger.aggregated
            self.counters.dropped += readings + draft.ledger.aggregated
            self.counters.anomalies -= len(draft.anomalies)
            self._note(draft.anomalies)

    def finish(self, now_us: int, clock: ClockQuality) -> list[Draft]:
        """Ends every segment and pane and makes the last drafts; the next block starts afresh.

        Readings left out since the last frame are told too, in a frame of their own if nothing else is left to send.
        """
        self.restart()
        made = self.seal(now_us, clock)
        return made if made or not self._account.is_open else self.declaration(now_us, clock)

    def audit(self) -> dict[str, tuple[float, float, int, int]]:
        """Per error-bounded metric: (largest error so far, ε, readings kept, readings seen)."""
        return self._reducer.audit()


def _bursts_first(block: Block) -> bool:
    return BURST not in block.reductions
