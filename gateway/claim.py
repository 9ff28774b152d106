"""Which gateway a session at a broker belongs to: the last one that connected says so in a retained message.

A broker that hands a session over to another client with the same id may tell the old one (MQTT 5: DISCONNECT 0x8E) or
just hang up, and a cut network tells nobody. So a gateway that lost its connection looks at the claim, under another
client id that disturbs no session, before it connects again: if the claim is another gateway's, it leaves it alone.
"""

import mqtt5

from gateway.glance import Glance
from gateway.publish import Publish

CLAIM_PREFIX = "hw/gateway"


def claim_topic(client_id: str) -> str:
    """Returns where the claim to a session is kept.

    >>> claim_topic("headwater-gateway")
    'hw/gateway/headwater-gateway'
    """
    return f"{CLAIM_PREFIX}/{client_id}"


class Look(Glance):
    """A look at a claim."""

    def __init__(self, client_id: str, username: str, password: str | None) -> None:
        wanted = mqtt5.TopicFilter(claim_topic(client_id), max_qos=mqtt5.QoS.AT_MOST_ONCE, retain_as_published=False)
        super().__init__(client_id, username, password, [wanted])
        self._topic = claim_topic(client_id).encode()
        self._found = b""

    def _take(self, packet: Publish, now_us: int) -> None:  # noqa: ARG002
        if packet.mqtt_topic == self._topic:
            self._found = packet.payload

    @property
    def claim(self) -> bytes | None:
        """What the broker keeps; b"" for nothing, None as long as it is not known."""
        return self._found if self.is_seen else None
