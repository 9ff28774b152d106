"""Gathers what came in until it is time to write it: groups of all shards, closed together, committed in order.

    add ─▶ open group ─▶ is_due(now, idle) ─▶ close ─▶ Group ─▶ one atomic append ─▶ PUBACKs in order of receipt

A group closes when it is large or old, or, while the writer is idle, as soon as the clients fall silent: then one
lonely frame waits milliseconds and a burst still goes into one commit.
"""

from dataclasses import dataclass, field

from gateway.inbound import Foreign, Inbound, Note
from gateway.sender import Sender
from headwater.batch import DeadLetter


@dataclass(slots=True)
class Group:
    """What one append will hold.

    Attributes:
        inbound: messages by shard, each in order of receipt.
        notes: notes by shard, likewise.
        owed: tickets by session, in order of receipt.
        heartbeats: shards that get a batch even if it is empty.
        size_bytes, count: payload and messages.
        opened_us: when its first message came.
    """

    opened_us: int
    inbound: dict[int, list[Inbound]] = field(default_factory=dict)
    notes: dict[int, list[Note]] = field(default_factory=dict)
    owed: dict[Sender, list[int]] = field(default_factory=dict)
    heartbeats: set[int] = field(default_factory=set)
    size_bytes: int = 0
    count: int = 0


class Batcher:
    """Holds the open group; time is an argument, monotonic: a wall clock that steps must not hold a batch back.

    Attributes:
        size_bytes, count: payload and messages waiting in the open group.
    """

    def __init__(self, *, max_bytes: int, age_us: int, quiet_us: int, every_us: int) -> None:
        self._max_bytes = max_bytes
        self._age_us = age_us
        self._quiet_us = quiet_us
        self._every_us = every_us
        self._group: Group | None = None
        self._last_us = 0
        self._closed_us = 0

    @property
    def size_bytes(self) -> int:
        """Payload that waits."""
        return self._group.size_bytes if self._group else 0

    @property
    def count(self) -> int:
        """Messages that wait."""
        return self._group.count if self._group else 0

    def add(self, inbound: list[Inbound], notes: list[Note], now_us: int) -> None:
        """Takes messages in order of receipt."""
        if not inbound and not notes:
            return
        group = self._open(now_us)
        self._last_us = now_us
        owed, by_shard, size_bytes = group.owed, group.inbound, 0
        shard = -1
        of_shard: list[Inbound] = []
        session: Sender | None = None
        of_session: list[int] = []
        for message in inbound:
            _, _, to_shard, payload, _, sender, ticket, _ = message
            # Messages come in runs of one client and device: look their lists up once a run.
            if to_shard != shard:
                shard, of_shard = to_shard, by_shard.setdefault(to_shard, [])
            of_shard.append(message)
            size_bytes += len(payload)
            if ticket >= 0:
                if sender is not session:
                    session, of_session = sender, owed.setdefault(sender, [])
                of_session.append(ticket)
        group.size_bytes += size_bytes
        for note in notes:
            group.notes.setdefault(note.shard, []).append(note)
            if note.ticket >= 0 and note.session is not None:
                owed.setdefault(note.session, []).append(note.ticket)
            held = note.what.payload if isinstance(note.what, Foreign | DeadLetter) else b""
            group.size_bytes += 256 + len(held)
        group.count += len(inbound) + len(notes)

    def beat(self, shards: set[int], now_us: int) -> None:
        """Asks for a batch of these shards in the next group, with frames or without."""
        self._open(now_us).heartbeats |= shards

    def due_in_us(self, now_us: int) -> int | None:
        """Returns in how long the open group is to be closed by an idle writer, 0 for at once, None if it is empty."""
        group = self._group
        if group is None:
            return None
        if group.size_bytes >= self._max_bytes:
            return 0
        quiet_us = max(self._last_us + self._quiet_us, self._closed_us + self._every_us)
        return max(min(quiet_us, group.opened_us + self._age_us) - now_us, 0)

    def close(self, now_us: int) -> Group | None:
        """Hands over the open group; the next message opens another."""
        group, self._group = self._group, None
        if group is not None:
            self._closed_us = now_us
        return group

    def _open(self, now_us: int) -> Group:
        if self._group is None:
            self._group = Group(now_us)
        return self._group
