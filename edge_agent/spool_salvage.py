"""Sets a damaged spool file aside and takes over the frames in it that can still be read.

They keep their old identity and are sent as they are; what is missing among them and after them is declared as a gap
by the new epoch. The damaged file stays for people to look at.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from edge_agent.spool_file import DATABASE_ERRORS, SpoolDamagedError, connected, get_meta, row_crc
from headwater.frame import Gap
from headwater.reasons import GapReason

SUFFIXES = ("", "-wal", "-shm")
PROBES_MAX = 64

Row = tuple[int, int, int, int, int, int, bytes]
COLUMNS = "seq, readings, gaps, created_us, bytes, crc, payload"
_KEEP = f"INSERT OR IGNORE INTO strays (epoch, {COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 constant


@dataclass(slots=True)
class Salvage:
    """What was taken over.

    Attributes:
        epoch: of the damaged file, 0 if nobody knows.
        seqs: frames of that epoch, ascending.
        gaps: what has to be declared.
    """

    epoch: int
    seqs: list[int] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)


def quarantined(path: Path) -> Path:
    """Renames the file, its WAL and its index to `….damaged-<n>` and returns the new path."""
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    for suffix in SUFFIXES:
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    return aside


def salvaged(aside: Path, into: sqlite3.Connection, epoch_noted: int, now_us: int) -> Salvage:
    """Copies every row that can be read into `strays` of a new spool; the content of `aside` can't make it raise.

    The caller owns the transaction of `into`. Without its epoch a frame can't be acknowledged: then its rows stay in
    the file that was set aside and only the gap is told.
    """
    found = Salvage(epoch_noted)
    freed = 0
    with suppress(*DATABASE_ERRORS), closing(connected(aside)) as damaged:
        with suppress(*DATABASE_ERRORS, SpoolDamagedError, ValueError):
            found.epoch = get_meta(damaged, "epoch")
            freed = get_meta(damaged, "freed")
        if found.epoch:
            for row in _readable(damaged, freed):
                into.execute(_KEEP, (str(found.epoch), *row))
                found.seqs.append(row[0])
        with suppress(*DATABASE_ERRORS):
            for epoch, *row in damaged.execute(f"SELECT epoch, {COLUMNS} FROM strays ORDER BY epoch, seq"):  # noqa: S608 constant
                if str(epoch).isdigit() and _is_whole(tuple(row)):
                    into.execute(_KEEP, (epoch, *row))
        with suppress(*DATABASE_ERRORS, ValueError):
            found.gaps = [
                Gap(int(epoch), start, stop, GapReason(reason), readings, declared)
                for epoch, start, stop, reason, readings, declared in damaged.execute(
                    "SELECT epoch, from_seq, to_seq, reason, readings, declared_us FROM gaps_due ORDER BY id"
                )
            ]
    found.seqs.sort()
    found.gaps += holes(found.epoch, freed, found.seqs, now_us)
    return found


def _is_whole(row: tuple[object, ...]) -> bool:
    seq, readings, gaps, created_us, size, crc, payload = row
    numbers = all(type(number) is int for number in (seq, readings, gaps, created_us, size, crc))
    return (
        numbers
        and isinstance(payload, bytes)
        and len(payload) == size
        and row_crc(seq, readings, gaps, created_us, payload) == crc  # type: ignore[arg-type]
    )


def _readable(connection: sqlite3.Connection, freed: int) -> Iterator[Row]:
    """Reads rows upwards, leaping over pages that can't be read, then downwards from the end."""
    seen: set[int] = set()
    after, leap = freed, 1
    for _ in range(PROBES_MAX):
        try:
            query = f"SELECT {COLUMNS} FROM frames NOT INDEXED WHERE seq > ? ORDER BY seq"  # noqa: S608 constant
            for row in connection.execute(query, (after,)):
                if _is_whole(row) and row[0] not in seen:
                    after = max(after, row[0])
                    seen.add(row[0])
                    yield row
            break
        except DATABASE_ERRORS:
            after, leap = after + leap, leap * 2
    with suppress(*DATABASE_ERRORS):
        query = f"SELECT {COLUMNS} FROM frames NOT INDEXED WHERE seq > ? ORDER BY seq DESC"  # noqa: S608 constant
        for row in connection.execute(query, (freed,)):
            if row[0] in seen:
                break
            if _is_whole(row):
                seen.add(row[0])
                yield row


def holes(epoch: int, freed: int, seqs: list[int], now_us: int) -> list[Gap]:
    """Declares what is missing between the acknowledged frames and the readable ones, and all that may follow.

    >>> [(gap.from_seq, gap.to_seq) for gap in holes(7, 2, [3, 5, 6], 0)]
    [(4, 4), (7, 0)]
    """
    found = []
    below = freed
    for seq in seqs:
        if seq > below + 1:
            found.append(Gap(epoch, below + 1, seq - 1, GapReason.SPOOL_DAMAGED, -1, now_us))
        below = seq
    found.append(Gap(epoch, below + 1, 0, GapReason.SPOOL_DAMAGED, -1, now_us))
    return found
