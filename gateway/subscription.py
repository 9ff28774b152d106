"""The gateway as a client of an MQTT 5 broker: one connection as a state machine without IO.

        data_received ─▶ feed ─▶ PUBLISH ─▶ Intake ─▶ … the log …
        transport.write ◀─ take_output ◀─ PUBACKs ◀─ settle

The broker keeps the session between connections: what is not acknowledged on one comes again on the next. So a
connection that ends forgets what it owed, and no PUBACK ever crosses a reconnect. A message that can't be taken is a
dead letter and acknowledged like any other; only a broker that breaks the protocol costs the connection.
"""

from collections.abc import Sequence

import mqtt5

from gateway import wire
from gateway.announced_topics import AnnouncedTopics
from gateway.claim import claim_topic
from gateway.home_assistant_in import OWN_TOPICS
from gateway.identity import Identity
from gateway.intake import Intake
from gateway.ledger import AckLedger
from gateway.publish import QOS, QOS_1, read_publish, topic_text
from gateway.session import Code, Route
from gateway.stage import Stage
from gateway.terms import (
    Terms,
    announcement_filter,
    announcement_patterns,
    filter_of,
    patterns,
    sparkplug_patterns,
)
from gateway.wire_server import check_from_broker, packet_size, remains
from headwater.names import parse_mqtt_topic
from headwater.reasons import DeadLetterReason

# Whatever the broker takes our Receive Maximum for, packet ids bound what can be in flight.
IN_FLIGHT_MAX = 65_535
FILTERS_PER_PACKET = 100
_PUBLISH = 0x30
_PUBACK_OK = b"\x40\x02"
_FAILURE_MIN = 0x80


class Subscription:
    """One connection to a broker.

    Args:
        intake: where messages go.
        terms: how to subscribe.
        origin: see `gateway.sender.Sender`.
        will: (MQTT topic, payload) that the broker publishes, retained, when the connection breaks; None for none.

    Attributes:
        stage: see there.
        client_id, identity, ledger, routes, origin: see `gateway.sender.Sender`.
        is_resumed: the broker still had our session; None before CONNACK.
        is_subscribed: the broker has granted all we asked for on this connection.
        refused: filters that the broker did not grant, of Sparkplug nodes and announced devices; all others must be. The
            shell empties it.
        is_taken_over: another client connected with our client id; it has the session now.
        expiry_s: how long the broker keeps the session, in seconds, where that is less than asked; else None.
        why: why the connection ended, for people.
    """

    def __init__(self, intake: Intake, terms: Terms, origin: object, will: tuple[str, bytes] | None = None) -> None:
        self._intake = intake
        self._terms = terms
        self._pending = bytearray()
        self._skip_bytes = 0
        self._next_id = 0
        self._asked: dict[int, tuple[list[str], bool]] = {}
        self._sites: set[str] = set()
        self._topics = AnnouncedTopics(intake.announced)
        self._keepalive_us = terms.keepalive_us
        self._silent_us = self._unpinged_us = 0
        self._retains = True
        self.origin = origin
        self.client_id = terms.client_id
        self.identity = Identity("broker", (("*", "*"),))
        self.ledger = AckLedger(IN_FLIGHT_MAX)
        self.routes: dict[bytes, Route] = {}
        self.stage = Stage.ASKING
        self.is_resumed: bool | None = None
        self.is_subscribed = False
        self.refused: list[str] = []
        self.is_taken_over = False
        self.expiry_s: int | None = None
        self.why = ""
        self._output: list[bytes] = [terms.connect(will).write()]

    # What comes in.

    def feed(self, data: bytes | memoryview, now_us: int) -> None:
        """Takes bytes from the broker, which are the caller's again afterwards."""
        if self.stage is Stage.CLOSED:
            return
        self._silent_us = 0
        if self._skip_bytes:
            passed = min(self._skip_bytes, len(data))
            self._skip_bytes -= passed
            data = data[passed:]
        pending = self._pending
        if pending:
            pending += data
            at = self._consume(pending, now_us)
            del pending[:at]
        elif data:
            data = bytes(data)
            at = self._consume(data, now_us)
            pending += data[at:]
        if self._topics.is_changed:
            self._follow()

    def _consume(self, data: bytes | bytearray, now_us: int) -> int:
        """Handles whole packets from the start of `data`; returns how many bytes they were."""
        at = 0
        packet_max_bytes = self._terms.packet_max_bytes
        try:
            while self.stage is not Stage.CLOSED:
                try:
                    end = wire.packet_end(data, at, packet_max_bytes)
                except wire.OversizedPacketError as error:
                    end = self._skip(data, at, str(error), now_us)
                    if not end:
                        break
                    at = end
                    continue
                if not end:
                    break
                if not isinstance(data, bytes):  # Copied once a packet is whole, not for every piece of it.
                    data = bytes(data)
                if data[at] & 0xF0 == _PUBLISH:
                    self._publish(data, at, end, now_us)
                else:
                    self._handle(memoryview(data)[at:end], now_us)
                at = end
        except wire.MalformedPacketError as error:
            self.disconnect(Code.MALFORMED_PACKET, f"the broker sent what is not MQTT 5: {error}", now_us)
        return len(data) if self.stage is Stage.CLOSED else at

    def _publish(self, data: bytes, at: int, end: int, now_us: int) -> None:
        if self.stage is not Stage.OPEN:
            raise wire.MalformedPacketError("PUBLISH before CONNACK")
        try:
            packet = read_publish(data, at, end, is_mqtt5=True)
            qos = packet.flags & QOS
            if qos not in {0, QOS_1} or (qos and not packet.packet_id):
                self.disconnect(Code.PROTOCOL_ERROR, "the broker sent a quality of service not asked for", now_us)
                return
            if packet.mqtt_topic not in self.routes:
                self._look_at(packet.mqtt_topic)
            self._intake.publish(self, packet, now_us)
        except wire.MalformedPacketError as error:
            self._refuse(memoryview(data)[at:end], DeadLetterReason.PARSE, str(error), now_us)

    def _refuse(self, head: memoryview, reason: DeadLetterReason, detail: str, now_us: int) -> None:
        """Makes a dead letter of a PUBLISH of which not more than its beginning can be read."""
        left = remains(head, self._terms.letter_max_bytes)
        self._intake.refuse(self, left.mqtt_topic, left.payload, reason, detail, left.packet_id, now_us)

    def _skip(self, data: bytes | bytearray, at: int, detail: str, now_us: int) -> int:
        """Makes a dead letter of a packet that is too large, without holding it; 0 while its beginning has not come."""
        size = packet_size(data, at)
        if self.stage is not Stage.OPEN or data[at] & 0xF0 != _PUBLISH:
            raise wire.MalformedPacketError(detail)
        kept = min(size, self._terms.letter_max_bytes + self._terms.packet_max_bytes)
        if len(data) - at < kept:
            return 0
        self._refuse(memoryview(bytes(data[at : at + kept])), DeadLetterReason.TOO_LARGE, detail, now_us)
        end = min(at + size, len(data))
        self._skip_bytes = at + size - end
        return end

    def _look_at(self, mqtt_topic: bytes) -> None:
        """Drops filters of earlier settings: on a session that was resumed, or a site that is another gateway's."""
        where = topic_text(mqtt_topic)
        if not where.startswith(OWN_TOPICS):
            self._topics.see(where)
            return
        topic = parse_mqtt_topic(where)
        if topic is None or topic.site in self._sites:
            return
        self._sites.add(topic.site)
        if topic.site not in self._terms.sites and (self._terms.sites or self.is_resumed):
            self._unsubscribe(patterns(topic.site))

    def _handle(self, packet: memoryview, now_us: int) -> None:
        check_from_broker(packet)
        try:
            got = mqtt5.read(packet)[0]
        except (ValueError, IndexError) as error:
            raise wire.MalformedPacketError(str(error)) from error
        match got:
            case mqtt5.ConnAckPacket() if self.stage is Stage.ASKING:
                self._open(got, now_us)
            case mqtt5.SubAckPacket() if got.packet_id in self._asked:
                self._check_granted(got, now_us)
            case mqtt5.UnsubAckPacket() | mqtt5.PingRespPacket():
                pass
            case mqtt5.DisconnectPacket():
                self.is_taken_over = got.reason_code == Code.SESSION_TAKEN_OVER
                self._end(f"the broker said {got.reason_code.name}")
            case _:
                raise wire.MalformedPacketError(f"an unexpected {type(got).__name__}")

    def _open(self, connack: mqtt5.ConnAckPacket, now_us: int) -> None:
        if int(connack.reason_code) >= _FAILURE_MIN:
            self._end(f"the broker refused the connection: {connack.reason_code.name}")
            return
        if int(connack.max_qos) == 0:
            self.disconnect(Code.QOS_NOT_SUPPORTED, "the broker grants QoS 0 only", now_us)
            return
        self.stage = Stage.OPEN
        self.is_resumed = connack.session_present
        self.expiry_s = connack.session_expiry_interval
        self._retains = connack.retain_available
        if connack.server_keep_alive is not None:
            self._keepalive_us = connack.server_keep_alive * 1_000_000
        if self._retains and self._terms.claim:
            self.publish(claim_topic(self.client_id), self._terms.claim)
        self._subscribe()
        if self.is_resumed and self._terms.sites:
            self._unsubscribe(patterns("+"))

    # What goes out.

    def _subscribe(self) -> None:
        """Asks for everything, also on a session that was resumed: that changes nothing where nothing changed."""
        sites = self._terms.sites or ("+",)
        if self._terms.sparkplug:
            self._ask([filter_of(pattern) for site in sites for pattern in sparkplug_patterns(site)])
        announced = self._intake.announced
        if announced is not None:
            self._ask([announcement_filter(pattern) for pattern in announcement_patterns(announced.prefix)])
            self._ask(self._topics.begin())
        self._ask([filter_of(pattern) for site in sites for pattern in patterns(site)], is_needed=True)

    def _follow(self) -> None:
        """Asks for the topics of devices that announced themselves, and drops those that nobody announces any more."""
        added, dropped = self._topics.due()
        if self.stage is Stage.OPEN:
            self._ask(added)
            self._unsubscribe(dropped)

    def _ask(self, filters: Sequence[mqtt5.TopicFilter], *, is_needed: bool = False) -> None:
        size = len(filters) if is_needed else FILTERS_PER_PACKET
        for at in range(0, len(filters), size):
            wanted = list(filters[at : at + size])
            packet_id = self._packet_id()
            self._asked[packet_id] = [one.pattern for one in wanted], is_needed
            self._output.append(mqtt5.SubscribePacket(packet_id, wanted).write())

    def _check_granted(self, packet: mqtt5.SubAckPacket, now_us: int) -> None:
        asked, is_needed = self._asked.pop(packet.packet_id)
        codes = [int(code) for code in packet.reason_codes]
        granted = {pattern for pattern, code in zip(asked, codes, strict=False) if code == 1}
        refused = [pattern for pattern in asked if pattern not in granted]
        if not is_needed:
            self.refused += refused
        elif refused:
            self.disconnect(
                Code.IMPLEMENTATION_SPECIFIC_ERROR,
                f"the broker does not grant QoS 1 for {', '.join(refused)}: may the gateway's user read it?",
                now_us,
            )
        else:
            self.is_subscribed = True

    def _unsubscribe(self, filters: Sequence[str]) -> None:
        for at in range(0, len(filters), FILTERS_PER_PACKET):
            packet = mqtt5.UnsubscribePacket(self._packet_id(), list(filters[at : at + FILTERS_PER_PACKET]))
            self._output.append(packet.write())

    def _packet_id(self) -> int:
        self._next_id = self._next_id % 65_535 + 1
        return self._next_id

    def settle(self, tickets: list[int]) -> None:
        """Writes the PUBACKs that may go out now that these messages are durable: one piece, in order of receipt."""
        due = self.ledger.settle(tickets)
        if due:
            # Success, also for a dead letter: the broker has done its part.
            self._output.append(b"".join(_PUBACK_OK + packet_id.to_bytes(2, "big") for packet_id, _ in due))

    def publish(self, mqtt_topic: str, payload: bytes, *, retain: bool = True) -> None:
        """Sends a message of the gateway itself, QoS 0, retained only where the broker keeps such messages."""
        assert self.stage is Stage.OPEN
        self._output.append(mqtt5.PublishPacket(mqtt_topic, payload, retain=retain and self._retains).write())

    @property
    def has_output(self) -> bool:
        """True when there are bytes to send."""
        return bool(self._output)

    def take_output(self) -> bytes:
        """Hands over the bytes to send, in one piece."""
        output = b"".join(self._output)
        self._output.clear()
        return output

    # How it ends.

    def check_time(self, elapsed_us: int, now_us: int, connect_timeout_us: int, *, is_read: bool) -> None:
        """Pings every half keepalive, and ends a connection that is silent for one and a half, or never opens.

        Called every so often with the time since the call before; while the socket is not read, silence is ours.
        """
        self._silent_us += elapsed_us if is_read else 0
        if self.stage is Stage.ASKING:
            if self._silent_us > connect_timeout_us:
                self._end("the broker did not answer CONNECT")
        elif self.stage is Stage.OPEN and self._keepalive_us:
            self._unpinged_us += elapsed_us
            if self._silent_us > self._keepalive_us * 3 // 2:
                self.disconnect(Code.KEEP_ALIVE_TIMEOUT, "the broker fell silent", now_us)
            elif self._unpinged_us >= self._keepalive_us // 2:
                self._unpinged_us = 0
                self._output.append(mqtt5.PingReqPacket().write())

    def disconnect(self, code: Code, why: str, now_us: int) -> None:  # noqa: ARG002 — as `Sender` says.
        """Ends the connection with a reason; the broker keeps the session."""
        if self.stage is not Stage.CLOSED:
            self._output.append(mqtt5.DisconnectPacket(reason_code=code).write())
        self._end(why)

    def lost(self, why: str) -> None:
        """The transport is gone."""
        self._end(why)

    def _end(self, why: str) -> None:
        if self.stage is Stage.CLOSED:
            return
        self.stage = Stage.CLOSED
        self.why = why
        self.ledger.close()
        self._pending = bytearray()
