"""One Sparkplug edge node as its host sees it: births, deaths, the order of its messages. Without IO or clock.

    message ─▶ take ─▶ in order?  ─ yes ─▶ births define, data is resolved ─▶ Taken, Born, Died
                          │ no
                          └─▶ waits for the missing ones ─▶ due: given up, a rebirth is wanted

Every message that goes in comes out as one `Taken`, now or later. Specification 3.0, chapters 5 and 6.
"""

from collections import Counter
from dataclasses import dataclass
from enum import Enum, auto
from typing import Generic, TypeVar

from gateway.sparkplug_table import NodeTable
from gateway.sparkplug_values import Values, all_left_out, all_refused, read_values
from headwater.errors import DecodeError
from headwater.reasons import DeadLetterReason, LeftOutReason
from headwater.sparkplug_codec import SparkplugPayload
from headwater.sparkplug_topic import BDSEQ_METRIC, SparkplugTopic, Verb

SEQ_COUNT = 256
WAITING_MAX = 64
_HALF = SEQ_COUNT // 2

_O = TypeVar("_O")


@dataclass(frozen=True, slots=True)
class Arrived(Generic[_O]):
    """A message of the node.

    Attributes:
        topic, payload: what it is.
        received_us: the gateway's time.
        digest: of its bytes; the same message once more has the same one.
        origin: what the caller wants to find again in `Taken`.
    """

    topic: SparkplugTopic
    payload: SparkplugPayload
    received_us: int
    digest: bytes
    origin: _O


@dataclass(frozen=True, slots=True)
class Taken(Generic[_O]):
    """What became of a message; with `has_frame` the native frame in it is to be admitted instead of its metrics."""

    arrived: Arrived[_O]
    values: Values
    has_frame: bool = False


@dataclass(frozen=True, slots=True)
class Born:
    """The node ("") or a device of it was born; `status` is Headwater's own, see `SparkplugPayload`."""

    device: str
    status: bytes = b""


@dataclass(frozen=True, slots=True)
class Died:
    """The node ("") or a device of it died."""

    device: str


class Phase(Enum):
    """Where a node is between its birth and its death."""

    UNBORN = auto()
    BORN = auto()
    DEAD = auto()


class SparkplugNode(Generic[_O]):
    """One edge node.

    Attributes:
        table: what its births said.
        wants: why it should be born again, "" if it need not.
        counters: what happened, shared by all nodes.
    """

    def __init__(self, reorder_us: int, counters: Counter[str]) -> None:
        self._reorder_us = reorder_us
        self.counters = counters
        self.table = NodeTable()
        self.phase = Phase.UNBORN
        self.wants = ""
        self._bdseq: int | None = None
        self._expected: int | None = None
        self._in_doubt = False
        self._birth: bytes = b""
        self._seen: dict[int, bytes] = {}
        self._waiting: dict[int, Arrived[_O]] = {}
        self._reborn_by_us: dict[str, int] = {}
        self._out: list[Taken[_O] | Born | Died] = []

    @property
    def waiting(self) -> int:
        """Messages that wait for earlier ones."""
        return len(self._waiting)

    def take(self, arrived: Arrived[_O]) -> list[Taken[_O] | Born | Died]:
        """Takes a message and returns what follows from it, in order."""
        verb, seq = arrived.topic.verb, arrived.payload.seq
        if verb is Verb.NDEATH:
            self._take_death(arrived)
        elif verb is Verb.NBIRTH:
            self._take_birth(arrived)
        elif seq is None or self._expected is None:
            self._apply(arrived)
        elif seq == self._expected:
            self._advance(arrived)
            self._drain()
        elif arrived.digest in {self._seen.get(seq), self._waiting[seq].digest if seq in self._waiting else None}:
            self._repeat(arrived)
        else:
            if len(self._waiting) >= WAITING_MAX or seq in self._waiting:
                self._give_up()
            if seq == self._expected:
                self._advance(arrived)
            else:
                self._waiting[seq] = arrived
        return self._flush()

    def due(self, now_us: int) -> list[Taken[_O] | Born | Died]:
        """Gives up waiting for what is missing too long, and for devices that were not born again with their node."""
        # A clock that was set back must not hold messages: they are due as well.
        if any(abs(now_us - waiting.received_us) >= self._reorder_us for waiting in self._waiting.values()):
            self._give_up()
        for device in [device for device, at_us in self._reborn_by_us.items() if at_us <= now_us]:
            del self._reborn_by_us[device]
            self._out.append(Died(device))
        return self._flush()

    def lose(self) -> list[Taken[_O] | Born | Died]:
        """The node's connection is over and its will says nothing: it is dead all the same."""
        if self.phase is Phase.BORN or self._waiting:
            self._die()
        self.wants = ""
        return self._flush()

    def _flush(self) -> list[Taken[_O] | Born | Died]:
        out, self._out = self._out, []
        return out

    # Births and deaths of the node.

    def _take_birth(self, arrived: Arrived[_O]) -> None:
        payload = arrived.payload
        if self.phase is Phase.BORN and arrived.digest == self._birth:
            self._repeat(arrived)
            return
        # What waits and is younger than this birth belongs to it; all else is of the life before.
        younger = {
            seq: waiting
            for seq, waiting in self._waiting.items()
            if payload.time_ms is not None and (waiting.payload.time_ms or 0) >= payload.time_ms
        }
        for seq in younger:
            del self._waiting[seq]
        self._give_up(is_gap=False)
        for device in self.table.devices():
            if device:
                self._reborn_by_us[device] = arrived.received_us + 5 * self._reorder_us
        self.table.bury_all()
        self.phase, self._birth, self._in_doubt, self.wants = Phase.BORN, arrived.digest, False, ""
        self._bdseq = _bdseq_of(payload)
        self._expected = None if payload.seq is None else (payload.seq + 1) % SEQ_COUNT
        self._seen = {}
        self.counters["births"] += 1
        self._bear(arrived, "")
        self._waiting = younger
        if self._expected is None:
            self._give_up(is_gap=False)
        self._drain()

    def _take_death(self, arrived: Arrived[_O]) -> None:
        told = _bdseq_of(arrived.payload)
        is_stale = self._bdseq is not None and told is not None and told != self._bdseq
        if self.phase is not Phase.BORN or is_stale:
            # It was sent for a life that has ended: the node was born again since.
            self.counters["stale_deaths"] += 1
        else:
            self.counters["deaths"] += 1
            self._die()
        self._out.append(Taken(arrived, all_left_out(arrived.payload, LeftOutReason.CONTROL)))

    def _die(self) -> None:
        self._give_up(is_gap=False)
        devices = {*self.table.devices(), *self._reborn_by_us} - {""}
        self._out += [Died(device) for device in sorted(devices)]
        if self.phase is Phase.BORN:
            self._out.append(Died(""))
        self.table.bury_all()
        self._reborn_by_us.clear()
        self.phase, self._expected, self._bdseq, self.wants = Phase.DEAD, None, None, ""
        self._birth, self._seen = b"", {}

    # The order of messages.

    def _advance(self, arrived: Arrived[_O]) -> None:
        assert arrived.payload.seq is not None
        self._expected = (arrived.payload.seq + 1) % SEQ_COUNT
        self._seen[arrived.payload.seq] = arrived.digest
        self._apply(arrived)

    def _drain(self) -> None:
        while self._expected is not None and self._expected in self._waiting:
            self._advance(self._waiting.pop(self._expected))

    def _give_up(self, *, is_gap: bool = True) -> None:
        """Takes what waits as it is; those behind come first, then those ahead with a gap before them."""
        expected = self._expected
        waiting, self._waiting = self._waiting, {}
        if not waiting:
            return
        if expected is None:
            # The birth between them has no number: nothing says in which order they were sent but their own.
            for seq in sorted(waiting):
                self._apply(waiting[seq])
            return
        for ahead in sorted(((seq - expected) % SEQ_COUNT + _HALF) % SEQ_COUNT - _HALF for seq in waiting):
            seq = (expected + ahead) % SEQ_COUNT
            arrived = waiting[seq]
            self._in_doubt = True
            if ahead < 0:
                self.counters["late"] += 1
                self._apply(arrived, is_late=True)
            else:
                assert self._expected is not None
                self.counters["missing"] += (seq - self._expected) % SEQ_COUNT
                self._advance(arrived)
        if is_gap:
            self.counters["gaps"] += 1
            self.wants = self.wants or "gap"

    def _repeat(self, arrived: Arrived[_O]) -> None:
        self.counters["repeated"] += 1
        self._out.append(Taken(arrived, all_left_out(arrived.payload, LeftOutReason.REPEAT)))

    # What messages say.

    def _apply(self, arrived: Arrived[_O], *, is_late: bool = False) -> None:
        topic = arrived.topic
        if self.phase is not Phase.BORN:
            self.wants = self.wants or "unborn"
        if topic.verb is Verb.DBIRTH and not (is_late and self.table.is_born(topic.device)):
            self._bear(arrived, topic.device)
            return
        if topic.verb is Verb.DDEATH:
            if not is_late and self.table.is_born(topic.device):
                self.table.bury(topic.device)
                self._out.append(Died(topic.device))
        elif not self.table.is_born(topic.device):
            self.wants = self.wants or "unborn"
        self._read(arrived)

    def _bear(self, arrived: Arrived[_O], device: str) -> None:
        try:
            wrong = self.table.bear(device, arrived.payload.metrics)
        except DecodeError as error:
            self._out.append(Taken(arrived, all_refused(arrived.payload, error.reason, error.detail)))
            return
        self._reborn_by_us.pop(device, None)
        self._out.append(Born(device, arrived.payload.status))
        self._read(arrived, wrong)

    def _read(self, arrived: Arrived[_O], wrong: list[str] | None = None) -> None:
        payload, is_birth = arrived.payload, wrong is not None
        if payload.frame or (is_birth and payload.status):
            # Of Headwater's own agent: its readings come as native frames.
            has_frame = bool(payload.frame)
            self._out.append(Taken(arrived, all_left_out(payload, LeftOutReason.FRAME), has_frame=has_frame))
            return
        values = read_values(
            self.table,
            arrived.topic.device,
            payload,
            arrived.received_us,
            in_doubt=self._in_doubt,
            is_birth=is_birth,
        )
        if wrong:
            # A letter about definitions; the values themselves are counted as left out.
            values.refuse(DeadLetterReason.NAME, f"{len(wrong)} definitions: {wrong[0]}", 0)
        if values.undeclared or DeadLetterReason.ALIAS in values.refused:
            self.wants = self.wants or "undeclared"
        self._out.append(Taken(arrived, values))


def _bdseq_of(payload: SparkplugPayload) -> int | None:
    """The number that ties a death to its birth."""
    for metric in payload.metrics:
        if metric.name == BDSEQ_METRIC and isinstance(metric.raw, int):
            return metric.raw
    return None
