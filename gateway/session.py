"""One client's connection as a state machine without IO: bytes in, bytes out, calls to the broker between.

        data_received ─▶ feed ─▶ packets ─▶ Broker.connect / publish / subscribe / …
                                                      │
        transport.write ◀─ take_output ◀─ settle ◀─ the log says durable

Both versions of MQTT meet here in the packets of `mqtt5`; only reading and writing them differs.
"""

from collections import deque
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol, TypeAlias

import mqtt5

from gateway import mqtt311, wire
from gateway.identity import Identity
from gateway.ledger import AckLedger
from gateway.limits import TokenBucket
from gateway.publish import QOS, QOS_1, Publish, read_publish
from headwater.names import DeviceTopic
from headwater.reasons import DeadLetterReason
from headwater.sparkplug_topic import SparkplugTopic

Code: TypeAlias = mqtt5.DisconnectReasonCode
_PUBLISH = 0x30
_PUBACK_OK = b"\x40\x02"


class Phase(Enum):
    """Where a connection is: before CONNECT, while its claim is checked, open, over."""

    NEW = auto()
    CHECKING = auto()
    OPEN = auto()
    CLOSED = auto()


# A member of an enumeration costs a look-up at each mention, and these are mentioned per message.
_NEW, _OPEN = Phase.NEW, Phase.OPEN


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """Bounds of one connection; see the settings of the same names."""

    receive_max: int
    packet_max_bytes: int
    keepalive_max_us: int
    deliveries_max: int
    rate_max_messages: int
    rate_max_bytes: int


@dataclass(slots=True)
class Route:
    """Where messages of one topic from one session go.

    Attributes:
        mqtt_topic: the topic.
        device_topic: the topic taken apart, None where it is not one of ours.
        shard: the partition of its device.
        reason, detail, code: why messages are refused, for people, and as an MQTT 5 reason code; None where not.
        is_heard: presence knows that the device speaks on this session.
        sparkplug: the topic taken apart where it is one of Sparkplug B that this session may use.
        is_announced: a device announced the topic in Home Assistant's way, and this session may use it.
    """

    mqtt_topic: str
    device_topic: DeviceTopic | None
    shard: int
    reason: DeadLetterReason | None = None
    detail: str = ""
    code: int = 0
    is_heard: bool = False
    sparkplug: SparkplugTopic | None = None
    is_announced: bool = False


class Host(Protocol):
    """What a session tells; `gateway.broker.Broker` listens."""

    def connect(self, session: "Session", packet: mqtt5.ConnectPacket) -> None:
        """A client asks to be let in; the answer may come later."""

    def publish(self, session: "Session", packet: Publish, now_us: int) -> None:
        """A message came; MalformedPacketError where its topic is no text."""

    def subscribe(self, session: "Session", packet: mqtt5.SubscribePacket) -> None:
        """Filters to add."""

    def unsubscribe(self, session: "Session", packet: mqtt5.UnsubscribePacket) -> None:
        """Filters to take away."""

    def over(self, session: "Session", *, with_will: bool, now_us: int) -> None:
        """The connection ended; called once."""

    def malformed(self, session: "Session", data: bytes, detail: str, *, too_large: bool, now_us: int) -> None:
        """Bytes that are no packet came; the connection is about to end."""


class Session:
    """A connection.

    Attributes:
        version: 5 or 4 (MQTT 3.1.1); 0 before CONNECT.
        client_id, identity, will, keepalive_us: as agreed in CONNECT; a keepalive of 0 never expires.
        ledger: which PUBACKs are owed.
        silent_us: for how long the client has said nothing, or not said CONNECT, as `check_time` is told.
        routes: where each topic leads; the broker's memory about this session.
        is_stalled: bytes wait because Receive Maximum messages are in flight; the shell stops reading.
        why: why the connection ended, for counters.
    """

    def __init__(self, host: Host, limits: SessionLimits, now_us: int, peer: str = "") -> None:
        self._host = host
        self._limits = limits
        self._pending = bytearray()
        self._output: list[bytes] = []
        self._sent: set[int] = set()
        self._next_id = 0
        self._waiting: deque[mqtt5.PublishPacket] = deque()
        self._send_max = 1
        self._client_packet_max = 0
        self._messages = TokenBucket(limits.rate_max_messages, limits.rate_max_messages, now_us)
        self._bytes = TokenBucket(limits.rate_max_bytes, limits.rate_max_bytes, now_us)
        self.peer = peer
        self.phase = Phase.NEW
        self.version = 0
        self.client_id = ""
        self.certificate: Identity | None = None
        self.identity = Identity("")
        self.will: mqtt5.Will | None = None
        self.keepalive_us = 0
        self.silent_us = 0
        self.ledger = AckLedger(limits.receive_max)
        self.is_stalled = False
        self.routes: dict[bytes, Route] = {}
        self.dropped = 0
        self.why = ""

    @property
    def origin(self) -> object:
        """Whom presence takes for the speaker: this connection."""
        return self

    def feed(self, data: bytes | memoryview, now_us: int) -> None:
        """Takes bytes from the client, which are the caller's again afterwards; b"" after a stall or a check looks at what was left."""
        if self.phase is Phase.CLOSED:
            return
        if data and self.phase is not Phase.NEW:
            self.silent_us = 0
            if self.phase is Phase.OPEN and not self._bytes.take(len(data), now_us):
                self.disconnect(Code.MESSAGE_RATE_TOO_HIGH, "rate", now_us)
                return
        pending = self._pending
        if pending:
            pending += data
            at = self._consume(pending, now_us)
            del pending[:at]
        else:
            data = bytes(data)
            at = self._consume(data, now_us)
            pending += data[at:]

    def _consume(self, data: bytes | bytearray, now_us: int) -> int:
        """Handles whole packets from the start of `data`; returns how many bytes they were."""
        at = count = 0
        ledger, packet_max_bytes, is_mqtt5 = self.ledger, self._limits.packet_max_bytes, self.version == 5
        try:
            while self.phase is _OPEN or self.phase is _NEW:
                self.is_stalled = ledger.room <= 0
                if self.is_stalled:
                    break
                if self.phase is _NEW:
                    wire.check_first(data, at)
                end = wire.packet_end(data, at, packet_max_bytes)
                if not end:
                    break
                if not isinstance(data, bytes):  # Copied once a packet is whole, not for every piece of it.
                    data = bytes(data)
                if data[at] & 0xF0 == _PUBLISH and self.phase is _OPEN:
                    packet = read_publish(data, at, end, is_mqtt5=is_mqtt5)
                    qos = packet.flags & QOS
                    if qos == 0 or (qos == QOS_1 and packet.packet_id):
                        self._host.publish(self, packet, now_us)
                        count += 1
                    else:
                        self.disconnect(Code.PROTOCOL_ERROR if qos == QOS_1 else Code.QOS_NOT_SUPPORTED, "qos", now_us)
                else:
                    self._handle(memoryview(data)[at:end], now_us)
                    is_mqtt5 = self.version == 5
                at = end
        except (wire.MalformedPacketError, wire.OversizedPacketError) as error:
            self._malformed(bytes(data[at:]), error, now_us)
            at = len(data)
        if count and not self._messages.take(count, now_us):
            self.disconnect(Code.MESSAGE_RATE_TOO_HIGH, "rate", now_us)
        return at

    def _handle(self, packet: memoryview, now_us: int) -> None:
        if self.phase is Phase.NEW:
            self._open(packet)
            return
        got = self._read(packet)
        if isinstance(got, mqtt5.PingReqPacket):
            self.write(mqtt5.PingRespPacket())
        elif isinstance(got, mqtt5.PubAckPacket):
            self._acknowledged(got.packet_id)
        elif isinstance(got, mqtt5.SubscribePacket):
            self._subscribe(got, now_us)
        elif isinstance(got, mqtt5.UnsubscribePacket):
            self._host.unsubscribe(self, got)
        elif isinstance(got, mqtt5.DisconnectPacket):
            self._end("goodbye", with_will=got.reason_code == Code.DISCONNECT_WITH_WILL_MESSAGE, now_us=now_us)
        else:
            self.disconnect(Code.PROTOCOL_ERROR, "protocol", now_us)

    def _read(self, packet: memoryview) -> mqtt5.Packet:
        if self.version == 4:
            return mqtt311.read(packet)
        wire.check_mqtt5(packet)
        try:
            return mqtt5.read(packet)[0]
        except (ValueError, IndexError) as error:
            raise wire.MalformedPacketError(str(error)) from error

    def _open(self, packet: memoryview) -> None:
        """Reads the first packet, which must be CONNECT, and learns the version from it."""
        self.phase = Phase.CHECKING
        reader = wire.Reader(packet, wire.body_start(packet))
        name, level = reader.text(), reader.number(1)
        if name == "MQTT" and level == 5:
            self.version = 5
        elif name == "MQTT" and level == 4:
            self.version = 4
        elif name in {"MQTT", "MQIsdp"}:
            # The answer is in the form of the version nearest to what the client speaks.
            self.version = 5 if level > 5 else 4
            self.refuse(mqtt5.ConnAckReasonCode.UNSUPPORTED_PROTOCOL_VERSION, "version")
            return
        else:
            raise wire.MalformedPacketError("not MQTT")
        got = self._read(packet)
        assert isinstance(got, mqtt5.ConnectPacket)
        self._host.connect(self, got)

    def accept(self, packet: mqtt5.ConnectPacket, identity: Identity, client_id: str) -> None:
        """Lets the client in; a caller outside `feed` then feeds b"" to look at what came meanwhile."""
        assert self.phase is Phase.CHECKING
        limits = self._limits
        self.identity, self.client_id, self.will = identity, client_id, packet.will
        asked_us = packet.keep_alive * 1_000_000
        granted_us = asked_us
        if self.version == 5:
            granted_us = min(asked_us or limits.keepalive_max_us, limits.keepalive_max_us, 65_535_000_000)
        self.keepalive_us = granted_us
        self._send_max = min(packet.receive_max, limits.receive_max) if self.version == 5 else 100
        self._client_packet_max = packet.max_packet_size or 0
        self.phase = Phase.OPEN
        self.write(
            mqtt5.ConnAckPacket(
                session_expiry_interval=0 if packet.session_expiry_interval else None,
                assigned_client_id=None if packet.client_id else client_id,
                server_keep_alive=granted_us // 1_000_000 if granted_us != asked_us else None,
                receive_max=limits.receive_max,
                max_qos=mqtt5.QoS.AT_LEAST_ONCE,
                max_packet_size=limits.packet_max_bytes,
                subscription_id_available=False,
                shared_subscription_available=False,
            )
        )

    def refuse(self, code: mqtt5.ConnAckReasonCode, why: str) -> None:
        """Says no to CONNECT and ends the connection; there is no will yet."""
        self.write(mqtt5.ConnAckPacket(reason_code=code))
        self.phase = Phase.CLOSED
        self.why = why
        self.ledger.close()
        self._pending = bytearray()

    def settle(self, tickets: list[int]) -> None:
        """Writes the PUBACKs that may go out now that these messages are durable: one piece, in order of receipt."""
        due = self.ledger.settle(tickets)
        if not due:
            return
        is_mqtt5 = self.version == 5
        self._output.append(
            b"".join(
                b"\x40\x03" + packet_id.to_bytes(2, "big") + bytes((code,))
                if code and is_mqtt5
                else _PUBACK_OK + packet_id.to_bytes(2, "big")
                for packet_id, code in due
            )
        )

    def deliver(self, mqtt_topic: str, payload: bytes, qos: int, *, retain: bool) -> None:
        """Sends a message to the client, or queues it while its Receive Maximum is reached."""
        if self.phase is not Phase.OPEN:
            return
        if self._client_packet_max and len(payload) + len(mqtt_topic) + 16 > self._client_packet_max:
            self.dropped += 1
        elif qos == 0:
            self.write(mqtt5.PublishPacket(mqtt_topic, payload, retain=retain))
        elif len(self._waiting) >= self._limits.deliveries_max:
            self.dropped += 1
        else:
            packet_id = self._packet_id()
            packet = mqtt5.PublishPacket(
                mqtt_topic, payload, qos=mqtt5.QoS.AT_LEAST_ONCE, retain=retain, packet_id=packet_id
            )
            self._waiting.append(packet)
            self._send_waiting()

    def _packet_id(self) -> int:
        """The next packet id that is neither sent nor waiting; the window is far smaller than the ids."""
        self._next_id = self._next_id % 65_535 + 1
        while self._next_id in self._sent:
            self._next_id = self._next_id % 65_535 + 1
        return self._next_id

    def _send_waiting(self) -> None:
        while self._waiting and len(self._sent) < self._send_max:
            packet = self._waiting.popleft()
            assert packet.packet_id is not None
            self._sent.add(packet.packet_id)
            self.write(packet)

    def _acknowledged(self, packet_id: int) -> None:
        self._sent.discard(packet_id)
        self._send_waiting()

    def _subscribe(self, packet: mqtt5.SubscribePacket, now_us: int) -> None:
        if packet.subscription_id is not None:
            self.disconnect(Code.SUBSCRIPTION_IDS_NOT_SUPPORTED, "protocol", now_us)
        elif not packet.topic_filters or not packet.packet_id:
            self.disconnect(Code.PROTOCOL_ERROR, "protocol", now_us)
        else:
            self._host.subscribe(self, packet)

    def write(self, packet: mqtt5.Packet) -> None:
        """Appends a packet to the output, in the client's version."""
        self._output.append(packet.write() if self.version == 5 else mqtt311.write(packet))

    @property
    def has_output(self) -> bool:
        """True when there are bytes to send."""
        return bool(self._output)

    def take_output(self) -> bytes:
        """Hands over the bytes to send, in one piece."""
        output = b"".join(self._output)
        self._output.clear()
        return output

    def disconnect(self, code: Code, why: str, now_us: int) -> None:
        """Ends the connection with a reason; its will is published."""
        if self.phase is Phase.OPEN:
            self.write(mqtt5.DisconnectPacket(reason_code=code))
        self._end(why, with_will=True, now_us=now_us)

    def lost(self, now_us: int) -> None:
        """The transport is gone."""
        self._end("lost", with_will=True, now_us=now_us)

    def check_time(self, elapsed_us: int, now_us: int, connect_timeout_us: int) -> None:
        """Ends a connection that was silent for 1.5 keepalives, or that does not come to say CONNECT.

        Called every so often with the time since the call before; a wall clock that steps ends nobody.
        """
        self.silent_us += elapsed_us
        if self.phase in {Phase.NEW, Phase.CHECKING}:
            if self.silent_us > connect_timeout_us:
                self._end("connect_timeout", with_will=False, now_us=now_us)
        elif self.keepalive_us and not self.is_stalled and self.silent_us > self.keepalive_us * 3 // 2:
            self.disconnect(Code.KEEP_ALIVE_TIMEOUT, "keepalive", now_us)

    def _malformed(self, data: bytes, error: Exception, now_us: int) -> None:
        too_large = isinstance(error, wire.OversizedPacketError)
        if self.phase is Phase.OPEN:
            self._host.malformed(self, data, str(error), too_large=too_large, now_us=now_us)
        self.disconnect(
            Code.PACKET_TOO_LARGE if too_large else Code.MALFORMED_PACKET,
            "too_large" if too_large else "malformed",
            now_us,
        )

    def _end(self, why: str, *, with_will: bool, now_us: int) -> None:
        if self.phase is Phase.CLOSED:
            return
        was_open = self.phase is Phase.OPEN
        self.phase = Phase.CLOSED
        self.why = why
        self.ledger.close()
        self._pending = bytearray()
        self._waiting.clear()
        if was_open:
            self._host.over(self, with_will=with_will, now_us=now_us)
