"""The columns of frames as compact blobs, and back, bit for bit (format: docs/store.md).

A batch is encoded as a whole and cut into frames afterwards: about 40 ns a reading, and no Python per reading.
All integers are zigzag LEB128 varints; a run is what one frame holds of one metric, as far as it lies together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from headwater.batch import Batch
from headwater.errors import CorruptStateError
from headwater.frame import Float64, Int64, UInt8

EXACT = 255
DECIMALS_MAX = 9
_POWERS = 10.0 ** np.arange(DECIMALS_MAX + 1)
_SCALED_MAX = float(1 << 53)
Bool = npt.NDArray[np.bool_]


def to_varints(values: Int64) -> tuple[bytes, Int64]:
    """Encodes int64 (n,) as zigzag varints; returns the bytes and int64 (n + 1,), where each number begins.

    >>> to_varints(np.array([0, -1, 64]))[0].hex()
    '00018001'
    """
    rest = ((values << 1) ^ (values >> 63)).view(np.uint64)
    size = np.ones(len(values), np.int64)
    high = rest >> np.uint64(7)
    while high.any():
        size += high != 0
        high >>= np.uint64(7)
    begin = np.zeros(len(values) + 1, np.int64)
    np.cumsum(size, out=begin[1:])
    out = np.empty(int(begin[-1]), np.uint8)
    at = begin[:-1]
    while len(rest):
        more = rest > np.uint64(127)
        out[at] = (rest & np.uint64(127)).astype(np.uint8) | (more.astype(np.uint8) << np.uint8(7))
        at = at[more] + 1
        rest = rest[more] >> np.uint64(7)
    return out.tobytes(), begin


def from_varints(data: bytes) -> Int64:
    """Decodes zigzag varints.

    >>> from_varints(bytes.fromhex("00018001")).tolist()
    [0, -1, 64]

    Raises:
        CorruptStateError: a number is cut or too long.
    """
    raw = np.frombuffer(data, np.uint8)
    if not len(raw):
        return np.empty(0, np.int64)
    stop = np.flatnonzero(raw < 128)
    if not len(stop) or stop[-1] != len(raw) - 1:
        raise CorruptStateError("a varint is cut")
    begin = np.concatenate(([0], stop[:-1] + 1))
    size = stop - begin + 1
    if size.max() > 10:
        raise CorruptStateError("a varint has more than 10 bytes")
    place = np.arange(len(raw)) - np.repeat(begin, size)
    parts = (raw & 127).astype(np.uint64) << (place * 7).astype(np.uint64)
    folded = np.bitwise_or.reduceat(parts, begin)
    return (folded >> np.uint64(1)).view(np.int64) ^ -(folded & np.uint64(1)).view(np.int64)


def _running(values: Int64, begin: Int64, length: Int64) -> Int64:
    """Cumulative sums that restart at each `begin`; lengths are at least 1. Wraps like int64, and so undoes deltas."""
    total = np.cumsum(values)
    return total - np.repeat(total[begin] - values[begin], length)


def _begins(length: Int64) -> Int64:
    return np.cumsum(length) - length


@dataclass(frozen=True, slots=True, eq=False)
class FrameBlobs:
    """The readings of k frames as blobs, a list entry each; None stands for an empty blob.

    Attributes:
        start_us: int64 (k,), the first of the readings' times and of `earliest_us`.
        end_us: int64 (k,), the last reading's time + 1; the smallest int64 where there are none.
        runs, times, scaled, exact, quality: see docs/store.md.
        run_metric, run_frame, run_last: int64 (r,) each: the store's number of the metric, the row of the frame and
            the reading that ends the run.
    """

    start_us: Int64
    end_us: Int64
    runs: list[bytes | None]
    times: list[bytes | None]
    scaled: list[bytes | None]
    exact: list[bytes | None]
    quality: list[bytes | None]
    run_metric: Int64
    run_frame: Int64
    run_last: Int64


def _cut(data: bytes, at: Int64) -> list[bytes | None]:
    marks = at.tolist()
    return [data[lo:hi] if hi > lo else None for lo, hi in pairwise(marks)]


def _decimals(value: Float64, begin: Int64, length: Int64) -> tuple[npt.NDArray[np.uint8], Int64]:
    """The fewest decimals that hold each run exactly (EXACT if none do), and the scaled values (0 where EXACT)."""
    decimals = np.full(len(begin), EXACT, np.uint8)
    scaled = np.zeros(len(value), np.int64)
    bits = value.view(np.int64)
    open_runs = np.arange(len(begin))
    for places, power in enumerate(_POWERS):
        if not len(open_runs):
            break
        # One reading tells most runs that they need more places, before all of them are tried.
        probe = begin[open_runs] + length[open_runs] // 2
        likely = open_runs[_scales(value[probe], bits[probe], power)[0]]
        if not len(likely):
            continue
        runs = likely if len(likely) < len(begin) else slice(None)
        size = length[runs]
        rows = np.arange(int(size.sum())) + np.repeat(begin[runs] - _begins(size), size)
        fits, numbers = _scales(value[rows], bits[rows], power)
        done = np.logical_and.reduceat(fits, _begins(size))
        settled = likely[done]
        decimals[settled] = places
        inside = np.repeat(done, size)
        scaled[rows[inside]] = numbers[inside]
        open_runs = open_runs[decimals[open_runs] == EXACT]
    return decimals, scaled


def _scales(value: Float64, bits: Int64, power: float) -> tuple[Bool, Int64]:
    with np.errstate(over="ignore"):
        number = np.rint(value * power)
    small = np.abs(number) < _SCALED_MAX
    whole = np.where(small, number, 0.0).astype(np.int64)
    return small & ((whole / power).view(np.int64) == bits), whole


def run_bounds(batch: Batch, metric: Int64) -> tuple[Int64, Int64, Int64]:
    """Returns where runs of `metric` within a frame begin, how long they are, and in which frame; three int64 columns."""
    n = len(metric)
    first = np.zeros(n, np.bool_)
    first[1:] = metric[1:] != metric[:-1]
    starts = batch.reading_start[:-1]
    first[starts[starts < batch.reading_start[1:]]] = True
    begin = np.flatnonzero(first)
    length = np.diff(np.append(begin, n))
    return begin, length, np.searchsorted(batch.reading_start, begin, side="right") - 1


def _time_stream(time_us: Int64, begin: Int64, length: Int64, base: Int64) -> Int64:
    """Per run: offset from the frame's start, then the first step, then how much each step differs from the last."""
    step = np.empty_like(time_us)
    step[1:] = time_us[1:] - time_us[:-1]
    step[begin] = time_us[begin] - base
    out = step.copy()
    out[1:] -= step[:-1]
    out[begin] = step[begin]
    second = begin[length > 1] + 1
    out[second] = step[second]
    return out


def encode(batch: Batch, metric_ids: Int64, earliest_us: Int64) -> FrameBlobs:
    """Encodes all readings of a batch; `metric_ids[i]` is the store's number of `batch.metrics[i]`.

    `earliest_us`, int64 (k,), is what else the frames cover: none begins later than it.
    """
    k, n, starts = len(batch), batch.reading_count, batch.reading_start
    none: list[bytes | None] = [None] * k
    start_us, end_us = earliest_us.copy(), np.full(k, np.iinfo(np.int64).min)
    if not n:
        empty = np.empty(0, np.int64)
        return FrameBlobs(start_us, end_us, none, none, none, none, none, empty, empty, empty)
    metric = metric_ids[batch.metric]
    begin, length, frame = run_bounds(batch, metric)
    held = np.flatnonzero(np.diff(starts))
    start_us[held] = np.minimum(earliest_us[held], np.minimum.reduceat(batch.time_us, starts[held]))
    end_us[held] = np.maximum.reduceat(batch.time_us, starts[held]) + 1

    # A run whose time axis equals that of the run before it, in the same frame, keeps no times of its own.
    same = np.zeros(len(begin), np.bool_)
    same[1:] = (length[1:] == length[:-1]) & (frame[1:] == frame[:-1])
    back = np.repeat(np.where(same, length, 0), length)
    same &= np.logical_and.reduceat(batch.time_us == batch.time_us[np.arange(n) - back], begin)
    kept_runs = ~same
    kept = np.repeat(kept_runs, length)
    kept_length = length[kept_runs]
    times, time_at = to_varints(
        _time_stream(batch.time_us[kept], _begins(kept_length), kept_length, start_us[frame[kept_runs]])
    )
    kept_before = np.concatenate(([0], np.cumsum(kept)))

    decimals, scaled = _decimals(np.ascontiguousarray(batch.value), begin, length)
    delta = np.empty_like(scaled)
    delta[1:] = scaled[1:] - scaled[:-1]
    delta[begin] = scaled[begin]
    is_exact = np.repeat(decimals == EXACT, length)
    exact_before = np.concatenate(([0], np.cumsum(is_exact)))
    numbers, number_at = to_varints(delta[~is_exact] if exact_before[-1] else delta)

    run_metric = metric[begin]
    runs = np.empty((len(begin), 3), np.int64)
    runs[:, 0] = run_metric
    runs[1:, 0] -= np.where(frame[1:] == frame[:-1], run_metric[:-1], 0)
    runs[:, 1] = length * 2 + same
    runs[:, 2] = decimals
    heads, head_at = to_varints(runs.ravel())
    run_before = np.searchsorted(frame, np.arange(k + 1))

    not_good = np.concatenate(([0], np.cumsum(batch.quality != 0)))[starts]
    quality = _cut(batch.quality.tobytes(), starts) if not_good[-1] else none
    return FrameBlobs(
        start_us,
        end_us,
        _cut(heads, head_at[run_before * 3]),
        _cut(times, time_at[kept_before[starts]]),
        _cut(numbers, number_at[starts - exact_before[starts]]),
        _cut(batch.value[is_exact].astype("<f8").tobytes(), exact_before[starts] * 8),
        [blob if flag else None for blob, flag in zip(quality, np.diff(not_good).tolist(), strict=True)],
        run_metric,
        frame,
        begin + length - 1,
    )


@dataclass(frozen=True, slots=True, eq=False)
class FrameColumns:
    """The readings of frames, decoded: a row each, in the order of frames and runs.

    Attributes:
        frame: int64 (n,), index of the frame among those given.
        metric: int64 (n,), the store's number of the metric.
        time_us, value, quality: int64, float64, uint8 (n,).
    """

    frame: Int64
    metric: Int64
    time_us: Int64
    value: Float64
    quality: UInt8


BlobRow = tuple[int, int, bytes | None, bytes | None, bytes | None, bytes | None, bytes | None]


def decode(rows: Sequence[BlobRow]) -> FrameColumns:
    """Decodes frames given as (start_us, readings, runs, times, scaled, exact, quality).

    Raises:
        CorruptStateError: the blobs contradict each other.
    """
    run_bytes = b"".join(row[2] or b"" for row in rows)
    run = from_varints(run_bytes)
    if len(run) % 3:
        raise CorruptStateError("the runs of a frame are cut")
    run = run.reshape(-1, 3)
    readings = np.fromiter((row[1] for row in rows), np.int64, len(rows))
    length, same, decimals = run[:, 1] >> 1, (run[:, 1] & 1).astype(np.bool_), run[:, 2]
    n = int(readings.sum())
    after = np.cumsum(length)
    if (length < 1).any() or (int(after[-1]) if len(after) else 0) != n:
        raise CorruptStateError("the runs of a frame don't add up to its readings")
    if not n:
        empty = np.empty(0, np.int64)
        return FrameColumns(empty, empty, empty, np.empty(0), np.empty(0, np.uint8))
    begin = after - length
    run_frame = np.searchsorted(np.cumsum(readings), begin, side="right")
    new_frame = np.diff(run_frame, prepend=-1) != 0
    first_run = np.flatnonzero(new_frame)
    run_metric = _running(run[:, 0], first_run, np.diff(np.append(first_run, len(run))))
    return FrameColumns(
        np.repeat(run_frame, length),
        np.repeat(run_metric, length),
        _times(rows, begin, length, same, run_frame),
        _values(rows, length, decimals),
        _qualities(rows, readings),
    )


def _times(rows: Sequence[BlobRow], begin: Int64, length: Int64, same: Bool, run_frame: Int64) -> Int64:
    start_us = np.fromiter((row[0] for row in rows), np.int64, len(rows))
    step = from_varints(b"".join(row[3] or b"" for row in rows))
    kept_length = length[~same]
    if same[0] or len(step) != kept_length.sum():
        raise CorruptStateError("the times of a frame don't fit its runs")
    at = _begins(kept_length)
    offset = step[at].copy()
    step[at] = 0
    step = _running(step, at, kept_length)
    step[at] = offset + start_us[run_frame[~same]]
    kept_time = _running(step, at, kept_length)
    source = at[np.cumsum(~same) - 1]
    picked: Int64 = kept_time[np.arange(int(length.sum())) + np.repeat(source - begin, length)]
    return picked


def _values(rows: Sequence[BlobRow], length: Int64, decimals: Int64) -> Float64:
    floats = b"".join(row[5] or b"" for row in rows)
    if len(floats) % 8:
        raise CorruptStateError("the exact values of a frame are cut")
    exact = np.frombuffer(floats, "<f8")
    delta = from_varints(b"".join(row[4] or b"" for row in rows))
    is_exact = np.repeat(decimals == EXACT, length)
    if len(exact) != np.count_nonzero(is_exact) or len(exact) + len(delta) != len(is_exact):
        raise CorruptStateError("the values of a frame don't fit its runs")
    value = np.empty(len(is_exact))
    value[is_exact] = exact
    scaled_runs = np.flatnonzero(decimals != EXACT)
    if len(scaled_runs):
        size, places = length[scaled_runs], decimals[scaled_runs]
        if ((places < 0) | (places > DECIMALS_MAX)).any():
            raise CorruptStateError("a run has an impossible number of decimals")
        value[~is_exact] = _running(delta, _begins(size), size) / np.repeat(_POWERS[places], size)
    return value


def _qualities(rows: Sequence[BlobRow], readings: Int64) -> UInt8:
    quality = np.zeros(int(readings.sum()), np.uint8)
    at = 0
    for row in rows:
        if row[6]:
            if len(row[6]) != row[1]:
                raise CorruptStateError("the qualities of a frame don't fit its readings")
            quality[at : at + row[1]] = np.frombuffer(row[6], np.uint8)
        at += row[1]
    return quality
