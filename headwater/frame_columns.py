"""Many frames as one set of columns: the common middle between frame messages, Frame objects and batches.

    payloads ─ `frame_heads`, `frame_scan` ─▶ Heads, BlockHeads ─ read_cells ─▶ FrameColumns ─▶ Frame, Batch

Everything per reading is numpy over all frames.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from headwater.columns import Layout, decode_integers, lay_out, ragged_arange, starts_of, values_of
from headwater.errors import DecodeError
from headwater.frame import Float64, Int64, Summaries, UInt8
from headwater.frame_heads import OFFSET_MAX_US, BlockHeads, Heads
from headwater.instant import US_PER_S
from headwater.panes import PANE_COLUMNS, SKETCH_COLUMNS, PanesHead, panes_from_cells
from headwater.quality import MISSING
from headwater.reasons import DeadLetterReason

_NO_PANES: Final = Summaries.empty()


@dataclass(frozen=True, slots=True, eq=False)
class FrameColumns:
    """k frames with b blocks, t block rows and n cells.

    Attributes:
        heads: the frames' identities, ledgers and notes.
        block_frame: int64 (b,), the frame of each block.
        block_metrics: b tuples of names.
        block_rows, block_width: int64 (b,), time stamps and metrics of each block.
        time_us: int64 (t,), the blocks' time axes.
        value: float64 (n,), cells block by block and metric by metric; NaN where the quality is MISSING.
        quality: uint8 (n,), None where all cells are good.
        panes: the panes of all frames, in their order.
        pane_rows: int64 (k,), how many of them each frame has.
    """

    heads: Heads
    block_frame: Int64
    block_metrics: Sequence[tuple[str, ...]]
    block_rows: Int64
    block_width: Int64
    time_us: Int64
    value: Float64
    quality: UInt8 | None
    panes: Summaries
    pane_rows: Int64


def read_cells(heads: Heads, blocks: BlockHeads) -> tuple[FrameColumns | None, dict[int, DecodeError]]:
    """Decodes the columns of k frames at once.

    Returns:
        The columns, None if any frame is bad; and per bad frame (place in `heads`) what is wrong with it. The caller
        goes on with the frames that are left.
    """
    rows, count = blocks.rows, len(blocks.rows)
    width = np.fromiter(map(len, blocks.metrics), np.int64, count)
    pane_heads = {place: notes.panes for place, notes in heads.notes.items() if notes.panes is not None}
    layout, table_frame = _lay_out(blocks, width, pane_heads)
    if layout.bad.any():
        error = DecodeError(DeadLetterReason.SCHEMA, "coded columns contradict their shape")
        return None, dict.fromkeys(table_frame[layout.bad].tolist(), error)
    integer = decode_integers(layout)
    errors: dict[int, DecodeError] = {}

    columns = int(layout.column_start[count])
    end = int(layout.cell_start[columns])
    is_time = np.zeros(columns, bool)
    is_time[layout.column_start[:count]] = True
    time_cells = np.repeat(is_time, layout.rows[:columns])
    start_us = heads.created_us[blocks.frame] + blocks.start_us
    time_us, wrong_blocks = _times(
        (start_us, blocks.unit_us, blocks.step), rows, blocks.rate_hz, integer[:end][time_cells]
    )
    for place, wrong in wrong_blocks:
        errors.setdefault(int(blocks.frame[place]), DecodeError(DeadLetterReason.SCHEMA, wrong))
    value = values_of(integer[:end][~time_cells], layout.form[:columns][~is_time], layout.rows[:columns][~is_time])
    quality = _qualities(blocks.quality, rows * width)
    if quality is not None:
        value[quality == MISSING] = np.nan

    panes, pane_rows = _NO_PANES, np.zeros(len(heads), np.int64)
    if pane_heads:
        places = list(pane_heads)
        rest = values_of(integer[end:], layout.form[columns:], layout.rows[columns:])
        panes, wrong_panes = panes_from_cells(list(pane_heads.values()), integer[end:], rest)
        for place, wrong in wrong_panes:
            errors.setdefault(places[place], DecodeError(DeadLetterReason.SCHEMA, wrong))
        pane_rows[places] = [head.rows for head in pane_heads.values()]
    if errors:
        return None, errors
    return FrameColumns(
        heads, blocks.frame, blocks.metrics, rows, width, time_us, value, quality, panes, pane_rows
    ), errors


class _PaneTable(NamedTuple):
    owner: int
    columns: int
    rows: int
    coded: bytes


def _pane_tables(heads: Mapping[int, PanesHead]) -> list[_PaneTable]:
    tables = []
    for owner, head in heads.items():
        tables.append(_PaneTable(owner, PANE_COLUMNS, head.rows, head.columns))
        if head.buckets:
            tables.append(_PaneTable(owner, SKETCH_COLUMNS, head.buckets, head.sketches))
    return tables


def _lay_out(blocks: BlockHeads, width: Int64, pane_heads: Mapping[int, PanesHead]) -> tuple[Layout, Int64]:
    """Lays out the tables of all blocks, then those of all panes; returns the frame of each table too."""
    if not pane_heads:
        return lay_out(blocks.data, blocks.coded_start, blocks.coded_size, width + 1, blocks.rows), blocks.frame
    tables = _pane_tables(pane_heads)
    size = np.array([len(table.coded) for table in tables], np.int64)
    layout = lay_out(
        b"".join((blocks.data, *(table.coded for table in tables))),
        np.append(blocks.coded_start, len(blocks.data) + starts_of(size)[:-1]),
        np.append(blocks.coded_size, size),
        np.append(width + 1, [table.columns for table in tables]).astype(np.int64),
        np.append(blocks.rows, [table.rows for table in tables]).astype(np.int64),
    )
    return layout, np.append(blocks.frame, [table.owner for table in tables]).astype(np.int64)


def _times(
    axes: tuple[Int64, Int64, Int64], rows: Int64, rates: Float64, ticks: Int64
) -> tuple[Int64, list[tuple[int, str]]]:
    """Returns the time axes of b blocks, one after the other, and (block, what is wrong) of those that are bad.

    Args:
        axes: start, unit and step of each block.
        rows: int64 (b,).
        rates: float64 (b,), of waveforms, 0 of other blocks.
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
    if rates.any():
        for at in np.flatnonzero(rates).tolist():
            part = slice(int(axis[at]), int(axis[at + 1]))
            if unit[at] != 1 or step[at] != 0 or ticks[part].any():
                wrong.append((at, "a waveform has a time axis too"))
            time_us[part] = start[at] + waveform_us(int(rows[at]), float(rates[at]))
    descends = time_us[1:] <= time_us[:-1]
    descends[axis[1:-1] - 1] = False
    bad = np.searchsorted(axis, np.flatnonzero(descends), side="right") - 1
    outside = np.flatnonzero((time_us[axis[:-1]] <= -OFFSET_MAX_US) | (time_us[axis[1:] - 1] >= OFFSET_MAX_US))
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
    if not tables:
        return None
    parts = [table or bytes(size) for table, size in zip(tables, cells.tolist(), strict=True)]
    quality: npt.NDArray[np.uint8] = np.frombuffer(b"".join(parts), np.uint8)
    return quality
