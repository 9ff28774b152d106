"""The operator of windows that panes can't make: sessions, counts, the global window, and a user's own `Windower`.

It keeps the readings of each series until no window of theirs can change, and finds the windows anew when some arrive:
right for any order of arrival, linear in what is kept. Panes (`headwater.pane_windows`) are the fast way where windows
are aligned. Summaries from the edge have no readings to place and are left out here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from headwater.arrivals import NEVER_US, Arrivals, Bool, Progress
from headwater.column_order import group_starts, grown
from headwater.frame import Float64, Int64
from headwater.pane_state import KEY_OFFSET, Moments, merge_codes
from headwater.points import PointTable
from headwater.sketch import bucket
from headwater.snapshot import pack, unpack
from headwater.window import Count, Global, Windower
from headwater.window_rows import WindowPart, window_table

_VERSION = 1
_FLOATS = ("mean", "m2", "low", "high")


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """A window of one series: the row's time, its end, and its readings as places in the buffer."""

    time_us: int
    end_us: int
    readings: Any


@dataclass(slots=True, eq=False)
class _Kept:
    """What is kept of one series: readings in order of (time, value), and the reports that can still change."""

    time_us: Int64 = field(default_factory=lambda: np.empty(0, np.int64))
    value: Float64 = field(default_factory=lambda: np.empty(0))
    is_late: Bool = field(default_factory=lambda: np.empty(0, bool))
    reports: dict[int, tuple[int, int, int]] = field(default_factory=dict)  # row time → end, count, revision
    base: Moments = field(default_factory=lambda: Moments.empty(1))  # Of the global window: what is settled.
    base_buckets: tuple[Int64, Int64] = field(default_factory=lambda: (np.empty(0, np.int64), np.empty(0, np.int64)))
    fresh: bool = False
    silent: bool = False  # Saves work only: reporting a silent series again says nothing new.

    def add(self, time_us: Int64, value: Float64, is_late: Bool) -> None:
        """Merges readings in; equal ones are put in an order of their own, so that arrival doesn't matter."""
        time_us, value = np.concatenate([self.time_us, time_us]), np.concatenate([self.value, value])
        order = np.lexsort((value, time_us))
        self.time_us, self.value = time_us[order], value[order]
        self.is_late = np.concatenate([self.is_late, is_late])[order]
        self.fresh = True

    def drop(self, mask: Bool) -> None:
        """Forgets some readings."""
        self.time_us, self.value, self.is_late = self.time_us[~mask], self.value[~mask], self.is_late[~mask]


class SeriesWindows:
    """Reports the windows of one windower for every series; see `headwater.task.Operator`.

    Args:
        windower: what to report.
        allowed_lateness_us: how long after its end a window can be revised.
        longest_us: a merging window that lasts longer is cut, so that what is kept is bounded.
    """

    def __init__(
        self, windower: Windower | Count | Global, *, allowed_lateness_us: int, longest_us: int = 3_600_000_000
    ) -> None:
        self._longest_us = longest_us
        self._windower = windower
        self._lateness_us = allowed_lateness_us
        self._kept: dict[int, _Kept] = {}
        self._closed = np.empty(0, np.int64)

    @property
    def name(self) -> str:
        """Says of which windows it is."""
        return f"windows:{self._windower.label}"

    def process(self, arrivals: Arrivals) -> list[PointTable]:
        """Keeps what arrived."""
        late = arrivals.is_late
        starts, ends = arrivals.run_start.tolist(), (arrivals.run_start + arrivals.run_length).tolist()
        for series, lo, hi in zip(arrivals.run_series.tolist(), starts, ends, strict=True):
            kept = self._kept.setdefault(series, _Kept())
            is_late = np.zeros(hi - lo, bool) if late is None else late[lo:hi]
            kept.add(arrivals.time_us[lo:hi], arrivals.value[lo:hi], is_late)
        return []

    def advance(self, progress: Progress, tables: Sequence[PointTable]) -> list[PointTable]:
        """Reports windows that closed or changed."""
        del tables
        count = len(progress.watermark_us)
        self._closed = grown(self._closed, count, NEVER_US)
        closed = np.maximum(self._closed[:count], progress.watermark_us)
        device_of = progress.directory.device_of_series
        parts: list[WindowPart] = []
        for series in sorted(self._kept):
            kept, device = self._kept[series], int(device_of[series])
            is_silent = bool(progress.is_silent[device])
            if kept.fresh or closed[device] > self._closed[device] or (is_silent and not kept.silent):
                parts += self._report(series, kept, -NEVER_US if is_silent else int(closed[device]))
                kept.silent = is_silent
                self._settle(kept, int(progress.watermark_us[device]) - self._lateness_us)
        self._closed[:count] = closed
        return window_table(parts, progress.directory)

    def _report(self, series: int, kept: _Kept, closed_us: int) -> Iterator[WindowPart]:
        """The windows that ended by `closed_us`, and those reported before, as far as they say something new."""
        kept.fresh = False
        if isinstance(self._windower, Count):
            found = list(self._windows(kept, closed_us))
        else:
            found = [w for w in self._windows(kept, -NEVER_US) if w.end_us <= closed_us or w.time_us in kept.reports]
        for window in sorted(found, key=lambda window: window.time_us):
            _, count, revision = kept.reports.get(window.time_us, (0, -1, -1))
            size = int(kept.base.count[0]) + len(kept.value[window.readings])
            if size != count:
                kept.reports[window.time_us] = (window.end_us, size, revision + 1)
                yield self._part(series, kept, window, revision + 1)
        if isinstance(self._windower, Count):
            kept.drop(np.arange(len(kept.time_us)) < len(found) * self._windower.size)
            return
        times = {window.time_us for window in found}
        for time_us, (end_us, count, revision) in list(kept.reports.items()):
            # A late reading joined two sessions: the second one's row is taken back by a revision that holds nothing.
            if time_us not in times and count:
                kept.reports[time_us] = (end_us, 0, revision + 1)
                yield self._part(series, kept, Found(time_us, end_us, slice(0, 0)), revision + 1)

    def _windows(self, kept: _Kept, closed_us: int) -> Iterator[Found]:
        """The windows of what is kept that ended by `closed_us`."""
        windower, time_us = self._windower, kept.time_us
        if isinstance(windower, Count):
            settled = int(np.searchsorted(time_us, closed_us))
            newest = max(kept.reports, default=NEVER_US)
            for lo in range(0, settled - windower.size + 1, windower.size):
                # Windows that begin with equal times need rows of their own.
                newest = max(int(time_us[lo]), newest + 1)
                yield Found(newest, newest, slice(lo, lo + windower.size))
        elif isinstance(windower, Global):
            ends = np.unique(time_us // windower.step_us + 1) * windower.step_us
            for end in ends[ends <= closed_us].tolist():
                yield Found(end - windower.step_us, end, slice(0, int(np.searchsorted(time_us, end))))
        elif len(time_us):
            reading, start, end = windower.assign(time_us)
            order = np.lexsort((reading, end, start))
            reading, start, end = reading[order], start[order], end[order]
            if windower.merges:
                reach = np.maximum.accumulate(end)
                is_first = np.ones(len(start), bool)
                is_first[1:] = start[1:] >= reach[:-1]
                firsts = np.flatnonzero(is_first)
            else:
                firsts = np.union1d(group_starts(start), group_starts(end))
            bounds = (
                self._cut([*firsts.tolist(), len(start)], start) if windower.merges else [*firsts.tolist(), len(start)]
            )
            for lo, hi in pairwise(bounds):
                last = int(end[lo:hi].max())
                if last <= closed_us:
                    yield Found(int(start[lo]), last, reading[lo:hi])

    def _cut(self, bounds: list[int], start: Int64) -> list[int]:
        """Cuts merged windows that are too long, from their beginning on."""
        cut = []
        for lo, hi in pairwise(bounds):
            cut.append(lo)
            while int(start[hi - 1]) - int(start[cut[-1]]) >= self._longest_us:
                cut.append(int(np.searchsorted(start[:hi], int(start[cut[-1]]) + self._longest_us)))
        return [*cut, bounds[-1]]

    def _part(self, series: int, kept: _Kept, window: Found, revision: int) -> WindowPart:
        moments, buckets = _aggregate(kept.value[window.readings], kept.is_late[window.readings])
        pieces = [piece for piece in (kept.base_buckets, buckets) if len(piece[0])]
        if kept.base.count[0]:
            merged = kept.base.take([0])
            merged.merge_at(np.array([0]), moments)
            moments = merged
        one = np.array([series], np.int64)
        revisions = np.array([revision], np.int64)
        return WindowPart(self._windower.label, window.time_us, one, moments, revisions, pieces)

    def _settle(self, kept: _Kept, settled_us: int) -> None:
        """Forgets the readings and reports that nothing can change any more."""
        windower = self._windower
        if isinstance(windower, Global):
            settled_us -= settled_us % windower.step_us
            done = kept.time_us < settled_us
            if done.any():
                moments, buckets = _aggregate(kept.value[done], kept.is_late[done])
                kept.base.merge_at(np.array([0]), moments)
                kept.base_buckets = merge_codes([kept.base_buckets, buckets])
                kept.drop(done)
            kept.reports = {time: report for time, report in kept.reports.items() if report[0] > settled_us}
            return
        if isinstance(windower, Count):
            newest = max(kept.reports, default=None)
            kept.reports = {} if newest is None else {newest: kept.reports[newest]}
            return
        if len(kept.time_us):
            reading, _, end = windower.assign(kept.time_us)
            if windower.merges:
                final = list(self._windows(kept, settled_us))
                done = np.zeros(len(kept.time_us), bool)
                for window in final:
                    done[window.readings] = True
            else:
                last = np.full(len(kept.time_us), -NEVER_US)
                last[reading] = NEVER_US
                np.maximum.at(last, reading, end)
                done = last <= settled_us
            kept.drop(done)
        kept.reports = {time: report for time, report in kept.reports.items() if report[0] > settled_us}

    def snapshot(self) -> bytes:
        """Readings and reports."""
        series = sorted(self._kept)
        kept = [self._kept[number] for number in series]
        reports = [[at, *report] for one in kept for at, report in one.reports.items()]
        return pack(
            _VERSION,
            {
                "closed": self._closed,
                "series": np.array(series, np.int64),
                "readings": np.array([len(one.time_us) for one in kept], np.int64),
                "reported": np.array([len(one.reports) for one in kept], np.int64),
                "time_us": np.concatenate([np.empty(0, np.int64), *(one.time_us for one in kept)]),
                "value": np.concatenate([np.empty(0), *(one.value for one in kept)]),
                "is_late": np.concatenate([np.empty(0, bool), *(one.is_late for one in kept)]),
                "reports": np.array(reports, np.int64).reshape(-1, 4),
                "base_counts": np.array([[one.base.count[0], one.base.late[0]] for one in kept], np.int64).reshape(
                    -1, 2
                ),
                "base_floats": np.array([[getattr(one.base, name)[0] for name in _FLOATS] for one in kept]).reshape(
                    -1, 4
                ),
                "base_codes": np.array([len(one.base_buckets[0]) for one in kept], np.int64),
                "base_buckets": np.concatenate(
                    [np.empty((2, 0), np.int64), *(np.stack(one.base_buckets) for one in kept)], 1
                ),
            },
        )

    def restore(self, data: bytes) -> None:
        """Becomes the operator that gave `data`."""
        state = unpack(data, _VERSION)
        self._closed = state["closed"]
        readings, reported = np.cumsum(state["readings"])[:-1], np.cumsum(state["reported"])[:-1]
        columns = (np.split(state[name], readings) for name in ("time_us", "value", "is_late"))
        reports = np.split(state["reports"], reported)
        self._kept = {}
        for series, time_us, value, is_late, table in zip(state["series"].tolist(), *columns, reports, strict=False):
            rows = {at: (end, count, revision) for at, end, count, revision in table.tolist()}
            self._kept[series] = _Kept(time_us.copy(), value.copy(), is_late.copy(), rows)
        buckets = np.split(state["base_buckets"], np.cumsum(state["base_codes"])[:-1], axis=1)
        bases = zip(self._kept.values(), state["base_counts"], state["base_floats"], buckets, strict=False)
        for kept, counts, floats, (codes, numbers) in bases:
            ints, reals = ([np.array([number]) for number in row] for row in (counts, floats))
            kept.base = Moments(ints[0], ints[1], *reals)
            kept.base_buckets = codes.copy(), numbers.copy()


def _aggregate(value: Float64, is_late: Bool) -> tuple[Moments, tuple[Int64, Int64]]:
    """Aggregates and sketch of some readings of one series."""
    n = len(value)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = value.mean() if n else np.nan
        m2 = float(np.sum((value - mean) ** 2))
    low, high = (value.min(), value.max()) if n else (np.nan, np.nan)
    floats = [np.array([number], np.float64) for number in (mean, m2, low, high)]
    moments = Moments(np.array([n], np.int64), np.array([np.count_nonzero(is_late)], np.int64), *floats)
    keys, counts = np.unique(bucket(value), return_counts=True)
    return moments, (keys.astype(np.int64) + KEY_OFFSET, counts.astype(np.int64))
