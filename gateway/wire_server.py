"""Packets that a broker sends to a subscriber: checked before they are decoded, and read as far as they can be.

A broker hands on what hostile devices wrote. Whatever that is, one message must not end the connection: the broker
would send it again on the next, for ever. So the place of its packet id is found even where the rest can't be read.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from gateway.wire import (
    CONNACK,
    DISCONNECT,
    MalformedPacketError,
    Reader,
    body_start,
)

PUBLISH = 3
SUBACK, UNSUBACK, PINGRESP = 9, 11, 13


@dataclass(frozen=True, slots=True)
class Remains:
    """What is left of a PUBLISH that can't be taken.

    Attributes:
        mqtt_topic: as text, with replacements where it is not UTF-8.
        packet_id: 0 at QoS 0.
        payload: as much of it as there is.
    """

    mqtt_topic: str
    packet_id: int
    payload: bytes


def packet_size(view: bytes | bytearray, at: int) -> int:
    """Returns the size of the packet that starts at `at`, whose fixed header is there.

    >>> packet_size(bytes([0x30, 0x80, 0x01]), 0)
    131
    """
    start, length, shift = at + 1, 0, 0
    while True:
        byte = view[start]
        start += 1
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            return start - at + length
        shift += 7


def remains(head: memoryview, kept_max_bytes: int) -> Remains:
    """Reads the beginning of a PUBLISH: where it came on, its packet id and at most `kept_max_bytes` of payload.

    >>> remains(memoryview(bytes.fromhex("3208" "0001ff" "0007" "00" "6869")), 100)
    Remains(mqtt_topic='�', packet_id=7, payload=b'hi')

    Raises:
        MalformedPacketError: not even these can be found.
    """
    reader = Reader(head, body_start(head))
    topic = reader.binary()
    packet_id = reader.number(2) if head[0] & 0x06 else 0
    if head[0] & 0x06 and not packet_id:
        raise MalformedPacketError("a packet id of 0")
    rest = bytes(reader.rest())
    payload = rest
    with contextlib.suppress(MalformedPacketError):  # Properties without an end stay in front of the payload.
        properties = Reader(memoryview(rest), 0)
        properties.take(properties.varint())
        payload = bytes(properties.rest())
    return Remains(topic.decode("utf-8", "replace"), packet_id, payload[:kept_max_bytes])


def check_from_broker(packet: memoryview) -> None:
    """Checks the structure and all text of a broker's packet other than PUBLISH.

    Raises:
        MalformedPacketError: it is not one that a broker may send to a subscriber.
    """
    kind = packet[0] >> 4
    check = _CHECKS.get(kind)
    if check is None or packet[0] & 0x0F:
        raise MalformedPacketError(f"packet type {kind} with flags {packet[0] & 0x0F} from a broker")
    reader = Reader(packet, body_start(packet))
    check(reader)
    if not reader.is_done:
        raise MalformedPacketError(f"packet type {kind} has bytes to spare")


def _check_connack(reader: Reader) -> None:
    if reader.number(1) > 1:
        raise MalformedPacketError("CONNACK with unknown flags")
    reader.number(1)
    reader.properties()


def _check_suback(reader: Reader) -> None:
    reader.number(2)
    reader.properties()
    reader.rest()


def _check_disconnect(reader: Reader) -> None:
    if not reader.is_done:
        reader.number(1)
    if not reader.is_done:
        reader.properties()


_CHECKS: dict[int, Callable[[Reader], None]] = {
    CONNACK: _check_connack,
    SUBACK: _check_suback,
    UNSUBACK: _check_suback,
    PINGRESP: lambda _: None,
    DISCONNECT: _check_disconnect,
}
