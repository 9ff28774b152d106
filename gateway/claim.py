"""Which gateway a session at a broker belongs to: the last one that connected says so in a retained message.

A broker that hands a session over to another client with the same id may tell the old one (MQTT 5: DISCONNECT 0x8E) or
just hang up, and a cut network tells nobody. So a gateway that lost its connection looks at the claim, under another
client id that disturbs no session, before it connects again: if the claim is another gateway's, it leaves it alone.
"""

import mqtt5

from gateway import wire
from gateway.publish import read_publish
from gateway.stage import Stage
from gateway.wire_server import PUBLISH, check_from_broker

CLAIM_PREFIX = "hw/gateway"
_PACKET_MAX_BYTES = 65_536


def claim_topic(client_id: str) -> str:
    """Returns where the claim to a session is kept.

    >>> claim_topic("headwater-gateway")
    'hw/gateway/headwater-gateway'
    """
    return f"{CLAIM_PREFIX}/{client_id}"


class Look:
    """A look at a claim: one connection as a state machine without IO, over as soon as the answer is known.

    Attributes:
        stage, why: see `gateway.subscription.Subscription`.
        claim: what the broker keeps; b"" for nothing, None as long as it is not known.
    """

    def __init__(self, client_id: str, username: str, password: str | None) -> None:
        self._topic = claim_topic(client_id)
        self._pending = b""
        self._found = b""
        self.stage = Stage.ASKING
        self.why = ""
        self.claim: bytes | None = None
        connect = mqtt5.ConnectPacket(
            f"{client_id}.look",
            username=username or None,
            password=None if password is None else password.encode(),
            clean_start=True,
            keep_alive=30,
        )
        self._output: list[bytes] = [connect.write()]

    def feed(self, data: bytes | memoryview, now_us: int) -> None:  # noqa: ARG002 — as a subscription is fed.
        """Takes bytes from the broker."""
        self._pending += data
        at = 0
        try:
            while self.stage is not Stage.CLOSED and (end := wire.packet_end(self._pending, at, _PACKET_MAX_BYTES)):
                if self._pending[at] >> 4 == PUBLISH:
                    packet = read_publish(self._pending, at, end, is_mqtt5=True)
                    if packet.mqtt_topic == self._topic.encode():
                        self._found = packet.payload
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
                wanted = mqtt5.TopicFilter(self._topic, max_qos=mqtt5.QoS.AT_MOST_ONCE)
                # What is retained comes before the answer to a ping that follows the subscription.
                self._output += [mqtt5.SubscribePacket(1, [wanted]).write(), mqtt5.PingReqPacket().write()]
            case mqtt5.ConnAckPacket() | mqtt5.DisconnectPacket():
                self.lost(f"the broker said {got.reason_code.name}")
            case mqtt5.PingRespPacket():
                self.claim = self._found
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
