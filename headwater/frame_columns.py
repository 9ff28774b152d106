"""Many frames as one set of columns: the common middle between frame messages, Frame objects and batches.

    payloads ─ unseal ─▶ messages ─ read_head ─▶ heads ─ read_cells ─▶ FrameColumns ─▶ Frame, Batch

What runs per frame is a handful of field reads (`read_head`); everything per reading is numpy over all frames.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from headwater.columns import decode_integers, lay_out, ragged_arange, starts_of, values_of
from headwater.errors import DecodeError
from headwater.frame import READINGS_MAX, Anomaly, Float64, Gap, Int64, Summaries, UInt8
from headwater.frame_records import LEDGER_MAX, NUMBER_MAX, read_anomalies, read_drops, read_gaps
from headwater.instant import US_PER_S
from headwater.name_table import is_name_cached, split_names, split_reductions
from headwater.panes import PANE_COLUMNS, SKETCH_COLUMNS, PanesHead, check_panes, panes_from_cells
from headwater.quality import MISSING
from headwater.reasons import ClockQuality, DeadLetterReason

BLOCKS_MAX: Final = 1024
_TIME_MAX: Final = 1 << 61
_CLOCKS: Final = len(ClockQuality)
_NO_PANES: Final = Summaries.empty()


class BlockHead(NamedTuple):
    """A block before its columns are decoded."""

    metrics: tuple[str, ...]
    rows: int
    start_us: int
    unit_us: int
    step: int
    columns: bytes
    quality: bytes
    reductions: tuple[str, ...]
    rate_hz: float


class Head(NamedTuple):
    """A frame before its columns are decoded; `cells` bounds what decoding them takes.

    `ledger` is acquired, suppressed and aggregated; `dropped` pairs of reason and readings.
    """

    site: str
    device: str
    epoch: int
    seq: int
    created_us: int
    clock: int
    oldest_seq: int
    ledger: tuple[int, int, int]
    dropped: tuple[tuple[str, int], ...]
    cells: int
    blocks: tuple[BlockHead, ...]
    panes: PanesHead | None
    anomalies: tuple[Anomaly, ...]
    gaps: tuple[Gap, ...]


# A named tuple's own constructor costs three times as much, and these two are made per frame.
_head: Final[Callable[[tuple[object, ...]], Head]] = partial(tuple.__new__, Head)
_block: Final[Callable[[tuple[object, ...]], BlockHead]] = partial(tuple.__new__, BlockHead)


@dataclass(frozen=True, slots=True, eq=False)
class FrameColumns:
    """k frames with b blocks, t block rows and n cells.

    Attributes:
        heads: k heads.
        block_frame: int64 (b,), the frame of each block.
        block_metrics: b tuples of names.
        block_rows, block_width: int64 (b,), time stamps and metrics of each block.
        time_us: int64 (t,), the blocks' time axes.
        value: float64 (n,), cells block by block and metric by metric; NaN where the quality is MISSING.
        quality: uint8 (n,), None where all cells are good.
        panes: k summaries.
    """

    heads: Sequence[Head]
    block_frame: Int64
    block_metrics: Sequence[tuple[str, ...]]
    block_rows: Int64
    block_width: Int64
    time_us: Int64
    value: Float64
    quality: UInt8 | None
    panes: Sequence[Summaries]


def read_head(message: Any) -> Head:
    """Reads everything of a frame message but its coded columns, whose claimed size it bounds.

    Raises:
        DecodeError: NAME, SCHEMA or LIMIT.
    """
    site, device, epoch, seq = message.site, message.device, message.epoch, message.seq
    created_us, clock, oldest_seq = message.created_us, message.clock, message.oldest_seq
    ledger = (message.acquired, message.suppressed, message.aggregated)
    if not is_name_cached(site) or not is_name_cached(device):
        raise DecodeError(DeadLetterReason.NAME, f"site {site[:80]!r}, device {device[:80]!r}")
    if not (epoch > 0 and 1 <= oldest_seq <= seq < NUMBER_MAX and 0 <= created_us < _TIME_MAX and clock < _CLOCKS):
        raise DecodeError(DeadLetterReason.SCHEMA, "epoch, seq, oldest_seq, created_us or clock is out of range")
    if max(ledger) >= LEDGER_MAX:
        raise DecodeError(DeadLetterReason.SCHEMA, "the ledger counts more readings than there can be")
    records = message.blocks
    count = len(records)
    cells = 0
    if count == 1:  # Nearly every frame; a loop over protobuf's container costs as much as reading the block.
        block = _read_block(records[0])
        cells = len(block[0]) * block[1]
        blocks: tuple[BlockHead, ...] = (block,)
    elif count <= BLOCKS_MAX:
        blocks = tuple(map(_read_block, records))
        cells = sum(len(block.metrics) * block.rows for block in blocks)
        if cells > READINGS_MAX:
            raise DecodeError(DeadLetterReason.LIMIT, f"{cells} cells: a frame holds at most {READINGS_MAX}")
    else:
        raise DecodeError(DeadLetterReason.LIMIT, f"{count} blocks: a frame holds at most {BLOCKS_MAX}")
    fixed = (site, device, epoch, seq, created_us, clock, oldest_seq, ledger)
    if not message.HasField("notes"):
        return _head((*fixed, (), cells, blocks, None, (), ()))
    notes = message.notes
    panes = check_panes(notes.panes) if notes.HasField("panes") else None
    if panes is not None:
        cells += PANE_COLUMNS * panes.rows + SKETCH_COLUMNS * panes.buckets
    anomalies, gaps = read_anomalies(notes.anomalies), read_gaps(notes.gaps)
    return _head((*fixed, read_drops(notes.dropped), cells, blocks, panes, anomalies, gaps))


def _read_block(record: Any) -> BlockHead:
    joined, rows, start_us, unit_us, step = record.metrics, record.rows, record.start_us, record.unit_us, record.step
    quality, reductions, rate_hz = record.quality, record.reductions, record.rate_hz
    metrics = split_names(joined)
    cells = rows * len(metrics)
    if cells > READINGS_MAX:
        raise DecodeError(DeadLetterReason.LIMIT, f"{cells} cells: a frame holds at most {READINGS_MAX}")
    if not (
        rows
        and -_TIME_MAX < start_us < _TIME_MAX
        and 0 < unit_us < _TIME_MAX
        and step < _TIME_MAX
        and 0 <= rate_hz <= US_PER_S
        and (rate_hz == 0 or (rows - 1) * US_PER_S < rate_hz * _TIME_MAX)
        and (not quality or len(quality) == cells)
    ):
        raise DecodeError(DeadLetterReason.SCHEMA, "rows, time axis, quality or rate of a block are out of range")
    names = split_reductions(reductions, len(metrics)) if reductions else ()
    return _block((metrics, rows, start_us, unit_us, step, record.columns, quality, names, rate_hz))


def read_cells(heads: Sequence[Head]) -> tuple[FrameColumns | None, dict[int, DecodeError]]:
    """Decodes the columns of k frames at once.

    Returns:
        The columns, None if any frame is bad; and per bad frame (place in `heads`) what is wrong with it. The caller
        goes on with the frames that are left.
    """
    blocks = [block for head in heads for block in head.blocks]
    frame = np.arange(len(heads))
    block_frame = np.repeat(frame, np.fromiter((len(head.blocks) for head in heads), np.int64, len(heads)))
    rows = np.fromiter((block.rows for block in blocks), np.int64, len(blocks))
    width = np.fromiter((len(block.metrics) for block in blocks), np.int64, len(blocks))
    parts = [block.columns for block in blocks]
    part_rows, part_columns, part_frame = [rows], [width + 1], [block_frame]
    with_panes = [(place, head.panes) for place, head in enumerate(heads) if head.panes is not None]
    for place, (_, count, coded, buckets, sketches) in with_panes:
        parts.append(coded)
        part_rows.append(np.array([count]))
        part_columns.append(np.array([PANE_COLUMNS]))
        part_frame.append(np.array([place]))
        if buckets:
            parts.append(sketches)
            part_rows.append(np.array([buckets]))
            part_columns.append(np.array([SKETCH_COLUMNS]))
            part_frame.append(np.array([place]))
    layout = lay_out(parts, np.concatenate(part_columns), np.concatenate(part_rows))
    if layout.bad.any():
        bad = np.concatenate(part_frame)[layout.bad]
        error = DecodeError(DeadLetterReason.SCHEMA, "coded columns contradict their shape")
        return None, dict.fromkeys(bad.tolist(), error)
    integer = decode_integers(layout)
    errors: dict[int, DecodeError] = {}

    columns = int(layout.column_start[len(blocks)])
    end = int(layout.cell_start[columns])
    is_time = np.zeros(columns, bool)
    is_time[layout.column_start[: len(blocks)]] = True
    time_cells = np.repeat(is_time, layout.rows[:columns])
    time_us = _times(blocks, rows, integer[:end][time_cells], heads, block_frame, errors)
    value = values_of(integer[:end][~time_cells], layout.form[:columns][~is_time], layout.rows[:columns][~is_time])
    quality = _qualities(blocks, rows * width)
    if quality is not None:
        value[quality == MISSING] = np.nan

    panes = [_NO_PANES] * len(heads)
    rest = values_of(integer[end:], layout.form[columns:], layout.rows[columns:])
    at = 0
    for place, (names, count, _, buckets, _) in with_panes:
        size, sketch_size = PANE_COLUMNS * count, SKETCH_COLUMNS * buckets
        table = integer[end + at : end + at + size].reshape(PANE_COLUMNS, count)
        floats = rest[at : at + size].reshape(PANE_COLUMNS, count)
        at += size
        sketch = integer[end + at : end + at + sketch_size].reshape(SKETCH_COLUMNS, buckets) if buckets else None
        at += sketch_size
        panes[place], wrong = panes_from_cells(names, table, floats, sketch)
        if wrong:
            errors[place] = DecodeError(DeadLetterReason.SCHEMA, wrong)
    if errors:
        return None, errors
    metrics = [block.metrics for block in blocks]
    return FrameColumns(heads, block_frame, metrics, rows, width, time_us, value, quality, panes), errors


def _times(
    blocks: Sequence[BlockHead],
    rows: Int64,
    ticks: Int64,
    heads: Sequence[Head],
    block_frame: Int64,
    errors: dict[int, DecodeError],
) -> Int64:
    """Returns the time axes of all blocks, one after the other, and notes the frames whose axes are wrong."""
    count = len(blocks)
    created = np.fromiter((head.created_us for head in heads), np.int64, len(heads))[block_frame]
    start = created + np.fromiter((block.start_us for block in blocks), np.int64, count)
    unit = np.fromiter((block.unit_us for block in blocks), np.int64, count)
    step = np.fromiter((block.step for block in blocks), np.int64, count)
    place = ragged_arange(np.zeros(count, np.int64), rows)
    time_us: Int64 = np.repeat(start, rows) + np.repeat(unit, rows) * (ticks + place * np.repeat(step, rows))
    axis = starts_of(rows)
    for at, block in enumerate(blocks):
        if block.rate_hz:
            part = slice(int(axis[at]), int(axis[at + 1]))
            if block.unit_us != 1 or block.step != 0 or ticks[part].any():
                errors[int(block_frame[at])] = DecodeError(DeadLetterReason.SCHEMA, "a waveform has a time axis too")
            time_us[part] = start[at] + waveform_us(block.rows, block.rate_hz)
    descends = time_us[1:] <= time_us[:-1]
    descends[axis[1:-1] - 1] = False
    wrong = np.searchsorted(axis, np.flatnonzero(descends), side="right") - 1
    outside = np.flatnonzero((time_us[axis[:-1]] <= -_TIME_MAX) | (time_us[axis[1:] - 1] >= _TIME_MAX))
    for at in [*wrong.tolist(), *outside.tolist()]:
        error = DecodeError(DeadLetterReason.SCHEMA, "the times of a block do not ascend strictly or are out of range")
        errors.setdefault(int(block_frame[at]), error)
    return time_us


def waveform_us(rows: int, rate_hz: float) -> Int64:
    """Returns the times of a waveform's samples after the first, int64 (rows,).

    >>> waveform_us(3, 3.0).tolist()
    [0, 333333, 666666]
    """
    after: Int64 = np.floor(np.arange(rows) * float(US_PER_S) / rate_hz).astype(np.int64)
    return after


def _qualities(blocks: Sequence[BlockHead], cells: Int64) -> UInt8 | None:
    if not any(block.quality for block in blocks):
        return None
    parts = [block.quality or bytes(size) for block, size in zip(blocks, cells.tolist(), strict=True)]
    quality: npt.NDArray[np.uint8] = np.frombuffer(b"".join(parts), np.uint8)
    return quality
