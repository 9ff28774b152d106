"""Many frames as one set of columns: the common middle between frame messages, Frame objects and batches.

    payloads ─ unseal ─▶ messages ─ read_head ─▶ heads ─ read_cells ─▶ FrameColumns ─▶ Frame, Batch

What runs per frame is a handful of field reads (`read_head`); everything per reading is numpy over all frames.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
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
# One call reads all plain fields of a message: a third less than an access each.
_FRAME_FIELDS: Final = attrgetter(
    "site",
    "device",
    "epoch",
    "seq",
    "created_us",
    "clock",
    "oldest_seq",
    "acquired",
    "suppressed",
    "aggregated",
    "blocks",
)
_BLOCK_FIELDS: Final = attrgetter(
    "metrics", "rows", "start_us", "unit_us", "step", "columns", "quality", "reductions", "rate_hz"
)
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
        panes: the panes of all frames, in their order.
        pane_rows: int64 (k,), how many of them each frame has.
    """

    heads: Sequence[Head]
    block_frame: Int64
    block_metrics: Sequence[tuple[str, ...]]
    block_rows: Int64
    block_width: Int64
    time_us: Int64
    value: Float64
    quality: UInt8 | None
    panes: Summaries
    pane_rows: Int64


def read_head(message: Any) -> Head:
    """Reads everything of a frame message but its coded columns, whose claimed size it bounds.

    Raises:
        DecodeError: NAME, SCHEMA or LIMIT.
    """
    site, device, epoch, seq, created_us, clock, oldest_seq, acquired, suppressed, aggregated, records = _FRAME_FIELDS(
        message
    )
    if not is_name_cached(site) or not is_name_cached(device):
        raise DecodeError(DeadLetterReason.NAME, f"site {site[:80]!r}, device {device[:80]!r}")
    if not (epoch > 0 and 1 <= oldest_seq <= seq < NUMBER_MAX and 0 <= created_us < _TIME_MAX and clock < _CLOCKS):
        raise DecodeError(DeadLetterReason.SCHEMA, "epoch, seq, oldest_seq, created_us or clock is out of range")
    if acquired >= LEDGER_MAX or suppressed >= LEDGER_MAX or aggregated >= LEDGER_MAX:
        raise DecodeError(DeadLetterReason.SCHEMA, "the ledger counts more readings than there can be")
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
    ledger = (acquired, suppressed, aggregated)
    if not message.HasField("notes"):
        return _head((site, device, epoch, seq, created_us, clock, oldest_seq, ledger, (), cells, blocks, None, (), ()))
    fixed = (site, device, epoch, seq, created_us, clock, oldest_seq, ledger)
    notes = message.notes
    panes = check_panes(notes.panes) if notes.HasField("panes") else None
    if panes is not None:
        cells += PANE_COLUMNS * panes.rows + SKETCH_COLUMNS * panes.buckets
    anomalies, gaps = read_anomalies(notes.anomalies), read_gaps(notes.gaps)
    return _head((*fixed, read_drops(notes.dropped), cells, blocks, panes, anomalies, gaps))


def _read_block(record: Any) -> BlockHead:
    joined, rows, start_us, unit_us, step, columns, quality, reductions, rate_hz = _BLOCK_FIELDS(record)
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
    return _block((metrics, rows, start_us, unit_us, step, columns, quality, names, rate_hz))


def read_cells(heads: Sequence[Head]) -> tuple[FrameColumns | None, dict[int, DecodeError]]:
    """Decodes the columns of k frames at once.

    Returns:
        The columns, None if any frame is bad; and per bad frame (place in `heads`) what is wrong with it. The caller
        goes on with the frames that are left.
    """
    blocks = [block for head in heads for block in head.blocks]
    metrics, row_counts, starts, units, steps, coded, qualities, _, rates = (
        zip(*blocks, strict=True) if blocks else ((),) * 9
    )
    block_frame = np.repeat(np.arange(len(heads)), [len(head.blocks) for head in heads])
    rows = np.array(row_counts, np.int64)
    width = np.array(list(map(len, metrics)), np.int64)
    pane_frames = [place for place, head in enumerate(heads) if head.panes is not None]
    pane_heads = [head.panes for head in heads if head.panes is not None]
    pane_tables = _pane_tables(pane_heads)
    layout = lay_out(
        [*coded, *(table.coded for table in pane_tables)],
        np.append(width + 1, [table.columns for table in pane_tables]).astype(np.int64),
        np.append(rows, [table.rows for table in pane_tables]).astype(np.int64),
    )
    if layout.bad.any():
        frame = np.append(block_frame, [pane_frames[table.owner] for table in pane_tables]).astype(np.int64)
        error = DecodeError(DeadLetterReason.SCHEMA, "coded columns contradict their shape")
        return None, dict.fromkeys(frame[layout.bad].tolist(), error)
    integer = decode_integers(layout)
    errors: dict[int, DecodeError] = {}

    columns = int(layout.column_start[len(blocks)])
    end = int(layout.cell_start[columns])
    is_time = np.zeros(columns, bool)
    is_time[layout.column_start[: len(blocks)]] = True
    time_cells = np.repeat(is_time, layout.rows[:columns])
    created = np.array([head.created_us for head in heads], np.int64)[block_frame]
    axes = (created + np.array(starts, np.int64), np.array(units, np.int64), np.array(steps, np.int64))
    time_us, wrong_blocks = _times(axes, rows, rates, integer[:end][time_cells])
    for place, wrong in wrong_blocks:
        errors.setdefault(int(block_frame[place]), DecodeError(DeadLetterReason.SCHEMA, wrong))
    value = values_of(integer[:end][~time_cells], layout.form[:columns][~is_time], layout.rows[:columns][~is_time])
    quality = _qualities(qualities, rows * width)
    if quality is not None:
        value[quality == MISSING] = np.nan

    panes, pane_rows = _NO_PANES, np.zeros(len(heads), np.int64)
    if pane_heads:
        rest = values_of(integer[end:], layout.form[columns:], layout.rows[columns:])
        panes, wrong_panes = panes_from_cells(pane_heads, integer[end:], rest)
        for place, wrong in wrong_panes:
            errors.setdefault(pane_frames[place], DecodeError(DeadLetterReason.SCHEMA, wrong))
        pane_rows[pane_frames] = [head.rows for head in pane_heads]
    if errors:
        return None, errors
    return FrameColumns(heads, block_frame, metrics, rows, width, time_us, value, quality, panes, pane_rows), errors


class _PaneTable(NamedTuple):
    owner: int
    columns: int
    rows: int
    coded: bytes


def _pane_tables(heads: Sequence[PanesHead]) -> list[_PaneTable]:
    tables = []
    for owner, head in enumerate(heads):
        tables.append(_PaneTable(owner, PANE_COLUMNS, head.rows, head.columns))
        if head.buckets:
            tables.append(_PaneTable(owner, SKETCH_COLUMNS, head.buckets, head.sketches))
    return tables


def _times(
    axes: tuple[Int64, Int64, Int64], rows: Int64, rates: Sequence[float], ticks: Int64
) -> tuple[Int64, list[tuple[int, str]]]:
    """Returns the time axes of b blocks, one after the other, and (block, what is wrong) of those that are bad.

    Args:
        axes: start, unit and step of each block.
        rows: int64 (b,).
        rates: of waveforms, 0 of other blocks.
        ticks: column 0 of all blocks.
    """
    start, unit, step = axes
    axis = starts_of(rows)
    place = ragged_arange(np.zeros(len(rows), np.int64), rows)
    place *= np.repeat(step, rows)
    place += ticks
    place *= np.repeat(unit, rows)
    place += np.repeat(start, rows)
    time_us = place
    wrong = []
    if any(rates):
        for at in np.flatnonzero(rates).tolist():
            part = slice(int(axis[at]), int(axis[at + 1]))
            if unit[at] != 1 or step[at] != 0 or ticks[part].any():
                wrong.append((at, "a waveform has a time axis too"))
            time_us[part] = start[at] + waveform_us(int(rows[at]), rates[at])
    descends = time_us[1:] <= time_us[:-1]
    descends[axis[1:-1] - 1] = False
    bad = np.searchsorted(axis, np.flatnonzero(descends), side="right") - 1
    outside = np.flatnonzero((time_us[axis[:-1]] <= -_TIME_MAX) | (time_us[axis[1:] - 1] >= _TIME_MAX))
    text = "the times of a block do not ascend strictly or are out of range"
    wrong += [(at, text) for at in (*np.unique(bad).tolist(), *outside.tolist())]
    return time_us, wrong


def waveform_us(rows: int, rate_hz: float) -> Int64:
    """Returns the times of a waveform's samples after the first, int64 (rows,).

    >>> waveform_us(3, 3.0).tolist()
    [0, 333333, 666666]
    """
    after: Int64 = np.floor(np.arange(rows) * float(US_PER_S) / rate_hz).astype(np.int64)
    return after


def _qualities(tables: Sequence[bytes], cells: Int64) -> UInt8 | None:
    if not any(tables):
        return None
    parts = [table or bytes(size) for table, size in zip(tables, cells.tolist(), strict=True)]
    quality: npt.NDArray[np.uint8] = np.frombuffer(b"".join(parts), np.uint8)
    return quality
