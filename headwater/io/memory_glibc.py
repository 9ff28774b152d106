"""Tells glibc's allocator to be thrifty: on a device memory is dearer than a little time in malloc."""

import ctypes
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_TOP_PAD: Final = -2
_M_ARENA_MAX: Final = -8


def spare_memory() -> bool:
    """Uses one arena, without padding, and gives free memory back early; call it before large imports.

    Returns False where there is no glibc (musl, macOS): then nothing is changed.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    settings = ((_M_ARENA_MAX, 1), (_M_TOP_PAD, 0), (_M_TRIM_THRESHOLD, 64 * 1024))
    return all([mallopt(name, value) for name, value in settings])  # noqa: C419 each one has to be called
