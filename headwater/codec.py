"""The frame codec, version 1: one frame to bytes and back (contracts §4). Many at once: `headwater.codec_batch`.

    Frame ─ columns ─▶ protobuf message ─ CRC-32, deflate ─▶ payload

Lossless: every value keeps its bits (−0.0, infinities and NaN payloads too), except under quality MISSING, where a
value is NaN after decoding.
"""

import numpy as np
import numpy.typing as npt

from headwater.columns import encode_columns, integers_of
from headwater.envelope import seal, unseal
from headwater.errors import LimitError
from headwater.frame import READINGS_MAX, Block, Float64, Frame, Int64, Ledger, UInt8
from headwater.frame_columns import FrameColumns, read_cells, waveform_us
from headwater.frame_heads import BLOCKS_MAX, Head, gather, read_head
from headwater.frame_records import write_records
from headwater.frame_schema import FrameMessage
from headwater.name_table import is_metric_cached, is_name_cached, is_reduction, join_names
from headwater.panes import write_panes
from headwater.quality import MISSING
from headwater.reasons import ClockQuality

COMPRESS_LEVEL_DEFAULT = 6


def encode_frame(frame: Frame, *, compress_level: int = COMPRESS_LEVEL_DEFAULT) -> bytes:
    """Turns a frame into a payload that `decode_frame` reads back bit for bit.

    Args:
        frame: with valid names, epoch and seq from 1 on, and blocks with at least one metric and one row; anything
            else is a broken invariant of the caller.
        compress_level: of zlib; 0 leaves deflate out.

    Raises:
        LimitError: more than READINGS_MAX cells, RAW_BYTES_MAX bytes or a limit of its parts.
    """
    cells = sum(block.value.size for block in frame.blocks)
    if cells > READINGS_MAX or len(frame.blocks) > BLOCKS_MAX:
        raise LimitError(
            f"{cells} cells in {len(frame.blocks)} blocks: a frame holds at most {READINGS_MAX} in {BLOCKS_MAX}"
        )
    assert is_name_cached(frame.site), f"site {frame.site!r}"
    assert is_name_cached(frame.device), f"device {frame.device!r}"
    assert frame.epoch > 0, "epoch 0 is kept for foreign frames"
    assert 1 <= frame.oldest_seq <= frame.seq, f"oldest_seq {frame.oldest_seq}, seq {frame.seq}"
    message = FrameMessage(
        site=frame.site,
        device=frame.device,
        epoch=frame.epoch,
        seq=frame.seq,
        created_us=frame.created_us,
        clock=frame.clock,
        oldest_seq=frame.oldest_seq,
    )
    for block in frame.blocks:
        message.blocks.add(**_block_fields(block, frame.created_us))
    write_panes(message, frame.summaries)
    write_records(message, frame.anomalies, frame.gaps, frame.ledger)
    return seal(message, compress_level)


def _block_fields(block: Block, created_us: int) -> dict[str, object]:
    assert block.metrics, "a block has at least one metric"
    assert all(map(is_metric_cached, block.metrics)), f"metrics {block.metrics}"
    assert len(set(block.metrics)) == len(block.metrics), f"a metric stands twice in {block.metrics}"
    assert all(map(is_reduction, block.reductions)), f"reductions {block.reductions}"
    start_us, unit_us, step, ticks = _code_times(block)
    value = block.value if block.quality is None else _fill_missing(block.value, block.quality)
    integer, form = integers_of(value)
    table = np.concatenate((ticks[None], integer))
    return {
        "metrics": join_names(block.metrics),
        "rows": len(block.time_us),
        "start_us": start_us - created_us,
        "unit_us": unit_us,
        "step": step,
        "columns": encode_columns(table, np.concatenate((np.zeros(1, np.uint8), form))),
        "quality": b"" if block.quality is None or not block.quality.any() else block.quality.tobytes(),
        "reductions": join_names(block.reductions),
        "rate_hz": block.rate_hz or 0.0,
    }


def _code_times(block: Block) -> tuple[int, int, int, Int64]:
    """Returns (start, unit, step, ticks) with time = start + unit * (ticks + i * step); ticks (n,) are small."""
    time_us, rows = block.time_us, len(block.time_us)
    assert rows, "a block has at least one row"
    start_us = int(time_us[0])
    zeros = np.zeros(rows, np.int64)
    if block.rate_hz is not None:
        assert 0 < block.rate_hz <= 1e6, f"rate {block.rate_hz}"
        assert np.array_equal(time_us - start_us, waveform_us(rows, block.rate_hz)), "times do not follow from the rate"
        return start_us, 1, 0, zeros
    if rows == 1:
        return start_us, 1, 1, zeros
    interval = time_us[1:] - time_us[:-1]
    low = int(interval.min())
    assert low > 0, "times of a block ascend strictly"
    if low == int(interval.max()):
        return start_us, low, 1, zeros
    unit = int(np.gcd.reduce(interval))
    step = int(np.sort(interval)[(rows - 1) // 2]) // unit
    return start_us, unit, step, (time_us - start_us) // unit - step * np.arange(rows)


def _fill_missing(value: Float64, quality: UInt8) -> Float64:
    """Replaces what stands under MISSING by the value before it (or the first one after it), which codes to nothing."""
    missing = quality == MISSING
    if not missing.any():
        return value
    rows = value.shape[1]
    source: npt.NDArray[np.int64] = np.where(missing, 0, np.arange(rows))
    source = np.maximum.accumulate(source, axis=1)
    first: npt.NDArray[np.int64] = np.where(missing.all(axis=1), 0, np.argmin(missing, axis=1))
    filled = np.take_along_axis(value, np.maximum(source, first[:, None]), axis=1)
    filled[missing.all(axis=1)] = 0.0
    return filled


def decode_frame(payload: bytes) -> Frame:
    """Reads a payload strictly; the order is size, inflate, CRC-32, parse, schema.

    Takes memory in proportion to the cells, of which a frame holds at most READINGS_MAX; a claim of more is refused
    before anything is allocated.

    Raises:
        DecodeError: with the reason, whatever the bytes are.
    """
    head = read_head(unseal(payload))
    columns, errors = read_cells(*gather([head]))
    if columns is None:
        raise errors[0]
    return _frame_of(head, columns)


def _frame_of(head: Head, columns: FrameColumns) -> Frame:
    """Cuts the columns of one frame into its blocks; arrays are views."""
    blocks = []
    row = cell = 0
    for block in head.blocks:
        shape = (len(block.metrics), block.rows)
        size = shape[0] * shape[1]
        quality = None
        if block.quality and columns.quality is not None:
            quality = columns.quality[cell : cell + size].reshape(shape)
        blocks.append(
            Block(
                metrics=block.metrics,
                time_us=columns.time_us[row : row + block.rows],
                value=columns.value[cell : cell + size].reshape(shape),
                quality=quality,
                reductions=block.reductions,
                rate_hz=block.rate_hz or None,
            )
        )
        row += block.rows
        cell += size
    return Frame(
        head.site,
        head.device,
        head.epoch,
        head.seq,
        head.created_us,
        ClockQuality(head.clock),
        head.oldest_seq,
        tuple(blocks),
        columns.panes,
        head.notes.anomalies,
        head.notes.gaps,
        Ledger(*head.ledger, dict(head.notes.dropped)),
    )
