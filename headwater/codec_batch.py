"""Many payloads to one batch: what the gateway decodes with (contracts §6, §9).

    arrivals ─ unseal, read_head ─▶ heads ─ read_cells ─▶ columns ─ identity, time ─▶ Batch
                    │                           │                       │
                    └───────────────────────────┴───────────────────────┴──▶ Reject, with a reason

A bad payload never costs another one its place: what is wrong with it is noted and the rest is decoded without it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import numpy as np

from headwater.batch import Batch
from headwater.batch_build import batch_from_columns, concat_batches
from headwater.envelope import unseal
from headwater.errors import DecodeError
from headwater.frame import Int64
from headwater.frame_columns import FrameColumns, Head, read_cells, read_head
from headwater.instant import TIME_MAX_US, TIME_MIN_US, US_PER_S, format_utc
from headwater.quality import MISSING
from headwater.reasons import DeadLetterReason

FUTURE_MAX_US: Final = 300 * US_PER_S
# Frames are decoded in portions of this many cells, so that a heap of constant columns can't claim the memory at once.
CELLS_MAX: Final = 1 << 19


class Arrival(NamedTuple):
    """A payload as it came in; `site` and `device` are those of the MQTT topic."""

    site: str
    device: str
    payload: bytes
    received_us: int


@dataclass(frozen=True, slots=True)
class Reject:
    """What was not admitted of arrival `index`: all of it, or with NOT_FINITE only `readings` of its readings.

    Attributes:
        index: place in the arrivals.
        reason, detail: why.
        epoch, seq: identity; 0 if the payload can't be trusted that far.
        readings: how many readings are not admitted, 0 if unknown.
    """

    index: int
    reason: DeadLetterReason
    detail: str
    epoch: int = 0
    seq: int = 0
    readings: int = 0


class Portion(NamedTuple):
    """What became of the first `taken` arrivals."""

    batch: Batch
    rejects: list[Reject]
    taken: int


def decode_batch(
    arrivals: Sequence[Arrival], *, shard: int, made_us: int, future_max_us: int = FUTURE_MAX_US
) -> tuple[Batch, list[Reject]]:
    """Decodes payloads of one shard into a batch, in the order of arrival.

    Gives what `batch_from_frames` gives for the frames that `decode_frame` reads, checked for identity and time too.
    What it returns is as large as the payloads claim; `decode_portion` bounds that.

    Args:
        arrivals: payloads with the identity of their topic.
        shard: of the batch.
        made_us: of the batch.
        future_max_us: how far behind its receipt an event time may lie.

    Returns:
        The batch and the rejects, ascending by index. Never raises for what a payload holds.
    """
    portion = decode_portion(arrivals, shard=shard, made_us=made_us, future_max_us=future_max_us)
    batches, rejects, taken = [portion.batch], portion.rejects, portion.taken
    while taken < len(arrivals):
        portion = decode_portion(arrivals[taken:], shard=shard, made_us=made_us, future_max_us=future_max_us)
        batches.append(portion.batch)
        rejects += [replace(reject, index=reject.index + taken) for reject in portion.rejects]
        taken += portion.taken
    return concat_batches(batches), rejects


def decode_portion(
    arrivals: Sequence[Arrival],
    *,
    shard: int,
    made_us: int,
    cells_max: int = CELLS_MAX,
    future_max_us: int = FUTURE_MAX_US,
) -> Portion:
    """Decodes arrivals from the first on until the next frame would claim more than `cells_max` cells in all.

    A hundred bytes may claim 64 Ki readings, so the claims are added up before anything is decoded. One frame is always
    taken, and there are at most READINGS_MAX cells in it.
    """
    rejects: list[Reject] = []
    indices: list[int] = []
    heads: list[Head] = []
    taken, cells = len(arrivals), 0
    for index, (site, device, payload, _) in enumerate(arrivals):
        message: Any = None
        try:
            message = unseal(payload)
            head = read_head(message)
        except DecodeError as error:
            epoch, seq = (0, 0) if message is None else (message.epoch, message.seq)
            rejects.append(Reject(index, error.reason, error.detail, epoch, seq))
            continue
        if head[0] != site or head[1] != device:
            detail = f"the payload is of {head.site}/{head.device}, its topic of {site}/{device}"
            rejects.append(_reject(index, head, DeadLetterReason.IDENTITY, detail))
            continue
        cells += head.cells
        if cells > cells_max and heads:
            taken = index
            break
        indices.append(index)
        heads.append(head)
    columns = _read_good(heads, indices, arrivals, future_max_us, rejects)
    received_us = np.array([arrivals[index].received_us for index in indices], np.int64)
    payload_bytes = np.array([len(arrivals[index].payload) for index in indices], np.int32)
    batch = batch_from_columns(columns, received_us, payload_bytes, shard=shard, made_us=made_us)
    rejects.sort(key=_index_of)
    return Portion(batch, rejects, taken)


def _read_good(
    heads: list[Head], indices: list[int], arrivals: Sequence[Arrival], future_max_us: int, rejects: list[Reject]
) -> FrameColumns:
    """Decodes the heads; takes those that turn out bad off `heads` and `indices` and notes them."""
    while True:
        columns, errors = read_cells(heads)
        if columns is not None:
            received_us = np.array([arrivals[index].received_us for index in indices], np.int64)
            errors = _time_errors(columns, received_us + future_max_us)
        if not errors:
            break
        for place in sorted(errors, reverse=True):
            error = errors[place]
            rejects.append(_reject(indices.pop(place), heads.pop(place), error.reason, error.detail))
    assert columns is not None
    _note_not_finite(columns, indices, rejects)
    return columns


def _time_errors(columns: FrameColumns, limit_us: Int64) -> dict[int, DecodeError]:
    """Finds the frames with an event time outside of `[TIME_MIN_US, min(TIME_MAX_US, limit_us[frame])]`."""
    limit_us = np.minimum(limit_us, TIME_MAX_US)
    axis_end = np.cumsum(columns.block_rows)
    first, last = columns.time_us[axis_end - columns.block_rows], columns.time_us[axis_end - 1]
    wrong = (first < TIME_MIN_US) | (last > limit_us[columns.block_frame])
    errors: dict[int, DecodeError] = {}
    for at in np.flatnonzero(wrong).tolist():
        place = int(columns.block_frame[at])
        errors.setdefault(place, _time_error(int(first[at]), int(last[at])))
    for place, head in enumerate(columns.heads):
        for anomaly in head.anomalies:
            if not TIME_MIN_US <= anomaly.time_us <= limit_us[place]:
                errors.setdefault(place, _time_error(anomaly.time_us, anomaly.time_us))
    panes = columns.panes
    owner = np.repeat(np.arange(len(columns.heads)), columns.pane_rows)
    for row in np.flatnonzero((panes.start_us < TIME_MIN_US) | (panes.last_us > limit_us[owner])).tolist():
        errors.setdefault(int(owner[row]), _time_error(int(panes.start_us[row]), int(panes.last_us[row])))
    return errors


def _time_error(first_us: int, last_us: int) -> DecodeError:
    near = first_us > TIME_MIN_US // 2 and last_us < 2 * TIME_MAX_US
    text = f"{format_utc(first_us)} to {format_utc(last_us)}" if near else f"{first_us} to {last_us} µs"
    return DecodeError(DeadLetterReason.TIME_RANGE, f"event times {text} lie before 2000 or too far ahead of receipt")


def _note_not_finite(columns: FrameColumns, indices: list[int], rejects: list[Reject]) -> None:
    wrong = ~np.isfinite(columns.value)
    if not wrong.any():
        return
    if columns.quality is not None:
        wrong &= columns.quality != MISSING
    cell_start = np.zeros(len(columns.block_rows) + 1, np.int64)
    np.cumsum(columns.block_rows * columns.block_width, out=cell_start[1:])
    block = np.searchsorted(cell_start, np.flatnonzero(wrong), side="right") - 1
    count = np.bincount(columns.block_frame[block], minlength=len(columns.heads))
    for place in np.flatnonzero(count).tolist():
        head, number = columns.heads[place], int(count[place])
        detail = f"{number} readings are not finite"
        rejects.append(Reject(indices[place], DeadLetterReason.NOT_FINITE, detail, head.epoch, head.seq, number))


def _reject(index: int, head: Head, reason: DeadLetterReason, detail: str) -> Reject:
    readings = sum(len(block.metrics) * block.rows - block.quality.count(MISSING) for block in head.blocks)
    return Reject(index, reason, detail, head.epoch, head.seq, readings)


def _index_of(reject: Reject) -> int:
    return reject.index
