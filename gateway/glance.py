"""A look at what a broker retains, on a connection of its own that disturbs no session; over as soon as the answer is known.

    CONNECT ─▶ CONNACK ─▶ SUBSCRIBE, PINGREQ ─▶ ┌ what is retained, PUBACKs ◀┐ ─▶ PINGRESP, and nothing since the last ─▶ DISCONNECT
                                                └ PINGRESP ─▶ PINGREQ ───────┘

Without IO. What is retained comes before the answer to a ping that follows the subscription, or as much of it as the
broker sends without PUBACK: so pings are sent until one brings nothing.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import mqtt5

from gateway import wire
from gateway.publish import QOS, RETAIN, Publish, read_publish
from gateway.stage import Stage
from gateway.wire_server import PUBLISH, check_from_broker

# Larger messages are left out by the broker, as CONNECT asks for.
PACKET_MAX_BYTES = 65_536
# One below the default: a Mosquitto that is not told keeps to a window of its own, which is 20.
RECEIVE_MAX = 65_534


class Glance(ABC):
    """One connection as a state machine.

    Args:
        client_id: whose look it is; the connection has a name of its own.
        filters: what to look at; with "retain as published" off, what is new makes the look no longer.

    Attributes:
        stage, why: see `gateway.subscription.Subscription`.
        is_answered: the broker let us in.
        is_seen: all that is retained came.
    """

    def __init__(
        self, client_id: str, username: str, password: str | None, filters: Sequence[mqtt5.TopicFilter]
    ) -> None:
        self._filters = list(filters)
        self._pending = b""
        self._has_more = False
        self.stage = Stage.ASKING
        self.why = ""
        self.is_answered = self.is_seen = False
        connect = mqtt5.ConnectPacket(
            f"{client_id}.look",
            username=username or None,
            password=None if password is None else password.encode(),
            clean_start=True,
            keep_alive=30,
            receive_max=RECEIVE_MAX,
            max_packet_size=PACKET_MAX_BYTES,
        )
        self._output: list[bytes] = [connect.write()]

    @abstractmethod
    def _take(self, packet: Publish, now_us: int) -> None:
        """Takes a message."""

    def feed(self, data: bytes | memoryview, now_us: int) -> None:
        """Takes bytes from the broker."""
        self._pending += data
        at = 0
        try:
            while self.stage is not Stage.CLOSED and (end := wire.packet_end(self._pending, at, PACKET_MAX_BYTES)):
                if self._pending[at] >> 4 == PUBLISH:
                    packet = read_publish(self._pending, at, end, is_mqtt5=True)
                    self._take(packet, now_us)
                    self._has_more |= packet.flags & RETAIN != 0
                    if packet.flags & QOS:
                        self._output.append(mqtt5.PubAckPacket(packet.packet_id).write())
                else:
                    self._handle(memoryview(self._pending)[at:end])
                at = end
        except (ValueError, IndexError) as error:
            self.lost(f"the broker sent what is not MQTT 5: {error}")
        self._pending = self._pending[at:]

    def _handle(self, packet: memoryview) -> None:
        check_from_broker(packet)
        got = mqtt5.read(packet)[0]
        match got:
            case mqtt5.ConnAckPacket() if int(got.reason_code) == 0:
                self.is_answered = True
                self._output += [mqtt5.SubscribePacket(1, self._filters).write(), mqtt5.PingReqPacket().write()]
            case mqtt5.ConnAckPacket() | mqtt5.DisconnectPacket():
                self.lost(f"the broker said {got.reason_code.name}")
            case mqtt5.PingRespPacket() if self._has_more:
                self._has_more = False
                self._output.append(mqtt5.PingReqPacket().write())
            case mqtt5.PingRespPacket():
                self.is_seen = True
                self._output.append(mqtt5.DisconnectPacket().write())
                self.lost("seen")
            case _:
                pass

    @property
    def has_output(self) -> bool:
        """True when there are bytes to send."""
        return bool(self._output)

    def take_output(self) -> bytes:
        """Hands over the bytes to send, in one piece."""
        output = b"".join(self._output)
        self._output.clear()
        return output

    def lost(self, why: str) -> None:
        """The connection is over."""
        if self.stage is not Stage.CLOSED:
            self.stage, self.why = Stage.CLOSED, why
