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
# One or more tags as texts such as b",site=north,device=pump-1", and integers (n,) into them.
Tag = tuple[Sequence[bytes], npt.NDArray[np.integer[Any]]]

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
    devices = [_pair("site", site) + _pair("device", device) for site, device in batch.devices]
    is_bad = batch.quality >= BAD_MIN
    readings = [
        Field("value", batch.value, ~is_bad),
        Field("bad", batch.value, is_bad),
        Field("quality", batch.quality, batch.quality != 0),
    ]
    tags = [
        (devices, np.repeat(batch.device, np.diff(batch.reading_start))),
        ([_pair("metric", name) for name in batch.metrics], batch.metric),
    ]
    lines = list(encode("telemetry", tags, readings if batch.quality.any() else readings[:1], batch.time_us))
    panes = batch.summaries
    if len(panes):
        std = np.sqrt(np.maximum(panes.m2, 0.0) / panes.count)
        fields = [
            Field("value", panes.mean), Field("min", panes.min), Field("max", panes.max), Field("std", std),
            Field("count", panes.count),
        ]  # fmt: skip
        tags = [
            (devices, np.repeat(batch.device, np.diff(batch.summary_start))),
            ([_pair("metric", name) for name in panes.metrics], panes.metric),
        ]
        lines += encode("telemetry", tags, fields, panes.start_us, PANE_NS)
    return lines


def point_lines(table: PointTable) -> list[bytes]:
    """Returns the lines of a table, in chunks that end with a line.

    Of windows with one identity only the last of the highest revision is told: what a store that overwrites should
    keep, without asking it in which order it takes points of one request.
    """
    rows = _newest(table) if table.measurement == "window" else slice(None)
    tags = [([_pair(name, text) for text in tag.dictionary], tag.code[rows]) for name, tag in table.tags.items()]
    fields = [Field(name, column[rows]) for name, column in table.fields.items()]
    return list(encode(table.measurement, tags, fields, table.time_us[rows]))


def _newest(table: PointTable) -> Int64:
    """Rows that are the last of their identity, by revision, in their order."""
    n = len(table)
    keys: list[npt.NDArray[Any]] = [table.time_us, *(tag.code for tag in table.tags.values())]
    order = np.lexsort((np.arange(n), table.fields.get("revision", np.zeros(n, np.int64)), *keys))
    is_last = np.ones(n, bool)
    is_last[:-1] = np.logical_or.reduce([np.diff(key[order]) != 0 for key in keys])
    return np.sort(order[is_last])


def encode(
    measurement: str, tags: Sequence[Tag], fields: Sequence[Field], time_us: Int64, extra_ns: int = 0
) -> Iterator[bytes]:
    r"""Yields the lines of n rows in chunks of up to ROWS_PER_CHUNK.

    Args:
        measurement: without any character that line protocol would escape.
        tags: in the order in which they are told.
        fields: likewise.
        time_us: int64 (n,).
        extra_ns: 0 to 999, added to every time.

    >>> tags, fields = [([b",a=b"], np.zeros(2, int))], [Field("v", np.array([1.5, np.nan]))]
    >>> b"".join(encode("m", tags, fields, np.array([7, 8])))
    b'm,a=b v=1.5 7000\n'
    """
    tables = [(_texts(texts), code) for texts, code in tags]
    for low in range(0, len(time_us), ROWS_PER_CHUNK):
        rows = slice(low, low + ROWS_PER_CHUNK)
        parts: list[Part] = [measurement.encode(), *(table[code[rows]] for table, code in tables)]
        began = np.zeros(len(time_us[rows]), bool)
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
