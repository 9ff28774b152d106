"""Watermarks: how far each device's event time has come, and what is late by it (contracts §7).

A device's watermark is its highest event time minus the allowed disorder, and only the device itself moves it. A spool
sends live frames before its backlog, so a frame above a hole in the sequence does not move the watermark until the
hole is closed, or has been open for `max_offline`: what fills it is not late.

    frames in sequence ─▶ highest ─▶ watermark = highest − out_of_orderness
    frames above a hole ─▶ held ────────┘ when the hole closes
"""

from typing import Any

import numpy as np

from headwater.arrivals import NEVER_US, Bool, Progress
from headwater.column_order import group_starts, grown, stable_order
from headwater.frame import Int64, UInt8
from headwater.series import Directory

# How a frame stands to the sequence of its device and epoch.
DUPLICATE, ABOVE_HOLE, FILLS_HOLE, IN_SEQUENCE = 0, 1, 2, 3


class Watermarks:
    """The event-time progress of the devices of one shard."""

    def __init__(self, *, out_of_orderness_us: int, max_offline_us: int, future_us: int) -> None:
        self._out_of_orderness_us = out_of_orderness_us
        self._max_offline_us = max_offline_us
        self._future_us = future_us
        self._now_us = NEVER_US
        self._count = 0
        self._highest = np.empty(0, np.int64)
        self._held = np.empty(0, np.int64)
        self._held_since = np.empty(0, np.int64)
        self._heard = np.empty(0, np.int64)

    def observe(
        self, device: Int64, standing: UInt8, latest_us: Int64, received_us: Int64, made_us: int, count: int
    ) -> Int64:
        """Takes in k frames in order; returns int64 (k,), each device's watermark just before each frame.

        Args:
            device: int64 (k,), device numbers.
            standing: uint8 (k,), DUPLICATE … IN_SEQUENCE; duplicates move nothing.
            latest_us: int64 (k,), highest event time in the frame, NEVER_US if it has none. A time further ahead of
                its receipt than `future_us` moves the watermark to there only: one bad clock can't make all late.
            received_us: int64 (k,), the gateway's time of receipt.
            made_us: the gateway's time of closing the batch.
            count: devices of the shard so far.
        """
        self._grow(count)
        self._now_us = max(self._now_us, made_us)
        if len(device):
            np.maximum.at(self._heard, device, received_us)
        latest = np.minimum(latest_us, received_us + self._future_us)
        before = self._highest[device]
        is_slow = np.zeros(count, bool)
        is_slow[device[(standing != IN_SEQUENCE) & (standing != DUPLICATE)]] = True
        is_slow[device[self._held[device] != NEVER_US]] = True
        slow = is_slow[device]
        fast = np.flatnonzero(~slow & (standing == IN_SEQUENCE) & (latest != NEVER_US))
        if len(fast):
            before[fast] = self._advance(device[fast], latest[fast])
        for i in np.flatnonzero(slow & (standing != DUPLICATE)).tolist():
            before[i] = self._one(int(device[i]), int(standing[i]), int(latest[i]), made_us)
        expired = (self._held != NEVER_US) & (self._now_us - self._held_since > self._max_offline_us)
        if expired.any():
            self._highest[expired] = np.maximum(self._highest[expired], self._held[expired])
            self._held[expired] = NEVER_US
        return np.where(before == NEVER_US, NEVER_US, before - self._out_of_orderness_us)

    def _advance(self, device: Int64, latest: Int64) -> Int64:
        """Moves devices whose frames are all in sequence; returns their highest times just before each frame."""
        order = stable_order(device)
        sorted_device, time = device[order], latest[order]
        starts = group_starts(sorted_device)
        segment = np.zeros(len(order), np.int64)
        segment[starts[1:]] = 1
        segment = np.cumsum(segment)
        low = int(time.min())
        span = int(time.max()) - low + 1
        if span * len(starts) < 1 << 62:
            # One running maximum for all segments: each is lifted above the one before it.
            top = np.maximum.accumulate(time - low + segment * span) - segment * span + low
        else:
            top = np.concatenate([np.maximum.accumulate(part) for part in np.split(time, starts[1:])])
        before = np.empty_like(top)
        before[1:] = top[:-1]
        state = self._highest[sorted_device]
        before[starts] = state[starts]
        np.maximum(before, state, out=before)
        ends = np.append(starts[1:], len(order)) - 1
        self._highest[sorted_device[starts]] = np.maximum(state[starts], top[ends])
        unsorted = np.empty_like(before)
        unsorted[order] = before
        return unsorted

    def _one(self, device: int, standing: int, latest_us: int, made_us: int) -> int:
        """Moves one device by one frame; returns its highest time before."""
        before = int(self._highest[device])
        if standing == ABOVE_HOLE:
            if self._held[device] == NEVER_US:
                self._held_since[device] = made_us
            self._held[device] = max(int(self._held[device]), latest_us)
            return before
        top = max(before, latest_us)
        if standing == IN_SEQUENCE:
            top = max(top, int(self._held[device]))
            self._held[device] = NEVER_US
        self._highest[device] = top
        return before

    def progress(self, directory: Directory, is_wide: Bool, unknown: Int64) -> Progress:
        """Where the devices stand now; the arrays are copies."""
        highest = self._highest[: self._count].copy()
        watermark = np.where(highest == NEVER_US, NEVER_US, highest - self._out_of_orderness_us)
        is_silent = self._now_us - self._heard[: self._count] >= self._max_offline_us
        has_holes = self._held[: self._count] != NEVER_US
        return Progress(directory, watermark, highest, is_silent, has_holes, is_wide, unknown, self._now_us)

    def _grow(self, count: int) -> None:
        self._count = max(self._count, count)
        for name in ("_highest", "_held", "_held_since", "_heard"):
            setattr(self, name, grown(getattr(self, name), count, NEVER_US))

    def state(self) -> dict[str, Any]:
        """What `restore` needs, for a snapshot."""
        names = ("_highest", "_held", "_held_since", "_heard")
        return {name[1:]: getattr(self, name)[: self._count] for name in names} | {"now_us": self._now_us}

    def restore(self, state: dict[str, Any]) -> None:
        """Becomes what `state` describes."""
        self._now_us = state["now_us"]
        self._count = len(state["highest"])
        for name in ("_highest", "_held", "_held_since", "_heard"):
            setattr(self, name, state[name[1:]])
