"""Many frame messages read at once, field by field over all of them, without an object per frame.

    bodies, one after the other in one buffer
    ┌ site device epoch seq … ┬ block ┬ block ┬ notes ┬ crc ┐┌ site device epoch …
    └─▶ position of each frame ─ a field further at a time ─▶ columns of fields ─▶ Heads, BlockHeads

A writer that puts the fields of `frame.proto` in the order of their numbers, each once, as protobuf's own writers do, is
read here. Whatever is otherwise, or out of range, makes `scan_heads` say None: `frame_heads.read_head` then reads the same
frames one by one, and says what is wrong with which.

The wire format is that of protobuf (protobuf.dev, "Encoding"). A varint is taken out of the eight bytes at its place, which
are one unaligned word, by shifts that close the gaps between its groups of seven bits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from headwater.columns import Bool, UInt64, starts_of
from headwater.envelope import CRC_FIELD_BYTES
from headwater.errors import DecodeError
from headwater.frame import READINGS_MAX, Float64, Int64, UInt8
from headwater.frame_heads import CLOCKS, BlockHeads, Heads, Notes, pane_cells, read_notes
from headwater.frame_records import LEDGER_MAX
from headwater.frame_schema import NotesMessage, ProtobufError
from headwater.instant import US_PER_S
from headwater.name_table import split_names, split_reductions

# Frames with more blocks than this are read one by one.
BLOCKS_PER_FRAME_MAX: Final = 64
_WORD_BYTES: Final = 8
_SITE, _DEVICE, _EPOCH = b"\x0a", b"\x12", b"\x19"
_SEQ, _CREATED, _CLOCK, _OLDEST, _BLOCK, _NOTES = 0x20, 0x28, 0x30, 0x38, 0x42, 0x4A
_ACQUIRED, _SUPPRESSED, _AGGREGATED = 0x60, 0x68, 0x70
_METRICS, _ROWS, _START, _UNIT, _STEP, _COLUMNS, _QUALITY, _REDUCTIONS, _RATE = (
    0x0A, 0x10, 0x18, 0x20, 0x28, 0x32, 0x3A, 0x42, 0x49,
)  # fmt: skip


def _u(number: int) -> np.uint64:
    return np.uint64(number)


_STOPS, _GROUPS = _u(0x8080808080808080), _u(0x7F7F7F7F7F7F7F7F)
_CLOSE: Final = (
    (_u(0x007F007F007F007F), _u(0x7F007F007F007F00), _u(1)),
    (_u(0x00003FFF00003FFF), _u(0x3FFF00003FFF0000), _u(2)),
    (_u(0x000000000FFFFFFF), _u(0x0FFFFFFF00000000), _u(4)),
)
_ONE: Final = _u(1)


class _IrregularError(Exception):
    """Some message is not of the regular form."""


def _require(good: Bool | np.bool_) -> None:
    if not good.all():
        raise _IrregularError


@dataclass(slots=True)
class _Cursor:
    """Where each of n messages has been read to.

    Attributes:
        byte: uint8, the buffer, padded by a few words.
        word: uint64, the eight bytes at every place of it.
        at: int64 (n,).
        end: int64 (n,), where each message ends.
    """

    byte: UInt8
    word: UInt64
    at: Int64
    end: Int64

    def _has(self, tag: int) -> Bool:
        """Which messages go on with the field `tag`; what follows a message may look like one."""
        has: Bool = (self.byte[self.at] == tag) & (self.at < self.end)
        return has

    def varint(self) -> Int64:
        """Takes a varint of at most eight bytes from each."""
        word = self.word[self.at]
        stop = ~word & _STOPS
        _require(stop != 0)
        lowest = stop & (~stop + _ONE)
        value = word & (lowest - _ONE) & _GROUPS
        for low, high, shift in _CLOSE:
            value = (value & low) | ((value & high) >> shift)
        # A power of two is exact as a float, and its exponent is the number of the byte that ends the varint.
        self.at = self.at + (np.frexp(lowest.astype(np.float64))[1] >> 3)
        return value.view(np.int64)

    def number(self, tag: int) -> Int64:
        """Takes the varint field `tag`, 0 where it is not there."""
        has = self._has(tag)
        if not has.any():
            return np.zeros(len(self.at), np.int64)
        before = self.at
        self.at = before + 1
        value = self.varint()
        if not has.all():
            self.at = np.where(has, self.at, before)
            value = np.where(has, value, 0)
        return value

    def span(self, tag: int) -> tuple[Int64, Int64]:
        """Takes the field `tag` of bytes; returns start and size, size 0 where it is not there."""
        has = self._has(tag)
        if not has.any():
            return self.at, np.zeros(len(self.at), np.int64)
        before = self.at
        self.at = before + 1
        size = self.varint()
        start = self.at
        if not has.all():
            start, size = np.where(has, start, before), np.where(has, size, 0)
        self.at = start + size
        # The next look must not leave the buffer.
        _require(self.at <= self.end)
        return start, size

    def double(self, tag: int) -> Float64:
        """Takes the field `tag` of a float64, 0 where it is not there."""
        has = self._has(tag)
        if not has.any():
            return np.zeros(len(self.at))
        value = np.where(has, self.word[np.where(has, self.at + 1, 0)].view(np.float64), 0.0)
        self.at = np.where(has, self.at + 1 + _WORD_BYTES, self.at)
        _require(self.at <= self.end)
        return value


def scan_heads(bodies: Sequence[bytes], devices: Sequence[tuple[str, str]]) -> tuple[Heads, BlockHeads] | None:
    """Reads the heads of k frames of the given sites and devices; None if any is irregular, bad, or of another device.

    Args:
        bodies: k ≥ 1 messages as `envelope.open_body` gives them.
        devices: k pairs of site and device, valid names.
    """
    prefixes: dict[tuple[str, str], bytes] = {}
    begins = [prefixes.get(pair) or prefixes.setdefault(pair, _prefix(*pair)) for pair in devices]
    if not all(map(bytes.startswith, bodies, begins)):
        return None
    start = starts_of(np.fromiter(map(len, bodies), np.int64, len(bodies)))
    data = b"".join(bodies)
    padded = data + bytes(2 * _WORD_BYTES)
    cursor = _Cursor(
        np.frombuffer(padded, np.uint8),
        np.ndarray((len(padded) - _WORD_BYTES + 1,), "<u8", padded, strides=(1,)),
        start[:-1] + np.fromiter(map(len, begins), np.int64, len(begins)),
        start[1:] - CRC_FIELD_BYTES,
    )
    try:
        return _scan(cursor, data, devices)
    except (_IrregularError, DecodeError, ProtobufError):
        return None


def _prefix(site: str, device: str) -> bytes:
    """Returns what a message of a device begins with; names are shorter than a varint of one byte tells."""
    return b"".join(
        (_SITE, bytes((len(site),)), site.encode(), _DEVICE, bytes((len(device),)), device.encode(), _EPOCH)
    )


def _scan(cursor: _Cursor, data: bytes, devices: Sequence[tuple[str, str]]) -> tuple[Heads, BlockHeads]:
    _require(cursor.at + _WORD_BYTES <= cursor.end)
    epoch = cursor.word[cursor.at]
    cursor.at = cursor.at + _WORD_BYTES
    seq, created_us, clock, oldest_seq = (cursor.number(tag) for tag in (_SEQ, _CREATED, _CLOCK, _OLDEST))
    # All further numbers are below 2^56, so within their limits.
    _require((epoch > 0) & (oldest_seq >= 1) & (oldest_seq <= seq) & (clock < CLOCKS))
    frame, block_cursor = _blocks(cursor)
    note_start, note_size = cursor.span(_NOTES)
    ledger = np.stack([cursor.number(tag) for tag in (_ACQUIRED, _SUPPRESSED, _AGGREGATED)], axis=1)
    _require(ledger < LEDGER_MAX)
    _require(cursor.at == cursor.end)
    blocks = _read_blocks(block_cursor, data, frame)
    width = np.fromiter(map(len, blocks.metrics), np.int64, len(blocks.metrics))
    cells = np.bincount(frame, width * blocks.rows, minlength=len(devices)).astype(np.int64)
    _require(cells <= READINGS_MAX)
    notes: dict[int, Notes] = {}
    for place in np.flatnonzero(note_size).tolist():
        lo = int(note_start[place])
        notes[place] = read_notes(NotesMessage.FromString(data[lo : lo + int(note_size[place])]))
        cells[place] += pane_cells(notes[place])
    return Heads(devices, epoch, seq, created_us, oldest_seq, clock.astype(np.uint8), ledger, cells, notes), blocks


def _blocks(cursor: _Cursor) -> tuple[Int64, _Cursor]:
    """Takes all blocks; returns the frame of each, frame by frame, and a cursor over them."""
    frames, starts, ends = [], [], []
    active = np.flatnonzero(cursor.byte[cursor.at] == _BLOCK)
    for _ in range(BLOCKS_PER_FRAME_MAX):
        if not len(active):
            break
        part = _Cursor(cursor.byte, cursor.word, cursor.at[active], cursor.end[active])
        start, size = part.span(_BLOCK)
        frames.append(active)
        starts.append(start)
        ends.append(start + size)
        cursor.at[active] = part.at
        active = active[cursor.byte[part.at] == _BLOCK]
    _require(np.bool_(not len(active)))
    if len(frames) == 1:
        return frames[0], _Cursor(cursor.byte, cursor.word, starts[0], ends[0])
    none = np.empty(0, np.int64)
    frame = np.concatenate((none, *frames))
    order = np.argsort(frame, kind="stable")
    return frame[order], _Cursor(
        cursor.byte, cursor.word, np.concatenate((none, *starts))[order], np.concatenate((none, *ends))[order]
    )


def _read_blocks(cursor: _Cursor, data: bytes, frame: Int64) -> BlockHeads:
    name_start, name_size = cursor.span(_METRICS)
    rows, folded = cursor.number(_ROWS), cursor.number(_START)
    unit_us, step = cursor.number(_UNIT), cursor.number(_STEP)
    coded_start, coded_size = cursor.span(_COLUMNS)
    quality_start, quality_size = cursor.span(_QUALITY)
    reduction_start, reduction_size = cursor.span(_REDUCTIONS)
    rate_hz = cursor.double(_RATE)
    _require(cursor.at == cursor.end)
    _require((rows > 0) & (rows <= READINGS_MAX) & (unit_us > 0))
    is_waveform = rate_hz != 0
    _require(~is_waveform | ((rate_hz > 0) & (rate_hz <= US_PER_S) & ((rows - 1) * US_PER_S < rate_hz * (1 << 61))))
    metrics = [split_names(part) for part in _parts(data, name_start, name_size)]
    quality: list[bytes] = []
    if quality_size.any():
        cells = np.fromiter(map(len, metrics), np.int64, len(metrics)) * rows
        _require((quality_size == 0) | (quality_size == cells))
        quality = _parts(data, quality_start, quality_size)
    if reduction_size.any():
        for names, joined in zip(metrics, _parts(data, reduction_start, reduction_size), strict=True):
            split_reductions(joined, len(names))
    return BlockHeads(
        frame,
        metrics,
        rows,
        (folded >> 1) ^ -(folded & 1),
        unit_us,
        step,
        rate_hz,
        quality,
        data,
        coded_start,
        coded_size,
    )


def _parts(data: bytes, start: Int64, size: Int64) -> list[bytes]:
    return [data[lo:hi] for lo, hi in zip(start.tolist(), (start + size).tolist(), strict=True)]
