"""The one packet of the hot path, PUBLISH, of either version of MQTT: cut into the few parts that a gateway looks at.

MQTT 5, chapter 3.3, and MQTT 3.1.1, chapter 3.3. All other packets go through the codecs, `mqtt5` and `gateway.mqtt311`.
"""

from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from gateway.wire import MalformedPacketError, Reader

RETAIN: Final = 0x01
QOS: Final = 0x06
QOS_1: Final = 0x02
DUPLICATE: Final = 0x08


class Publish(NamedTuple):
    """A PUBLISH.

    Attributes:
        mqtt_topic: as it came; `topic_text` says whether it is text at all, once per topic and not per message.
        payload: the message.
        packet_id: 0 at QoS 0; at QoS 1 a 0 is an error that the session answers.
        flags: RETAIN, QOS, DUPLICATE.
    """

    mqtt_topic: bytes
    payload: bytes
    packet_id: int
    flags: int


# A named tuple's own constructor costs three times as much, and one is made per message.
_publish: Final[Callable[[tuple[bytes, bytes, int, int]], Publish]] = partial(tuple.__new__, Publish)


def read_publish(data: bytes, at: int, end: int, *, is_mqtt5: bool) -> Publish:
    """Reads the whole PUBLISH in `data[at:end]`.

    >>> read_publish(bytes.fromhex("3207000161000a6869"), 0, 9, is_mqtt5=False)
    Publish(mqtt_topic=b'a', payload=b'hi', packet_id=10, flags=2)

    Raises:
        MalformedPacketError: it is not one that a peer may send.
    """
    flags = data[at] & 0x0F
    start = at + 2
    while data[start - 1] >= 0x80:
        start += 1
    start += 2
    if start > end:
        raise MalformedPacketError("the packet ends early")
    here = topic_end = start + (data[start - 2] << 8 | data[start - 1])
    packet_id = 0
    if flags & QOS:
        here += 2
        if here > end or flags & QOS == QOS:
            raise MalformedPacketError("the packet ends early, or is of QoS 3")
        packet_id = data[here - 2] << 8 | data[here - 1]
    if is_mqtt5:
        if here >= end:
            raise MalformedPacketError("the packet ends early")
        here = _after_properties(data, here, end) if data[here] else here + 1
    if here > end:
        raise MalformedPacketError("the packet ends early")
    return _publish((data[start:topic_end], data[here:end], packet_id, flags))


def _after_properties(data: bytes, at: int, end: int) -> int:
    """Returns where the properties at `at` end, after a look at each."""
    reader = Reader(memoryview(data)[at:end], 0)
    reader.properties()
    return end - len(reader.rest())


def topic_text(mqtt_topic: bytes) -> str:
    """Returns the topic of a message as text.

    >>> topic_text(b"hw/1/north/pump-1/frame")
    'hw/1/north/pump-1/frame'

    Raises:
        MalformedPacketError: it is not UTF-8, holds U+0000, or has wildcards.
    """
    try:
        text = mqtt_topic.decode()
    except UnicodeDecodeError as error:
        raise MalformedPacketError("text that is not UTF-8") from error
    if not {"\0", "+", "#"}.isdisjoint(text):
        raise MalformedPacketError("a topic with U+0000 or a wildcard")
    return text
