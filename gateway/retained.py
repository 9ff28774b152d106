"""Retained messages: the latest of each MQTT topic, bounded in number and bytes."""

from collections.abc import Iterator
from dataclasses import dataclass

from gateway.subscriptions import matches


@dataclass(frozen=True, slots=True)
class Retained:
    """One retained message."""

    mqtt_topic: str
    payload: bytes
    qos: int


class RetainedMessages:
    """Keeps the latest message per topic; a new topic beyond the bounds is refused, never an old one dropped.

    >>> retained = RetainedMessages(count_max=1, size_max_bytes=100)
    >>> retained.put("a", b"1", 1), retained.put("b", b"1", 1), [m.payload for m in retained.matching("+")]
    (True, False, [b'1'])
    """

    def __init__(self, count_max: int, size_max_bytes: int) -> None:
        self._count_max = count_max
        self._size_max_bytes = size_max_bytes
        self._size_bytes = 0
        self._messages: dict[str, Retained] = {}

    def __len__(self) -> int:
        return len(self._messages)

    def get(self, mqtt_topic: str) -> Retained | None:
        """The message of a topic."""
        return self._messages.get(mqtt_topic)

    def put(self, mqtt_topic: str, payload: bytes, qos: int) -> bool:
        """Replaces the message of a topic, or removes it where the payload is empty; False if there is no room."""
        old = self._messages.get(mqtt_topic)
        freed = len(mqtt_topic) + len(old.payload) if old else 0
        if not payload:
            if old:
                del self._messages[mqtt_topic]
                self._size_bytes -= freed
            return True
        size_bytes = self._size_bytes - freed + len(mqtt_topic) + len(payload)
        if size_bytes > self._size_max_bytes or (old is None and len(self._messages) >= self._count_max):
            return False
        self._messages[mqtt_topic] = Retained(mqtt_topic, payload, qos)
        self._size_bytes = size_bytes
        return True

    def matching(self, pattern: str) -> Iterator[Retained]:
        """Yields the messages that a filter matches; O(1) for a filter without wildcards, else O(all)."""
        if "+" not in pattern and "#" not in pattern:
            found = self._messages.get(pattern)
            if found:
                yield found
            return
        levels = pattern.split("/")
        for message in list(self._messages.values()):
            if matches(levels, message.mqtt_topic.split("/")):
                yield message
