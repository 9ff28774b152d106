"""The spool: frames on disk until the pipeline says that they are durable.

    drafts ──append──▶ frames ──following──▶ uplink ──▶ gateway
                          ▲                               │
                          └────────── acknowledge ◀───────┘

One SQLite file (WAL, synchronous=FULL), a row per frame, one writing connection. Frames are accepted when `append`
returns. A damaged file is set aside; what is readable in it is sent on, the rest is declared as a gap.
"""

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from edge_agent.pack import Draft, Lane
from edge_agent.spool_file import (
    DATABASE_ERRORS,
    SpoolDamagedError,
    SpoolLock,
    SpoolUnavailableError,
    checked,
    classified,
    created,
    get_meta,
)
from edge_agent.spool_rows import (
    SELECT_FRAME,
    SELECT_LANE,
    SELECT_STRAY,
    SELECT_STRAYS,
    Held,
    Key,
    Room,
    Row,
    SpoolCounters,
    Stored,
    declare,
    delete_row,
    drop_oldest,
    forget_freed,
    forget_strays,
    insert_frame,
    is_whole,
    promote,
    renumber,
    take_due,
)
from edge_agent.spool_salvage import quarantined, salvaged
from headwater.codec import encode_frame
from headwater.frame import Frame, Gap
from headwater.reasons import GapReason

GAPS_PER_FRAME_MAX = 64
ROOM_PARTS = 64  # A full spool makes room for 1/64 of its size at once.

__all__ = ["Key", "Room", "Row", "Spool", "SpoolUnavailableError", "Stored"]


class Spool:
    """The frames of one device.

    Args:
        path: the file; `path.lock` and `path.damaged-<n>` may stand beside it.
        site, device: names that go into every frame.
        room: byte cap and policy.
        now_us: time of opening, for gaps that opening declares.
        draw_epoch: gives a new epoch, 1 … 2^64 − 1.

    Attributes:
        epoch: of the frames that are appended now.
        generation: grows when the epoch changes; a sender then starts anew.
        counters: see there.

    Raises:
        SettingsError: the file can't be written or another agent has it.
        SpoolUnavailableError: the disk does not answer.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        site: str,
        device: str,
        room: Room | None = None,
        now_us: int,
        draw_epoch: Callable[[], int] = lambda: secrets.randbits(64) or 1,
    ) -> None:
        self.path = Path(path).absolute()
        self.site, self.device = site, device
        self.room = room or Room()
        self.counters = SpoolCounters()
        self.generation = 0
        self.epoch = 0
        self._draw_epoch = draw_epoch
        self._held = Held()
        self._freed = 0
        self._rotated = False
        self._lock = SpoolLock(self.path)
        try:
            self._open(now_us)
        except BaseException:
            self._lock.release()
            raise

    def _open(self, now_us: int) -> None:
        noted = self._lock.epoch()
        if self.path.exists():
            try:
                self._connection = checked(self.path)
                self._load(now_us)
            except SpoolDamagedError:
                with suppress(AttributeError):
                    self._connection.close()
                self._replace(noted, now_us)
        elif noted:
            # The file is gone but its lock remembers it: what it held is declared lost.
            self._replace(noted, now_us)
        else:
            with self._translated():
                self._connection = created(self.path, self._draw_epoch())
                self._load(now_us)
        if self._lock.epoch() != self.epoch:
            self._lock.note_epoch(self.epoch)
        self._opened_at = self._held.assigned

    def _replace(self, noted: int, now_us: int) -> None:
        """Sets the file aside, starts a new epoch, takes over what is readable, declares the rest."""
        aside = quarantined(self.path)
        self.counters.damaged_files += 1
        self.counters.files.append(aside.name)
        with self._translated():
            self._connection = created(self.path, self._draw_epoch())
            with self._transaction():
                found = salvaged(aside, self._connection, noted, now_us)
                declare(self._connection, found.gaps)
            self._load(now_us)

    def _load(self, now_us: int) -> None:
        """Reads what the file holds and checks that it is consistent."""
        with self._translated():
            self.epoch = get_meta(self._connection, "epoch")
            self._freed = get_meta(self._connection, "freed")
            self._held = self._counted()
            top = max(self._connection.execute("SELECT max(seq) FROM frames").fetchone()[0] or 0, self._freed)
        if self._held.assigned > top:
            # The last rows were given up earlier (then this repeats their declaration) or the counter was damaged.
            with self._transaction():
                declare(
                    self._connection,
                    [Gap(self.epoch, top + 1, self._held.assigned, GapReason.SPOOL_DAMAGED, -1, now_us)],
                )
        self.generation += 1

    @property
    def assigned(self) -> int:
        """Highest seq of this epoch."""
        return self._held.assigned

    @property
    def oldest(self) -> int:
        """Lowest seq of this epoch that is held; all below were acknowledged or declared."""
        return max(self._held.oldest, self._freed + 1)

    @property
    def buffered(self) -> int:
        """Frames not yet known to be durable, those of earlier epochs included."""
        covered = max(0, self._freed - self._held.oldest + 1) if self._held.frames else 0
        return self._held.frames + self._held.strays - covered

    @property
    def size_bytes(self) -> int:
        """Payload bytes."""
        return self._held.bytes

    @property
    def given_up(self) -> int:
        """Frames dropped to make room since the opening; each is declared in a gap."""
        return self._held.dropped

    @property
    def has_gaps_due(self) -> bool:
        """True when a declaration waits for the next frame."""
        with self._translated():
            return self._connection.execute("SELECT 1 FROM gaps_due LIMIT 1").fetchone() is not None

    def following(self, lane: Lane, after: int, before: int, rows_max: int, now_us: int) -> list[Row]:
        """Returns frames of this epoch and lane with `after < seq < before`, lowest first.

        A row that fails its CRC is given up and declared as a gap by the next frame.
        """
        values = (str(self.epoch), int(lane), max(after, self._freed), before, rows_max)
        return self._rows(SELECT_LANE, values, now_us)

    def strays(self, after: Key, rows_max: int, now_us: int) -> list[Row]:
        """Returns frames of earlier epochs that were taken over, ordered by the epoch's text and the seq."""
        if not self._held.strays:
            return []
        values = (str(after.epoch) if after.epoch else "", after.seq, rows_max)
        return self._rows(SELECT_STRAYS, values, now_us)

    def one(self, key: Key, now_us: int) -> Row | None:
        """Returns a certain frame, None if the spool doesn't hold it any more."""
        if key.epoch == self.epoch and key.seq <= self._freed:
            return None
        query = SELECT_FRAME if key.epoch == self.epoch else SELECT_STRAY
        return next(iter(self._rows(query, (str(key.epoch), key.seq), now_us)), None)

    def _rows(self, query: str, values: tuple[object, ...], now_us: int) -> list[Row]:
        with self._translated(now_us):
            found = self._connection.execute(query, values).fetchall()
        rows = []
        for epoch, *cells in found:
            if is_whole(cells):
                rows.append(Row(Key(int(epoch), cells[0]), cells[-1]))
            else:
                self._give_up(int(epoch), cells[0], now_us)
        return rows

    def declare_lost(self, seq: int, now_us: int) -> None:
        """Declares a frame of this epoch that ought to be here and is not."""
        with self._transaction(now_us):
            declare(self._connection, [Gap(self.epoch, seq, seq, GapReason.SPOOL_DAMAGED, -1, now_us)])

    def _give_up(self, epoch: int, seq: int, now_us: int) -> None:
        """Deletes a row that fails its CRC and declares it."""
        with self._transaction(now_us):
            delete_row(self._connection, epoch, seq, is_own=epoch == self.epoch)
            declare(self._connection, [Gap(epoch, seq, seq, GapReason.SPOOL_DAMAGED, -1, now_us)])
            held = self._counted()
        self._held = held
        self.counters.damaged_rows += 1

    # ── appending and freeing ──────────────────────────────────────────────────────────────────────────────────

    def append(
        self,
        drafts: Sequence[Draft],
        now_us: int,
        *,
        promote_from_us: int | None = None,
        on_offered: Callable[[Frame, bytes], None] | None = None,
    ) -> tuple[list[Stored], list[Draft]]:
        """Stores frames in one transaction; returns those that are accepted now, and the drafts that were refused.

        Args:
            drafts: what to store, in order.
            now_us: time for the gaps that making room declares.
            promote_from_us: frames made since then go into the urgent lane too (what came before an anomaly).
            on_offered: told of every frame before the commit.

        Raises:
            SpoolUnavailableError: nothing was stored; try the same again.
        """
        stored: list[Stored] = []
        refused: list[Draft] = []
        held = replace(self._held)
        with self._transaction(now_us):
            forget_freed(self._connection, held, self._freed)
            due = take_due(self._connection)
            for draft in drafts:
                one = self._place(draft, held, due, now_us)
                if one is None:
                    refused.append(draft)
                    continue
                stored.append(one)
                if on_offered is not None:
                    on_offered(one.frame, one.payload)
            if promote_from_us is not None:
                promote(self._connection, held.assigned, promote_from_us)
            declare(self._connection, due)
        self._held = held
        self.counters.appended += len(stored)
        self.counters.refused += len(refused)
        return stored, refused

    def _place(self, draft: Draft, held: Held, due: list[Gap], now_us: int) -> Stored | None:
        """Encodes and inserts one frame, making room if it must; `due` loses what the frame declares."""
        seq = held.assigned + 1
        while True:
            frame = Frame(
                self.site,
                self.device,
                self.epoch,
                seq,
                draft.created_us,
                draft.clock,
                held.oldest if held.frames else seq,
                draft.blocks,
                draft.summaries,
                draft.anomalies,
                tuple(due[:GAPS_PER_FRAME_MAX]),
                draft.ledger,
            )
            payload = encode_frame(frame)
            lacking = held.bytes + len(payload) - self.room.bytes_max
            if lacking <= 0:
                break
            if not self.room.drops_oldest or not held.frames + held.strays:
                return None
            due += drop_oldest(
                self._connection, held, self.epoch, max(lacking, self.room.bytes_max // ROOM_PARTS), now_us
            )
        insert_frame(self._connection, frame, draft.lane, payload)
        del due[:GAPS_PER_FRAME_MAX]
        held.oldest = frame.oldest_seq
        held.assigned, held.frames, held.bytes = seq, held.frames + 1, held.bytes + len(payload)
        return Stored(frame, payload)

    def acknowledge(self, epoch: int, contiguous: int, now_us: int) -> bool:
        """Frees what is durable elsewhere; False if the acknowledgement claims more than was ever assigned.

        Frames of this epoch are gone for the sender at once, and deleted with the next append or `settle`.
        """
        if epoch == self.epoch:
            if contiguous > self._held.assigned:
                return False
            self._freed = max(self._freed, contiguous)
        elif self._held.strays:
            held = replace(self._held)
            with self._transaction(now_us):
                forget_strays(self._connection, held, epoch, contiguous)
            self._held = held
        return True

    def settle(self, now_us: int) -> None:
        """Deletes what was acknowledged; call it when nothing was appended for a while."""
        if self._held.frames and self._freed >= self._held.oldest:
            held = replace(self._held)
            with self._transaction(now_us):
                forget_freed(self._connection, held, self._freed)
            self._held = held

    def rotate(self, durable: int, now_us: int) -> bool:
        """Starts a new epoch because the pipeline knows frames of this one that the disk has forgotten.

        Frames from before the opening keep their identity; those made since get a new one, because their old seqs
        were in use already. What was forgotten is declared from the first seq that may be lost. Once per opening.
        """
        if self._rotated:
            return False
        epoch = self._draw_epoch()
        lost_from = max(durable, self._opened_at) + 1
        with self._transaction(now_us):
            renumber(self._connection, self.epoch, epoch, self._freed, self._opened_at)
            declare(self._connection, [Gap(self.epoch, lost_from, 0, GapReason.LYING_DISK, -1, now_us)])
        self._rotated = True
        self._opened_at = 0
        self.counters.rotations += 1
        self._load(now_us)
        self._lock.note_epoch(self.epoch)
        return True

    def close(self) -> None:
        """Closes the file; everything appended is in it."""
        self._connection.close()
        self._lock.release()

    def _counted(self) -> Held:
        """Counts what the file holds."""
        ask = self._connection.execute
        lowest, highest, frames, size = ask("SELECT min(seq), max(seq), count(*), total(bytes) FROM frames").fetchone()
        strays, stray_size = ask("SELECT count(*), total(bytes) FROM strays").fetchone()
        row = ask("SELECT seq FROM sqlite_sequence WHERE name = 'frames'").fetchone()
        assigned = row[0] if row else 0
        top = max(highest or 0, self._freed)
        if not 0 < self.epoch < 1 << 64 or type(assigned) is not int or assigned < top:
            raise SpoolDamagedError(f"spool {self.path}: numbers don't fit: assigned {assigned}, highest {top}")
        return Held(assigned, lowest or assigned + 1, frames, strays, int(size + stray_size), self._held.dropped)

    @contextmanager
    def _transaction(self, now_us: int | None = None) -> Iterator[None]:
        """Commits what the body did, or nothing of it."""
        with self._translated(now_us):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _translated(self, now_us: int | None = None) -> Iterator[None]:
        """Turns the database's errors into ours; damage found while running replaces the file (if `now_us` is given)."""
        try:
            yield
        except (*DATABASE_ERRORS, SpoolDamagedError) as error:
            known = classified(error, self.path) if isinstance(error, DATABASE_ERRORS) else error
            if now_us is None or not isinstance(known, SpoolDamagedError):
                raise known from error
            self._connection.close()
            self._replace(self.epoch, now_us)
            self._lock.note_epoch(self.epoch)
            self._opened_at = self._held.assigned
            raise SpoolUnavailableError(f"{known}: set aside, a new epoch has begun") from error
