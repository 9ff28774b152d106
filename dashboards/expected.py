"""The expected band of a metric: where the windows before would put the next one."""

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]

TRAIL_MAX = 30


def expected_band(
    mean: Float64, std: Float64, *, trail: int = TRAIL_MAX, width: float = 3.0
) -> tuple[Float64, Float64]:
    """Returns (lo, hi) per window from the up to `trail` windows before it; NaN for the first three.

    The centre is the median of those means, the half width `width` times the larger of their median standard
    deviation and the scaled median distance of the means from the centre (MAD × 1.4826), so that one odd window
    moves neither. mean, std: float64 (n,), ascending in time. O(n × trail).

    >>> lo, hi = expected_band(np.array([5.0, 5.0, 5.0, 9.0]), np.array([1.0, 1.0, 1.0, 1.0]))
    >>> float(lo[3]), float(hi[3])
    (2.0, 8.0)
    """
    count = len(mean)
    lo, hi = np.full(count, np.nan), np.full(count, np.nan)
    if count < 4:
        return lo, hi
    padding = np.full(trail, np.nan)
    before = np.lib.stride_tricks.sliding_window_view(np.concatenate([padding, mean]), trail)[:count]
    spread = np.lib.stride_tricks.sliding_window_view(np.concatenate([padding, np.nan_to_num(std)]), trail)[:count]
    centre = np.nanmedian(before[3:], axis=1)
    distance = 1.4826 * np.nanmedian(np.abs(before[3:] - centre[:, None]), axis=1)
    half = width * np.fmax(np.nanmedian(spread[3:], axis=1), distance)
    lo[3:], hi[3:] = centre - half, centre + half
    return lo, hi
