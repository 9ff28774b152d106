"""MQTT packets in a stream of bytes: where one ends, and whether it is well-formed enough for a decoder.

A packet is looked at here before `mqtt5.read` sees it, because that decoder aborts (not raises) on text that is not
UTF-8, and because a length must be refused before its bytes are waited for. Both versions of MQTT share the frame.
"""

from collections.abc import Callable

from headwater.errors import HeadwaterError

CONNECT, CONNACK, PUBLISH, PUBACK = 1, 2, 3, 4
SUBSCRIBE, UNSUBSCRIBE, PINGREQ, DISCONNECT, AUTH = 8, 10, 12, 14, 15

_BYTE, _TWO, _FOUR, _VARINT, _TEXT, _BINARY, _PAIR = range(7)
_PROPERTY_KINDS = {
    **dict.fromkeys((0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A), _BYTE),
    **dict.fromkeys((0x13, 0x21, 0x22, 0x23), _TWO),
    **dict.fromkeys((0x02, 0x11, 0x18, 0x27), _FOUR),
    **dict.fromkeys((0x03, 0x08, 0x12, 0x15, 0x1A, 0x1C, 0x1F), _TEXT),
    **dict.fromkeys((0x09, 0x16), _BINARY),
    0x0B: _VARINT,
    0x26: _PAIR,
}
_REPEATABLE = frozenset({0x0B, 0x26})
_TWO_BYTES_MAX = 3 + (1 << 14)


class MalformedPacketError(HeadwaterError, ValueError):
    """Bytes that are no MQTT packet; the connection ends."""


class OversizedPacketError(HeadwaterError, ValueError):
    """A packet that says it is larger than allowed; the connection ends."""


def packet_end(view: memoryview | bytes | bytearray, at: int, packet_max_bytes: int) -> int:
    """Returns where the packet that starts at `at` ends, or 0 if bytes are missing.

    >>> packet_end(memoryview(bytes([0xC0, 0x00, 0xC0])), 0, 100), packet_end(memoryview(bytes([0xC0])), 0, 100)
    (2, 0)

    Raises:
        MalformedPacketError: the length is not one.
        OversizedPacketError: it exceeds `packet_max_bytes`; told before the bytes have come.
    """
    end = len(view)
    if end - at < 2:
        return 0
    low = view[at + 1]
    if low < 0x80:
        here = at + 2 + low
        return here if here <= end else 0
    if packet_max_bytes > _TWO_BYTES_MAX and end - at > 2 and view[at + 2] < 0x80:  # As nearly every frame is.
        here = at + 3 + (low & 0x7F | view[at + 2] << 7)
        return here if here <= end else 0
    length = shift = 0
    here = at + 1
    while here < end:
        byte = view[here]
        here += 1
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            if here - at + length > packet_max_bytes:
                raise OversizedPacketError(f"a packet of {here - at + length} bytes")
            return here + length if here + length <= end else 0
        shift += 7
        if shift > 21:
            raise MalformedPacketError("the length has more than four bytes")
    return 0


def check_first(view: memoryview | bytes | bytearray, at: int) -> None:
    """Refuses a connection at its first byte, if it is there and begins anything but CONNECT.

    Raises:
        MalformedPacketError: it does.
    """
    if at < len(view) and view[at] != CONNECT << 4:
        raise MalformedPacketError("the first packet is not CONNECT")


def body_start(packet: memoryview) -> int:
    """Returns where the variable header of a whole packet starts."""
    at = 1
    while packet[at] >= 0x80:
        at += 1
    return at + 1


class Reader:
    """Reads the primitive types of both versions from one packet, strictly.

    Raises:
        MalformedPacketError: from every method, where bytes are missing or not what they must be.
    """

    __slots__ = ("_at", "_view")

    def __init__(self, view: memoryview, at: int) -> None:
        self._view = view
        self._at = at

    @property
    def is_done(self) -> bool:
        """True at the end of the packet."""
        return self._at >= len(self._view)

    def take(self, count: int) -> memoryview:
        """The next `count` bytes."""
        end = self._at + count
        if end > len(self._view):
            raise MalformedPacketError("the packet ends early")
        part = self._view[self._at : end]
        self._at = end
        return part

    def rest(self) -> memoryview:
        """All bytes that are left."""
        return self.take(len(self._view) - self._at)

    def number(self, size_bytes: int) -> int:
        """A big-endian unsigned number."""
        return int.from_bytes(self.take(size_bytes), "big")

    def varint(self) -> int:
        """A variable byte integer."""
        value = 0
        for shift in (0, 7, 14, 21):
            byte = self.number(1)
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise MalformedPacketError("a number has more than four bytes")

    def binary(self) -> bytes:
        """Bytes with their length in front."""
        return bytes(self.take(self.number(2)))

    def text(self) -> str:
        """UTF-8 with its length in front; U+0000 is refused as MQTT says."""
        try:
            value = str(self.take(self.number(2)), "utf-8")
        except UnicodeDecodeError as error:
            raise MalformedPacketError("text that is not UTF-8") from error
        if "\0" in value:
            raise MalformedPacketError("text with U+0000")
        return value

    def properties(self) -> None:
        """Walks over MQTT 5 properties, each of which must be known and come once where it may."""
        size = self.varint()
        end = self._at + size
        if end > len(self._view):
            raise MalformedPacketError("the properties end early")
        seen = set()
        while self._at < end:
            name = self.varint()
            kind = _PROPERTY_KINDS.get(name)
            if kind is None or (name in seen and name not in _REPEATABLE):
                raise MalformedPacketError(f"property {name:#x} is unknown or comes twice")
            seen.add(name)
            if kind <= _FOUR:
                self.take((1, 2, 4)[kind])
            elif kind == _VARINT:
                self.varint()
            elif kind == _BINARY:
                self.binary()
            else:
                self.text()
                if kind == _PAIR:
                    self.text()
        if self._at != end:
            raise MalformedPacketError("the properties overrun their length")


def check_mqtt5(packet: memoryview) -> None:
    """Checks the structure and all text of a client's MQTT 5 packet other than PUBLISH (`gateway.publish`).

    Raises:
        MalformedPacketError: it is not one that a client may send.
    """
    kind, flags = packet[0] >> 4, packet[0] & 0x0F
    reader = Reader(packet, body_start(packet))
    if flags != (2 if kind in {SUBSCRIBE, UNSUBSCRIBE} else 0):
        raise MalformedPacketError(f"packet type {kind} with flags {flags}")
    check = _CHECKS.get(kind)
    if check is None:
        raise MalformedPacketError(f"packet type {kind} from a client")
    check(reader)
    if not reader.is_done:
        raise MalformedPacketError(f"packet type {kind} has bytes to spare")


def _check_connect(reader: Reader) -> None:
    reader.text()
    reader.number(1)
    flags = reader.number(1)
    reader.number(2)
    reader.properties()
    reader.text()
    if flags & 0x04:
        reader.properties()
        reader.text()
        reader.binary()
    if flags & 0x80:
        reader.text()
    if flags & 0x40:
        reader.binary()


def _check_subscribe(reader: Reader) -> None:
    reader.number(2)
    reader.properties()
    while not reader.is_done:
        reader.text()
        reader.number(1)


def _check_unsubscribe(reader: Reader) -> None:
    reader.number(2)
    reader.properties()
    while not reader.is_done:
        reader.text()


def _check_reason(reader: Reader) -> None:
    """A reason code and properties, both optional at the end of a packet."""
    if not reader.is_done:
        reader.number(1)
    if not reader.is_done:
        reader.properties()


def _check_puback(reader: Reader) -> None:
    reader.number(2)
    _check_reason(reader)


_CHECKS: dict[int, Callable[[Reader], None]] = {
    CONNECT: _check_connect,
    PUBACK: _check_puback,
    SUBSCRIBE: _check_subscribe,
    UNSUBSCRIBE: _check_unsubscribe,
    PINGREQ: lambda _: None,
    DISCONNECT: _check_reason,
    AUTH: _check_reason,
}
