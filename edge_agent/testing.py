"""Doubles for tests and experiments: a source from a list, and a link to a gateway in memory."""

from collections import deque
from collections.abc import Callable, Sequence

from headwater.ack import Ack
from headwater.codec import decode_frame
from headwater.errors import ConnectError
from headwater.frame import Block, Frame
from headwater.frontier import Frontier
from headwater.metric import Metric
from headwater.mqtt_link import LinkDown, LinkEvent, LinkMessage, LinkPuback, LinkUp, Will
from headwater.names import mqtt_topic


class ListSource:
    """Delivers the blocks of a list, one list of blocks a read; an exception in the list is raised."""

    def __init__(self, metrics: Sequence[Metric], reads: Sequence[list[Block] | ConnectError]) -> None:
        self.metrics: tuple[Metric, ...] = tuple(metrics)
        self._reads = deque(reads)
        self.is_open = False

    def open(self) -> None:
        """Opens."""
        self.is_open = True

    def read(self, now_us: int) -> list[Block]:
        """Returns the next of the list, whatever the time; [] at its end."""
        del now_us
        if not self._reads:
            return []
        taken = self._reads.popleft()
        if isinstance(taken, ConnectError):
            raise taken
        return taken

    @property
    def is_exhausted(self) -> bool:
        """True at the end of the list."""
        return not self._reads

    def close(self) -> None:
        """Closes."""
        self.is_open = False


class MemoryGateway:
    """Takes frames and acknowledges them as a gateway does, or as badly as a test wants.

    Attributes:
        reason_code: of the PUBACKs.
        answers: False holds PUBACKs back.
        lost: seqs that vanish after their PUBACK, once each.
        frames: everything received, in order.
        statuses: payloads on `status`, in order.
    """

    def __init__(self, *, receive_maximum: int = 100) -> None:
        self.receive_maximum = receive_maximum
        self.reason_code = 0
        self.answers = True
        self.lost: set[int] = set()
        self.frames: list[Frame] = []
        self.statuses: list[bytes] = []
        self.frontiers: dict[int, Frontier] = {}
        self.links: list[MemoryLink] = []

    def connect(self, will: Will) -> "MemoryLink":
        """Makes a link to this gateway; what an Uplink is given."""
        link = MemoryLink(self, will)
        self.links.append(link)
        return link

    def take(self, leaf: str, payload: bytes) -> None:
        """Receives a publication."""
        if leaf == "status":
            self.statuses.append(payload)
            return
        frame = decode_frame(payload)
        if frame.seq in self.lost:
            self.lost.discard(frame.seq)
            return
        self.frames.append(frame)
        self.frontiers.setdefault(frame.epoch, Frontier()).add(frame.seq)
        for gap in frame.gaps:
            if gap.to_seq:
                self.frontiers.setdefault(gap.epoch, Frontier()).add_range(gap.from_seq, gap.to_seq)

    def ack(self, epoch: int) -> Ack:
        """The durable acknowledgement of what has come."""
        frontier = self.frontiers.setdefault(epoch, Frontier())
        return Ack(epoch, frontier.contiguous, tuple(frontier.missing()), "backbone", "log-1")

    def send_ack(self, ack: Ack) -> None:
        """Delivers an acknowledgement over the newest link."""
        link = self.links[-1]
        link.push(LinkMessage(mqtt_topic(link.site, link.device, "ack"), ack.to_json()))


class MemoryLink:
    """A peer of `headwater.io.mqtt_paho.PahoLink` without a network."""

    def __init__(self, gateway: MemoryGateway, will: Will) -> None:
        self._gateway = gateway
        self.will = will
        _, _, self.site, self.device, _ = will.mqtt_topic.split("/")
        self._events: deque[LinkEvent] = deque()
        self._mid = 0
        self.in_flight: set[int] = set()
        self.in_flight_most = 0
        self.is_over = False
        self.subscribed: tuple[str, ...] = ()
        self.on_publish: Callable[[str], None] = lambda _leaf: None

    def push(self, event: LinkEvent) -> None:
        """Lets something happen."""
        self._events.append(event)

    def start(self) -> None:
        """Is up at once."""
        self.push(LinkUp(self._gateway.receive_maximum))

    def events(self) -> list[LinkEvent]:
        """What happened since the last call."""
        taken = list(self._events)
        self._events.clear()
        self.in_flight -= {event.mid for event in taken if isinstance(event, LinkPuback)}
        return taken

    def subscribe(self, mqtt_topics: tuple[str, ...]) -> None:
        """Notes the subscription."""
        self.subscribed = mqtt_topics

    def publish(self, mqtt_topic: str, payload: bytes, *, retain: bool = False, qos: int = 1) -> int:
        """Hands over to the gateway."""
        del retain, qos
        if self.is_over:
            raise ConnectError("the link is gone")
        self._mid += 1
        self.in_flight.add(self._mid)
        self.in_flight_most = max(self.in_flight_most, len(self.in_flight))
        leaf = mqtt_topic.rsplit("/", 1)[-1]
        self.on_publish(leaf)
        if self._gateway.reason_code == 0 or leaf == "status":
            self._gateway.take(leaf, payload)
        if self._gateway.answers or leaf == "status":
            self.push(LinkPuback(self._mid, 0 if leaf == "status" else self._gateway.reason_code))
        return self._mid

    def break_off(self, reason: str = "broken") -> None:
        """Loses the connection."""
        self.is_over = True
        self._events.clear()
        self.push(LinkDown(reason))

    def close(self) -> None:
        """Ends cleanly."""
        self.is_over = True

    def drop(self) -> None:
        """Ends without a goodbye."""
        self.is_over = True

    def fileno(self) -> int:
        """There is no socket."""
        return -1

    @property
    def wants_write(self) -> bool:
        """Nothing waits."""
        return False

    def on_ready(self, *, readable: bool, writable: bool) -> None:
        """Nothing to move."""
