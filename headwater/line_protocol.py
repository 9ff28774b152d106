"""InfluxDB line protocol from columns (contracts §8): nanoseconds, exact floats, no Python per point.

    telemetry,site=north,device=pump-1,metric=flow value=12.25 1700000000000000000
    └───────── one text a series ────────────────┘ └─ field ─┘ └─ µs ─────────┘000

A chunk of lines is laid out as records of equal width, a column a part (headwater.decimal_text); what is only filling is
then left out of the whole buffer at once. A line never holds a line break inside, so bytes may be cut at line ends.

What has no representation: a tag without text is left out; a control character becomes a space, a backslash at the end
of a tag a slash; NaN, None and infinities are no field; a row without any field is no line.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from headwater.batch import Batch
from headwater.decimal_text import PAD, float_parts, integer_parts
from headwater.frame import Int64
from headwater.points import PointTable
from headwater.quality import BAD_MIN

ROWS_PER_CHUNK: Final = 8_192
# A pane begins a nanosecond after its start: a single reading with that very time keeps a point of its own.
PANE_NS: Final = 1
Bool = npt.NDArray[np.bool_]
Part = npt.NDArray[Any] | bytes

_CONTROLS: Final = dict.fromkeys((*range(32), 127), " ")
_TAG: Final = str.maketrans({",": "\\,", "=": "\\=", " ": "\\ "})
_STRING: Final = str.maketrans({"\\": "\\\\", '"': '\\"'})


def escape_tag(text: str) -> bytes:
    r"""Escapes a tag's value.

    >>> escape_tag("oil, hot=1 ")
    b'oil\\,\\ hot\\=1\\ '
    """
    plain = text.translate(_CONTROLS)
    stem = plain.rstrip("\\")
    return (stem.translate(_TAG) + "/" * (len(plain) - len(stem))).encode("utf-8", "replace")


def quote_string(text: str) -> bytes:
    r"""Quotes a string field.

    >>> quote_string('a "b"')
    b'"a \\"b\\""'
    """
    return b'"' + text.translate(_CONTROLS).translate(_STRING).encode("utf-8", "replace") + b'"'


def _pair(tag: str, text: str) -> bytes:
    return b",%s=%s" % (tag.encode(), escape_tag(text)) if text else b""


@dataclass(frozen=True, slots=True)
class Field:
    """A field of n rows: a float64, int64 or bool column, or one of objects that are str or None.

    Attributes:
        name: without any character that line protocol would escape.
        column: (n,); a float that is not finite and None are no field.
        is_told: where the field is told at all, None for everywhere.
    """

    name: str
    column: npt.NDArray[Any]
    is_told: Bool | None = None

    def present(self, rows: slice) -> Bool:
        """Where the rows have the field."""
        column = self.column[rows]
        if column.dtype.kind == "f":
            has: Bool = np.isfinite(column)
        elif column.dtype.kind == "O":
            has = np.fromiter((cell is not None for cell in column), bool, len(column))
        else:
            has = np.ones(len(column), bool)
        return has if self.is_told is None else has & self.is_told[rows]

    def parts(self, rows: slice, has: Bool) -> list[Part]:
        """The value's text as parts; anything where it is not present."""
        column = self.column[rows]
        if column.dtype.kind == "f":
            return list(float_parts(column if has.all() else np.where(has, column, 0.0)))
        if column.dtype.kind == "b":
            return [np.where(column, np.uint8(ord("t")), np.uint8(ord("f")))]
        if column.dtype.kind == "O":
            return [_texts([quote_string(cell) if cell is not None else b"" for cell in column])]
        return [*integer_parts(column.astype(np.int64)), b"i"]


def telemetry_lines(batch: Batch) -> list[bytes]:
    """Returns the lines of a batch's readings and summaries, frame by frame, in chunks that end with a line.

    A usable reading has the field `value`; a bad one (headwater.quality) has `bad` instead, so that no query takes it
    for a measurement; a quality other than good is told as `quality`. A pane has `value` (its mean), `min`, `max`, `std`
    and `count`, a nanosecond after its start.
    """
    series = _Series(batch)
    is_bad = batch.quality >= BAD_MIN
    readings = [
        Field("value", batch.value, ~is_bad),
        Field("bad", batch.value, is_bad),
        Field("quality", batch.quality, batch.quality != 0),
    ]
    device = np.repeat(batch.device, np.diff(batch.reading_start))
    prefixes, code = series.of(device, batch.metrics, batch.metric)
    lines = list(encode(prefixes, code, readings if batch.quality.any() else readings[:1], batch.time_us))
    panes = batch.summaries
    if len(panes):
        std = np.sqrt(np.maximum(panes.m2, 0.0) / panes.count)
        fields = [
            Field("value", panes.mean), Field("min", panes.min), Field("max", panes.max), Field("std", std),
            Field("count", panes.count),
        ]  # fmt: skip
        device = np.repeat(batch.device, np.diff(batch.summary_start))
        prefixes, code = series.of(device, panes.metrics, panes.metric)
        lines += encode(prefixes, code, fields, panes.start_us, PANE_NS)
    return lines


class _Series:
    """The texts in front of the fields, one a device and metric of a batch."""

    def __init__(self, batch: Batch) -> None:
        self._devices = [b"telemetry" + _pair("site", site) + _pair("device", device) for site, device in batch.devices]

    def of(self, device: npt.NDArray[np.int32], metrics: tuple[str, ...], metric: npt.NDArray[np.int32]) -> Any:
        """Returns (texts, int (n,) codes into them)."""
        key = device.astype(np.int64) * max(len(metrics), 1) + metric
        # Rows of one series stand side by side, so only the heads of these runs are sorted.
        head = np.flatnonzero(np.diff(key, prepend=-1))
        distinct, code = np.unique(key[head], return_inverse=True)
        names = [_pair("metric", name) for name in metrics]
        texts = [self._devices[pair // len(metrics)] + names[pair % len(metrics)] for pair in distinct.tolist()]
        return texts, np.repeat(code, np.diff(head, append=len(key)))


def point_lines(table: PointTable) -> list[bytes]:
    """Returns the lines of a table, in chunks that end with a line.

    Of rows with one identity only the last is told, or the last of the highest `revision`: what a store that
    overwrites would keep, without asking it in which order it takes points of one request.
    """
    if not len(table):
        return []
    codes = np.stack([tag.code.astype(np.int64) for tag in table.tags.values()])
    sizes = np.array([len(tag.dictionary) for tag in table.tags.values()])
    key = np.ravel_multi_index(tuple(codes), tuple(sizes.tolist())) if np.prod(sizes.astype(float)) < 2**62 else None
    assert key is not None, "tags of one table have fewer combinations than there are integers"
    distinct, code = np.unique(key, return_inverse=True)
    tags = list(table.tags.items())
    escaped = [[_pair(name, text) for text in tag.dictionary] for name, tag in tags]
    places = np.unravel_index(distinct, tuple(sizes.tolist()))
    head = table.measurement.encode()
    texts = [
        head + b"".join(map(list.__getitem__, escaped, place))
        for place in zip(*(p.tolist() for p in places), strict=True)
    ]
    rows = _newest(code, table)
    fields = [Field(name, column[rows]) for name, column in table.fields.items()]
    return list(encode(texts, code[rows], fields, table.time_us[rows]))


def _newest(code: Int64, table: PointTable) -> Int64:
    """Rows that are the last of their identity, by revision where there is one; in their order."""
    if table.measurement != "window":
        return np.arange(len(code))
    revision = table.fields.get("revision", np.zeros(len(code), np.int64))
    order = np.lexsort((np.arange(len(code)), revision, table.time_us, code))
    is_last = np.append((np.diff(code[order]) != 0) | (np.diff(table.time_us[order]) != 0), True)
    return np.sort(order[is_last])


def encode(
    prefixes: Sequence[bytes], code: Int64, fields: Sequence[Field], time_us: Int64, extra_ns: int = 0
) -> Iterator[bytes]:
    r"""Yields the lines of n rows in chunks of up to ROWS_PER_CHUNK.

    Args:
        prefixes: measurement and tags, a text a series.
        code: int (n,), index into `prefixes`.
        fields: in the order in which they are told.
        time_us: int64 (n,).
        extra_ns: 0 to 999, added to every time.

    >>> b"".join(encode([b"m,a=b"], np.zeros(2, int), [Field("v", np.array([1.5, np.nan]))], np.array([7, 8])))
    b'm,a=b v=1.5 7000\n'
    """
    table = _texts(prefixes)
    for low in range(0, len(code), ROWS_PER_CHUNK):
        rows = slice(low, low + ROWS_PER_CHUNK)
        parts: list[Part] = [table[code[rows]]]
        began = np.zeros(len(code[rows]), bool)
        for field in fields:
            has = field.present(rows)
            if not has.any():
                continue
            name = field.name.encode()
            if not began.any():
                told: list[Part] = [b" %s=" % name]
            elif began.all():
                told = [b",%s=" % name]
            else:
                told = [np.where(began, np.uint8(ord(",")), np.uint8(ord(" "))), b"%s=" % name]
            told += field.parts(rows, has)
            parts += told if has.all() else [_only(part, has) for part in told]
            began |= has
        parts += [b" ", *integer_parts(time_us[rows]), b"%03d\n" % extra_ns]
        yield _join(parts if began.all() else [_only(part, began) for part in parts], len(began))


def cut_lines(lines: bytes, lines_max: int, bytes_max: int) -> Iterator[bytes]:
    r"""Yields pieces of whole lines, in order: at most `lines_max`, and at most `bytes_max` bytes unless one line is longer.

    >>> list(cut_lines(b"a\nbb\nccc\n", 2, 100))
    [b'a\nbb\n', b'ccc\n']
    """
    end = np.flatnonzero(np.frombuffer(lines, np.uint8) == ord("\n")) + 1
    row, start = 0, 0
    while row < len(end):
        fitting = int(np.searchsorted(end, start + bytes_max, side="right"))
        row = min(row + lines_max, max(fitting, row + 1), len(end))
        yield lines[start : end[row - 1]]
        start = int(end[row - 1])


def _texts(texts: Sequence[bytes]) -> npt.NDArray[Any]:
    """Returns V (n,) with PADs after each text."""
    width = max(map(len, texts), default=0) or 1
    return np.frombuffer(b"".join(text.ljust(width, b"\xff") for text in texts), f"V{width}")


def _only(part: Part, has: Bool) -> npt.NDArray[Any]:
    """Returns the part with PADs in the rows that don't have it."""
    if isinstance(part, bytes):
        return _texts([b"\xff" * len(part), part])[has.astype(np.intp)]
    masked = part.copy()
    masked[~has] = np.frombuffer(b"\xff" * part.itemsize, part.dtype)[0]
    return masked


def _join(parts: Sequence[Part], n: int) -> bytes:
    """Returns the rows one after the other, without PADs."""
    kinds = [(str(at), f"V{len(part)}" if isinstance(part, bytes) else part.dtype) for at, part in enumerate(parts)]
    record = np.empty(n, np.dtype(kinds))
    for at, part in enumerate(parts):
        record[str(at)] = np.void(part) if isinstance(part, bytes) else part
    flat = record.view(np.uint8)
    return bytes(flat[flat != PAD])
