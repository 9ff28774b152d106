"""Tells glibc's allocator what is dear: memory on a device, time on a hub."""

import ctypes
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_TOP_PAD: Final = -2
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
_SPARED_BYTES: Final = 2 * 1024 * 1024
_BLOCK_BYTES: Final = 8 * 1024 * 1024
_KEPT_BYTES: Final = 64 * 1024 * 1024
_MMAP_MIN_BYTES: Final = 16 * 1024 * 1024


def spare_memory() -> bool:
    """Uses one arena, without padding, and gives free memory back early; call it before large imports.

    Arrays of one block of readings come from the heap all the same and may leave 2 MiB free at its top: fresh pages for
    each of them would cost as much time as the arithmetic.

    Returns False where there is no glibc (musl, macOS): then nothing is changed.
    """
    return _set(
        (_M_ARENA_MAX, 1), (_M_TOP_PAD, 0), (_M_TRIM_THRESHOLD, _SPARED_BYTES), (_M_MMAP_THRESHOLD, _BLOCK_BYTES)
    )


def keep_memory() -> bool:
    """Keeps up to 64 MiB of free memory for the next batch: fresh pages cost more than filling them with columns.

    Returns False where there is no glibc: then nothing is changed.
    """
    return _set((_M_MMAP_THRESHOLD, _MMAP_MIN_BYTES), (_M_TRIM_THRESHOLD, _KEPT_BYTES))


def _set(*settings: tuple[int, int]) -> bool:
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return all([mallopt(name, value) for name, value in settings])  # noqa: C419 each one has to be called
