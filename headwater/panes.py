"""Summaries of a frame to and from coded tables (columns.py)."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from headwater.columns import encode_columns, integers_of, ragged_arange, starts_of
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


def panes_from_cells(
    heads: Sequence[PanesHead], integer: Int64, value: Float64
) -> tuple[Summaries, list[tuple[int, str]]]:
    """Puts the decoded cells of T frames' panes together, over one dictionary of names in order of appearance.

    Args:
        heads: T heads.
        integer: (cells,), per frame the 13 · rows cells of its panes and the 2 · buckets cells of its sketches.
        value: (cells,), the same cells as floats.

    Returns:
        The panes, and (place in `heads`, what is wrong) of bad ones; the panes mean nothing if there are any.
    """
    rows = np.array([head.rows for head in heads], np.int64)
    buckets = np.array([head.buckets for head in heads], np.int64)
    table_start = starts_of(PANE_COLUMNS * rows + SKETCH_COLUMNS * buckets)[:-1]
    row_start = starts_of(rows)
    owner = np.repeat(np.arange(len(heads)), rows)
    at = ragged_arange(table_start, rows) + np.arange(PANE_COLUMNS)[:, None] * rows[owner]
    integers, floats = integer[at[:INTEGER_COLUMNS]], value[at[INTEGER_COLUMNS:]]
    names = np.array([len(head.metrics) for head in heads], np.int64)
    wrong = _row_errors(integers, floats, names[owner])
    claimed = np.add.reduceat(integers[-1], row_start[:-1])
    faults = [(int(owner[row]), text) for row, text in wrong]
    if not faults:
        text = "the panes claim more or fewer buckets than there are"
        faults = [(table, text) for table in np.flatnonzero(claimed != buckets).tolist()]
    if faults:
        return Summaries.empty(), faults
    key_at = ragged_arange(table_start + PANE_COLUMNS * rows, buckets)
    key, number = integer[key_at], integer[key_at + np.repeat(buckets, buckets)]
    sketch_start = starts_of(integers[-1])
    faults = [(int(owner[row]), text) for row, text in _sketch_errors(sketch_start, key, number, integers[3])]
    codes: dict[str, int] = {}
    lookup = np.array([codes.setdefault(name, len(codes)) for head in heads for name in head.metrics], np.int32)
    metric, start, width, count, first_after, last_after, _ = integers
    mean, m2, low, high, first, last = floats
    panes = Summaries(
        metrics=tuple(codes),
        metric=lookup[starts_of(names)[owner] + metric],
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
    return panes, faults


def _row_errors(integers: Int64, floats: Float64, names: Int64) -> list[tuple[int, str]]:
    """Finds (row, what is wrong) of panes with fields out of range; `names` is the size of each row's dictionary."""
    metric, start, width, count, first_after, last_after, buckets = integers
    in_range = (
        (metric >= 0)
        & (metric < names)
        & (np.abs(start) < _TIME_MAX)
        & (start != np.iinfo(np.int64).min)  # Its absolute value is itself.
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
    finite = np.isfinite(floats).all(axis=0)
    _, m2, low, high, first, last = floats
    ordered = ~finite | ((low <= np.minimum(first, last)) & (np.maximum(first, last) <= high) & (m2 >= 0))
    checks = (
        (in_range, "a pane has a metric, time, count or sketch out of range"),
        (finite, "a pane has a field that is not finite"),
        (ordered, "a pane's first or last is outside of its min and max, or its m2 negative"),
    )
    return [(row, text) for good, text in checks if not good.all() for row in np.flatnonzero(~good).tolist()]


def _sketch_errors(sketch_start: Int64, key: Int64, number: Int64, count: Int64) -> list[tuple[int, str]]:
    """Finds (row, what is wrong) of the sketches of panes with `count` (n,) readings."""
    if not len(key):
        return []
    size = np.diff(sketch_start)
    out = (key < -(1 << 31)) | (key >= 1 << 31) | (number < 1) | (number >= _TIME_MAX)
    falls = np.diff(key, prepend=key[:1]) <= 0
    falls[sketch_start[:-1][size > 0]] = False
    filled = np.flatnonzero(size)
    total = np.add.reduceat(number, sketch_start[filled])
    row = np.repeat(np.arange(len(size)), size)
    checks = (
        (row[out], "a sketch has a key or count out of range"),
        (row[falls], "the keys of a sketch do not ascend"),
        (filled[total != count[filled]], "the buckets of a sketch do not add up to its count"),
    )
    return [(bad, text) for rows, text in checks for bad in rows.tolist()]
