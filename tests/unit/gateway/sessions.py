"""A broker without sockets, and clients of it that speak bytes."""

from collections.abc import Iterator

import mqtt5

from gateway import mqtt311
from gateway.broker import Broker
from gateway.identity import ANONYMOUS, Identity
from gateway.retained import RetainedMessages
from gateway.session import Session, SessionLimits

LIMITS = SessionLimits(
    receive_max=5,
    packet_max_bytes=10_000,
    keepalive_max_us=600_000_000,
    deliveries_max=4,
    rate_max_messages=1000,
    rate_max_bytes=1_000_000,
)
QOS1 = mqtt5.QoS.AT_LEAST_ONCE
NOW_US = 1_700_000_000_000_000


def make_broker(**more: int) -> Broker:
    values = {"partitions": 4, "subscriptions_max": 3, "dead_letter_max_bytes": 100} | more
    return Broker(retained=RetainedMessages(5, 10_000), **values)


class Client:
    """One connection; `admit` stands for the shell that checks identities."""

    def __init__(self, broker: Broker, *, now_us: int = NOW_US, limits: SessionLimits = LIMITS) -> None:
        self.broker = broker
        self.now_us = now_us
        self.session = Session(broker, limits, now_us)

    def send(self, *packets: mqtt5.Packet | bytes) -> list[mqtt5.Packet]:
        """Sends packets in one piece and returns what comes back."""
        raw = b"".join(packet if isinstance(packet, bytes) else packet.write() for packet in packets)
        self.session.feed(raw, self.now_us)
        return self.got()

    def got(self) -> list[mqtt5.Packet]:
        return list(_packets(self.session.take_output()))

    def connect(self, client_id: str = "c", identity: Identity = ANONYMOUS, **more: object) -> mqtt5.Packet:
        self.session.feed(mqtt5.ConnectPacket(client_id, clean_start=True, **more).write(), self.now_us)  # type: ignore[arg-type]
        self.admit(identity)
        return self.got()[0]

    def connect311(self, client_id: bytes = b"c") -> bytes:
        body = b"\x00\x04MQTT\x04\x02\x00\x3c" + len(client_id).to_bytes(2, "big") + client_id
        self.session.feed(bytes((0x10, len(body))) + body, self.now_us)
        self.admit(ANONYMOUS)
        return self.session.take_output()

    def admit(self, identity: Identity) -> None:
        for session, packet in self.broker.claims:
            self.broker.admit(session, packet, identity, self.now_us)
        self.broker.claims.clear()
        self.session.feed(b"", self.now_us)

    def publish(self, mqtt_topic: str, payload: bytes, packet_id: int = 0, **more: object) -> list[mqtt5.Packet]:
        packet = mqtt5.PublishPacket(
            mqtt_topic,
            payload,
            qos=QOS1 if packet_id else mqtt5.QoS.AT_MOST_ONCE,
            packet_id=packet_id or None,
            **more,  # type: ignore[arg-type]
        )
        return self.send(packet if self.session.version == 5 else mqtt311.write(packet))


def _packets(raw: bytes) -> Iterator[mqtt5.Packet]:
    view = memoryview(raw)
    while view:
        packet, size = mqtt5.read(view)
        yield packet
        view = view[size:]
