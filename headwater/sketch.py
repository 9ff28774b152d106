"""A quantile sketch: counts in log-linear buckets, cut straight from the bits of float64.

A bucket is a sign, an exponent and the top six bits of the mantissa, so it is 1/64 of a power of two wide and its
middle is within 2^-7 of every value in it, relative to that value. Keys are integers in the order of the values, so
sketches merge by adding counts: exactly, in any order, on any machine. Zero and subnormal numbers share bucket 0.

The idea of relative buckets is that of DDSketch (Masson, Rim, Lee, VLDB 2019, doi 10.14778/3352063.3352135); taking
them from the bits as HdrHistogram does needs no logarithm and so no rounding that differs between machines.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from headwater.frame import Float64, Int32, Int64

RELATIVE_ERROR: Final = 2.0**-7
_SHIFT: Final = 46
_MAGNITUDE: Final = np.int64((1 << 63) - 1)
# The lowest normal number has exponent field 1, so 64 after the shift; it gets key 1.
_LOWEST: Final = 63
_GROUP_BITS: Final = 19


def bucket(value: Float64) -> Int32:
    """Returns the key of each finite value, int32 of the same shape; monotone in the value.

    >>> bucket(np.array([0.0, 1.0, 1.01, 1.02, -1.0])).tolist()
    [0, 65409, 65409, 65410, -65409]
    """
    bits = np.ascontiguousarray(value, np.float64).view(np.int64)
    wide = bits & _MAGNITUDE
    wide >>= _SHIFT
    wide -= _LOWEST
    key: Int32 = wide.astype(np.int32)
    np.maximum(key, 0, out=key)
    negative = bits < 0
    if negative.any():
        np.negative(key, out=key, where=negative)
    return key


def representative(key: Int32) -> Float64:
    """Returns the middle of each bucket, float64 of the same shape.

    >>> representative(bucket(np.array([20.0, 0.0, -3.0]))).tolist()
    [20.125, 0.0, -3.015625]
    """
    wide = np.asarray(key, np.int64)
    magnitude = ((np.abs(wide) + _LOWEST) << _SHIFT) + (1 << (_SHIFT - 1))
    value = np.where(wide == 0, 0, magnitude).view(np.float64)
    middle: Float64 = np.where(wide < 0, -value, value)
    return middle


def quantile_of_counts(key: Int32, count: Int64, q: float) -> float:
    """Returns the q-quantile (0 ≤ q ≤ 1) of one sketch: the middle of the bucket that holds the value of that rank.

    The rank is ceil(q·n), as numpy's method "inverted_cdf"; NaN for an empty sketch. Keys ascend.

    >>> quantile_of_counts(bucket(np.array([1.0, 2.0, 3.0])), np.array([1, 1, 1]), 0.5)
    2.015625
    """
    start = np.array([0, len(key)], np.int64)
    return float(quantiles_of_rows(start, key, count, (q,))[0, 0])


def quantiles_of_rows(start: Int64, key: Int32, count: Int64, qs: Sequence[float]) -> Float64:
    """Returns the quantiles of n sketches at once, float64 (n, len(qs)); row i owns `[start[i], start[i + 1])`.

    O((n · len(qs)) log k) for k buckets in all.
    """
    running = np.zeros(len(count) + 1, np.int64)
    np.cumsum(count, out=running[1:])
    low, high = running[start[:-1]], running[start[1:]]
    total = high - low
    rank = np.ceil(np.multiply.outer(total.astype(np.float64), np.asarray(qs, np.float64))).astype(np.int64)
    rank = np.clip(rank, 1, np.maximum(total, 1)[:, None])
    at = np.searchsorted(running[1:], low[:, None] + rank)
    empty = total == 0
    at[empty] = 0
    if not len(key):
        return np.full(at.shape, np.nan)
    value = representative(key[at])
    value[empty] = np.nan
    return value


def count_buckets(group: npt.NDArray[np.integer], value: Float64, groups: int) -> tuple[Int64, Int32, Int64]:
    """Makes the sketches of n values in `groups` groups; returns (start (groups + 1,), keys, counts).

    >>> start, key, count = count_buckets(np.array([0, 1, 0]), np.array([1.0, 2.0, 1.0]), 2)
    >>> start.tolist(), count.tolist()
    ([0, 1, 2], [2, 1])
    """
    return add_counts(group, bucket(value), np.ones(len(value), np.int64), groups)


def add_counts(group: npt.NDArray[np.integer], key: Int32, count: Int64, groups: int) -> tuple[Int64, Int32, Int64]:
    """Adds up the counts of equal keys within each group: how sketches are made and merged."""
    if not len(key):
        return np.zeros(groups + 1, np.int64), np.empty(0, np.int32), np.empty(0, np.int64)
    place = (group.astype(np.int64) << _GROUP_BITS) + (key.astype(np.int64) + (1 << (_GROUP_BITS - 1)))
    order = np.argsort(place, kind="stable")
    place = place[order]
    first = np.flatnonzero(np.diff(place, prepend=place[0] - 1))
    place = place[first]
    start = np.searchsorted(place >> _GROUP_BITS, np.arange(groups + 1))
    keys = ((place & ((1 << _GROUP_BITS) - 1)) - (1 << (_GROUP_BITS - 1))).astype(np.int32)
    return start.astype(np.int64), keys, np.add.reduceat(count[order], first)
