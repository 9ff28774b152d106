"""What devices announced in Home Assistant's way and the broker retains: learned before the gateway opens its session.

The first messages of a session are those that waited in it, and values come among them whose announcement an earlier
gateway had heard. Only who knows the announcements already can tell what they mean.
"""

from gateway import wire
from gateway.glance import Glance
from gateway.home_assistant_config import parse_discovery_topic
from gateway.intake import Intake
from gateway.publish import Publish, topic_text
from gateway.sender import Sender
from gateway.terms import Terms, announcement_filter, announcement_patterns


class Survey(Glance):
    """One look at all announcements.

    Args:
        intake: learns them; it admits such devices.
        terms: how to connect.
        sender: who speaks: the connection that follows. Nothing is acknowledged to it.

    Attributes:
        count: announcements that came.
    """

    def __init__(self, intake: Intake, terms: Terms, sender: Sender) -> None:
        assert intake.announced is not None
        self._prefix = intake.announced.prefix
        filters = [announcement_filter(pattern) for pattern in announcement_patterns(self._prefix)]
        super().__init__(terms.client_id, terms.username, terms.password, filters)
        self._intake = intake
        self._sender = sender
        self.count = 0

    def _take(self, packet: Publish, now_us: int) -> None:
        """Learns an announcement; the session brings it again, and then it is acknowledged."""
        try:
            where = topic_text(packet.mqtt_topic)
        except wire.MalformedPacketError:
            return
        if packet.payload and parse_discovery_topic(where, self._prefix) is not None:
            self.count += 1
            self._intake.publish(self._sender, packet._replace(packet_id=0), now_us)
