"""What goes to a store: tables of points as columns (contracts §8).

A point's identity is (measurement, tags, time): writing it again is harmless.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from headwater.batch import Batch, DeadLetter
from headwater.frame import Int32, Int64

MEASUREMENT_TAGS: dict[str, tuple[str, ...]] = {
    "telemetry": ("site", "device", "metric"),
    "window": ("site", "device", "metric", "window"),
    "anomaly": ("site", "device", "metric", "detector", "severity"),
    "health": ("site", "device", "component"),
    "device": ("site", "device"),
    "alert": ("site", "device", "rule", "severity"),
    "pipeline": ("stage", "instance"),
}
MEASUREMENT_FIELDS: dict[str, dict[str, str]] = {
    "telemetry": {"value": "float", "min": "float", "max": "float", "std": "float", "count": "int"},
    "window": {
        **dict.fromkeys(("mean", "min", "max", "std", "p50", "p95", "p99"), "float"),
        **dict.fromkeys(("count", "late", "revision"), "int"),
    },
    "anomaly": {**dict.fromkeys(("score", "value", "expected", "lo", "hi"), "float"), "message": "string"},
    "health": {**dict.fromkeys(("health", "rul_h", "rul_lo", "rul_hi", "p_fail"), "float"), "model": "string"},
    "device": {
        "state": "int",
        "online": "bool",
        **dict.fromkeys(("lat", "lon"), "float"),
        **dict.fromkeys(("buffered", "skew_ms", "unknown"), "int"),
        "firmware": "string",
    },
    "alert": {"state": "string", "value": "float", "message": "string"},
    "pipeline": {
        **dict.fromkeys(("messages", "readings", "bytes", "errors", "retries", "dead_letters", "late", "lag"), "int"),
        **dict.fromkeys(("p50_ms", "p95_ms", "p99_ms", "watermark_delay_s"), "float"),
    },
}


@dataclass(frozen=True, slots=True, eq=False)
class TagColumn:
    """A tag as a dictionary and int32 (n,) codes into it."""

    dictionary: tuple[str, ...]
    code: Int32

    def strings(self) -> list[str]:
        """The n tag values as strings."""
        return [self.dictionary[code] for code in self.code.tolist()]


@dataclass(frozen=True, slots=True, eq=False)
class PointTable:
    """n points of one measurement.

    Attributes:
        measurement: a key of MEASUREMENT_TAGS.
        time_us: int64 (n,).
        tags: every tag of the measurement, in its order.
        fields: float64, int64 or bool arrays (n,), or object arrays of str; float NaN means no such field.
    """

    measurement: str
    time_us: Int64
    tags: dict[str, TagColumn]
    fields: dict[str, npt.NDArray[Any]]

    def __post_init__(self) -> None:
        assert tuple(self.tags) == MEASUREMENT_TAGS[self.measurement], f"{self.measurement}: tags {tuple(self.tags)}"
        assert set(self.fields) <= set(MEASUREMENT_FIELDS[self.measurement]), f"{self.measurement}: unknown field"
        assert all(len(column) == len(self.time_us) for column in self.fields.values())

    def __len__(self) -> int:
        return len(self.time_us)


def tag_column(values: list[str]) -> TagColumn:
    """Codes a list of n strings by first appearance.

    >>> tag_column(["a", "b", "a"]).code.tolist()
    [0, 1, 0]
    """
    codes: dict[str, int] = {}
    code = np.fromiter((codes.setdefault(value, len(codes)) for value in values), np.int32, len(values))
    return TagColumn(tuple(codes), code)


@dataclass(frozen=True, slots=True)
class DeviceAccount:
    """Where the frames of one device and epoch are: assigned = stored + dead + gap + in flight + unknown.

    Attributes:
        site, device, epoch: whose.
        contiguous: all frames up to here ended somewhere (stored, dead-lettered or in a declared gap).
        ranges: inclusive ranges above `contiguous` that did too.
        assigned: highest seq known to be assigned.
        stored, dead_lettered, gap, in_flight, unknown: frames; `unknown` must be 0.
        readings_stored: readings in the stored frames.
        acquired, suppressed, aggregated, dropped: readings, from the device's ledgers.
        duplicates: frames that came again and were recognised.
    """

    site: str
    device: str
    epoch: int
    contiguous: int
    ranges: tuple[tuple[int, int], ...]
    assigned: int
    stored: int
    dead_lettered: int
    gap: int
    in_flight: int
    unknown: int
    readings_stored: int
    acquired: int
    suppressed: int
    aggregated: int
    dropped: int
    duplicates: int


@dataclass(frozen=True, slots=True, eq=False)
class StoreWrite:
    """What a processor hands to the store in one call; the store takes all of it or none.

    Attributes:
        telemetry: admitted and deduplicated frames, in order; the store keeps each frame's readings and
            summaries once, by (site, device, epoch, seq).
        tables: points of the other measurements; a higher `revision` of a window replaces a lower one.
        accounts: the current account of each device and epoch that changed.
        dead_letters: what the processor could not admit.
        positions: {(log incarnation, log topic, partition): next offset to read}.
    """

    telemetry: tuple[Batch, ...] = ()
    tables: tuple[PointTable, ...] = ()
    accounts: tuple[DeviceAccount, ...] = ()
    dead_letters: tuple[DeadLetter, ...] = ()
    positions: dict[tuple[str, str, int], int] = field(default_factory=dict)
