"""Small integers for devices, metrics and series (a metric of a device), in the order in which a shard met them.

Operators hold their state in arrays that these integers address directly. The same records give the same integers.
"""

from collections.abc import Sequence
from itertools import compress
from typing import Any, Generic, Self, TypeVar

import numpy as np

from headwater.column_order import grown
from headwater.frame import Int32, Int64
from headwater.points import TagColumn

_T = TypeVar("_T")
_CELLS_MAX = 1 << 24


class Dictionary(Generic[_T]):
    """Numbers values by first appearance.

    >>> names = Dictionary(["a"])
    >>> names.ids(("b", "a")).tolist(), names.values
    ([1, 0], ['a', 'b'])
    """

    __slots__ = ("_id", "_last", "_last_ids", "values")

    def __init__(self, values: Sequence[_T] = ()) -> None:
        self.values = list(values)
        self._id = {value: number for number, value in enumerate(self.values)}
        self._last: tuple[_T, ...] = ()
        self._last_ids: Int32 = np.empty(0, np.int32)

    def __len__(self) -> int:
        return len(self.values)

    def id(self, value: _T) -> int:
        """The number of one value, a new one if it is new."""
        number = self._id.get(value)
        if number is None:
            number = self._id[value] = len(self.values)
            self.values.append(value)
        return number

    def ids(self, values: tuple[_T, ...]) -> Int32:
        """int32 numbers of many values; O(1) if they are those of the call before."""
        if values != self._last:
            self._last_ids = np.fromiter((self.id(value) for value in values), np.int32, len(values))
            self._last = values
        return self._last_ids


class Directory:
    """The devices, metrics and series of one shard.

    Attributes:
        devices: (site, device) by number.
        metrics: names by number.
    """

    def __init__(self) -> None:
        self.devices: Dictionary[tuple[str, str]] = Dictionary()
        self.metrics: Dictionary[str] = Dictionary()
        self._sites: Dictionary[str] = Dictionary()
        self._names: Dictionary[str] = Dictionary()
        self._codes = np.empty((0, 2), np.int32)
        self._coded = 0
        self._keys: Int64 = np.empty(0, np.int64)
        self._sorted: Int64 = np.empty(0, np.int64)
        self._order: Int64 = np.empty(0, np.int64)
        self._table: Int32 = np.full((0, 0), -1, np.int32)

    @property
    def series_count(self) -> int:
        """How many series there are; their numbers are below."""
        return len(self._keys)

    @property
    def device_of_series(self) -> Int64:
        """int64 (series,), device numbers."""
        return self._keys >> 32

    @property
    def metric_of_series(self) -> Int64:
        """int64 (series,), metric numbers."""
        return self._keys & 0xFFFFFFFF

    def device_tags(self, device: Int64) -> dict[str, TagColumn]:
        """The tags site and device of n rows of device numbers."""
        count = len(self.devices)
        if self._coded < count:
            self._codes = grown(self._codes, count, 0)
            fresh = self.devices.values[self._coded :]
            self._codes[self._coded : count] = [(self._sites.id(site), self._names.id(name)) for site, name in fresh]
            self._coded = count
        site, name = self._codes[device].T
        return {"site": _tag(self._sites.values, site), "device": _tag(self._names.values, name)}

    def series_tags(self, series: Int64) -> dict[str, TagColumn]:
        """The tags site, device and metric of n rows of series numbers."""
        keys = self._keys[series]
        return self.device_tags(keys >> 32) | {"metric": _tag(self.metrics.values, keys & 0xFFFFFFFF)}

    def series(self, device: Int32, metric: Int32) -> Int32:
        """int32 (n,), the numbers of n (device, metric) pairs, new ones by first appearance.

        One gather per pair while the table of all pairs stays below 2^24 cells, else a sort of the pairs.
        """
        if len(self.devices) * len(self.metrics) > _CELLS_MAX:
            keys, inverse = np.unique(device.astype(np.int64) << 32 | metric, return_inverse=True)
            return self._lookup(keys)[inverse]
        self._grow()
        found = self._table[device, metric]
        if len(found) and found.min() < 0:
            keys = device[found < 0].astype(np.int64) << 32 | metric[found < 0]
            _, first = np.unique(keys, return_index=True)
            self._add(keys[np.sort(first)])
            found = self._table[device, metric]
        return found

    def _grow(self) -> None:
        rows, columns = self._table.shape
        if rows >= len(self.devices) and columns >= len(self.metrics):
            return
        wide = np.full((len(self.devices) * 5 // 4 + 8, len(self.metrics) * 5 // 4 + 8), -1, np.int32)
        wide[:rows, :columns] = self._table
        self._table = wide

    def _lookup(self, keys: Int64) -> Int32:
        """Numbers of distinct keys, without the table."""
        at = np.minimum(np.searchsorted(self._sorted, keys), max(len(self._sorted) - 1, 0))
        is_new = self._sorted[at] != keys if len(self._sorted) else np.ones(len(keys), bool)
        if is_new.any():
            self._add(keys[is_new])
            at = np.searchsorted(self._sorted, keys)
        return self._order[at].astype(np.int32)

    def _add(self, keys: Int64) -> None:
        start = len(self._keys)
        self._keys = np.concatenate([self._keys, keys])
        self._order = np.argsort(self._keys, kind="stable")
        self._sorted = self._keys[self._order]
        if self._table.size and len(self.devices) * len(self.metrics) <= _CELLS_MAX:
            self._table[keys >> 32, keys & 0xFFFFFFFF] = np.arange(start, len(self._keys), dtype=np.int32)

    def state(self) -> dict[str, Any]:
        """What `restore` needs, for a snapshot."""
        return {
            "devices": [list(pair) for pair in self.devices.values],
            "metrics": list(self.metrics.values),
            "series_keys": self._keys,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """The directory that `state` describes."""
        directory = cls()
        directory.devices = Dictionary([(site, device) for site, device in state["devices"]])
        directory.metrics = Dictionary(state["metrics"])
        directory._grow()
        directory._add(state["series_keys"])
        return directory


def _tag(names: list[str], code: Int32 | Int64) -> TagColumn:
    """A column of the names that really occur."""
    occurs = np.zeros(len(names), bool)
    occurs[code] = True
    place = np.cumsum(occurs, dtype=np.int32) - np.int32(1)
    return TagColumn(tuple(compress(names, occurs.tolist())), place[code])
