"""Cuts a byte stream into MQTT packets by the fixed header alone; enough to lose, double or hold back a PUBLISH."""

LENGTH_BYTES_MAX = 4
PUBLISH = 3


class PacketCutter:
    r"""Collects bytes and gives whole packets back.

    >>> cutter = PacketCutter(1024)
    >>> cutter.feed(b"\xc0\x00\x30"), cutter.feed(b"\x01x")
    ([b'\xc0\x00'], [b'0\x01x'])
    """

    def __init__(self, packet_max_bytes: int) -> None:
        self._buffer = bytearray()
        self._packet_max_bytes = packet_max_bytes

    def feed(self, data: bytes) -> list[bytes]:
        """Takes bytes and returns the packets that are complete now.

        Raises:
            ValueError: this is not MQTT, or a packet is larger than allowed.
        """
        self._buffer += data
        packets, at = [], 0
        while True:
            size = self._size(at)
            if size == 0 or at + size > len(self._buffer):
                break
            packets.append(bytes(self._buffer[at : at + size]))
            at += size
        del self._buffer[:at]
        return packets

    def _size(self, at: int) -> int:
        """Returns the size of the packet at `at`, 0 if its header is not complete."""
        length = 0
        for i in range(LENGTH_BYTES_MAX):
            place = at + 1 + i
            if place >= len(self._buffer):
                return 0
            length |= (self._buffer[place] & 0x7F) << (7 * i)
            if self._buffer[place] < 0x80:
                size = 2 + i + length
                if size > self._packet_max_bytes:
                    raise ValueError(f"a packet of {size} bytes, {self._packet_max_bytes} are allowed")
                return size
        raise ValueError("a length of more than four bytes: this is not MQTT")


def is_publish(packet: bytes) -> bool:
    r"""Tells whether a packet is a PUBLISH.

    >>> is_publish(b"2\x00"), is_publish(b"\xc0\x00")
    (True, False)
    """
    return packet[0] >> 4 == PUBLISH


def duplicate_of(packet: bytes) -> bytes:
    r"""Returns a PUBLISH as it is sent again: with the DUP flag where its QoS allows it.

    >>> duplicate_of(b"2\x00"), duplicate_of(b"0\x00")
    (b':\x00', b'0\x00')
    """
    return bytes((packet[0] | 0x08,)) + packet[1:] if packet[0] & 0x06 else packet
