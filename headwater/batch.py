"""A batch: many frames of one shard as columns, the unit of the log and of every operator (contracts §6).

A row is a frame; its readings lie together, block by block and metric by metric (each metric's readings ascend in
time), so runs of one series are long. `headwater.batch_arrow` writes it as Arrow IPC and reads it back.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from headwater.frame import Anomaly, Float64, Gap, Int32, Int64, Summaries, UInt8
from headwater.location import Location

UInt64 = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """A change of presence, in the order in which the gateway saw it.

    Attributes:
        site, device: names.
        at_us: the gateway's time of the change.
        online: connected or not.
        epoch: the device's epoch, 0 if unknown.
        assigned: highest seq that the device said it assigned, 0 if unknown.
        buffered: frames waiting in its spool, 0 if unknown.
        agent: agent version, "" if unknown.
        location: where it said it stands, None if it did not.
    """

    site: str
    device: str
    at_us: int
    online: bool
    epoch: int = 0
    assigned: int = 0
    buffered: int = 0
    agent: str = ""
    location: Location | None = None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Something that could not be admitted, with its reason and the original bytes.

    Attributes:
        at_us: when.
        reason: a DeadLetterReason.
        stage: "gateway", "processor" or "store".
        source: MQTT topic, log position or measurement it came from.
        detail: one sentence for people.
        site, device, epoch, seq: identity as far as it is known ("" and 0 where not).
        readings: how many readings it held, 0 if unknown.
        payload: original bytes, cut at 64 KiB (in a batch at 1 KiB).
    """

    at_us: int
    reason: str
    stage: str
    source: str
    detail: str
    site: str = ""
    device: str = ""
    epoch: int = 0
    seq: int = 0
    readings: int = 0
    payload: bytes = b""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """k frames with n readings of one shard.

    Attributes:
        shard: the partition.
        devices: dictionary of (site, device).
        metrics: dictionary of metric names (for readings).
        device: int32 (k,), index into `devices`.
        epoch, seq: uint64, int64 (k,), the frame's identity with the device; epoch 0 is a foreign frame (JSON):
            no sequence, at-least-once, counted apart.
        received_us: int64 (k,), the gateway's time of receipt.
        created_us: int64 (k,), the device's time of making.
        clock: uint8 (k,), ClockQuality.
        oldest_seq: int64 (k,), see Frame.
        reading_start: int64 (k + 1,), frame i owns `[reading_start[i], reading_start[i + 1])` of the reading columns.
        metric: int32 (n,), index into `metrics`.
        time_us: int64 (n,), event time.
        value: float64 (n,), finite.
        quality: uint8 (n,), never MISSING.
        summary_start: int64 (k + 1,), likewise into `summaries`.
        summaries: panes of all frames.
        anomalies: (frame row, anomaly) pairs in frame order.
        gaps: (frame row, gap) pairs in frame order.
        ledger: int64 (k, 4): acquired, suppressed, aggregated, dropped.
        payload_bytes: int32 (k,), bytes on MQTT.
        dead_letters: what was refused since the batch before; the ones with an identity end that frame's journey.
        statuses: changes of presence since the batch before.
        low_watermark_us: lowest event time that may still come for this shard, the record's time stamp; -1 unknown.
        made_us: the gateway's time of closing the batch: processing time as data.
    """

    shard: int
    devices: tuple[tuple[str, str], ...]
    metrics: tuple[str, ...]
    device: Int32
    epoch: UInt64
    seq: Int64
    received_us: Int64
    created_us: Int64
    clock: UInt8
    oldest_seq: Int64
    reading_start: Int64
    metric: Int32
    time_us: Int64
    value: Float64
    quality: UInt8
    summary_start: Int64
    ledger: Int64
    payload_bytes: Int32
    made_us: int
    summaries: Summaries = field(default_factory=Summaries.empty)
    anomalies: tuple[tuple[int, Anomaly], ...] = ()
    gaps: tuple[tuple[int, Gap], ...] = ()
    dead_letters: tuple[DeadLetter, ...] = ()
    statuses: tuple[DeviceStatus, ...] = ()
    low_watermark_us: int = -1

    def __len__(self) -> int:
        return len(self.seq)

    @property
    def reading_count(self) -> int:
        """Readings in all frames."""
        return len(self.value)

    @property
    def frame_of_reading(self) -> Int32:
        """int32 (n,), the row of the frame that each reading came in; O(n)."""
        return np.repeat(np.arange(len(self), dtype=np.int32), np.diff(self.reading_start))
