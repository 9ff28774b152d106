"""MQTT 3.1.1 for devices that speak nothing newer: reads and writes its packets as those of `mqtt5`.

Sans-IO and of a few packets, beside the `mqtt5` codec: a session sees one kind of packet and need not ask which
version its client speaks. What 3.1.1 can't say (reason codes in PUBACK, DISCONNECT from a server) is left out.
OASIS MQTT 3.1.1, chapter 3.
"""

from collections.abc import Callable

import mqtt5

from gateway import wire
from gateway.wire import MalformedPacketError, Reader

# MQTT 5 CONNACK reason code → 3.1.1 return code; the rest becomes "server unavailable".
_RETURN_CODES = {0x00: 0, 0x84: 1, 0x85: 2, 0x86: 4, 0x87: 5, 0x8A: 5}
_SERVER_UNAVAILABLE = 3
_FAILURE = 0x80
_QOS = (mqtt5.QoS.AT_MOST_ONCE, mqtt5.QoS.AT_LEAST_ONCE, mqtt5.QoS.EXACTLY_ONCE)
_PINGREQ, _DISCONNECT = mqtt5.PingReqPacket(), mqtt5.DisconnectPacket()


def read(packet: memoryview) -> mqtt5.Packet:
    """Reads one whole packet that a client may send, other than PUBLISH (`gateway.publish`).

    >>> read(memoryview(bytes.fromhex("c000")))
    PingReqPacket()

    Raises:
        MalformedPacketError: it is not one.
    """
    kind, flags = packet[0] >> 4, packet[0] & 0x0F
    reader = Reader(packet, wire.body_start(packet))
    if flags != (2 if kind in {wire.SUBSCRIBE, wire.UNSUBSCRIBE} else 0):
        raise MalformedPacketError(f"packet type {kind} with flags {flags}")
    read_body = _READERS.get(kind)
    if read_body is None:
        raise MalformedPacketError(f"packet type {kind} from a client")
    try:
        result = read_body(reader)
    except MalformedPacketError:
        raise
    except ValueError as error:
        # The packets of `mqtt5` check their fields, such as topic filters, when they are made.
        raise MalformedPacketError(str(error)) from error
    if not reader.is_done:
        raise MalformedPacketError(f"packet type {kind} has bytes to spare")
    return result


def write(packet: mqtt5.Packet) -> bytes:
    """Writes a server's packet; b"" for one that 3.1.1 does not have.

    >>> write(mqtt5.PubAckPacket(10)).hex(), write(mqtt5.DisconnectPacket())
    ('4002000a', b'')
    """
    if isinstance(packet, mqtt5.PubAckPacket):
        return b"\x40\x02" + packet.packet_id.to_bytes(2, "big")
    if isinstance(packet, mqtt5.PublishPacket):
        return _write_publish(packet)
    if isinstance(packet, mqtt5.ConnAckPacket):
        code = _RETURN_CODES.get(int(packet.reason_code), _SERVER_UNAVAILABLE)
        return bytes((0x20, 0x02, packet.session_present and code == 0, code))
    if isinstance(packet, mqtt5.SubAckPacket):
        codes = bytes(min(int(code), _FAILURE) for code in packet.reason_codes)
        return b"\x90" + _varint(2 + len(codes)) + packet.packet_id.to_bytes(2, "big") + codes
    if isinstance(packet, mqtt5.UnsubAckPacket):
        return b"\xb0\x02" + packet.packet_id.to_bytes(2, "big")
    if isinstance(packet, mqtt5.PingRespPacket):
        return b"\xd0\x00"
    assert isinstance(packet, mqtt5.DisconnectPacket), f"a server of MQTT 3.1.1 sends no {type(packet).__name__}"
    return b""


def _packet_id(reader: Reader) -> int:
    packet_id = reader.number(2)
    if packet_id == 0:
        raise MalformedPacketError("packet id 0")
    return packet_id


def _read_connect(reader: Reader) -> mqtt5.ConnectPacket:
    name, level, flags, keep_alive = reader.text(), reader.number(1), reader.number(1), reader.number(2)
    if (name, level) != ("MQTT", 4):
        raise MalformedPacketError(f"protocol {name[:16]!r} level {level}")
    will_qos = flags >> 3 & 3
    has_will, has_user, has_password = bool(flags & 0x04), bool(flags & 0x80), bool(flags & 0x40)
    if flags & 1 or will_qos == 3 or (not has_will and flags & 0x38) or (has_password and not has_user):
        raise MalformedPacketError(f"connect flags {flags:#x}")
    client_id = reader.text()
    will = None
    if has_will:
        mqtt_topic, payload = reader.text(), reader.binary()
        will = mqtt5.Will(mqtt_topic, payload=payload, qos=_QOS[will_qos], retain=bool(flags & 0x20))
    return mqtt5.ConnectPacket(
        client_id,
        username=reader.text() if has_user else None,
        password=reader.binary() if has_password else None,
        clean_start=bool(flags & 0x02),
        will=will,
        keep_alive=keep_alive,
    )


def _read_subscribe(reader: Reader) -> mqtt5.SubscribePacket:
    packet_id = _packet_id(reader)
    filters: list[mqtt5.TopicFilter] = []
    while not reader.is_done or not filters:
        pattern, qos = reader.text(), reader.number(1)
        if qos > 2:
            raise MalformedPacketError(f"subscription options {qos:#x}")
        filters.append(mqtt5.TopicFilter(pattern, max_qos=_QOS[qos], retain_as_published=False))
    return mqtt5.SubscribePacket(packet_id, filters)


def _read_unsubscribe(reader: Reader) -> mqtt5.UnsubscribePacket:
    packet_id = _packet_id(reader)
    patterns = [reader.text()]
    while not reader.is_done:
        patterns.append(reader.text())
    return mqtt5.UnsubscribePacket(packet_id, patterns)


_READERS: dict[int, Callable[[Reader], mqtt5.Packet]] = {
    wire.CONNECT: _read_connect,
    wire.PUBACK: lambda reader: mqtt5.PubAckPacket(_packet_id(reader)),
    wire.SUBSCRIBE: _read_subscribe,
    wire.UNSUBSCRIBE: _read_unsubscribe,
    wire.PINGREQ: lambda _: _PINGREQ,
    wire.DISCONNECT: lambda _: _DISCONNECT,
}


def _write_publish(packet: mqtt5.PublishPacket) -> bytes:
    mqtt_topic = packet.topic.encode()
    head = 0x30 | packet.duplicate << 3 | int(packet.qos) << 1 | packet.retain
    packet_id = packet.packet_id.to_bytes(2, "big") if packet.packet_id else b""
    body = len(mqtt_topic).to_bytes(2, "big") + mqtt_topic + packet_id + packet.payload
    return bytes((head,)) + _varint(len(body)) + body


def _varint(number: int) -> bytes:
    out = bytearray()
    while True:
        number, low = number >> 7, number & 0x7F
        out.append(low | (0x80 if number else 0))
        if not number:
            return bytes(out)
