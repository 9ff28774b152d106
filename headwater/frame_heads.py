"""What frames say before their columns are decoded: one by one out of protobuf, or of many as columns.

few payloads, or irregular ones ─ protobuf ─▶ read_head ─▶ Head, … ─ gather ─┐
many regular payloads ─────── `headwater.frame_scan.scan_heads` ─────────────┴─▶ Heads, BlockHeads ─▶ read_cells
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from headwater.columns import starts_of
from headwater.errors import DecodeError
from headwater.frame import READINGS_MAX, Anomaly, Float64, Gap, Int64, UInt8
from headwater.frame_records import LEDGER_MAX, NUMBER_MAX, read_anomalies, read_drops, read_gaps
from headwater.instant import US_PER_S
from headwater.name_table import is_name_cached, split_names, split_reductions
from headwater.panes import PANE_COLUMNS, SKETCH_COLUMNS, PanesHead, check_panes
from headwater.reasons import ClockQuality, DeadLetterReason

BLOCKS_MAX: Final = 1024
OFFSET_MAX_US: Final = 1 << 61
CLOCKS: Final = len(ClockQuality)


class Notes(NamedTuple):
    """What few frames have: panes, readings dropped by reason, anomalies, declared gaps."""

    panes: PanesHead | None = None
    dropped: tuple[tuple[str, int], ...] = ()
    anomalies: tuple[Anomaly, ...] = ()
    gaps: tuple[Gap, ...] = ()


NO_NOTES: Final = Notes()


class BlockHead(NamedTuple):
    """A block before its columns are decoded."""

    metrics: tuple[str, ...]
    rows: int
    start_us: int
    unit_us: int
    step: int
    columns: bytes
    quality: bytes
    reductions: tuple[str, ...]
    rate_hz: float


class Head(NamedTuple):
    """A frame before its columns are decoded; `cells` bounds what decoding them takes.

    `ledger` is acquired, suppressed and aggregated.
    """

    site: str
    device: str
    epoch: int
    seq: int
    created_us: int
    clock: int
    oldest_seq: int
    ledger: tuple[int, int, int]
    cells: int
    blocks: tuple[BlockHead, ...]
    notes: Notes


@dataclass(frozen=True, slots=True, eq=False)
class Heads:
    """k frames.

    Attributes:
        devices: k pairs of site and device.
        epoch: uint64 (k,).
        seq, created_us, oldest_seq: int64 (k,).
        clock: uint8 (k,).
        ledger: int64 (k, 3): acquired, suppressed, aggregated.
        cells: int64 (k,), what decoding each frame takes.
        notes: by place, of the frames that have some.
    """

    devices: Sequence[tuple[str, str]]
    epoch: npt.NDArray[np.uint64]
    seq: Int64
    created_us: Int64
    oldest_seq: Int64
    clock: UInt8
    ledger: Int64
    cells: Int64
    notes: Mapping[int, Notes]

    def __len__(self) -> int:
        return len(self.devices)

    def __getitem__(self, part: slice) -> "Heads":
        """Frames `part.start` to `part.stop`, as views."""
        lo, hi = part.start, part.stop
        return Heads(
            self.devices[part],
            self.epoch[part],
            self.seq[part],
            self.created_us[part],
            self.oldest_seq[part],
            self.clock[part],
            self.ledger[part],
            self.cells[part],
            {place - lo: notes for place, notes in self.notes.items() if lo <= place < hi},
        )


@dataclass(frozen=True, slots=True, eq=False)
class BlockHeads:
    """The b blocks of k frames, frame by frame.

    Attributes:
        frame: int64 (b,), place of the frame.
        metrics: b tuples of names.
        rows, start_us, unit_us, step: int64 (b,).
        rate_hz: float64 (b,), 0 where the block is no waveform.
        quality: b byte strings, or none at all where all of them are empty.
        data: bytes that hold the coded columns of all blocks.
        coded_start, coded_size: int64 (b,), where in `data`.
    """

    frame: Int64
    metrics: Sequence[tuple[str, ...]]
    rows: Int64
    start_us: Int64
    unit_us: Int64
    step: Int64
    rate_hz: Float64
    quality: Sequence[bytes]
    data: bytes
    coded_start: Int64
    coded_size: Int64

    def __getitem__(self, part: slice) -> "BlockHeads":
        """The blocks of frames `part.start` to `part.stop`."""
        lo, hi = np.searchsorted(self.frame, [part.start, part.stop]).tolist()
        if lo == hi:
            return gather([])[1]
        some = slice(lo, hi)
        start, size = self.coded_start[some], self.coded_size[some]
        quality = self.quality[some]
        return BlockHeads(
            self.frame[some] - part.start,
            self.metrics[some],
            self.rows[some],
            self.start_us[some],
            self.unit_us[some],
            self.step[some],
            self.rate_hz[some],
            quality if any(quality) else (),
            self.data[int(start[0]) : int(start[-1] + size[-1])],
            start - start[0],
            size,
        )


# A named tuple's own constructor costs three times as much, and these two are made per frame.
# One call reads all plain fields of a message: a third less than an access each.
_FRAME_FIELDS: Final = attrgetter(
    "site",
    "device",
    "epoch",
    "seq",
    "created_us",
    "clock",
    "oldest_seq",
    "acquired",
    "suppressed",
    "aggregated",
    "blocks",
)
_BLOCK_FIELDS: Final = attrgetter(
    "metrics", "rows", "start_us", "unit_us", "step", "columns", "quality", "reductions", "rate_hz"
)
_head: Final[Callable[[tuple[object, ...]], Head]] = partial(tuple.__new__, Head)
_block: Final[Callable[[tuple[object, ...]], BlockHead]] = partial(tuple.__new__, BlockHead)


def read_head(message: Any) -> Head:
    """Reads everything of a frame message but its coded columns, whose claimed size it bounds.

    Raises:
        DecodeError: NAME, SCHEMA or LIMIT.
    """
    site, device, epoch, seq, created_us, clock, oldest_seq, acquired, suppressed, aggregated, records = _FRAME_FIELDS(
        message
    )
    if not is_name_cached(site) or not is_name_cached(device):
        raise DecodeError(DeadLetterReason.NAME, f"site {site[:80]!r}, device {device[:80]!r}")
    if not (epoch > 0 and 1 <= oldest_seq <= seq < NUMBER_MAX and 0 <= created_us < OFFSET_MAX_US and clock < CLOCKS):
        raise DecodeError(DeadLetterReason.SCHEMA, "epoch, seq, oldest_seq, created_us or clock is out of range")
    if acquired >= LEDGER_MAX or suppressed >= LEDGER_MAX or aggregated >= LEDGER_MAX:
        raise DecodeError(DeadLetterReason.SCHEMA, "the ledger counts more readings than there can be")
    count = len(records)
    cells = 0
    if count == 1:  # Nearly every frame; a loop over protobuf's container costs as much as reading the block.
        block = _read_block(records[0])
        cells = len(block[0]) * block[1]
        blocks: tuple[BlockHead, ...] = (block,)
    elif count <= BLOCKS_MAX:
        blocks = tuple(map(_read_block, records))
        cells = sum(len(block.metrics) * block.rows for block in blocks)
        if cells > READINGS_MAX:
            raise DecodeError(DeadLetterReason.LIMIT, f"{cells} cells: a frame holds at most {READINGS_MAX}")
    else:
        raise DecodeError(DeadLetterReason.LIMIT, f"{count} blocks: a frame holds at most {BLOCKS_MAX}")
    ledger = (acquired, suppressed, aggregated)
    notes = NO_NOTES
    if message.HasField("notes"):
        notes = read_notes(message.notes)
        cells += pane_cells(notes)
    return _head((site, device, epoch, seq, created_us, clock, oldest_seq, ledger, cells, blocks, notes))


def _read_block(record: Any) -> BlockHead:
    joined, rows, start_us, unit_us, step, columns, quality, reductions, rate_hz = _BLOCK_FIELDS(record)
    metrics = split_names(joined)
    cells = rows * len(metrics)
    if cells > READINGS_MAX:
        raise DecodeError(DeadLetterReason.LIMIT, f"{cells} cells: a frame holds at most {READINGS_MAX}")
    if not (
        rows
        and -OFFSET_MAX_US < start_us < OFFSET_MAX_US
        and 0 < unit_us < OFFSET_MAX_US
        and step < OFFSET_MAX_US
        and 0 <= rate_hz <= US_PER_S
        and (rate_hz == 0 or (rows - 1) * US_PER_S < rate_hz * OFFSET_MAX_US)
        and (not quality or len(quality) == cells)
    ):
        raise DecodeError(DeadLetterReason.SCHEMA, "rows, time axis, quality or rate of a block are out of range")
    names = split_reductions(reductions, len(metrics)) if reductions else ()
    return _block((metrics, rows, start_us, unit_us, step, columns, quality, names, rate_hz))


def read_notes(message: Any) -> Notes:
    """Reads the notes of a frame message.

    Raises:
        DecodeError: NAME, SCHEMA or LIMIT.
    """
    return Notes(
        check_panes(message.panes) if message.HasField("panes") else None,
        read_drops(message.dropped),
        read_anomalies(message.anomalies),
        read_gaps(message.gaps),
    )


def pane_cells(notes: Notes) -> int:
    """Returns how many cells decoding the panes takes."""
    panes = notes.panes
    return PANE_COLUMNS * panes.rows + SKETCH_COLUMNS * panes.buckets if panes is not None else 0


def gather(heads: Sequence[Head]) -> tuple[Heads, BlockHeads]:
    """Puts k heads, read one by one, into columns."""
    sites, devices, epoch, seq, created_us, clock, oldest_seq, ledger, cells, _, notes = (
        zip(*heads, strict=True) if heads else ((),) * len(Head._fields)
    )
    blocks = [block for head in heads for block in head.blocks]
    metrics, rows, start_us, unit_us, step, coded, quality, _, rate_hz = (
        zip(*blocks, strict=True) if blocks else ((),) * len(BlockHead._fields)
    )
    coded_size = np.fromiter(map(len, coded), np.int64, len(coded))
    return Heads(
        list(zip(sites, devices, strict=True)),
        np.array(epoch, np.uint64),
        np.array(seq, np.int64),
        np.array(created_us, np.int64),
        np.array(oldest_seq, np.int64),
        np.array(clock, np.uint8),
        np.array(ledger, np.int64).reshape(len(heads), 3),
        np.array(cells, np.int64),
        {place: some for place, some in enumerate(notes) if some is not NO_NOTES},
    ), BlockHeads(
        np.repeat(np.arange(len(heads)), [len(head.blocks) for head in heads]),
        metrics,
        np.array(rows, np.int64),
        np.array(start_us, np.int64),
        np.array(unit_us, np.int64),
        np.array(step, np.int64),
        np.array(rate_hz, np.float64),
        quality if any(quality) else (),
        b"".join(coded),
        starts_of(coded_size)[:-1],
        coded_size,
    )
