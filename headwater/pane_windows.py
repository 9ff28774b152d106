"""The operator of aligned windows: tumbling, sliding and cumulative, made of panes that they share.

    runs ─▶ panes ─▶ a window closes when its device's watermark passes its end ─▶ merge its panes ─▶ row
              ▲                                                                         │
              └── a late reading within the allowed lateness ─▶ the same row, revision + 1

A device that falls silent closes its windows too, so that nobody waits for it; when it comes back, its backlog is not
late (its own watermark has not moved) and the window that was closed early is revised.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence
from functools import reduce
from math import gcd
from typing import Any

import numpy as np

from headwater.arrivals import NEVER_US, Arrivals, Bool, Progress
from headwater.column_order import grown
from headwater.frame import Int64
from headwater.pane_runs import cut_runs, group_buckets, group_moments, summary_buckets
from headwater.pane_state import Moments, PaneState
from headwater.points import PointTable
from headwater.report_state import ReportState
from headwater.series import Directory
from headwater.snapshot import pack, unpack
from headwater.window import AlignedWindower
from headwater.window_rows import WindowPart, window_table

_VERSION = 1
_PaneKey = tuple[int, int]  # start and width: summaries from the edge may be wider than the shared panes.


class PaneWindows:
    """Reports aligned windows of every series; see `headwater.task.Operator`.

    Args:
        windowers: what to report; the shared pane is the greatest common divisor of theirs.
        allowed_lateness_us: how long after its end a window can be revised.
        quantiles: keep sketches for p50, p95 and p99.
    """

    name = "pane_windows"

    def __init__(
        self, windowers: Sequence[AlignedWindower], *, allowed_lateness_us: int, quantiles: bool = True
    ) -> None:
        assert windowers, "PaneWindows needs a windower"
        self._windowers = tuple(windowers)
        self._pane_us = reduce(gcd, (windower.pane_us for windower in windowers))
        self._size_us = max(windower.size_us for windower in windowers)
        self._lateness_us = allowed_lateness_us
        self._quantiles = quantiles
        self._panes: dict[_PaneKey, PaneState] = {}
        self._keys: list[_PaneKey] = []
        self._reports = ReportState()
        self._closed = np.empty(0, np.int64)
        self._dirty: list[tuple[_PaneKey, Int64]] = []
        self._swept = NEVER_US

    def process(self, arrivals: Arrivals) -> list[PointTable]:
        """Merges what arrived into panes; reports nothing yet."""
        self._closed = grown(self._closed, len(arrivals.directory.devices), NEVER_US)
        device_of = arrivals.directory.device_of_series
        if len(arrivals.time_us):
            runs = cut_runs(arrivals, self._pane_us)
            groups = group_moments(arrivals, runs)
            for pane, rows in groups.per_pane():
                series = groups.series[rows]
                self._merge((pane * self._pane_us, self._pane_us), series, groups.moments.take(rows), device_of)
            if self._quantiles:
                for pane, codes, counts in group_buckets(arrivals, runs):
                    self._panes[pane * self._pane_us, self._pane_us].buckets.add(codes, counts)
        if len(arrivals.summaries):
            self._merge_summaries(arrivals, device_of)
        return []

    def _merge(self, key: _PaneKey, series: Int64, moments: Moments, device_of: Int64) -> None:
        pane = self._panes.get(key)
        if pane is None:
            pane = self._panes[key] = PaneState()
            insort(self._keys, key)
        pane.merge(series, moments)
        again = self._closed[device_of[series]] >= key[0] + key[1]
        if again.any():
            self._dirty.append((key, series[again]))

    def _merge_summaries(self, arrivals: Arrivals, device_of: Int64) -> None:
        """Merges summaries from the edge: into a shared pane that holds it, else into a pane of its own width."""
        panes = arrivals.summaries
        shared = panes.start_us - panes.start_us % self._pane_us
        fits = panes.start_us + panes.width_us <= shared + self._pane_us
        start, width = np.where(fits, shared, panes.start_us), np.where(fits, self._pane_us, panes.width_us)
        late = np.where(arrivals.is_summary_late, panes.count, 0)
        moments = Moments(panes.count, late, panes.mean, panes.m2, panes.min, panes.max)
        for row in range(len(panes)):
            key = int(start[row]), int(width[row])
            self._merge(key, arrivals.summary_series[row : row + 1].astype(np.int64), moments.take([row]), device_of)
            if self._quantiles and panes.sketch_start[row] < panes.sketch_start[row + 1]:
                self._panes[key].buckets.add(*summary_buckets(arrivals, row))

    def advance(self, progress: Progress, tables: Sequence[PointTable]) -> list[PointTable]:
        """Reports the windows that closed and those that late readings changed."""
        del tables
        directory = progress.directory
        count = len(progress.watermark_us)
        self._closed = grown(self._closed, count, NEVER_US)
        old = self._closed[:count].copy()
        # Nothing is waited for from a silent device: all windows that hold readings of it are closed.
        everything = np.where(progress.highest_us == NEVER_US, NEVER_US, progress.highest_us + self._size_us)
        new = np.maximum(old, np.where(progress.is_silent, everything, progress.watermark_us))
        moved = new // self._pane_us > old // self._pane_us
        if not self._dirty and not moved.any():
            return []
        parts = self._close(old, new, moved, directory)
        self._closed[:count] = new
        self._sweep(progress)
        return window_table(parts, directory)

    def _close(self, old: Int64, new: Int64, moved: Bool, directory: Directory) -> list[WindowPart]:
        device_of = directory.device_of_series
        low = int(old[moved].min()) if moved.any() else 0
        high = int(new[moved].max()) if moved.any() else NEVER_US
        dirty, self._dirty = self._dirty, []
        parts: list[WindowPart] = []
        for number, windower in enumerate(self._windowers):
            again: dict[int, list[Int64]] = {}
            for (start, width), series in dirty:
                for end in windower.ends(start, start + width):
                    closed = series[old[device_of[series]] >= end]
                    if len(closed):
                        again.setdefault(end, []).append(closed)
            ends = set(again)
            for start, width in self._keys[bisect_left(self._keys, (low - windower.size_us, 0)) :]:
                if start >= high:
                    break
                ends.update(end for end in windower.ends(start, start + width) if low < end <= high)
            for end in sorted(ends):
                closing = moved & (old < end) & (end <= new)
                part = self._report(number, windower, end, closing[device_of], again.get(end, []))
                if part is not None:
                    parts.append(part)
        return parts

    def _report(
        self, number: int, windower: AlignedWindower, end: int, closing: Bool, again: list[Int64]
    ) -> WindowPart | None:
        """What one window holds for the series that close it or were changed in it; None if that is nothing new."""
        panes = self._panes_within(windower.start_us(end), end)
        if len(panes) == 1 and not again:
            # A tumbling window on its own panes: nothing to merge.
            at = np.flatnonzero(closing[panes[0].series])
            series, moments = panes[0].series[at], panes[0].moments.take(at)
        else:
            wanted = [*again, *(pane.series[closing[pane.series]] for pane in panes)]
            series = np.unique(np.concatenate(wanted)) if wanted else np.empty(0, np.int64)
            moments = Moments.empty(len(series))
            for pane in panes:
                here, at = pane.find(series)
                moments.merge_at(here, pane.moments.take(at))
        changed, revision = self._reports.report((number, end), series, moments.count)
        if not changed.all():
            series, moments, revision = series[changed], moments.take(changed), revision[changed]
        if not len(series):
            return None
        pieces = [piece for pane in panes for piece in pane.buckets.take(series)] if self._quantiles else []
        return WindowPart(windower.label, windower.time_us(end), series, moments, revision, pieces)

    def _panes_within(self, start: int, end: int) -> list[PaneState]:
        found = []
        for key in self._keys[bisect_left(self._keys, (start, 0)) :]:
            if key[0] >= end:
                break
            if key[0] + key[1] <= end:
                found.append(self._panes[key])
        return found

    def _sweep(self, progress: Progress) -> None:
        """Forgets panes and reports that no reading can change any more; looks once per pane of event time."""
        settled = np.where(
            progress.watermark_us == NEVER_US, NEVER_US, progress.watermark_us - self._lateness_us - self._size_us
        )
        now = int(settled.max()) // self._pane_us if len(settled) else NEVER_US
        if now <= self._swept:
            return
        self._swept = now
        device_of = progress.directory.device_of_series
        for key in [key for key in self._keys if key[0] + key[1] <= now * self._pane_us]:
            pane = self._panes[key]
            needed = settled[device_of[pane.series]] < key[0] + key[1]
            if not needed.any():
                del self._panes[key]
                self._keys.remove(key)
            elif 2 * np.count_nonzero(needed) < len(needed):
                pane.keep(needed)
        self._reports.sweep(settled + self._size_us, device_of)

    def snapshot(self) -> bytes:
        """Panes, reports and what is closed."""
        assert not self._dirty, "a snapshot is taken between records"
        values: dict[str, Any] = {
            "keys": np.array(self._keys, np.int64).reshape(-1, 2),
            "windows": [windower.label for windower in self._windowers],
            "closed": self._closed,
            "swept": self._swept,
            **self._reports.state(),
        }
        for at, key in enumerate(self._keys):
            pane = self._panes[key]
            codes, counts = pane.buckets.compact()
            moments = pane.moments
            values[f"pane{at}/ints"] = np.stack([pane.series, moments.count, moments.late])
            values[f"pane{at}/floats"] = np.stack([moments.mean, moments.m2, moments.low, moments.high])
            values[f"pane{at}/buckets"] = np.stack([codes, counts])
        return pack(_VERSION, values)

    def restore(self, data: bytes) -> None:
        """Becomes the operator that gave `data`; if the windows were changed since, it begins empty."""
        state = unpack(data, _VERSION)
        if state["windows"] != [windower.label for windower in self._windowers]:
            return
        self._closed, self._swept = state["closed"], state["swept"]
        self._reports.restore(state)
        self._keys = [(start, width) for start, width in state["keys"].tolist()]
        self._panes = {}
        for at, key in enumerate(self._keys):
            pane = self._panes[key] = PaneState()
            ints, floats = state[f"pane{at}/ints"], state[f"pane{at}/floats"]
            pane.series = ints[0]
            pane.moments = Moments(ints[1], ints[2], *floats)
            pane.buckets.add(*state[f"pane{at}/buckets"])
