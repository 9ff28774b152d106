"""A task: the chain of operators of one shard, with its frontier and its watermarks (contracts §7).

    record ─▶ decode ─▶ step ┬ admit (sequence book) ─▶ watermarks ─▶ late? ─▶ process ─▶ advance ─▶ rows
                             └ duplicates, refusals, late rows: counted, with reasons

Hosts (the embedded runner, a cluster engine, replay, tests) differ in where records come from and where rows go; all
drive a task by the same `step`. A task reads no clock: time is in the records.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from headwater.arrivals import NEVER_US, Arrivals, Bool, Progress, keep_readings, runs_of
from headwater.batch import Batch, DeadLetter, DeviceStatus
from headwater.batch_build import take_frames
from headwater.column_order import group_starts
from headwater.frame import Int64
from headwater.instant import format_utc
from headwater.points import DeviceAccount, PointTable
from headwater.quality import BAD_MIN
from headwater.reasons import DeadLetterReason
from headwater.sequence_book import Admission, SequenceBook
from headwater.series import Directory
from headwater.snapshot import pack, unpack
from headwater.summary_rows import take_summaries
from headwater.watermark import DUPLICATE, Watermarks

SNAPSHOT_VERSION = 1


class Operator(Protocol):
    """State plus total functions over the columns of one shard; without clock, IO, randomness or logging."""

    @property
    def name(self) -> str:
        """Unique in its chain and stable: its snapshot is kept under this name."""

    def process(self, arrivals: Arrivals) -> list[PointTable]:
        """Takes in what a record brought; called once a record, before `advance`."""

    def advance(self, progress: Progress, tables: Sequence[PointTable]) -> list[PointTable]:
        """Event time moved; no watermark is ever smaller than before.

        Args:
            progress: where event time stands.
            tables: what this record has given so far: `process` of all operators, `advance` of those before this one.
        """

    def snapshot(self) -> bytes:
        """All of its state, versioned (`headwater.snapshot`)."""

    def restore(self, data: bytes) -> None:
        """Becomes bit for bit the operator that gave `data`; CorruptStateError if it can't."""


@dataclass(frozen=True, slots=True)
class TaskLimits:
    """What a task waits for.

    Attributes:
        out_of_orderness_us: disorder of event times within a device that is not late.
        allowed_lateness_us: how far behind the watermark a reading still revises its windows.
        max_offline_us: a device not heard of for so long is not waited for, and a hole not either.
        future_us: how far ahead of its receipt an event time may move the watermark.
    """

    out_of_orderness_us: int = 5_000_000
    allowed_lateness_us: int = 300_000_000
    max_offline_us: int = 600_000_000
    future_us: int = 60_000_000


@dataclass(frozen=True, slots=True)
class StepCounters:
    """What one record held and what became of it; all add up over records."""

    frames: int = 0
    frames_new: int = 0
    frames_duplicate: int = 0
    frames_refused: int = 0
    readings: int = 0
    readings_bad: int = 0
    readings_late: int = 0
    readings_too_late: int = 0
    summaries: int = 0
    payload_bytes: int = 0
    dead_letters: int = 0
    rows: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class StepResult:
    """What one record gave.

    Attributes:
        tables: rows for the store.
        telemetry: the admitted frames.
        dead_letters: what was refused here, and notes of readings too late for any window.
        touched: entries of the sequence book whose account changed; see `Task.accounts`.
        counters: sums.
        position: offset of the next record.
    """

    tables: tuple[PointTable, ...]
    telemetry: Batch
    dead_letters: tuple[DeadLetter, ...]
    touched: Int64
    counters: StepCounters
    position: int


class Task:
    """Drives the operators of one shard; the same records give the same rows, bit for bit."""

    def __init__(self, shard: int, operators: Sequence[Operator], limits: TaskLimits | None = None) -> None:
        self.shard = shard
        self.operators = tuple(operators)
        self.limits = limits or TaskLimits()
        self.directory = Directory()
        self.book = SequenceBook()
        self.position = 0
        self._watermarks = self._new_watermarks()
        assert len({operator.name for operator in operators}) == len(operators), "two operators have one name"

    def step(self, batch: Batch, offset: int) -> StepResult:
        """Takes in one record and returns all that it gave."""
        numbers = self.directory.devices.ids(batch.devices).astype(np.int64)
        device = numbers[batch.device]
        others: list[DeadLetter | DeviceStatus] = [*batch.dead_letters, *batch.statuses]
        known = [self.directory.devices.id((o.site, o.device)) if o.site and o.device else -1 for o in others]
        admission = self.book.admit(batch, device, known)
        latest, earliest = _time_span(batch)
        before = self._watermarks.observe(
            device, admission.standing, latest, batch.received_us, batch.made_us, len(self.directory.devices)
        )
        is_new = admission.standing != DUPLICATE
        admitted = batch if is_new.all() else take_frames(batch, is_new)
        if admitted is not batch:
            device, before, earliest = device[is_new], before[is_new], earliest[is_new]
        arrivals, counters, late = self._arrivals(admitted, device, before, earliest)
        dead_letters = [*self._refusals(batch, admission, offset), *late]
        tables: list[PointTable] = []
        for operator in self.operators:
            tables += operator.process(arrivals)
        count = len(self.directory.devices)
        progress = self._watermarks.progress(
            self.directory, self.book.wide_devices(count), self.book.unknown_per_device(count)
        )
        for operator in self.operators:
            tables += operator.advance(progress, tables)
        self.position = offset + 1
        tables = [table for table in tables if len(table)]
        counted = StepCounters(
            frames=len(batch),
            frames_new=len(admitted),
            frames_duplicate=len(batch) - len(admitted) - len(admission.refused),
            frames_refused=len(admission.refused),
            readings=admitted.reading_count,
            summaries=len(admitted.summaries),
            payload_bytes=int(batch.payload_bytes.sum()),
            dead_letters=len(batch.dead_letters) + len(admission.refused),
            rows=sum(len(table) for table in tables),
            **counters,
        )
        return StepResult(tuple(tables), admitted, tuple(dead_letters), admission.touched, counted, self.position)

    def accounts(self, entries: Int64) -> tuple[DeviceAccount, ...]:
        """Where the frames of some devices and epochs are, as of the last step."""
        return self.book.accounts(entries, self.directory.devices.values)

    def snapshot(self) -> bytes:
        """All state of the task and of its operators."""
        return pack(
            SNAPSHOT_VERSION,
            {
                "shard": self.shard,
                "position": self.position,
                **_prefixed("directory", self.directory.state()),
                **_prefixed("book", self.book.state()),
                **_prefixed("watermark", self._watermarks.state()),
                **{f"operator/{operator.name}": operator.snapshot() for operator in self.operators},
            },
        )

    def restore(self, data: bytes) -> None:
        """Becomes the task that gave `data`; an operator that `data` does not know begins empty.

        Raises:
            CorruptStateError: the bytes fail their checks.
        """
        state = unpack(data, SNAPSHOT_VERSION)
        assert state["shard"] == self.shard, f"state of shard {state['shard']} given to shard {self.shard}"
        self.position = state["position"]
        self.directory = Directory.from_state(_under("directory", state))
        self.book = SequenceBook()
        self.book.restore(_under("book", state))
        self._watermarks = self._new_watermarks()
        self._watermarks.restore(_under("watermark", state))
        for operator in self.operators:
            if f"operator/{operator.name}" in state:
                operator.restore(state[f"operator/{operator.name}"])

    def _new_watermarks(self) -> Watermarks:
        return Watermarks(
            out_of_orderness_us=self.limits.out_of_orderness_us,
            max_offline_us=self.limits.max_offline_us,
            future_us=self.limits.future_us,
        )

    def _arrivals(
        self, batch: Batch, device: Int64, watermark_us: Int64, earliest_us: Int64
    ) -> tuple[Arrivals, dict[str, int], list[DeadLetter]]:
        """Finds the runs of the admitted readings and leaves out what may not enter statistics."""
        run_start = runs_of(batch)
        metrics = self.directory.metrics.ids(batch.metrics)
        run_frame = np.searchsorted(batch.reading_start, run_start, side="right") - 1
        run_series = self.directory.series(device[run_frame].astype(np.int32), metrics[batch.metric[run_start]])
        time_us, value = batch.time_us, batch.value
        is_late: Bool | None = None
        late: list[DeadLetter] = []
        bad = too_late = 0
        limit = watermark_us - self.limits.allowed_lateness_us
        keep: Bool | None = None
        if (earliest_us < watermark_us).any():
            length = np.diff(batch.reading_start)
            is_late = time_us < np.repeat(watermark_us, length)
            if (earliest_us < limit).any():
                keep = time_us >= np.repeat(limit, length)
                late = self._late(batch, ~keep, limit)
                too_late = len(keep) - int(np.count_nonzero(keep))
        if len(batch.quality) and batch.quality.max() >= BAD_MIN:
            usable = batch.quality < BAD_MIN
            bad = len(usable) - int(np.count_nonzero(usable))
            keep = usable if keep is None else keep & usable
        if keep is not None and not keep.all():
            run_start, left = keep_readings(run_start, len(time_us), keep)
            run_series, time_us, value = run_series[left], time_us[keep], value[keep]
            is_late = None if is_late is None else is_late[keep]
        panes, series, pane_late, panes_lost = self._panes(batch, device, watermark_us, limit)
        too_late += panes_lost
        counters = {
            "readings_bad": bad,
            "readings_too_late": too_late,
            "readings_late": 0 if is_late is None else int(np.count_nonzero(is_late)),
        }
        arrivals = Arrivals(
            batch, self.directory, device, time_us, value, run_start, run_series, is_late, panes, series, pane_late
        )
        return arrivals, counters, late

    def _panes(self, batch: Batch, device: Int64, watermark_us: Int64, limit: Int64) -> tuple[Any, Any, Bool, int]:
        """The summaries that are not too late, their series, which are late, and how many readings the others held."""
        panes = batch.summaries
        if not len(panes):
            return panes, np.empty(0, np.int32), np.empty(0, bool), 0
        frame = np.repeat(np.arange(len(batch)), np.diff(batch.summary_start))
        metrics = self.directory.metrics.ids(panes.metrics)
        series = self.directory.series(device[frame].astype(np.int32), metrics[panes.metric])
        end = panes.start_us + panes.width_us
        keep = end >= limit[frame]
        is_late = end < watermark_us[frame]
        lost = int(panes.count[~keep].sum())
        return (panes if keep.all() else take_summaries(panes, keep)), series[keep], is_late[keep], lost

    def _late(self, batch: Batch, is_too_late: Bool, limit: Int64) -> list[DeadLetter]:
        """One note per frame with readings behind the allowed lateness: stored, but in no window."""
        frames = batch.frame_of_reading[is_too_late].astype(np.int64)
        times = batch.time_us[is_too_late]
        starts = np.append(group_starts(frames), len(frames))
        notes = []
        for lo, hi in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
            row = int(frames[lo])
            site, device = batch.devices[batch.device[row]]
            behind = f"from {format_utc(int(times[lo:hi].min()))}, behind {format_utc(int(limit[row]))}"
            notes.append(
                DeadLetter(
                    batch.made_us, DeadLetterReason.LATE, "processor", f"{site}/{device}/{int(batch.seq[row])}",
                    f"{hi - lo} readings {behind}: stored, but in no window", site, device, readings=hi - lo,
                )
            )  # fmt: skip
        return notes

    def _refusals(self, batch: Batch, admission: Admission, offset: int) -> list[DeadLetter]:
        refused = []
        for row in admission.refused:
            site, device = batch.devices[batch.device[row]]
            refused.append(
                DeadLetter(
                    batch.made_us, DeadLetterReason.LIMIT, "processor", f"{self.shard}/{offset}",
                    f"frame {int(batch.seq[row])} makes more holes in its sequence than are kept; the device sends it again",
                    site, device, readings=int(batch.reading_start[row + 1] - batch.reading_start[row]),
                )
            )  # fmt: skip
        return refused


def _time_span(batch: Batch) -> tuple[Int64, Int64]:
    """int64 (k,) twice: the highest and the lowest event time of each frame; NEVER_US and its negative if it has none."""
    k = len(batch)
    latest, earliest = np.full(k, NEVER_US), np.full(k, -NEVER_US)
    filled = np.flatnonzero(np.diff(batch.reading_start))
    if len(filled):
        starts = batch.reading_start[filled]
        latest[filled] = np.maximum.reduceat(batch.time_us, starts)
        earliest[filled] = np.minimum.reduceat(batch.time_us, starts)
    filled = np.flatnonzero(np.diff(batch.summary_start))
    if len(filled):
        starts = batch.summary_start[filled]
        ends = np.maximum.reduceat(batch.summaries.start_us + batch.summaries.width_us, starts)
        latest[filled] = np.maximum(latest[filled], ends)
    return latest, earliest


def _prefixed(prefix: str, state: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{prefix}/{name}": value for name, value in state.items()}


def _under(prefix: str, state: Mapping[str, Any]) -> dict[str, Any]:
    return {name[len(prefix) + 1 :]: value for name, value in state.items() if name.startswith(f"{prefix}/")}
