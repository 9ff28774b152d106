"""Summaries of a frame to and from coded tables (columns.py)."""

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from headwater.columns import encode_columns, integers_of, starts_of
from headwater.errors import DecodeError, LimitError
from headwater.frame import Float64, Int64, Summaries
from headwater.name_table import join_names, split_names
from headwater.reasons import DeadLetterReason

PANES_MAX: Final = 4096
BUCKETS_MAX: Final = 32_768
INTEGER_COLUMNS: Final = 7
FLOAT_COLUMNS: Final = 6
PANE_COLUMNS: Final = INTEGER_COLUMNS + FLOAT_COLUMNS
SKETCH_COLUMNS: Final = 2

_TIME_MAX: Final = 1 << 61


class PanesHead(NamedTuple):
    """Panes before their columns are decoded."""

    metrics: tuple[str, ...]
    rows: int
    columns: bytes
    buckets: int
    sketches: bytes


def write_panes(message: Any, panes: Summaries) -> None:
    """Adds the panes to a frame message.

    Raises:
        LimitError: more than PANES_MAX panes or BUCKETS_MAX buckets.
    """
    rows, buckets = len(panes), len(panes.sketch_key)
    if rows == 0:
        return
    if rows > PANES_MAX or buckets > BUCKETS_MAX:
        raise LimitError(f"{rows} panes, {buckets} buckets: a frame holds {PANES_MAX} and {BUCKETS_MAX}")
    integer = np.stack(
        (
            panes.metric.astype(np.int64),
            panes.start_us,
            panes.width_us,
            panes.count,
            panes.first_us - panes.start_us,
            panes.last_us - panes.start_us,
            np.diff(panes.sketch_start),
        )
    )
    float_integer, form = integers_of(np.stack((panes.mean, panes.m2, panes.min, panes.max, panes.first, panes.last)))
    record = message.notes.panes
    record.metrics, record.rows, record.buckets = join_names(panes.metrics), rows, buckets
    record.columns = encode_columns(
        np.concatenate((integer, float_integer)), np.concatenate((np.zeros(INTEGER_COLUMNS, np.uint8), form))
    )
    if buckets:
        sketch = np.stack((panes.sketch_key.astype(np.int64), panes.sketch_count))
        record.sketches = encode_columns(sketch, np.zeros(SKETCH_COLUMNS, np.uint8))


def check_panes(record: Any) -> PanesHead:
    """Reads the panes of a frame message up to their coded columns.

    Raises:
        DecodeError: LIMIT, NAME or SCHEMA; nothing is allocated for rows that are only claimed.
    """
    names = split_names(record.metrics)
    rows, buckets = record.rows, record.buckets
    if rows > PANES_MAX or buckets > BUCKETS_MAX:
        raise DecodeError(DeadLetterReason.LIMIT, f"{rows} panes, {buckets} buckets: over {PANES_MAX}, {BUCKETS_MAX}")
    sketches = record.sketches
    if rows == 0 or bool(buckets) != bool(sketches):
        raise DecodeError(DeadLetterReason.SCHEMA, f"{rows} panes, {buckets} buckets in {len(sketches)} bytes")
    return PanesHead(names, rows, record.columns, buckets, sketches)


def panes_from_cells(head: PanesHead, integer: Int64, value: Float64) -> tuple[Summaries, str]:
    """Puts the decoded cells of one frame's panes and then of its sketches together, (13 · rows + 2 · buckets,) each.

    Returns:
        The panes and what is wrong with them, "" if nothing is.
    """
    names, size = head.metrics, PANE_COLUMNS * head.rows
    integers = integer[:size].reshape(PANE_COLUMNS, head.rows)
    metric, start, width, count, first_after, last_after, buckets = integers[:INTEGER_COLUMNS]
    mean, m2, low, high, first, last = floats = value[:size].reshape(PANE_COLUMNS, head.rows)[INTEGER_COLUMNS:]
    key, number = integer[size:].reshape(SKETCH_COLUMNS, head.buckets)
    if not _in_range(integers[:INTEGER_COLUMNS], len(names)):
        return Summaries.empty(), "a pane has a metric, time, count or sketch out of range"
    if not np.isfinite(floats).all():
        return Summaries.empty(), "a pane has a field that is not finite"
    ordered = (low <= np.minimum(first, last)) & (np.maximum(first, last) <= high) & (m2 >= 0)
    if not ordered.all():
        return Summaries.empty(), "a pane's first or last is outside of its min and max, or its m2 negative"
    sketch_start = starts_of(buckets)
    wrong = _sketch_error(sketch_start, key, number, count)
    panes = Summaries(
        metrics=names,
        metric=metric.astype(np.int32),
        start_us=start,
        width_us=width,
        count=count,
        mean=mean,
        m2=m2,
        min=low,
        max=high,
        first=first,
        last=last,
        first_us=start + first_after,
        last_us=start + last_after,
        sketch_start=sketch_start,
        sketch_key=key.astype(np.int32),
        sketch_count=number,
    )
    return panes, wrong


def _in_range(integer: Int64, names: int) -> bool:
    metric, start, width, count, first_after, last_after, buckets = integer
    fine: npt.NDArray[np.bool_] = (
        (metric >= 0)
        & (metric < names)
        & (start > -_TIME_MAX)
        & (start < _TIME_MAX)
        & (width >= 1)
        & (width < _TIME_MAX)
        & (count >= 1)
        & (count < _TIME_MAX)
        & (first_after >= 0)
        & (first_after <= last_after)
        & (last_after < width)
        & (buckets >= 0)
        & (buckets <= BUCKETS_MAX)
    )
    return bool(fine.all())


def _sketch_error(sketch_start: Int64, key: Int64, number: Int64, count: Int64) -> str:
    if sketch_start[-1] != len(key):
        return f"panes claim {int(sketch_start[-1])} buckets, {len(key)} are there"
    if len(key) == 0:
        return ""
    if key.min() < -(1 << 31) or key.max() >= 1 << 31 or number.min() < 1 or number.max() >= _TIME_MAX:
        return "a sketch has a key or count out of range"
    within = np.ones(len(key), bool)
    within[sketch_start[:-1][np.diff(sketch_start) > 0]] = False
    if (np.diff(key, prepend=key[:1])[within] <= 0).any():
        return "the keys of a sketch do not ascend"
    filled = np.flatnonzero(np.diff(sketch_start))
    if not np.array_equal(np.add.reduceat(number, sketch_start[filled]), count[filled]):
        return "the buckets of a sketch do not add up to its count"
    return ""
