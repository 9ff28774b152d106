"""Means over a metric's newest samples, from sums of four: elementwise, so that no cut into blocks changes a bit."""

import numpy as np
import numpy.typing as npt

from headwater.frame import Float64, Int64


def sums_of_four(history: Float64) -> Float64:
    """Returns float64 (m, n - 3): the sum of each four neighbouring samples of (m, n).

    >>> sums_of_four(np.arange(6.0)[None, :]).tolist()
    [[6.0, 10.0, 14.0]]
    """
    pair = history[:, 1:] + history[:, :-1]
    return np.asarray(pair[:, 2:] + pair[:, :-2])


def means_of_four(history: Float64, count: int) -> Float64:
    """Returns for each of the newest `count` samples the mean of the four before it.

    >>> means_of_four(np.arange(6.0)[None, :], 2).tolist()
    [[1.5, 2.5]]
    """
    return np.asarray(sums_of_four(history)[:, -count - 1 : -1] / 4)


def level_contrasts(history: Float64, at: Int64, recent: int, before: int) -> Float64:
    """Returns float64 (m, k): at each of k columns the mean of the `recent` samples minus that of the `before` ones.

    Both widths are multiples of four. A contrast that looks back on a NaN is 0.

    >>> level_contrasts(np.repeat([[1.0, 3.0]], [16, 4], axis=1), np.array([19]), 4, 16).tolist()
    [[2.0]]
    """
    four, end = sums_of_four(history), at - 3
    new = sum((four[:, end - ago] for ago in range(0, recent, 4)), np.zeros(1))
    old = sum((four[:, end - recent - ago] for ago in range(0, before, 4)), np.zeros(1))
    contrast = new / recent - old / before
    return np.where(np.isnan(contrast), 0.0, contrast)


def is_full(table: Float64, usable: npt.NDArray[np.bool_]) -> bool:
    """Tells whether at least one usable metric has a whole row of values."""
    return bool((np.isfinite(table).all(axis=1) & usable).any())
