"""Metric names and reductions of a block as one byte string, joined by NUL and looked up instead of parsed."""

import re
from functools import lru_cache
from typing import Final

from headwater.errors import DecodeError
from headwater.names import is_metric, is_name
from headwater.reasons import DeadLetterReason

_REDUCTION: Final = re.compile(r"[a-z]{1,16}(:[0-9A-Za-z.+-]{1,32})?")
_CACHE_MAX: Final = 4096
_LONG_BYTES: Final = 16 * 1024


def join_names(names: tuple[str, ...]) -> bytes:
    r"""Joins names for the wire.

    >>> join_names(("flow", "power"))
    b'flow\x00power'
    """
    return "\0".join(names).encode()


def is_reduction(text: str) -> bool:
    """Tells whether `text` may name a reduction.

    >>> is_reduction("swing:0.05"), is_reduction("swing 5")
    (True, False)
    """
    return _REDUCTION.fullmatch(text) is not None


def split_names(joined: bytes) -> tuple[str, ...]:
    r"""Returns the metric names in `joined`; the same bytes give the same tuple, mostly from a bounded cache.

    >>> split_names(b"flow\0power")
    ('flow', 'power')

    Raises:
        DecodeError: NAME for a bad name, SCHEMA for one that comes twice.
    """
    # A huge table is looked at afresh each time: keeping thousands of them would be an easy way to fill the memory.
    return _split_cached(joined) if len(joined) <= _LONG_BYTES else _split(joined)


def _split(joined: bytes) -> tuple[str, ...]:
    names = tuple(joined.decode("ascii", "replace").split("\0"))
    for name in names:
        if not is_metric(name):
            raise DecodeError(DeadLetterReason.NAME, f"metric {name[:140]!r}")
    if len(set(names)) != len(names):
        raise DecodeError(DeadLetterReason.SCHEMA, "a metric stands twice in one table of names")
    return names


_split_cached = lru_cache(maxsize=_CACHE_MAX)(_split)
is_name_cached = lru_cache(maxsize=4 * _CACHE_MAX)(is_name)
is_metric_cached = lru_cache(maxsize=4 * _CACHE_MAX)(is_metric)


@lru_cache(maxsize=_CACHE_MAX // 8)
def split_reductions(joined: bytes, count: int) -> tuple[str, ...]:
    r"""Returns the `count` reductions in `joined`, () for none.

    >>> split_reductions(b"raw\0swing:0.05", 2)
    ('raw', 'swing:0.05')

    Raises:
        DecodeError: SCHEMA.
    """
    if not joined:
        return ()
    reductions = tuple(joined.decode("ascii", "replace").split("\0"))
    if len(reductions) != count or not all(map(is_reduction, reductions)):
        raise DecodeError(DeadLetterReason.SCHEMA, f"{len(reductions)} reductions for {count} metrics, or a bad one")
    return reductions
