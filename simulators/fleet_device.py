"""A fleet's device: frames that wait for their durable ack, in memory, as the agent's spool would hold them."""

from dataclasses import dataclass, field

from headwater.ack import Ack
from headwater.frame import Block, Frame, Ledger
from headwater.names import mqtt_topic
from headwater.reasons import ClockQuality
from simulators.plant import Machine

DOUBLINGS_MAX = 4  # Of the wait: eight minutes where it begins with half a minute.


@dataclass(slots=True)
class Waiting:
    """A frame without durable ack.

    Attributes:
        frame, payload: what it holds, and as bytes.
        made_us: when it was offered.
        sent_us: when it was sent last, if it ever was.
        sends: how often it was sent.
    """

    frame: Frame
    payload: bytes
    made_us: int
    sent_us: int = 0
    sends: int = 0


@dataclass(slots=True)
class FleetDevice:
    """One device's account; all times are of a monotonic clock.

    Attributes:
        machine: what it is.
        epoch: drawn for this run.
        seq: the last one assigned.
        durable: all up to this one are acknowledged.
        waiting: seq → frame, ascending; dictionaries keep their order.
        unacked_max: bound of `waiting`; beyond, no frame is made.
        resend_after_us: how long after sending a frame is not sent again, whoever asks; without an ack that asks for it
            this doubles each time, as an agent's does, or a slow pipeline would drown in copies.
    """

    machine: Machine
    epoch: int
    unacked_max: int
    resend_after_us: int
    seq: int = 0
    durable: int = 0
    waiting: dict[int, Waiting] = field(default_factory=dict)

    @property
    def mqtt_topic(self) -> str:
        """Where its frames go."""
        return mqtt_topic(self.machine.site, self.machine.device, "frame")

    @property
    def has_room(self) -> bool:
        """True if another frame may be made."""
        return len(self.waiting) < self.unacked_max

    def next_frame(self, blocks: tuple[Block, ...], created_us: int) -> Frame:
        """Assigns the next seq to a frame of these blocks."""
        self.seq += 1
        return frame_of(self.machine, self.epoch, self.seq, self.durable + 1, created_us, blocks)

    def acknowledge(self, ack: Ack, now_us: int) -> tuple[list[Waiting], list[int]]:
        """Takes an ack: returns the frames that are durable now, and the seqs to send again.

        An ack of another epoch says nothing about these frames.
        """
        if ack.epoch != self.epoch:
            return [], []
        durable = []
        for seq in list(self.waiting):
            if seq > ack.contiguous:
                break
            durable.append(self.waiting.pop(seq))
        self.durable = max(self.durable, min(ack.contiguous, self.seq))
        again = [
            seq
            for lo, hi in ack.missing
            for seq in range(lo, min(hi, self.seq) + 1)
            if seq in self.waiting and self._is_due(self.waiting[seq], now_us, 0)
        ]
        return durable, again

    def _is_due(self, one: Waiting, now_us: int, doublings: int) -> bool:
        return one.sends > 0 and now_us - one.sent_us >= self.resend_after_us << doublings

    def overdue(self, now_us: int) -> list[int]:
        """Returns the seqs that were sent too long ago to wait any longer."""
        return [
            seq
            for seq, one in self.waiting.items()
            if self._is_due(one, now_us, min(max(one.sends - 1, 0), DOUBLINGS_MAX))
        ]


def frame_of(
    machine: Machine, epoch: int, seq: int, oldest_seq: int, created_us: int, blocks: tuple[Block, ...]
) -> Frame:
    """Returns a frame of raw readings."""
    acquired = sum(block.reading_count for block in blocks)
    return Frame(
        machine.site,
        machine.device,
        epoch,
        seq,
        created_us,
        ClockQuality.SYNCED,
        oldest_seq,
        blocks,
        ledger=Ledger(acquired=acquired),
    )
