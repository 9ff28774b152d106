"""Statements on the spool's tables, inside a transaction that the caller owns."""

import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from edge_agent.pack import Lane
from edge_agent.spool_file import SpoolDamagedError, put_meta, row_crc
from edge_agent.spool_salvage import COLUMNS
from headwater.codec import decode_frame, encode_frame
from headwater.errors import HeadwaterError
from headwater.frame import Frame, Gap
from headwater.reasons import GapReason

PROMOTED_MAX = 64

# All four answer with an epoch and COLUMNS.
SELECT_LANE = (
    f"SELECT ?, {COLUMNS} FROM frames INDEXED BY frames_by_lane WHERE lane = ? AND seq > ? AND seq < ? "  # noqa: S608 constant
    "ORDER BY seq LIMIT ?"
)
SELECT_FRAME = f"SELECT ?, {COLUMNS} FROM frames WHERE seq = ?"  # noqa: S608 constant
SELECT_STRAY = f"SELECT epoch, {COLUMNS} FROM strays WHERE epoch = ? AND seq = ?"  # noqa: S608 constant
SELECT_STRAYS = f"SELECT epoch, {COLUMNS} FROM strays WHERE (epoch, seq) > (?, ?) ORDER BY epoch, seq LIMIT ?"  # noqa: S608 constant
_SELECT_SINCE = f"SELECT lane, {COLUMNS} FROM frames WHERE seq > ? ORDER BY seq"  # noqa: S608 constant
_MOVE_TO_STRAYS = (
    f"INSERT OR IGNORE INTO strays (epoch, {COLUMNS}) SELECT ?, {COLUMNS} FROM frames WHERE seq > ? AND seq <= ?"  # noqa: S608 constant
)


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """Which frame of this device."""

    epoch: int
    seq: int


@dataclass(frozen=True, slots=True)
class Row:
    """A frame as it is sent."""

    key: Key
    payload: bytes


@dataclass(slots=True)
class Held:
    """What the file holds now; replaced only when a transaction has been committed."""

    assigned: int = 0
    oldest: int = 1
    frames: int = 0
    strays: int = 0
    bytes: int = 0
    dropped: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """A frame that is accepted, with its bytes."""

    frame: Frame
    payload: bytes


@dataclass(frozen=True, slots=True)
class Room:
    """How much the spool may hold, and what happens then."""

    bytes_max: int = 256 * 1024 * 1024
    drops_oldest: bool = True


@dataclass(slots=True)
class SpoolCounters:
    """What happened to the spool since it was opened."""

    appended: int = 0
    refused: int = 0
    damaged_rows: int = 0
    damaged_files: int = 0
    rotations: int = 0
    files: list[str] = field(default_factory=list)


def is_whole(cells: Sequence[object]) -> bool:
    """Tells whether a row (COLUMNS) is what was stored."""
    seq, readings, gaps, created_us, size, crc, payload = cells
    return (
        isinstance(payload, bytes)
        and all(type(number) is int for number in (seq, readings, gaps, created_us, size, crc))
        and len(payload) == size
        and row_crc(seq, readings, gaps, created_us, payload) == crc  # type: ignore[arg-type]
    )


def insert_frame(connection: sqlite3.Connection, frame: Frame, lane: Lane, payload: bytes) -> None:
    """Adds a frame of the current epoch."""
    row = (frame.seq, int(lane), frame.reading_count, len(frame.gaps), frame.created_us, len(payload))
    connection.execute(
        "INSERT INTO frames (seq, lane, readings, gaps, created_us, bytes, crc, payload) VALUES (?,?,?,?,?,?,?,?)",
        (*row, row_crc(row[0], row[2], row[3], row[4], payload), payload),
    )


def delete_row(connection: sqlite3.Connection, epoch: int, seq: int, *, is_own: bool) -> None:
    """Deletes one frame."""
    if is_own:
        connection.execute("DELETE FROM frames WHERE seq = ?", (seq,))
    else:
        connection.execute("DELETE FROM strays WHERE epoch = ? AND seq = ?", (str(epoch), seq))


def promote(connection: sqlite3.Connection, assigned: int, from_us: int) -> None:
    """Moves recent frames into the urgent lane."""
    connection.execute(
        "UPDATE frames SET lane = 0 WHERE seq > ? AND lane > 0 AND created_us >= ?", (assigned - PROMOTED_MAX, from_us)
    )


def forget_freed(connection: sqlite3.Connection, held: Held, freed: int) -> None:
    """Deletes the frames of this epoch up to `freed`."""
    if freed < held.oldest or not held.frames:
        return
    count, size = connection.execute("SELECT count(*), total(bytes) FROM frames WHERE seq <= ?", (freed,)).fetchone()
    connection.execute("DELETE FROM frames WHERE seq <= ?", (freed,))
    put_meta(connection, "freed", str(freed))
    held.frames -= count
    held.bytes -= int(size)
    held.oldest = freed + 1


def forget_strays(connection: sqlite3.Connection, held: Held, epoch: int, contiguous: int) -> None:
    """Deletes the frames of an earlier epoch up to `contiguous`."""
    condition = (str(epoch), contiguous)
    count, size = connection.execute(
        "SELECT count(*), total(bytes) FROM strays WHERE epoch = ? AND seq <= ?", condition
    ).fetchone()
    connection.execute("DELETE FROM strays WHERE epoch = ? AND seq <= ?", condition)
    held.strays -= count
    held.bytes -= int(size)


def drop_oldest(connection: sqlite3.Connection, held: Held, epoch: int, size: int, now_us: int) -> list[Gap]:
    """Deletes the oldest frames until `size` bytes are free; returns their gaps, and those that they declared."""
    found: dict[int, list[int]] = {}
    carried: list[Gap] = []
    for table, query in (
        ("strays", f"SELECT epoch, {COLUMNS} FROM strays ORDER BY epoch, seq"),  # noqa: S608 constant
        ("frames", f"SELECT '{epoch}', {COLUMNS} FROM frames ORDER BY seq"),  # noqa: S608 constant
    ):
        victims: list[tuple[str, int]] = []
        for owner, seq, readings, gaps, _, length, _, payload in connection.execute(query):
            if size <= 0:
                break
            size -= length
            held.bytes -= length
            victims.append((owner, seq))
            span = found.setdefault(int(owner), [seq, seq, 0])
            span[1], span[2] = seq, span[2] + readings
            if gaps:
                with suppress(HeadwaterError):
                    carried.extend(decode_frame(payload).gaps)
        if table == "frames":
            connection.executemany("DELETE FROM frames WHERE seq = ?", ((seq,) for _, seq in victims))
            held.frames -= len(victims)
            held.oldest = victims[-1][1] + 1 if victims else held.oldest
        else:
            connection.executemany("DELETE FROM strays WHERE epoch = ? AND seq = ?", victims)
            held.strays -= len(victims)
        held.dropped += len(victims)
    return carried + [
        Gap(owner, first, last, GapReason.SPOOL_FULL, readings, now_us)
        for owner, (first, last, readings) in found.items()
    ]


def declare(connection: sqlite3.Connection, gaps: Sequence[Gap]) -> None:
    """Keeps declarations until a frame carries them."""
    connection.executemany(
        "INSERT INTO gaps_due (epoch, from_seq, to_seq, reason, readings, declared_us) VALUES (?, ?, ?, ?, ?, ?)",
        ((str(gap.epoch), gap.from_seq, gap.to_seq, gap.reason.value, gap.readings, gap.declared_us) for gap in gaps),
    )


def take_due(connection: sqlite3.Connection) -> list[Gap]:
    """Takes out the declarations that wait.

    Raises:
        SpoolDamagedError: they are not what was written.
    """
    rows = connection.execute(
        "SELECT epoch, from_seq, to_seq, reason, readings, declared_us FROM gaps_due ORDER BY id"
    ).fetchall()
    if rows:
        connection.execute("DELETE FROM gaps_due")
    try:
        return [Gap(int(epoch), first, last, GapReason(reason), *rest) for epoch, first, last, reason, *rest in rows]
    except (ValueError, TypeError) as error:
        raise SpoolDamagedError(f"spool: a declaration can't be read: {error}") from error


def renumber(connection: sqlite3.Connection, former: int, epoch: int, freed: int, opened_at: int) -> None:
    """Gives the frames after `opened_at` a new epoch and new seqs; those up to it become strays of the former one."""
    since = connection.execute(_SELECT_SINCE, (opened_at,)).fetchall()
    connection.execute(_MOVE_TO_STRAYS, (str(former), freed, opened_at))
    connection.execute("DELETE FROM frames")
    connection.execute("DELETE FROM sqlite_sequence WHERE name = 'frames'")
    put_meta(connection, "epoch", str(epoch))
    put_meta(connection, "freed", "0")
    for seq, (lane, *cells) in enumerate(since, start=1):
        frame = replace(decode_frame(cells[-1]), epoch=epoch, seq=seq, oldest_seq=1)
        insert_frame(connection, frame, Lane(lane), encode_frame(frame))
