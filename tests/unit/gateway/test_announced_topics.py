"""Which topics a connection asks for and drops as devices announce themselves."""

import json

from gateway.announced_topics import DROPPED_MAX, AnnouncedTopics
from gateway.home_assistant_in import AnnouncedDevices, Told
from gateway.presence import Presence
from gateway.subscription import Subscription

NOW_US = 1_700_000_000_000_000
TEMP, HUM = "homeassistant/sensor/porch/temp/config", "homeassistant/sensor/porch/hum/config"


class Followed:
    """Sensors, and the topics of one connection."""

    def __init__(self) -> None:
        self.announced = AnnouncedDevices("homeassistant", "home", 9000, Presence(), partitions=4, letter_max_bytes=100)
        self.topics = AnnouncedTopics(self.announced)

    def due(self) -> tuple[list[str], list[str]]:
        """Patterns to ask for and to drop."""
        added, dropped = self.topics.due()
        return [one.pattern for one in added], dropped

    def told(self, where: str, **more: str) -> None:
        self.topics.see(where)
        payload = json.dumps(more).encode() if more else b""
        session: Subscription = object()  # type: ignore[assignment]
        self.announced.take(Told(session, -1, where, payload), NOW_US)


def test_a_sensor_is_asked_for_once_with_its_availability() -> None:
    one = Followed()
    one.told(TEMP, stat_t="a", avty_t="up")
    assert one.topics.is_changed
    assert one.due() == (["a", "up"], [])
    assert not one.topics.is_changed
    one.told(HUM, stat_t="a", avty_t="up")
    assert one.due() == ([], []), "another one on the same topics"
    one.told(HUM)
    assert one.due() == ([], []), "the first still needs them"
    one.told(TEMP)
    assert one.due() == ([], ["a", "up"])


def test_what_changes_and_comes_back_before_it_is_due_asks_for_nothing() -> None:
    one = Followed()
    one.told(TEMP, stat_t="a")
    one.told(TEMP)
    assert one.due() == ([], [])
    one.told(TEMP, stat_t="a")
    assert one.due() == (["a"], [])
    one.told(TEMP, stat_t="b")
    one.told(TEMP, stat_t="a")
    assert one.due() == ([], [])
    one.told(TEMP, stat_t="c")
    assert one.due() == (["c"], ["a"])


def test_a_new_connection_begins_with_all_that_is_known() -> None:
    one = Followed()
    one.told(TEMP, stat_t="a", avty_t="up")
    again = AnnouncedTopics(one.announced)
    assert [(one.pattern, int(one.retain_handling)) for one in again.begin()] == [("a", 1), ("up", 0)]
    again.see("a")
    again.see(TEMP)
    assert again.due() == ([], [])


def test_filters_that_nobody_needs_any_more_are_dropped_once_each_when_they_bring_a_message() -> None:
    one = Followed()
    one.topics.see("old/topic")
    assert one.due() == ([], ["old/topic"])
    one.topics.see("old/topic")
    assert not one.topics.is_changed, "what was on its way still comes"
    one.told(TEMP, stat_t="old/topic")
    assert one.due() == (["old/topic"], [])
    one.topics.see("other/sensor/x/y/config")
    assert one.due() == ([], ["other/sensor/+/config", "other/sensor/+/+/config"]), "another prefix"


def test_a_message_that_had_waited_does_not_show_that_its_filter_is_still_there() -> None:
    one = Followed()
    one.topics.see("a")
    one.told(TEMP, stat_t="a")
    assert one.due() == (["a"], [])


def test_without_the_flag_all_are_dropped() -> None:
    topics = AnnouncedTopics(None)
    assert topics.begin() == []
    topics.see(TEMP)
    topics.see("a")
    assert topics.due() == ([], ["homeassistant/sensor/+/config", "homeassistant/sensor/+/+/config", "a"])


def test_what_is_remembered_of_dropped_filters_is_bounded() -> None:
    topics = AnnouncedTopics(None)
    for number in range(3 * DROPPED_MAX):
        topics.see(f"old/{number}")
        topics.due()
    assert len(topics._dropped) <= DROPPED_MAX
