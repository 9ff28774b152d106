"""What the page sends: rows and columns as JSON that browsers read exactly (no NaN, times below 2^53)."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

TEXT_MAX = 400
# Columns are rounded within these magnitudes, where scaling is exact enough; others go as they are.
SMALL, LARGE = 1e-9, 1e12


def plain(value: Any) -> Any:
    """Returns `value` as JSON types: arrays as lists, rows as objects, non-finite numbers as None, bytes as hex.

    >>> plain({"value": np.array([1.5, np.nan]), "epoch": 1 << 60})
    {'value': [1.5, None], 'epoch': '1152921504606846976'}
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)[:TEXT_MAX]
    if isinstance(value, int | np.integer):
        return int(value) if -(1 << 53) < value < 1 << 53 else str(int(value))
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.ndarray):
        return _column(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, bytes):
        return value[:TEXT_MAX].hex()
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Sequence | set | frozenset):
        return [plain(item) for item in value]
    return plain(value.item()) if isinstance(value, np.generic) else str(value)[:TEXT_MAX]


def _column(column: np.ndarray[Any, Any]) -> list[Any]:
    """An array as a list; floats at 7 significant digits, which is more than a screen shows."""
    if column.dtype.kind != "f":
        return [plain(item) for item in column.tolist()] if column.dtype.kind in "OSU" else list(column.tolist())
    finite = np.isfinite(column)
    is_plain = finite & (np.abs(column) > SMALL) & (np.abs(column) < LARGE)
    safe = np.where(is_plain, column, 1.0)
    scale = 10.0 ** (6 - np.floor(np.log10(np.abs(safe))))
    rounded = np.where(is_plain, np.round(safe * scale) / scale, column)
    return [value if good else None for value, good in zip(rounded.tolist(), finite.tolist(), strict=True)]


def json_text(value: Any) -> str:
    """Writes `value` as compact JSON on one line."""
    return json.dumps(plain(value), separators=(",", ":"), allow_nan=False)
