"""Numbers as decimal text, a column at a time: every text reads back as the same bits.

A text comes as parts of fixed width that stand side by side, filled up with PAD, which no UTF-8 text holds; whoever
puts the parts of a row together leaves the PADs out. So a number costs a few table look-ups and no Python.

    123.45  ─▶  PAD │ PAD PAD PAD PAD │ PAD 1 2 3 │ . │ 4 5 PAD PAD
                sign  four digits each …            point  four digits each …

A float is written as a decimal of up to eight places where that is exact (which most sensors' readings are), else with
15, 16 or 17 digits, whichever is the first to read back as the same bits, from a product that is exact by
Dekker's splitting ("A floating-point technique for extending the available precision", 1971); what is beyond that, by
Python's `repr`.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from headwater.frame import Float64, Int64

Part = npt.NDArray[Any]
Bool = npt.NDArray[np.bool_]

PAD: Final = 0xFF
PLACES: Final = 8
_POWER: Final = 10.0**PLACES
# Below so many digits a decimal and a float64 determine each other.
_SHORT_MAX: Final = 1e15
_LONG_DIGITS: Final = 17
_EXPONENT_MIN, _EXPONENT_MAX = -6, 16
_LONG_BYTES: Final = 24
_SPLITTER: Final = 134_217_729.0  # 2**27 + 1
_GROUP: Final = 10_000


def _group_tables() -> tuple[Part, Part, Part]:
    """Four-digit texts: for upper groups and units (with and without digits before them), and for fractions."""
    number = np.arange(_GROUP)
    full = np.stack([number // 10**place % 10 + ord("0") for place in (3, 2, 1, 0)], axis=1).astype(np.uint8)
    is_leading = np.stack([number < 10**place for place in (3, 2, 1, 0)], axis=1)
    is_trailing = np.stack([number % 10**place == 0 for place in (4, 3, 2, 1)], axis=1)
    left, right = np.where(is_leading, PAD, full), np.where(is_trailing, PAD, full)
    zero = left.copy()
    zero[0, 3] = ord("0")
    upper, units = np.concatenate((full, left)), np.concatenate((full, zero))
    fraction = np.concatenate((full, right))
    views = [table.astype(np.uint8).view(np.uint32).ravel() for table in (upper, units, fraction)]
    return views[0], views[1], views[2]


_UPPER, _UNITS, _FRACTION = _group_tables()
_PAD4: Final = np.uint32(0xFFFFFFFF)
_EXPONENT: Final = np.array(
    [(f"e{power}" if power else "").encode().ljust(4, b"\xff") for power in range(_EXPONENT_MIN, _EXPONENT_MAX + 1)]
).view(np.uint32)
_TENS: Final = np.array([float(10**power) for power in range(_EXPONENT_MAX - _EXPONENT_MIN + 1)])


def sign_part(is_negative: Bool) -> Part:
    """Returns uint8 (n,): a minus or PAD."""
    return np.where(is_negative, np.uint8(ord("-")), np.uint8(PAD))


def natural_parts(value: npt.NDArray[np.integer[Any]]) -> list[Part]:
    """Returns the digits of n integers of at least 0 as uint32 (n,) parts, as many as the largest needs.

    >>> [part.tobytes().replace(bytes([PAD]), b"") for part in natural_parts(np.array([12345]))]
    [b'1', b'2345']
    """
    rest = value.astype(np.uint64)
    parts: list[Part] = []
    table = _UNITS
    while True:
        above = rest // np.uint64(_GROUP)
        digits = (rest - above * np.uint64(_GROUP)).astype(np.int64)
        parts.insert(0, table[digits + np.where(above == 0, _GROUP, 0)])
        if not above.any():
            return parts
        rest, table = above, _UPPER


def integer_parts(value: Int64) -> list[Part]:
    """Returns the text of n integers."""
    is_negative = value < 0
    magnitude = np.abs(value).view(np.uint64)  # The bits of −2^63 are its magnitude.
    return [sign_part(is_negative), *natural_parts(magnitude)] if is_negative.any() else natural_parts(magnitude)


def fraction_parts(groups: list[Int64]) -> list[Part]:
    """Returns a point and digits after it, four a group, without zeros at the end; nothing at all for zero."""
    parts: list[Part] = []
    is_end = np.ones(len(groups[0]), bool)
    for group in reversed(groups):
        if parts or group.any():
            parts.insert(0, _FRACTION[group + np.where(is_end, _GROUP, 0)])
        is_end &= group == 0
    return [np.where(is_end, np.uint8(PAD), np.uint8(ord("."))), *parts] if parts else []


def float_parts(value: Float64) -> list[Part]:
    """Returns the text of n finite floats; −0.0 keeps its sign.

    >>> b"".join(part.tobytes() for part in float_parts(np.array([-21.5]))).replace(bytes([PAD]), b"")
    b'-21.5'
    """
    magnitude = np.abs(value)
    with np.errstate(over="ignore"):
        scaled = np.rint(magnitude * _POWER)
    is_short = (scaled < _SHORT_MAX) & (scaled / _POWER == magnitude)
    is_negative = np.signbit(value)
    parts = [sign_part(is_negative)] if is_negative.any() else []
    if is_short.all():
        return parts + _short_parts(scaled.astype(np.int64))
    if is_short.any():
        for part in _short_parts(np.where(is_short, scaled, 0).astype(np.int64)):
            part[~is_short] = np.array(-1).astype(part.dtype)  # All bits set are PADs.
            parts.append(part)
    long = np.full(len(value), PAD, np.uint8).repeat(_LONG_BYTES).view(f"V{_LONG_BYTES}")
    long[~is_short] = _long_texts(magnitude[~is_short])
    return [*parts, long]


def _short_parts(scaled: Int64) -> list[Part]:
    """Decimals `scaled` / 10^PLACES."""
    whole = scaled // int(_POWER)
    fraction = scaled - whole * int(_POWER)
    high = fraction // _GROUP
    return natural_parts(whole) + fraction_parts([high, fraction - high * _GROUP])


def _product(a: Float64, b: Float64) -> tuple[Float64, Float64]:
    """Returns (rounded a·b, what rounding took away), exactly."""
    product = a * b
    a_high, b_high = a * _SPLITTER, b * _SPLITTER
    a_high, b_high = a_high - (a_high - a), b_high - (b_high - b)
    a_low, b_low = a - a_high, b - b_high
    return product, ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low


def _long_texts(value: Float64) -> Part:
    """Returns texts V24 (n,) of positive floats: `1.2345678901234567e-1`, or by `repr` where they are very small or large."""
    exponent = np.floor(np.log10(value)).astype(np.int64)
    is_plain: Bool = (exponent >= _EXPONENT_MIN) & (exponent <= _EXPONENT_MAX)
    exponent = np.where(is_plain, exponent, 0)
    plain: Float64 = np.where(is_plain, value, 1.0)
    power = _TENS[_LONG_DIGITS - 1 - exponent]
    product, rest = _product(plain, power)
    nearest = np.rint(rest)
    digits, rest = product.astype(np.int64) + nearest.astype(np.int64), rest - nearest
    # Half the gap to the next smaller float: a decimal nearer than that reads back as the same bits. It is the half
    # unit of 17 digits at least; the margin covers the rounding of the gap itself.
    reach = (plain - np.nextafter(plain, 0.0)) * power * (0.5 - 1e-12)
    exact = digits
    for unit in (10, 100):
        shorter = (exact + unit // 2 - (rest < 0)) // unit * unit
        digits = np.where(np.abs((shorter - exact) - rest) < reach, shorter, digits)
    low = 10 ** (_LONG_DIGITS - 1)
    is_plain &= (digits >= low) & (digits < 10 * low)
    lead = np.where(is_plain, digits // low, 0)
    tail = np.where(is_plain, digits - lead * low, 0)
    groups = [tail // _GROUP**place % _GROUP for place in (3, 2, 1, 0)]
    parts = [
        (lead + ord("0")).astype(np.uint8),
        *fraction_parts(groups),
        _EXPONENT[exponent - _EXPONENT_MIN],
    ]
    texts = np.full((len(value), _LONG_BYTES), PAD, np.uint8)
    at = 0
    for part in parts:
        texts[:, at : at + part.itemsize] = part.view(np.uint8).reshape(len(value), -1)
        at += part.itemsize
    for row in np.flatnonzero(~is_plain).tolist():
        texts[row] = np.frombuffer(repr(float(value[row])).encode().ljust(_LONG_BYTES, b"\xff"), np.uint8)
    found: Part = texts.view(f"V{_LONG_BYTES}").ravel()
    return found
