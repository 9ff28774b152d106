"""A frame: what a device sends in one MQTT message, as columns.

`headwater.codec` turns a frame into bytes and back; the edge agent builds frames; `headwater.batch` holds many.
"""

from dataclasses import dataclass, field
from typing import Self

import numpy as np
import numpy.typing as npt

from headwater.quality import MISSING
from headwater.reasons import ClockQuality, GapReason, Severity

Int64 = npt.NDArray[np.int64]
Int32 = npt.NDArray[np.int32]
UInt8 = npt.NDArray[np.uint8]
Float64 = npt.NDArray[np.float64]

RAW_BYTES_MAX = 256 * 1024
INFLATED_BYTES_MAX = 1024 * 1024
READINGS_MAX = 65_536


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """One time axis shared by m metrics: n time stamps, an m × n table of values.

    Attributes:
        metrics: m names, unique within the block.
        time_us: int64 (n,), event times; strictly ascending.
        value: float64 (m, n), C order; undefined (NaN by habit) where the quality is MISSING.
        quality: uint8 (m, n), or None where every reading is good.
        reductions: per metric how the agent reduced it: "raw", "deadband:0.5", "swing:0.05", "burst" (raw samples
            kept around an anomaly); () means raw for all.
        rate_hz: for a waveform the sampling rate; then `time_us[i] == time_us[0] + floor(i * 1e6 / rate_hz)`.
    """

    metrics: tuple[str, ...]
    time_us: Int64
    value: Float64
    quality: UInt8 | None = None
    reductions: tuple[str, ...] = ()
    rate_hz: float | None = None

    def __post_init__(self) -> None:
        m, n = len(self.metrics), len(self.time_us)
        assert self.value.shape == (m, n), f"value {self.value.shape} is not ({m}, {n})"
        assert self.quality is None or self.quality.shape == (m, n)
        assert not self.reductions or len(self.reductions) == m

    @property
    def reading_count(self) -> int:
        """Readings in the block: cells that are not MISSING."""
        if self.quality is None:
            return self.value.size
        return int(np.count_nonzero(self.quality != MISSING))


@dataclass(frozen=True, slots=True, eq=False)
class Summaries:
    """Panes, a row each, as columns; `sketch_*` are ragged and empty where no quantiles were asked for.

    Attributes:
        metrics: dictionary of names.
        metric: int32 (n,), index into `metrics`.
        start_us, width_us: int64 (n,), the pane `[start, start + width)`.
        count: int64 (n,), readings in it, at least 1.
        mean, m2, min, max, first, last: float64 (n,); m2 is the sum of squared distances from the mean.
        first_us, last_us: int64 (n,), event times of `first` and `last`.
        sketch_start: int64 (n + 1,), row i owns `[sketch_start[i], sketch_start[i + 1])` of the two below.
        sketch_key: int32 (k,), bucket of `headwater.sketch`, ascending within a row.
        sketch_count: int64 (k,).
    """

    metrics: tuple[str, ...]
    metric: Int32
    start_us: Int64
    width_us: Int64
    count: Int64
    mean: Float64
    m2: Float64
    min: Float64
    max: Float64
    first: Float64
    last: Float64
    first_us: Int64
    last_us: Int64
    sketch_start: Int64
    sketch_key: Int32
    sketch_count: Int64

    def __len__(self) -> int:
        return len(self.metric)

    @classmethod
    def empty(cls) -> Self:
        """No rows."""
        i8, f8, i4 = np.empty(0, np.int64), np.empty(0), np.empty(0, np.int32)
        return cls((), i4, i8, i8, i8, f8, f8, f8, f8, f8, f8, i8, i8, np.zeros(1, np.int64), i4, i8)


@dataclass(frozen=True, slots=True)
class Anomaly:
    """What a detector saw in one metric.

    Attributes:
        metric: name.
        time_us: event time of the onset (or of the clearing).
        detector: "level", "change", "stuck", "dropout", "range", "rate", …
        severity: how much it asks of people.
        is_onset: True when it begins, False when it clears.
        score: how far beyond the detector's limit, in its own unit (1 = at the limit).
        value, expected, lo, hi: the reading and the band it should have been in, in the metric's unit.
        message: one short sentence for people; never markup.
    """

    metric: str
    time_us: int
    detector: str
    severity: Severity
    is_onset: bool
    score: float
    value: float
    expected: float
    lo: float
    hi: float
    message: str = ""


@dataclass(frozen=True, slots=True)
class Gap:
    """Frames of this device that were given up: a declaration, itself in a sequenced frame.

    Attributes:
        epoch: the epoch of the lost frames (may be an earlier one than that of the declaring frame).
        from_seq, to_seq: inclusive; `to_seq` 0 means unknown, "and all after `from_seq` of that epoch".
        reason: why.
        readings: how many readings they held, -1 if unknown.
        declared_us: device time of the decision.
    """

    epoch: int
    from_seq: int
    to_seq: int
    reason: GapReason
    readings: int
    declared_us: int


@dataclass(frozen=True, slots=True)
class Ledger:
    """The device's account of readings since the frame before: acquired = in this frame + the rest.

    Attributes:
        acquired: readings that sources delivered.
        suppressed: left out by deadband or swing, within the promised error.
        aggregated: represented by summaries.
        dropped: given up, by DropReason.
    """

    acquired: int = 0
    suppressed: int = 0
    aggregated: int = 0
    dropped: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One MQTT message of a device.

    Attributes:
        site, device: names.
        epoch: random 64-bit number drawn with the spool file.
        seq: 1, 2, 3 … within the epoch.
        created_us: device time of making it.
        clock: how far that clock can be trusted.
        oldest_seq: lowest seq of this epoch that the spool still holds, this frame included; all below were
            acknowledged or declared as gaps.
        blocks, summaries, anomalies, gaps, ledger: see there.
    """

    site: str
    device: str
    epoch: int
    seq: int
    created_us: int
    clock: ClockQuality
    oldest_seq: int = 1
    blocks: tuple[Block, ...] = ()
    summaries: Summaries = field(default_factory=Summaries.empty)
    anomalies: tuple[Anomaly, ...] = ()
    gaps: tuple[Gap, ...] = ()
    ledger: Ledger = field(default_factory=Ledger)

    @property
    def reading_count(self) -> int:
        """Readings in all blocks (summaries are counted by the ledger)."""
        return sum(block.reading_count for block in self.blocks)
