"""Noise from counters: every value is a hash of (key, counter), so any interval regenerates alone, bit for bit.

White noise is a table look-up of hashed 16-bit lanes; coloured noise is hashed lattice points joined so that the
variance stays one. Transcendental functions are used only to fill tables of fixed size: how an interval is cut can
then not change a bit (vector units may round a tail differently).
"""

from functools import cache, lru_cache
from hashlib import blake2b
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from headwater.frame import Float64, Int64

UInt64 = npt.NDArray[np.uint64]

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB
_LANE_BITS = 16


@lru_cache(maxsize=262_144)
def key_of(seed: int, *words: object) -> int:
    """Returns the 64-bit key of a stream of random numbers, named by a seed and words.

    >>> key_of(1, "pump-001", "flow_m3h") == key_of(1, "pump-001", "flow_m3h") != key_of(2, "pump-001", "flow_m3h")
    True
    """
    text = "\x1f".join(map(str, (seed, *words)))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def draw(key: int, counter: int) -> float:
    """Returns one uniform number in [0, 1) with 53 bits (Steele, Lea, Flood 2014: SplitMix64).

    >>> 0.0 <= draw(7, 0) < 1.0
    True
    """
    x = (counter * _GOLDEN + key) & _MASK
    x = ((x ^ (x >> 30)) * _MIX_1) & _MASK
    x = ((x ^ (x >> 27)) * _MIX_2) & _MASK
    return ((x ^ (x >> 31)) >> 11) / (1 << 53)


def _hashes(keys: UInt64, counters: Int64) -> UInt64:
    """Returns uint64 (m, n): SplitMix64 of each of m keys at each of n counters."""
    x: UInt64 = (counters.astype(np.uint64) * np.uint64(_GOLDEN))[None, :] + keys[:, None]
    x ^= x >> np.uint64(30)
    x *= np.uint64(_MIX_1)
    x ^= x >> np.uint64(27)
    x *= np.uint64(_MIX_2)
    x ^= x >> np.uint64(31)
    return x


@cache
def _normal_table() -> Float64:
    """Returns float64 (65536,): the normal quantiles at the middle of equal slices, scaled to variance one."""
    half = 1 << (_LANE_BITS - 1)
    quantile = NormalDist().inv_cdf
    upper = np.array([quantile(0.5 + (i + 0.5) / (2 * half)) for i in range(half)])
    table = np.concatenate([-upper[::-1], upper])
    return np.asarray(table / np.sqrt(np.mean(table * table)))


def white(keys: UInt64, counters: Int64) -> Float64:
    """Returns float64 (m, n): standard normal noise of m streams at n counters; tails reach six sigma.

    >>> keys, counters = np.array([1, 2], np.uint64), np.arange(10)
    >>> bool((white(keys, counters)[:, 3:5] == white(keys, counters[3:5])).all())
    True
    """
    table, hashes = _normal_table(), _hashes(keys, counters)
    lane = np.uint64((1 << _LANE_BITS) - 1)
    first = table[(hashes & lane).view(np.int64)]
    second = table[((hashes >> np.uint64(_LANE_BITS)) & lane).view(np.int64)]
    # 0.8² + 0.6² = 1: the sum of two lanes has variance one and, unlike one lane, finely stepped tails.
    first *= 0.8
    second *= 0.6
    first += second
    return first


@cache
def _weights(period: int) -> tuple[Float64, Float64]:
    """Returns cos and sin of a quarter turn in `period` steps: their squares add up to one."""
    angle = np.arange(period) * (np.pi / 2 / period)
    return np.cos(angle), np.sin(angle)


def smooth(keys: UInt64, start: int, stop: int, period: int) -> Float64:
    """Returns float64 (m, stop - start): noise of variance one that forgets itself within two periods.

    Counters are `start … stop - 1`; lattice points lie `period` counters apart.
    """
    first_cell = start // period
    lattice = white(keys, np.arange(first_cell, (stop - 1) // period + 2))
    counters = np.arange(start, stop)
    cell = counters // period - first_cell
    place = counters % period
    fall, rise = _weights(period)
    noise: Float64 = lattice[:, cell] * fall[place]
    noise += lattice[:, cell + 1] * rise[place]
    return noise


def as_keys(*keys: int) -> UInt64:
    """Returns keys as the column that `white` and `smooth` take."""
    return np.array(keys, np.uint64)
