"""Which topics one connection to a broker must ask for, because devices announced them in Home Assistant's way.

    announcement ─▶ see ─▶ (it is taken) ─▶ due ─▶ (topics to subscribe to, filters to unsubscribe from)

Without IO. What is announced and withdrawn again before `due` asks for nothing. A session outlives the gateway, and so
do its filters: one that nobody announces any more is dropped when it brings a message.
"""

import mqtt5

from gateway.home_assistant_config import parse_discovery_topic
from gateway.home_assistant_in import AnnouncedDevices
from gateway.terms import announced_filter, announcement_patterns

DROPPED_MAX = 1024


class AnnouncedTopics:
    """Follows the topics of all sensors for one connection.

    Args:
        announced: the sensors; None where such devices are not admitted, which drops all that an earlier setting asked for.
    """

    def __init__(self, announced: AnnouncedDevices | None) -> None:
        self._announced = announced
        self._asked: set[str] = set()
        self._touched: dict[str, None] = {}
        self._told: dict[str, None] = {}
        # Perhaps still a filter of the session, perhaps only a message that had waited.
        self._strays: set[str] = set()
        self._dropped: set[str] = set()

    def begin(self) -> list[mqtt5.TopicFilter]:
        """Returns how to ask for all topics that are announced now, as the connection opens."""
        topics = self._announced.topics() if self._announced is not None else []
        self._asked = set(topics)
        return self._filters(topics)

    def see(self, mqtt_topic: str) -> None:
        """Notes that a message came, before it is taken."""
        announced = self._announced
        if announced is not None:
            if parse_discovery_topic(mqtt_topic, announced.prefix) is not None:
                self._touched.update(dict.fromkeys(announced.topics_of(mqtt_topic)))
                self._told[mqtt_topic] = None
                return
            if announced.uses(mqtt_topic):
                return
        for pattern in _filters_for(mqtt_topic):
            if pattern not in self._dropped:
                self._strays.add(pattern)
                self._touched[pattern] = None

    @property
    def is_changed(self) -> bool:
        """True when `due` may have something."""
        return bool(self._touched or self._told)

    def _filters(self, topics: list[str]) -> list[mqtt5.TopicFilter]:
        announced = self._announced
        if announced is None:
            return []
        return [announced_filter(topic, has_values=announced.has_values(topic)) for topic in topics]

    def due(self) -> tuple[list[mqtt5.TopicFilter], list[str]]:
        """Returns (what to ask for, filters to drop) since the last call; neither is asked for or dropped twice."""
        announced = self._announced
        if announced is not None:
            for told in self._told:
                self._touched.update(dict.fromkeys(announced.topics_of(told)))
        added, dropped = [], []
        for topic in self._touched:
            if announced is not None and announced.uses(topic):
                if topic not in self._asked:
                    added.append(topic)
            elif topic in self._asked or topic in self._strays:
                dropped.append(topic)
        self._asked.update(added)
        self._asked.difference_update(dropped)
        if len(self._dropped) + len(dropped) > DROPPED_MAX:
            self._dropped.clear()
        self._dropped.update(dropped[:DROPPED_MAX])
        self._dropped.difference_update(added)
        self._touched.clear()
        self._strays.clear()
        self._told.clear()
        return self._filters(added), dropped


def _filters_for(mqtt_topic: str) -> list[str]:
    """Which filters of a gateway with other settings may have brought a message: its topic, or another prefix."""
    prefix = mqtt_topic.partition("/")[0]
    if parse_discovery_topic(mqtt_topic, prefix) is None:
        return [mqtt_topic]
    return announcement_patterns(prefix)
