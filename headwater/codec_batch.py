"""Many payloads to one batch: what the gateway decodes with (contracts §6, §9).

    arrivals ─ open_body ─▶ bodies ─ many: scan_heads ────────┬─▶ heads ─ read_cells ─▶ columns ─ time ─▶ Batch
                                   └ few, or odd: read_head ──┘
                   └──────────────────────┴───────────────────────┴──────────────────┴──▶ Reject, with a reason

A bad payload never costs another one its place: what is wrong with it is noted and the rest is decoded without it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import numpy as np

from headwater.batch import Batch
from headwater.batch_build import batch_from_columns, batch_from_frames, concat_batches
from headwater.envelope import open_body, parse_body
from headwater.errors import DecodeError
from headwater.frame import Int32, Int64
from headwater.frame_columns import FrameColumns, read_cells
from headwater.frame_heads import BlockHeads, Head, Heads, gather, read_head
from headwater.frame_scan import scan_heads
from headwater.instant import TIME_MAX_US, TIME_MIN_US, US_PER_S, format_utc
from headwater.quality import MISSING
from headwater.reasons import DeadLetterReason

FUTURE_MAX_US: Final = 300 * US_PER_S
# Frames are decoded in portions of this many cells, so that a heap of constant columns can't claim the memory at once.
CELLS_MAX: Final = 1 << 19
# What messages may hold together once they are inflated: a megabyte of notes claims no cells.
BODIES_BYTES_MAX: Final = 16 * 1024 * 1024
# From so many messages on, reading them all at once costs less than one by one.
SCAN_MIN: Final = 96


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
    """What became of the next `taken` arrivals."""

    batch: Batch
    rejects: list[Reject]
    taken: int


def decode_batch(
    arrivals: Sequence[Arrival], *, shard: int, made_us: int, future_max_us: int = FUTURE_MAX_US
) -> tuple[Batch, list[Reject]]:
    """Decodes payloads of one shard into a batch, in the order of arrival.

    Gives what `batch_from_frames` gives for the frames that `decode_frame` reads, checked for identity and time too.
    What it returns is as large as the payloads claim; `decode_portions` bounds that.

    Args:
        arrivals: payloads with the identity of their topic.
        shard: of the batch.
        made_us: of the batch.
        future_max_us: how far behind its receipt an event time may lie.

    Returns:
        The batch and the rejects, ascending by index. Never raises for what a payload holds.
    """
    batches, rejects, taken = [batch_from_frames([], shard=shard, made_us=made_us)], [], 0
    for portion in decode_portions(arrivals, shard=shard, made_us=made_us, future_max_us=future_max_us):
        batches.append(portion.batch)
        rejects += [replace(reject, index=reject.index + taken) for reject in portion.rejects]
        taken += portion.taken
    return concat_batches(batches[1:] or batches), rejects


def decode_portions(
    arrivals: Sequence[Arrival],
    *,
    shard: int,
    made_us: int,
    cells_max: int = CELLS_MAX,
    future_max_us: int = FUTURE_MAX_US,
) -> Iterator[Portion]:
    """Decodes arrivals in order, in portions that claim at most `cells_max` cells each, or hold one frame.

    A hundred bytes may claim 64 Ki readings, so the claims are added up before anything is decoded. Each portion counts
    its arrivals from 0.
    """
    if not arrivals:
        return
    came = _Came.of(arrivals)
    at = 0
    while at < len(arrivals):
        opened = _open(came, at)
        at = opened.end
        for part in _parts(opened, came, cells_max):
            columns = None if part.scanned is None else _read_scanned(part, came, future_max_us)
            if columns is None:
                yield from _read_each(part, came, cells_max, shard=shard, made_us=made_us, future_max_us=future_max_us)
            else:
                yield _portion(part, columns, came, shard=shard, made_us=made_us)


@dataclass(frozen=True, slots=True, eq=False)
class _Came:
    """Arrivals as columns: site and device, payload, its size, when."""

    devices: list[tuple[str, str]]
    payloads: tuple[bytes, ...]
    payload_bytes: Int32
    received_us: Int64

    @classmethod
    def of(cls, arrivals: Sequence[Arrival]) -> "_Came":
        sites, devices, payloads, received_us = zip(*arrivals, strict=True)
        size = np.fromiter(map(len, payloads), np.int32, len(payloads))
        return cls(list(zip(sites, devices, strict=True)), payloads, size, np.array(received_us, np.int64))


@dataclass(frozen=True, slots=True)
class _Opened:
    """The messages of `arrivals[start:end]`.

    Attributes:
        start, end: which arrivals.
        indices: whose the messages are, k.
        bodies: k messages.
        rejects: what could not be opened.
        scanned: the heads of all of them, where they could be read at once.
    """

    start: int
    end: int
    indices: list[int]
    bodies: list[bytes]
    rejects: list[Reject]
    scanned: tuple[Heads, BlockHeads] | None = None


def _open(came: _Came, start: int) -> _Opened:
    """Opens payloads until their messages hold BODIES_BYTES_MAX."""
    indices: list[int] = []
    bodies: list[bytes] = []
    rejects: list[Reject] = []
    held_bytes, end = 0, len(came.payloads)
    for index in range(start, end):
        try:
            body = open_body(came.payloads[index])
        except DecodeError as error:
            rejects.append(Reject(index, error.reason, error.detail))
            continue
        indices.append(index)
        bodies.append(body)
        held_bytes += len(body)
        if held_bytes >= BODIES_BYTES_MAX:
            end = index + 1
            break
    return _Opened(start, end, indices, bodies, rejects)


def _parts(opened: _Opened, came: _Came, cells_max: int) -> Iterator[_Opened]:
    """Reads the heads of all messages at once and cuts them where `cells_max` says; all in one part where that can't be."""
    scanned = None
    if len(opened.bodies) >= SCAN_MIN:
        scanned = scan_heads(opened.bodies, [came.devices[index] for index in opened.indices])
    if scanned is None:
        yield opened
        return
    heads, blocks = scanned
    claimed = np.cumsum(heads.cells)
    lo, count = 0, len(heads)
    start = opened.start
    while lo < count:
        before = int(claimed[lo - 1]) if lo else 0
        hi = max(int(np.searchsorted(claimed, before + cells_max, side="right")), lo + 1)
        end = opened.indices[hi] if hi < count else opened.end
        yield _Opened(
            start,
            end,
            opened.indices[lo:hi],
            opened.bodies[lo:hi],
            [reject for reject in opened.rejects if start <= reject.index < end],
            scanned if hi - lo == count else (heads[lo:hi], blocks[lo:hi]),
        )
        lo, start = hi, end


def _read_scanned(part: _Opened, came: _Came, future_max_us: int) -> FrameColumns | None:
    """Decodes a part whose heads were read at once; None if one of its frames needs a look of its own."""
    assert part.scanned is not None
    columns, _ = read_cells(*part.scanned)
    if columns is None or _time_errors(columns, came.received_us[part.indices] + future_max_us):
        return None
    return columns


def _read_each(
    part: _Opened, came: _Came, cells_max: int, *, shard: int, made_us: int, future_max_us: int
) -> Iterator[Portion]:
    """Reads the messages of a part one by one and says what is wrong with which."""
    start, heads, cells = part.start, list[Head](), 0
    indices: list[int] = []
    rejects = list(part.rejects)

    def portion(end: int) -> Portion:
        of_these = [reject for reject in rejects if start <= reject.index < end]
        chosen = _Opened(start, end, indices, [], of_these)
        columns = _read_good(heads, chosen, came, future_max_us)
        return _portion(chosen, columns, came, shard=shard, made_us=made_us)

    for index, body in zip(part.indices, part.bodies, strict=True):
        site, device = came.devices[index]
        message: Any = None
        try:
            message = parse_body(body)
            head = read_head(message)
        except DecodeError as error:
            epoch, seq = (0, 0) if message is None else (message.epoch, message.seq)
            rejects.append(Reject(index, error.reason, error.detail, epoch, seq))
            continue
        if head.site != site or head.device != device:
            detail = f"the payload is of {head.site}/{head.device}, its topic of {site}/{device}"
            rejects.append(_reject(index, head, DeadLetterReason.IDENTITY, detail))
            continue
        cells += head.cells
        if cells > cells_max and heads:
            yield portion(index)
            start, heads, indices, cells = index, [], [], head.cells
        indices.append(index)
        heads.append(head)
    yield portion(part.end)


def _portion(part: _Opened, columns: FrameColumns, came: _Came, *, shard: int, made_us: int) -> Portion:
    """Makes the batch of a part, and counts its rejects from 0."""
    _note_not_finite(columns, part.indices, part.rejects)
    batch = batch_from_columns(
        columns, came.received_us[part.indices], came.payload_bytes[part.indices], shard=shard, made_us=made_us
    )
    rejects = [replace(reject, index=reject.index - part.start) for reject in sorted(part.rejects, key=_index_of)]
    return Portion(batch, rejects, part.end - part.start)


def _read_good(heads: list[Head], part: _Opened, came: _Came, future_max_us: int) -> FrameColumns:
    """Decodes the heads; takes those that turn out bad off `heads` and the part's indices, and notes them."""
    while True:
        columns, errors = read_cells(*gather(heads))
        if columns is not None:
            errors = _time_errors(columns, came.received_us[part.indices] + future_max_us)
        if not errors:
            break
        for place in sorted(errors, reverse=True):
            error = errors[place]
            part.rejects.append(_reject(part.indices.pop(place), heads.pop(place), error.reason, error.detail))
    assert columns is not None
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
    for place, notes in columns.heads.notes.items():
        for anomaly in notes.anomalies:
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
        number, epoch, seq = int(count[place]), int(columns.heads.epoch[place]), int(columns.heads.seq[place])
        detail = f"{number} readings are not finite"
        rejects.append(Reject(indices[place], DeadLetterReason.NOT_FINITE, detail, epoch, seq, number))


def _reject(index: int, head: Head, reason: DeadLetterReason, detail: str) -> Reject:
    readings = sum(len(block.metrics) * block.rows - block.quality.count(MISSING) for block in head.blocks)
    return Reject(index, reason, detail, head.epoch, head.seq, readings)


def _index_of(reject: Reject) -> int:
    return reject.index
