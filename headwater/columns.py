"""Column coding: tables of int64 columns as few bytes, and float64 columns as int64 ones, both without loss.

A table of c columns and n rows is c heads of two bytes, c first values, c columns of residuals:

    ┌ heads ────────────┬ firsts ───────────────┬ residuals, byte plane by byte plane ──────────────┐
    │ A B  A B  A B …   │ 0–8 bytes per column  │ plane 0: n − 1 bytes of each column with width > 0 │
    └───────────────────┴───────────────────────┤ plane 1: n − 1 bytes of each column with width > 1 │
                                                └ … ─────────────────────────────────────────────────┘
    A = width | first_width << 4        bytes per residual and of the first value, 0 to 8
    B = scale | kind << 5 | order << 7  see `Kind`; order 1: residual to the row before, order 0: to the first row

Residuals and firsts are zigzag coded, little-endian, modulo 2^64. A byte plane holds one byte of all residuals, so
deflate sees equal things side by side, and a decoder copies long runs. Floats become decimal integers q / 10^k where that is exact to the
bit (the idea of ALP, Afroozeh, Kuffó and Boncz, SIGMOD 2024, doi 10.1145/3626717), else their own bits.

Decoding works on many tables at once and never runs Python per column.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from headwater.frame import Float64, Int64, UInt8

Bool = npt.NDArray[np.bool_]
UInt64 = npt.NDArray[np.uint64]

HEAD_BYTES: Final = 2
SCALE_MAX: Final = 15
SHIFT_MAX: Final = 31
_POW10: Final = 10.0 ** np.arange(SCALE_MAX + 1)
_SAMPLES: Final = 4
_ORDER: Final = np.uint8(0x80)
# By the number of low bytes that stay.
_LOW_BYTES: Final = np.array([(1 << 8 * count) - 1 for count in range(9)], np.uint64)
# By the number of byte planes.
_UNSIGNED: Final = (np.uint8, np.uint8, np.uint16, *(np.uint32,) * 2, *(np.uint64,) * 4)


class Kind(IntEnum):
    """How a column's integers q become values; `scale` is the low five bits of the head's second byte.

    DECIMAL: q / 10^scale; with scale 0 also the way of integer columns.
    SIGNED_ZERO: likewise, with the integers above −0.0 moved up by one: … −1, −0.0, 0, 1 … are −1, 0, 1, 2.
    SINGLE: SIGNED_ZERO rounded to float32, for values that were float32 once (Modbus registers).
    BITS: the float64 with the bits `q << scale`.
    """

    DECIMAL = 0
    SIGNED_ZERO = 1
    SINGLE = 2
    BITS = 3


def zigzag(integer: Int64) -> UInt64:
    """Folds signed into unsigned integers so that small magnitudes are small.

    >>> zigzag(np.array([0, -1, 1, -2])).tolist()
    [0, 1, 2, 3]
    """
    return ((integer << 1) ^ (integer >> 63)).view(np.uint64)


def unzigzag(folded: UInt64) -> Int64:
    """Undoes `zigzag`.

    >>> unzigzag(np.array([0, 1, 2, 3], np.uint64)).tolist()
    [0, -1, 1, -2]
    """
    return (folded >> np.uint64(1)).view(np.int64) ^ -(folded & np.uint64(1)).view(np.int64)


def ragged_arange(start: Int64, length: Int64) -> Int64:
    """Returns the ranges `[start[i], start[i] + length[i])` one after the other.

    >>> ragged_arange(np.array([5, 0]), np.array([2, 3])).tolist()
    [5, 6, 0, 1, 2]
    """
    end = np.cumsum(length)
    ranges: Int64 = np.repeat(start - end + length, length)
    ranges += np.arange(len(ranges))
    return ranges


def encode_columns(integer: Int64, form: UInt8) -> bytes:
    """Codes c ≥ 1 columns of n ≥ 1 integers, (c, n); `form` (c,) is scale | kind << 5 of each.

    >>> encode_columns(np.array([[7, 8, 9, 10]]), np.zeros(1, np.uint8)).hex()
    '11800e020202'
    """
    columns, rows = integer.shape
    first = integer[:, 0]
    residual = integer[:, 1:] - integer[:, :1]
    order = np.zeros(columns, bool)
    if rows > 2:
        # A delta halves slow movement and doubles the variance of noise; each column takes what varies less.
        step = integer[:, 1:] - integer[:, :-1]
        order = _variation(step) <= _variation(residual)
        residual = np.where(order[:, None], step, residual)
    folded = zigzag(residual)
    first_folded = zigzag(first)
    peak = folded.max(axis=1).tolist() if rows > 1 else [0] * columns
    width = [(number.bit_length() + 7) >> 3 for number in peak]
    first_number = first_folded.tolist()
    first_width = [(number.bit_length() + 7) >> 3 for number in first_number]
    second = (form | np.where(order, _ORDER, np.uint8(0))).tolist()
    heads = bytearray()
    firsts = bytearray()
    for w, fw, b, number in zip(width, first_width, second, first_number, strict=True):
        heads += bytes((w | fw << 4, b))
        firsts += number.to_bytes(fw, "little")
    if rows == 1:
        return bytes(heads + firsts)
    planes = folded.astype("<u8", copy=False).view(np.uint8).reshape(columns, rows - 1, 8).transpose(2, 0, 1)
    used = np.arange(8)[:, None] < np.array(width)
    return b"".join((heads, firsts, planes[used].tobytes()))


def _variation(integer: Int64) -> Float64:
    """Returns the sum of squared distances from the mean of each row, near enough to compare two of them."""
    number = integer.astype(np.float64)
    total = np.add.reduce(number, axis=1)
    variation: Float64 = np.einsum("ij,ij->i", number, number) - total * total / number.shape[1]
    return variation


def _decimal_fit(value: Float64, scale: Int64) -> tuple[Int64, Bool, Bool]:
    """Tries q / 10^scale per column: (integers, columns that are exact, columns exact but for the sign of zeros)."""
    power = _POW10[scale][:, None]
    integer = np.rint(value * power).astype(np.int64)
    back = integer / power
    same = back.view(np.int64) == value.view(np.int64)
    exact = same.all(axis=1)
    if exact.all():
        return integer, exact, exact
    return integer, exact, (same | ((back == 0) & (value == 0))).all(axis=1)


def _guess_scale(value: Float64) -> Int64:
    """Returns per column the smallest scale at which a few of its values are exact, SCALE_MAX + 1 if none."""
    rows = value.shape[1]
    sample = value[:, :: max(1, rows // _SAMPLES)][:, : _SAMPLES + 1, None]
    fits = (np.rint(sample * _POW10) / _POW10 == sample).all(axis=1)
    return np.where(fits.any(axis=1), fits.argmax(axis=1), SCALE_MAX + 1)


def _move_zero(integer: Int64, value: Float64) -> Int64:
    moved: Int64 = integer + ((integer > 0) | ((integer == 0) & ~np.signbit(value)))
    return moved


def _fit_decimals(value: Float64, integer: Int64, form: UInt8, scale: Int64) -> Int64:
    """Fills in the columns that are decimals at `scale` or above and returns those that are not."""
    open_columns = np.arange(len(value))
    failed = [open_columns[scale > SCALE_MAX]]
    open_columns, scale = open_columns[scale <= SCALE_MAX], scale[scale <= SCALE_MAX]
    while len(open_columns):
        part = value[open_columns]
        fitted, exact, signed = _decimal_fit(part, scale)
        done = exact | signed
        integer[open_columns[exact]] = fitted[exact]
        form[open_columns[exact]] = scale[exact]
        zeros = signed & ~exact
        if zeros.any():
            integer[open_columns[zeros]] = _move_zero(fitted[zeros], part[zeros])
            form[open_columns[zeros]] = scale[zeros] | Kind.SIGNED_ZERO << 5
        open_columns, scale = open_columns[~done], scale[~done] + 1
        failed.append(open_columns[scale > SCALE_MAX])
        open_columns, scale = open_columns[scale <= SCALE_MAX], scale[scale <= SCALE_MAX]
    return np.concatenate(failed)


def integers_of(value: Float64) -> tuple[Int64, UInt8]:
    """Turns m columns of n floats, (m, n), into integers of the same shape and the form (m,) of each column.

    Any float64 is kept to the bit: signed zeros, infinities and NaN payloads included.

    >>> integer, form = integers_of(np.array([[20.1, 20.2], [0.1, 1 / 3]]))
    >>> integer[0].tolist(), form.tolist()
    ([201, 202], [1, 96])
    """
    value = np.ascontiguousarray(value, np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        scale = _guess_scale(value)
        if int(scale.max()) <= SCALE_MAX:  # Mostly the first guess holds for all columns.
            integer, exact, _ = _decimal_fit(value, scale)
            if exact.all():
                return integer, scale.astype(np.uint8)
        integer = np.empty(value.shape, np.int64)
        form = np.zeros(len(value), np.uint8)
        rest = _fit_decimals(value, integer, form, scale)
        for column in rest.tolist():
            _fit_single_or_bits(value[column], integer[column], form[column : column + 1])
    return integer, form


def _fit_single_or_bits(value: Float64, integer: Int64, form: UInt8) -> None:
    """Fills in one column whose values are not decimals."""
    single = value.astype(np.float32)
    bits = value.view(np.int64)
    if np.array_equal(single.astype(np.float64).view(np.int64), bits):
        for scale in range(7):  # A float32 holds at most seven decimal digits.
            fitted = np.rint(value * _POW10[scale]).astype(np.int64)
            moved = _move_zero(fitted, value)
            if np.array_equal(_from_signed_zero(moved, _POW10[scale]).astype(np.float32), single):
                integer[:] = moved
                form[:] = scale | Kind.SINGLE << 5
                return
    together = int(np.bitwise_or.reduce(bits))
    shift = min(SHIFT_MAX, (together & -together).bit_length() - 1) if together else 0
    integer[:] = bits >> shift
    form[:] = shift | Kind.BITS << 5


def _from_signed_zero(integer: Int64, power: Float64 | np.float64) -> Float64:
    value: Float64 = (integer - (integer > 0)) / power
    value[integer == 0] = -0.0
    return value


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Where the parts of T coded tables lie in one buffer; c columns and N cells in all.

    Attributes:
        bad: bool (T,), tables whose bytes contradict their shape; the rest is only meaningful if there is none.
        data: uint8, the bytes of all tables and a few zeros.
        rows: int64 (c,), rows of each column.
        cell_start: int64 (c + 1,), column j owns cells `[cell_start[j], cell_start[j + 1])`.
        column_start: int64 (T + 1,), table i owns columns `[column_start[i], column_start[i + 1])`.
        width, first_width: uint8 (c,).
        first_at: int64 (c,), where the first value of each column is in `data`.
        form: uint8 (c,), second byte of the head.
        planes: per plane in use where it begins and ends in `data` for each table, two int64 (T,).
    """

    bad: Bool
    data: UInt8
    rows: Int64
    cell_start: Int64
    column_start: Int64
    width: UInt8
    first_width: UInt8
    first_at: Int64
    form: UInt8
    planes: tuple[tuple[Int64, Int64], ...]


def starts_of(length: npt.NDArray[np.integer] | Bool) -> Int64:
    """Returns where each of n parts begins and the last one ends, int64 (n + 1,).

    >>> starts_of(np.array([2, 0, 3])).tolist()
    [0, 2, 2, 5]
    """
    start = np.zeros(len(length) + 1, np.int64)
    np.cumsum(length, out=start[1:])
    return start


def lay_out(data: bytes, start: Int64, size: Int64, columns: Int64, rows: Int64) -> Layout:
    """Reads the heads of T tables of `columns` (T,) ≥ 1 by `rows` (T,) ≥ 1; allocates nothing per row.

    The bytes of table i are `data[start[i] : start[i] + size[i]]`, in ascending order; others may lie between them.
    """
    # The heads of a table that is too short would be read from its neighbours: read zeros behind the end instead, and
    # first values are read in words of eight bytes.
    padding = HEAD_BYTES * int(columns.max(initial=0)) + 8
    byte = np.frombuffer(data + bytes(padding), np.uint8)
    column_start = starts_of(columns)
    begin = column_start[:-1]
    head_at = np.repeat(start - HEAD_BYTES * begin, columns)
    head_at += np.arange(0, HEAD_BYTES * len(head_at), HEAD_BYTES)
    head, form = byte[head_at], byte[head_at + 1]
    width, first_width = head & np.uint8(15), head >> np.uint8(4)
    bad_column = (width > 8) | (first_width > 8) | ((form & 0x60 != Kind.BITS << 5) & ((form & 31) > SCALE_MAX))
    column_rows = np.repeat(rows, columns)
    first_base = start + HEAD_BYTES * columns
    first_at = np.cumsum(first_width, dtype=np.int64)
    first_at -= first_width
    first_end: npt.NDArray[Any] = first_base + np.add.reduceat(first_width, begin, dtype=np.int64)
    first_at += np.repeat(first_base - first_at[begin], columns)
    end = first_end
    spans = []
    for plane in range(min(int(width.max(initial=0)), 8)):
        plane_start = end
        end = end + np.add.reduceat(width > plane, begin, dtype=np.int64) * (rows - 1)
        spans.append((plane_start, end))
    bad = (size < HEAD_BYTES * columns) | (end != start + size)
    if bad_column.any():
        bad |= np.logical_or.reduceat(bad_column, begin)
    return Layout(
        bad,
        byte,
        column_rows,
        starts_of(column_rows),
        column_start,
        width,
        first_width,
        first_at,
        form,
        tuple(spans),
    )


def _read_firsts(layout: Layout) -> Int64:
    """Takes the first value of each column out of the eight bytes at its place, which are one unaligned word."""
    width = layout.first_width
    word: UInt64 = np.ndarray((len(layout.data) - 7,), "<u8", layout.data, strides=(1,))
    return unzigzag(word[layout.first_at] & _LOW_BYTES[width])


def _read_residuals(layout: Layout) -> npt.NDArray[np.signedinteger]:
    """Returns the residuals of all cells in the narrowest type that holds them; anything at the first cells.

    Masks of one byte per cell pick the planes: index arrays would be eight times as large, and page faults on fresh
    memory are what decoding costs.
    """
    cell_start = layout.cell_start[:-1]
    widest = len(layout.planes)
    kind: Any = _UNSIGNED[widest]
    folded: npt.NDArray[Any] = np.zeros(int(layout.cell_start[-1]), kind)
    sides = np.tile(np.array([False, True]), len(layout.column_start) - 1)
    for plane, (begin, end) in enumerate(layout.planes):
        lengths = np.diff(np.column_stack((begin, end)).ravel(), prepend=0)
        byte = layout.data[: int(end[-1])][np.repeat(sides, lengths)]
        cells = np.repeat(layout.width > plane, layout.rows)
        cells[cell_start] = False
        if plane == 0:
            folded[cells] = byte
        else:
            folded[cells] |= byte.astype(kind) << kind(8 * plane)
    sign = folded & kind(1)
    folded >>= kind(1)
    signed = np.dtype(kind).str.replace("u", "i")
    residual: npt.NDArray[np.signedinteger] = folded.view(signed)
    residual ^= -sign.view(signed)
    return residual


def decode_integers(layout: Layout) -> Int64:
    """Returns the N cells of all columns, table by table and column by column; there must be no bad table."""
    if not len(layout.rows):
        return np.empty(0, np.int64)
    cell_start = layout.cell_start[:-1]
    integer = _read_residuals(layout).astype(np.int64)
    first = _read_firsts(layout)
    to_first = layout.form < _ORDER
    if to_first.any():
        # Residuals to the first row become steps, so that one running sum serves all columns.
        cells = np.repeat(to_first, layout.rows)
        cells[cell_start] = False
        integer[cell_start] = 0
        np.subtract(integer[1:], integer[:-1], out=integer[1:], where=cells[1:])
    integer[cell_start] = first
    # What the running sum has reached at the end of a column is taken off where the next one begins, modulo 2^64.
    last = np.add.reduceat(integer, cell_start)
    integer[cell_start[1:]] -= last[:-1]
    return np.cumsum(integer, out=integer)


def values_of(integer: Int64, form: UInt8, rows: Int64) -> Float64:
    """Undoes `integers_of` for c columns, `rows` (c,) cells each, one after the other.

    >>> values_of(np.array([201, 202]), np.array([1], np.uint8), np.array([2])).tolist()
    [20.1, 20.2]
    """
    scale, kind = form & 31, (form >> 5) & 3
    power = _POW10[np.minimum(scale, SCALE_MAX)]
    value: Float64 = np.repeat(power, rows)
    np.divide(integer, value, out=value)
    if kind.any():
        cell_kind = np.repeat(kind, rows)
        moved = np.flatnonzero((cell_kind == Kind.SIGNED_ZERO) | (cell_kind == Kind.SINGLE))
        value[moved] = _from_signed_zero(integer[moved], np.repeat(power, rows)[moved])
        single = np.flatnonzero(cell_kind == Kind.SINGLE)
        with np.errstate(over="ignore"):
            value[single] = value[single].astype(np.float32)
        bits = np.flatnonzero(cell_kind == Kind.BITS)
        value[bits] = (integer[bits] << np.repeat(scale, rows)[bits].astype(np.int64)).view(np.float64)
    return value
