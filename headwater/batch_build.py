"""Batches made of frames, put together and cut down; pure columns, nothing per reading.

A frame's anomalies, gaps and summaries go with its row. Readings of quality MISSING are places without a reading and
values that are not finite are not admitted: neither enters a batch. Who may hold the latter counts them first with
`count_not_finite`.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from headwater.batch import Batch
from headwater.columns import ragged_arange, starts_of
from headwater.errors import LimitError
from headwater.frame import Block, Frame, Int32, Int64
from headwater.frame_columns import FrameColumns
from headwater.frame_heads import Heads, Notes
from headwater.quality import MISSING
from headwater.summary_rows import concat_summaries, take_summaries

_INT32_MAX = (1 << 31) - 1


def batch_from_frames(items: Sequence[tuple[Frame, int, int]], *, shard: int, made_us: int) -> Batch:
    """Makes a batch of (frame, received_us, payload bytes) in the given order.

    Used for frames that did not come as native payloads (JSON, Sparkplug B); those take `decode_batch`, which gives
    the same batch.
    """
    columns = _columns_of([frame for frame, _, _ in items])
    received_us = np.array([received for _, received, _ in items], np.int64)
    payload_bytes = np.array([size for _, _, size in items], np.int32)
    return batch_from_columns(columns, received_us, payload_bytes, shard=shard, made_us=made_us)


def count_not_finite(frame: Frame) -> int:
    """Counts the readings of a frame that a batch will leave out because they are not finite."""
    return sum(_count_not_finite(block) for block in frame.blocks)


def _count_not_finite(block: Block) -> int:
    wrong = ~np.isfinite(block.value)
    if block.quality is not None:
        wrong &= block.quality != MISSING
    return int(np.count_nonzero(wrong))


def _columns_of(frames: Sequence[Frame]) -> FrameColumns:
    blocks = [(place, block) for place, frame in enumerate(frames) for block in frame.blocks]
    quality = None
    if any(block.quality is not None for _, block in blocks):
        quality = np.concatenate(
            [
                np.zeros(block.value.size, np.uint8) if block.quality is None else block.quality.ravel()
                for _, block in blocks
            ]
        )
    return FrameColumns(
        heads=Heads(
            [(frame.site, frame.device) for frame in frames],
            np.array([frame.epoch for frame in frames], np.uint64),
            np.array([frame.seq for frame in frames], np.int64),
            np.array([frame.created_us for frame in frames], np.int64),
            np.array([frame.oldest_seq for frame in frames], np.int64),
            np.array([frame.clock for frame in frames], np.uint8),
            np.array(
                [(frame.ledger.acquired, frame.ledger.suppressed, frame.ledger.aggregated) for frame in frames],
                np.int64,
            ).reshape(len(frames), 3),
            np.zeros(len(frames), np.int64),
            {
                place: Notes(None, tuple(frame.ledger.dropped.items()), frame.anomalies, frame.gaps)
                for place, frame in enumerate(frames)
            },
        ),
        block_frame=np.array([place for place, _ in blocks], np.int64),
        block_metrics=[block.metrics for _, block in blocks],
        block_rows=np.array([len(block.time_us) for _, block in blocks], np.int64),
        block_width=np.array([len(block.metrics) for _, block in blocks], np.int64),
        time_us=np.concatenate([np.empty(0, np.int64), *(block.time_us for _, block in blocks)]),
        value=np.concatenate([np.empty(0), *(block.value.ravel() for _, block in blocks)]),
        quality=quality,
        panes=concat_summaries([frame.summaries for frame in frames]),
        pane_rows=np.array([len(frame.summaries) for frame in frames], np.int64),
    )


def _metric_codes(tables: Sequence[tuple[str, ...]]) -> tuple[tuple[str, ...], Int32]:
    """Returns the dictionary of all names by first appearance, and the code of every column of every table."""
    names: dict[str, int] = {}
    numbers: dict[tuple[str, ...], int] = {}
    number = np.array([numbers.setdefault(table, len(numbers)) for table in tables], np.int64)
    codes = np.array([names.setdefault(name, len(names)) for table in numbers for name in table], np.int32)
    if len(numbers) == 1:
        return tuple(names), np.tile(codes, len(tables))
    start = starts_of(np.array([len(table) for table in numbers], np.int64))
    return tuple(names), codes[ragged_arange(start[number], np.diff(start)[number])]


def batch_from_columns(
    columns: FrameColumns, received_us: Int64, payload_bytes: Int32, *, shard: int, made_us: int
) -> Batch:
    """Makes a batch of k frames in columns; `received_us` and `payload_bytes` are (k,)."""
    heads = columns.heads
    devices: dict[tuple[str, str], int] = {}
    device = [devices.setdefault(pair, len(devices)) for pair in heads.devices]
    metrics, column_metric = _metric_codes(columns.block_metrics)
    column_rows = np.repeat(columns.block_rows, columns.block_width)
    axis_start = starts_of(columns.block_rows)[:-1]
    metric = np.repeat(column_metric, column_rows)
    time_us = columns.time_us[ragged_arange(np.repeat(axis_start, columns.block_width), column_rows)]
    value, quality = columns.value, columns.quality
    cells = np.bincount(columns.block_frame, columns.block_rows * columns.block_width, minlength=len(heads))
    reading_start = starts_of(cells.astype(np.int64))
    keep = np.isfinite(value)
    if quality is not None:
        keep &= quality != MISSING
    if not keep.all():
        reading_start = starts_of(keep)[reading_start]
        metric, time_us, value = metric[keep], time_us[keep], value[keep]
        quality = None if quality is None else quality[keep]
    lost = np.zeros((len(heads), 1), np.int64)
    for place, notes in heads.notes.items():
        lost[place] = sum(readings for _, readings in notes.dropped)
    return Batch(
        shard=shard,
        devices=tuple(devices),
        metrics=metrics,
        device=np.array(device, np.int32),
        epoch=heads.epoch,
        seq=heads.seq,
        received_us=received_us,
        created_us=heads.created_us,
        clock=heads.clock,
        oldest_seq=heads.oldest_seq,
        reading_start=reading_start,
        metric=metric,
        time_us=time_us,
        value=value,
        quality=np.zeros(len(value), np.uint8) if quality is None else quality,
        summary_start=starts_of(columns.pane_rows),
        ledger=np.concatenate((heads.ledger, lost), axis=1),
        payload_bytes=payload_bytes,
        made_us=made_us,
        summaries=columns.panes,
        anomalies=tuple((row, anomaly) for row, notes in heads.notes.items() for anomaly in notes.anomalies),
        gaps=tuple((row, gap) for row, notes in heads.notes.items() for gap in notes.gaps),
    )


def concat_batches(batches: Sequence[Batch]) -> Batch:
    """Returns one batch with the frames of all in order; they are of one shard. The first one's times of making stay.

    `low_watermark_us` and `made_us` are those of the last batch, whose closing is the later one.
    """
    assert batches, "there is at least one batch"
    first = batches[0]
    if len(batches) == 1:
        return first
    assert all(batch.shard == first.shard for batch in batches), "batches of different shards"
    if sum(batch.reading_count for batch in batches) > _INT32_MAX:
        raise LimitError("a batch holds less than 2^31 readings")
    devices: dict[tuple[str, str], int] = {}
    device = [
        np.array([devices.setdefault(key, len(devices)) for key in batch.devices], np.int32)[batch.device]
        for batch in batches
    ]
    metrics, codes = _metric_codes([batch.metrics for batch in batches])
    code_start = starts_of(np.array([len(batch.metrics) for batch in batches], np.int64))
    metric = [codes[start:][batch.metric] for start, batch in zip(code_start.tolist(), batches, strict=False)]
    row_start = starts_of(np.array([len(batch) for batch in batches], np.int64)).tolist()

    def joined(name: str) -> Any:
        return np.concatenate([getattr(batch, name) for batch in batches])

    def joined_starts(name: str) -> Int64:
        return starts_of(np.concatenate([np.diff(getattr(batch, name)) for batch in batches]))

    plain = ("epoch", "seq", "received_us", "created_us", "clock", "oldest_seq", "time_us", "value", "quality")
    return replace(
        batches[-1],
        devices=tuple(devices),
        metrics=metrics,
        device=np.concatenate(device),
        metric=np.concatenate(metric),
        **{name: joined(name) for name in (*plain, "ledger", "payload_bytes")},
        reading_start=joined_starts("reading_start"),
        summary_start=joined_starts("summary_start"),
        summaries=concat_summaries([batch.summaries for batch in batches]),
        anomalies=tuple(
            (row + start, record)
            for start, batch in zip(row_start, batches, strict=False)
            for row, record in batch.anomalies
        ),
        gaps=tuple(
            (row + start, record)
            for start, batch in zip(row_start, batches, strict=False)
            for row, record in batch.gaps
        ),
        dead_letters=tuple(letter for batch in batches for letter in batch.dead_letters),
        statuses=tuple(status for batch in batches for status in batch.statuses),
    )


def take_frames(batch: Batch, rows: npt.NDArray[np.bool_] | npt.NDArray[np.integer]) -> Batch:
    """Returns the batch with the chosen frames only, in the given order; `rows` is a mask (k,) or places.

    Dictionaries, dead letters, statuses and times stay. All rows in order cost nothing.
    """
    at = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows.astype(np.int64)
    if len(at) == len(batch) and np.array_equal(at, np.arange(len(batch))):
        return batch
    size = np.diff(batch.reading_start)[at]
    readings = ragged_arange(batch.reading_start[:-1][at], size)
    pane_size = np.diff(batch.summary_start)[at]
    summaries = batch.summaries
    if len(summaries):
        summaries = take_summaries(summaries, ragged_arange(batch.summary_start[:-1][at], pane_size))
    by_row: dict[int, list[int]] = {}
    if batch.anomalies or batch.gaps:
        for new, old in enumerate(at.tolist()):
            by_row.setdefault(old, []).append(new)
    rowwise = ("device", "epoch", "seq", "received_us", "created_us", "clock", "oldest_seq", "ledger", "payload_bytes")
    return replace(
        batch,
        **{name: getattr(batch, name)[at] for name in rowwise},
        reading_start=starts_of(size),
        **{name: getattr(batch, name)[readings] for name in ("metric", "time_us", "value", "quality")},
        summary_start=starts_of(pane_size),
        summaries=summaries,
        anomalies=tuple(
            sorted(((new, record) for old, record in batch.anomalies for new in by_row.get(old, ())), key=_row_of)
        ),
        gaps=tuple(sorted(((new, record) for old, record in batch.gaps for new in by_row.get(old, ())), key=_row_of)),
    )


def _row_of(pair: tuple[int, object]) -> int:
    return pair[0]
