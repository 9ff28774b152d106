"""Operator: the digital twin of each device: present or not, where it stands, how far its clock is off, its last values.

state 0 offline   said so by the gateway, or silent for `offline_after` of the shard's time
1 online
2 degraded  online, but with frames missing below newer ones, unknown frames or bad readings
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from headwater.arrivals import NEVER_US, Arrivals, Progress
from headwater.batch import DeviceStatus
from headwater.column_order import grown
from headwater.points import PointTable
from headwater.quality import BAD_MIN
from headwater.snapshot import pack, unpack

OFFLINE, ONLINE, DEGRADED = 0, 1, 2
_VERSION = 1
_SKEWS = 9
_NO_SKEW = 1 << 62
_INTS = {"heard": NEVER_US, "status": NEVER_US, "reported": NEVER_US, "bad": NEVER_US, "buffered": 0, "state": -1}


class Twin:
    """Keeps the present state of every device of a shard and reports it when it changes, and once a `report_every`."""

    name = "twin"

    def __init__(self, *, offline_after_us: int, report_every_us: int) -> None:
        self._offline_after_us = offline_after_us
        self._report_every_us = report_every_us
        self._columns = {name: np.empty(0, np.int64) for name in _INTS}
        self._said_offline = np.empty(0, bool)
        self._skews = np.empty((0, _SKEWS), np.int64)
        self._agents: dict[int, str] = {}
        self._location = np.empty((0, 2), np.float64)  # Latitude and longitude, NaN where not told.
        self._last_us = np.empty(0, np.int64)
        self._last_value = np.empty(0, np.float64)

    def last(self, series: int) -> tuple[int, float] | None:
        """Time and value of the newest usable reading of a series; None if there was none."""
        if series >= len(self._last_us) or self._last_us[series] == NEVER_US:
            return None
        return int(self._last_us[series]), float(self._last_value[series])

    def process(self, arrivals: Arrivals) -> list[PointTable]:
        """Takes in who was heard, what was said of presence, and the last values."""
        self._grow(len(arrivals.directory.devices), arrivals.directory.series_count)
        batch, device = arrivals.batch, arrivals.device
        if len(batch):
            np.maximum.at(self._columns["heard"], device, batch.received_us)
            skew = np.full(len(self._said_offline), _NO_SKEW)
            np.minimum.at(skew, device, batch.received_us - batch.created_us)
            here = np.flatnonzero(skew != _NO_SKEW)
            self._skews[here] = np.concatenate([self._skews[here, 1:], skew[here, None]], axis=1)
        if len(batch.quality) and batch.quality.max() >= BAD_MIN:
            bad = device[batch.frame_of_reading[batch.quality >= BAD_MIN]]
            self._columns["bad"][bad] = batch.made_us
        for status in batch.statuses:
            at = arrivals.directory.devices.id((status.site, status.device))
            self._columns["status"][at] = status.at_us
            self._columns["buffered"][at] = status.buffered
            self._said_offline[at] = not status.online
            if status.agent:
                self._agents[at] = status.agent
            self._locate(at, status)
        self._keep_last(arrivals)
        return []

    def _locate(self, at: int, status: DeviceStatus) -> None:
        """Takes over what a status says of the location; a change is reported at once.

        An agent that is there says all that it knows: without a location it has none. A will, or a gateway that only
        heard the device, says nothing of it.
        """
        if status.location is not None:
            told = (status.location.lat, status.location.lon)
        elif status.online and status.agent:
            told = (np.nan, np.nan)
        else:
            return
        if not np.array_equal(self._location[at], told, equal_nan=True):
            self._location[at] = told
            self._columns["reported"][at] = NEVER_US

    def _keep_last(self, arrivals: Arrivals) -> None:
        if not len(arrivals.run_start):
            return
        end = arrivals.run_start + arrivals.run_length - 1
        time, series = arrivals.time_us[end], arrivals.run_series
        order = np.argsort(time, kind="stable")
        newer = order[time[order] >= self._last_us[series[order]]]
        # Of equal places the last assignment stays, which is the newest because times ascend.
        self._last_us[series[newer]] = time[newer]
        self._last_value[series[newer]] = arrivals.value[end[newer]]

    def advance(self, progress: Progress, tables: Sequence[PointTable]) -> list[PointTable]:
        """Reports the devices whose state changed and those whose turn it is."""
        del tables
        count = len(progress.watermark_us)
        self._grow(count, progress.directory.series_count)
        columns = {name: column[:count] for name, column in self._columns.items()}
        alive = np.maximum(columns["heard"], columns["status"])
        is_silent = progress.now_us - alive >= self._offline_after_us
        gone = self._said_offline[:count] & (columns["heard"] <= columns["status"])
        is_bad = progress.now_us - columns["bad"] < self._offline_after_us
        state = np.where(progress.has_holes | (progress.unknown > 0) | is_bad, DEGRADED, ONLINE)
        state[is_silent | gone] = OFFLINE
        due = (state != columns["state"]) | (progress.now_us - columns["reported"] >= self._report_every_us)
        rows = np.flatnonzero(due & (alive != NEVER_US))
        if not len(rows):
            return []
        columns["state"][rows] = state[rows]
        columns["reported"][rows] = progress.now_us
        skews = np.ma.masked_equal(self._skews[rows], _NO_SKEW)
        middle: Any = np.ma.median(skews, axis=1)  # type: ignore[no-untyped-call]
        skew_ms = middle.filled(0).astype(np.int64) // 1000
        return [
            PointTable(
                "device",
                np.full(len(rows), progress.now_us),
                progress.directory.device_tags(rows),
                {
                    "state": state[rows],
                    "online": state[rows] != OFFLINE,
                    "lat": self._location[rows, 0],
                    "lon": self._location[rows, 1],
                    "buffered": columns["buffered"][rows],
                    "skew_ms": skew_ms,
                    "unknown": progress.unknown[rows],
                    "firmware": np.array([self._agents.get(at, "") for at in rows.tolist()], object),
                },
            )
        ]

    def _grow(self, devices: int, series: int) -> None:
        for name, fill in _INTS.items():
            self._columns[name] = grown(self._columns[name], devices, fill)
        self._said_offline = grown(self._said_offline, devices, fill=False)
        self._skews = grown(self._skews, devices, _NO_SKEW)
        self._location = grown(self._location, devices, np.nan)
        self._last_us = grown(self._last_us, series, NEVER_US)
        self._last_value = grown(self._last_value, series, 0)

    def snapshot(self) -> bytes:
        """All of it."""
        values: dict[str, Any] = dict(self._columns)
        values |= {"said_offline": self._said_offline, "skews": self._skews, "location": self._location}
        values |= {"last_us": self._last_us, "last_value": self._last_value}
        values["agents"] = [[at, agent] for at, agent in self._agents.items()]
        return pack(_VERSION, values)

    def restore(self, data: bytes) -> None:
        """Becomes the twin that gave `data`; snapshots from before there were locations have none."""
        state = unpack(data, _VERSION)
        self._columns = {name: state[name] for name in _INTS}
        self._said_offline, self._skews = state["said_offline"], state["skews"]
        self._last_us, self._last_value = state["last_us"], state["last_value"]
        self._location = state.get("location", np.empty((0, 2), np.float64))
        self._agents = dict(state["agents"])
