"""Presence, limits, retained messages and letters in their corners."""

from gateway.letters import LetterBook, letter_record, shortened
from gateway.limits import TokenBucket
from gateway.presence import Presence
from gateway.retained import RetainedMessages
from gateway.subscriptions import matches
from headwater.batch import DeadLetter
from headwater.location import Location
from headwater.names import shard_of
from headwater.status import Status

T_US = 1_700_000_000_000_000


def test_a_will_that_comes_after_the_device_is_back_does_not_take_the_new_connection_away() -> None:
    presence = Presence()
    presence.said("old", "n", "d", Status(online=True, epoch=1), T_US)
    presence.said("new", "n", "d", Status(online=True, epoch=2), T_US)
    assert [status.online for status in presence.said("old", "n", "d", Status(online=False), T_US)] == [False]
    assert presence.gone("old", T_US) == []
    assert presence.online == 0
    assert [status.online for status in presence.said("new", "n", "d", Status(online=True, epoch=2), T_US)] == [True]
    assert [(s.device, s.online, s.epoch) for s in presence.gone("new", T_US + 1)] == [("d", False, 2)]
    assert presence.known() == [("n", "d")]


def test_where_a_device_stands_is_as_it_said_last_until_it_says_otherwise() -> None:
    presence, here = Presence(), Location(47.5, 8.25)
    presence.said("c1", "n", "d", Status(online=True, agent="1", location=here), T_US)
    assert [status.location for status in presence.gone("c1", T_US)] == [here]
    assert [status.location for status in presence.heard("c2", "n", "d", T_US)] == [here]
    assert [status.location for status in presence.said("c2", "n", "d", Status(online=False), T_US)] == [None]


def test_one_connection_may_speak_for_many_devices() -> None:
    presence = Presence()
    for device in ("b", "a", "c"):
        presence.heard("c1", "n", device, T_US)
    presence.said("c1", "n", "b", Status(online=False), T_US)
    assert [status.device for status in presence.gone("c1", T_US)] == ["a", "c"]


def test_a_clock_that_steps_back_gives_no_tokens() -> None:
    bucket = TokenBucket(rate_max=10, burst_max=1, now_us=T_US)
    assert bucket.take(1, T_US)
    assert not bucket.take(1, T_US - 10_000_000)
    assert not bucket.take(1, T_US - 9_950_000)
    assert bucket.take(1, T_US - 9_900_000)


def test_a_request_above_the_burst_is_granted_once_and_paid_back() -> None:
    bucket = TokenBucket(rate_max=10, burst_max=5, now_us=T_US)
    assert bucket.take(20, T_US)
    assert not bucket.take(1, T_US + 1_000_000)
    assert bucket.take(1, T_US + 2_000_000)


def test_wildcards_do_not_match_topics_of_the_server() -> None:
    assert not matches(["#"], ["$SYS", "x"])
    assert not matches(["+", "x"], ["$SYS", "x"])
    assert matches(["$SYS", "#"], ["$SYS", "x"])
    assert not matches(["a", "+"], ["a"])
    assert not matches(["a"], ["a", "b"])


def test_retained_bytes_are_given_back_when_a_message_goes() -> None:
    retained = RetainedMessages(count_max=5, size_max_bytes=20)
    assert retained.put("a", b"x" * 15, 1)
    assert not retained.put("b", b"x" * 15, 1)
    assert retained.put("a", b"", 1)
    assert retained.put("b", b"x" * 15, 1)
    assert [message.mqtt_topic for message in retained.matching("#")] == ["b"]


def test_a_letter_keeps_its_identity_and_the_shard_of_its_device() -> None:
    letter = DeadLetter(T_US, "parse", "gateway", "hw/1/n/d/frame", "why", "n", "d", 1 << 63, 5, 9, b"x" * 5000)
    record = letter_record(letter, 4)
    assert (record.partition, record.timestamp_us, record.value) == (shard_of("n", "d", 4), T_US, letter.payload)
    assert record.headers["epoch"] == str(1 << 63)
    assert len(shortened(letter).payload) == 1024


def test_letters_are_counted_by_reason_whether_whole_or_not() -> None:
    book = LetterBook(letters_max=1)
    letters = [DeadLetter(T_US, "parse", "gateway", "t", "d", "n", device) for device in "aaabbb"]
    whole, bare = book.admit(letters)
    assert (len(whole), len(bare), book.by_reason["parse"]) == (4, 2, 6)
