"""Which session wants which message: MQTT topic filters, checked and matched.

A filter without wildcards is found by its text; the few with wildcards are tried one by one. MQTT 5, chapter 4.7.
"""

from typing import Generic, TypeVar

import mqtt5

_S = TypeVar("_S")
PATTERN_CHARS_MAX = 512


def is_pattern(text: str) -> bool:
    """Tells whether `text` is a topic filter: `+` and `#` fill a level, `#` is the last.

    >>> is_pattern("hw/1/+/+/status"), is_pattern("hw/1/#/status"), is_pattern("a+/b")
    (True, False, False)
    """
    levels = text.split("/")
    return (
        0 < len(text) <= PATTERN_CHARS_MAX
        and all(level == "+" or "+" not in level for level in levels)
        and all("#" not in level for level in levels[:-1])
        and (levels[-1] == "#" or "#" not in levels[-1])
    )


def matches(pattern: list[str], levels: list[str]) -> bool:
    """Tells whether a filter matches a topic, both split into levels; wildcards don't match a first level of `$…`.

    >>> matches("hw/1/+/+/ack".split("/"), "hw/1/north/pump/ack".split("/")), matches(["a", "#"], ["a"])
    (True, True)
    """
    if levels[0].startswith("$") and pattern[0] in {"+", "#"}:
        return False
    for at, level in enumerate(pattern):
        if level == "#":
            return True
        if at >= len(levels) or (level not in {"+", levels[at]}):
            return False
    return len(pattern) == len(levels)


class Subscriptions(Generic[_S]):
    """Filters of all sessions.

    >>> subscriptions = Subscriptions[str]()
    >>> subscriptions.add("me", mqtt5.TopicFilter("hw/1/+/+/ack", max_qos=mqtt5.QoS.AT_MOST_ONCE))
    True
    >>> [who for who, _ in subscriptions.of("hw/1/north/pump/ack")]
    ['me']
    """

    def __init__(self) -> None:
        self._exact: dict[str, dict[_S, mqtt5.TopicFilter]] = {}
        self._wild: dict[tuple[_S, str], tuple[list[str], mqtt5.TopicFilter]] = {}
        self._patterns: dict[_S, set[str]] = {}

    @property
    def any(self) -> bool:
        """True if there is a filter."""
        return bool(self._patterns)

    def count(self, session: _S) -> int:
        """How many filters a session has."""
        return len(self._patterns.get(session, ()))

    def add(self, session: _S, topic_filter: mqtt5.TopicFilter) -> bool:
        """Adds or replaces a filter; True if it is new to the session."""
        pattern = topic_filter.pattern
        if "+" in pattern or "#" in pattern:
            self._wild[session, pattern] = pattern.split("/"), topic_filter
        else:
            self._exact.setdefault(pattern, {})[session] = topic_filter
        patterns = self._patterns.setdefault(session, set())
        is_new = pattern not in patterns
        patterns.add(pattern)
        return is_new

    def remove(self, session: _S, pattern: str) -> bool:
        """Takes a filter away; False if there was none."""
        patterns = self._patterns.get(session, set())
        if pattern not in patterns:
            return False
        patterns.remove(pattern)
        if not patterns:
            del self._patterns[session]
        if self._wild.pop((session, pattern), None) is None:
            sessions = self._exact[pattern]
            del sessions[session]
            if not sessions:
                del self._exact[pattern]
        return True

    def drop(self, session: _S) -> None:
        """Takes all filters of a session away."""
        for pattern in list(self._patterns.get(session, ())):
            self.remove(session, pattern)

    def of(self, mqtt_topic: str) -> list[tuple[_S, mqtt5.TopicFilter]]:
        """Returns each session that wants this topic once, with its filter of the highest QoS."""
        exact = self._exact.get(mqtt_topic)
        if not self._wild:
            return list(exact.items()) if exact else []
        found = dict(exact) if exact else {}
        levels = mqtt_topic.split("/")
        for (session, _), (pattern, topic_filter) in self._wild.items():
            if matches(pattern, levels) and (
                session not in found or int(found[session].max_qos) < int(topic_filter.max_qos)
            ):
                found[session] = topic_filter
        return list(found.items())
