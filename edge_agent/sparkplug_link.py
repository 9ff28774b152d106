"""A link that speaks Sparkplug B 3.0 outwards and Headwater's own topics inwards, to an uplink that need not know.

    uplink ── status ─▶ NBIRTH, DBIRTH / NDEATH ─▶ ┌ link to
           ── frame ──▶ NDATA or DDATA by alias ─▶ │ a broker
           ◀─ ack ───── PUBACK, or the durable ack ─┘

What frees a frame is the uplink's durable ack, as ever. With release "durable" it is Headwater's gateway that sends it: the
message carries the native frame beside its metrics. With "puback" there is nobody to say more than that the broker has
the message: this link then makes the ack of it.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from edge_agent.settings import AgentSettings
from edge_agent.sparkplug_frame import Newest, speak
from headwater.ack import MISSING_MAX, Ack
from headwater.codec import decode_frame
from headwater.errors import ConnectError, DecodeError
from headwater.frame import Frame
from headwater.frontier import Frontier
from headwater.instant import US_PER_S
from headwater.mqtt_link import LinkDown, LinkEvent, LinkMessage, LinkPuback, LinkUp, MqttLink, Will
from headwater.names import mqtt_topic
from headwater.sparkplug_codec import SparkplugMetric, SparkplugPayload, decode_payload, encode_payload
from headwater.sparkplug_schema import DataType
from headwater.sparkplug_topic import (
    BDSEQ_METRIC,
    REBIRTH_METRIC,
    Verb,
    is_sparkplug,
    parse_sparkplug_topic,
    parse_state,
    state_topic,
)
from headwater.status import Status, parse_status

SEQ_COUNT = 256
# A message that would be larger goes without its metrics where it carries the native frame.
SIZE_MAX_BYTES = 480 * 1024
REBIRTH_EVERY_US = US_PER_S


@dataclass(slots=True)
class SparkplugEdge:
    """What outlives a connection: aliases, newest values, and which frames a broker has.

    Attributes:
        settings: ids, release and primary host.
        held: gives epoch and lowest seq of the spool.
        dial: makes a link to the broker.
        next_bdseq: draws the bdSeq of the next connection; it is kept across restarts.
        now_us: wall time, for the time stamps of messages.
        counters: what happened, by short names.
    """

    settings: AgentSettings
    held: Callable[[], tuple[int, int]]
    dial: Callable[[Will], MqttLink]
    next_bdseq: Callable[[], int]
    now_us: Callable[[], int]
    counters: Counter[str] = field(default_factory=Counter)
    aliases: dict[str, int] = field(default_factory=dict)
    newest: dict[str, Newest] = field(default_factory=dict)
    _frontiers: dict[int, Frontier] = field(default_factory=dict)

    def connect(self, _will: Will) -> MqttLink:
        """Makes a link whose will is the death that goes with its births."""
        bdseq = self.next_bdseq()
        death = Will(str(self.settings.sparkplug_topic(Verb.NDEATH)), self.death(bdseq), retain=False)
        return SparkplugLink(self, self.dial(death), bdseq)

    def death(self, bdseq: int) -> bytes:
        """The payload of NDEATH."""
        now_ms = self.now_us() // 1_000
        return encode_payload(SparkplugPayload(now_ms, None, (bdseq_metric(bdseq, now_ms),)))

    def taken(self, frame: Frame) -> Ack:
        """Notes that a broker has a frame, and returns what is to be freed."""
        epoch, oldest = self.held()
        if epoch not in self._frontiers:
            self._frontiers = {epoch: Frontier(max(0, oldest - 1))}
        frontier = self._frontiers[epoch]
        if frame.epoch == epoch:
            frontier.add_range(1, frame.oldest_seq - 1)
            frontier.add(frame.seq)
        for gap in frame.gaps:
            if gap.epoch == epoch and gap.to_seq:
                frontier.add_range(gap.from_seq, gap.to_seq)
        return Ack(epoch, frontier.contiguous, tuple(frontier.missing()[:MISSING_MAX]), "backbone", "puback")


def bdseq_metric(bdseq: int, now_ms: int) -> SparkplugMetric:
    """The metric that ties a death to its birth."""
    return SparkplugMetric(BDSEQ_METRIC, None, now_ms, DataType.INT64, bdseq, "long_value")


class SparkplugLink:
    """One connection; implements `headwater.mqtt_link.MqttLink`."""

    def __init__(self, edge: SparkplugEdge, inner: MqttLink, bdseq: int) -> None:
        self._edge = edge
        self._inner = inner
        self._bdseq = bdseq
        self._seq = 0
        self._status: Status | None = None
        self._status_bytes = b""
        self._declared: set[str] = set()
        self._live_from = 0
        self._up: LinkUp | None = None
        self._host_ms = -1
        self._reborn_us: int | None = None
        self._own: set[int] = set()
        self._sent: dict[int, Frame] = {}
        self._strays: dict[int, set[int]] = {}
        self._extra: list[LinkEvent] = []

    # What the uplink does.

    def start(self) -> None:
        """Begins to connect."""
        self._inner.start()

    def subscribe(self, mqtt_topics: tuple[str, ...]) -> None:
        """Asks for the node's commands, and for the uplink's topics where a gateway of Headwater answers on them."""
        settings = self._edge.settings
        commands = [f"{settings.sparkplug_topic(Verb.NCMD)}/#"]
        if settings.sparkplug_device:
            commands.append(str(settings.sparkplug_topic(Verb.DCMD)))
        if settings.sparkplug_release == "durable":
            self._inner.subscribe((*mqtt_topics, *commands))
            return
        self._inner.subscribe(tuple(commands))
        epoch, oldest = self._edge.held()
        self._extra.append(self._ack(Ack(epoch, max(0, oldest - 1), (), "backbone", "puback")))

    def publish(self, mqtt_topic: str, payload: bytes, *, retain: bool = False, qos: int = 1) -> int:
        """Says what the uplink says in Sparkplug's words; the number is that of the last message it took."""
        del retain, qos
        if mqtt_topic.endswith("/status"):
            return self._announce(parse_status(payload), payload)
        return self._tell(decode_frame(payload), payload)

    def close(self) -> None:
        """Says goodbye as far as that is possible."""
        self._inner.close()

    def drop(self) -> None:
        """Breaks the connection without a goodbye."""
        self._inner.drop()

    def fileno(self) -> int:
        """The socket to wait for."""
        return self._inner.fileno()

    @property
    def wants_write(self) -> bool:
        """True when bytes wait."""
        return self._inner.wants_write

    def on_ready(self, *, readable: bool, writable: bool) -> None:
        """Moves bytes."""
        self._inner.on_ready(readable=readable, writable=writable)

    # What comes from the broker.

    def events(self) -> list[LinkEvent]:
        """What happened, in the uplink's words."""
        found, self._extra = self._extra, []
        for event in self._inner.events():
            match event:
                case LinkUp() if self._edge.settings.sparkplug_host:
                    self._up = event
                    self._inner.subscribe((state_topic(self._edge.settings.sparkplug_host),))
                case LinkPuback():
                    self._take_puback(event, found)
                case LinkMessage() if is_sparkplug(event.mqtt_topic):
                    self._take_message(event, found)
                case _:
                    found.append(event)
        return found

    def _take_puback(self, event: LinkPuback, found: list[LinkEvent]) -> None:
        if event.mid in self._own:
            self._own.discard(event.mid)
            return
        found.append(event)
        frame = self._sent.pop(event.mid, None)
        if frame is None or event.reason_code:
            return
        if frame.epoch == self._edge.held()[0]:
            found.append(self._ack(self._edge.taken(frame)))
            return
        # Frames of earlier epochs are sent in the order of their seqs: all below the lowest that is out have arrived.
        out = self._strays[frame.epoch]
        out.discard(frame.seq)
        contiguous = min(out) - 1 if out else frame.seq
        found.append(self._ack(Ack(frame.epoch, contiguous, (), "backbone", "puback")))
        self._edge.taken(frame)

    def _ack(self, ack: Ack) -> LinkMessage:
        settings = self._edge.settings
        return LinkMessage(mqtt_topic(settings.site, settings.device, "ack"), ack.to_json())

    def _take_message(self, event: LinkMessage, found: list[LinkEvent]) -> None:
        topic = parse_sparkplug_topic(event.mqtt_topic)
        try:
            if topic is not None and topic.verb is Verb.STATE:
                self._take_state(event.payload, found)
            elif topic is not None and topic.verb.is_command:
                self._take_command(decode_payload(event.payload))
        except DecodeError:
            self._edge.counters["commands_refused"] += 1
        except ConnectError:
            # The connection went while we answered; LinkDown follows, and with the next one comes a birth.
            self._edge.counters["answers_lost"] += 1

    def _take_state(self, payload: bytes, found: list[LinkEvent]) -> None:
        state = parse_state(payload)
        if state.time_ms < self._host_ms:
            self._edge.counters["states_stale"] += 1
            return
        self._host_ms = state.time_ms
        if state.online and self._up is not None:
            found.append(self._up)
            self._up = None
        elif not state.online and self._up is None:
            self._edge.counters["host_lost"] += 1
            self._say(Verb.NDEATH, self._edge.death(self._bdseq), qos=0)
            self._inner.close()
            found.append(LinkDown("the primary host application is offline"))

    def _take_command(self, payload: SparkplugPayload) -> None:
        for metric in payload.metrics:
            now_us = self._edge.now_us()
            is_rebirth = metric.name == REBIRTH_METRIC and metric.raw is True
            is_soon = self._reborn_us is not None and abs(now_us - self._reborn_us) < REBIRTH_EVERY_US
            if not is_rebirth or is_soon or self._status is None:
                self._edge.counters["commands_refused"] += 1
                continue
            self._reborn_us = now_us
            self._edge.counters["rebirths"] += 1
            self._own.add(self._be_born())

    # What goes to the broker.

    def _announce(self, status: Status, payload: bytes) -> int:
        if not status.online:
            return self._say(Verb.NDEATH, self._edge.death(self._bdseq), qos=0)
        if self._status is None:
            self._live_from = status.assigned + 1
        self._status, self._status_bytes = status, payload
        return self._be_born()

    def _be_born(self) -> int:
        """Publishes the births of node and device; returns the number of the last message."""
        assert self._status is not None
        settings, now_ms = self._edge.settings, self._edge.now_us() // 1_000
        units = {name: str(said.get("unit") or "") for name, said in (self._status.metrics or {}).items()}
        self._declared |= units.keys()
        for name in self._declared:
            self._edge.aliases.setdefault(name, len(self._edge.aliases) + 1)
        told = tuple(self._defined(name, units.get(name, ""), now_ms) for name in sorted(self._declared))
        node = (
            bdseq_metric(self._bdseq, now_ms),
            SparkplugMetric(REBIRTH_METRIC, None, now_ms, DataType.BOOLEAN, False, "boolean_value"),
        )
        own_status = self._status_bytes if settings.sparkplug_release == "durable" else b""
        self._edge.counters["births"] += 1
        self._seq = 0
        if not settings.sparkplug_device:
            return self._say(Verb.NBIRTH, self._encoded((*node, *told), status=own_status), qos=0)
        self._own.add(self._say(Verb.NBIRTH, self._encoded(node), qos=0))
        return self._say(Verb.DBIRTH, self._encoded(told, status=own_status), qos=0)

    def _defined(self, name: str, unit: str, now_ms: int) -> SparkplugMetric:
        newest = self._edge.newest.get(name)
        value: dict[str, Any] = {"is_null": True} if newest is None else {"raw": newest.value, "field": "double_value"}
        time_ms = now_ms if newest is None else newest.time_ms
        return SparkplugMetric(name, self._edge.aliases[name], time_ms, DataType.DOUBLE, unit=unit, **value)

    def _tell(self, frame: Frame, payload: bytes) -> int:
        """Publishes a frame; metrics that no birth told of are born first."""
        settings, counters = self._edge.settings, self._edge.counters
        names = {metric for block in frame.blocks for metric in block.metrics}
        if not names <= self._declared:
            self._declared |= names
            self._own.add(self._be_born())
        is_historical = frame.epoch != self._edge.held()[0] or frame.seq < self._live_from
        spoken = speak(frame, self._edge.aliases, is_historical=is_historical)
        self._edge.newest |= {
            name: newest
            for name, newest in spoken.newest.items()
            if name not in self._edge.newest or newest.time_ms >= self._edge.newest[name].time_ms
        }
        counters["left_out"] += spoken.left_out
        counters["unsaid"] += spoken.unsaid
        counters["historical"] += len(spoken.metrics) if is_historical else 0
        is_durable = settings.sparkplug_release == "durable"
        native = payload if is_durable else b""
        data = self._encoded(spoken.metrics, frame=native)
        if is_durable and len(data) > SIZE_MAX_BYTES:
            counters["without_metrics"] += 1
            self._seq -= 1
            data = self._encoded((), frame=native)
        mid = self._say(Verb.DDATA if settings.sparkplug_device else Verb.NDATA, data)
        if not is_durable:
            self._sent[mid] = frame
            if frame.epoch != self._edge.held()[0]:
                self._strays.setdefault(frame.epoch, set()).add(frame.seq)
        return mid

    def _encoded(self, metrics: tuple[SparkplugMetric, ...], *, frame: bytes = b"", status: bytes = b"") -> bytes:
        """Encodes a message with the next number of the sequence."""
        seq, self._seq = self._seq % SEQ_COUNT, self._seq + 1
        return encode_payload(SparkplugPayload(self._edge.now_us() // 1_000, seq, metrics, frame, status))

    def _say(self, verb: Verb, payload: bytes, qos: int = 1) -> int:
        return self._inner.publish(str(self._edge.settings.sparkplug_topic(verb)), payload, qos=qos)
