"""When a group closes: size, age, silence, and no more often than asked."""

from sessions import NOW_US, Client, make_broker

from gateway.batcher import Batcher
from gateway.inbound import Inbound, Note
from headwater.batch import DeadLetter, DeviceStatus
from headwater.names import DeviceTopic

QUIET_US, AGE_US, EVERY_US = 5, 100, 20


def make() -> Batcher:
    return Batcher(max_bytes=1000, age_us=AGE_US, quiet_us=QUIET_US, every_us=EVERY_US)


def message(size_bytes: int = 10, ticket: int = -1, shard: int = 0) -> Inbound:
    client = Client(make_broker())
    topic = DeviceTopic("n", "d", "frame")
    return Inbound(topic, "hw/1/n/d/frame", shard, bytes(size_bytes), NOW_US, client.session, ticket)


def test_an_empty_group_is_never_due() -> None:
    batcher = make()
    batcher.add([], [], NOW_US)
    assert batcher.due_in_us(NOW_US) is None
    assert batcher.close(NOW_US) is None


def test_a_lonely_message_waits_for_silence_only() -> None:
    batcher = make()
    batcher.add([message()], [], NOW_US)
    assert batcher.due_in_us(NOW_US) == QUIET_US
    assert batcher.due_in_us(NOW_US + QUIET_US) == 0


def test_a_steady_stream_closes_at_its_age() -> None:
    batcher = make()
    for step in range(0, AGE_US, 2):
        batcher.add([message(1)], [], NOW_US + step)
        assert batcher.due_in_us(NOW_US + step) != 0
    assert batcher.due_in_us(NOW_US + AGE_US) == 0


def test_a_large_group_is_due_at_once() -> None:
    batcher = make()
    batcher.add([message(1000)], [], NOW_US)
    assert batcher.due_in_us(NOW_US) == 0


def test_the_bytes_of_refused_messages_count_too() -> None:
    batcher = make()
    batcher.add([], [Note(0, DeadLetter(NOW_US, "topic", "gateway", "t", "d", payload=bytes(800)))], NOW_US)
    assert batcher.size_bytes > 800
    assert batcher.due_in_us(NOW_US) == 0


def test_small_commits_keep_their_distance() -> None:
    batcher = make()
    batcher.add([message()], [], NOW_US)
    batcher.close(NOW_US)
    batcher.add([message()], [], NOW_US + 1)
    assert batcher.due_in_us(NOW_US + 1 + QUIET_US) == EVERY_US - 1 - QUIET_US


def test_a_group_holds_each_shard_in_order_and_what_is_owed_to_whom() -> None:
    batcher = make()
    first, second, third = message(ticket=0), message(ticket=1, shard=2), message(ticket=-1)
    second, third = second._replace(session=first.session), third._replace(session=first.session)
    status = DeviceStatus("n", "d", NOW_US, online=True)
    batcher.add([first, second, third], [Note(2, status, first.session, 2)], NOW_US)
    batcher.beat({3}, NOW_US)
    group = batcher.close(NOW_US)
    assert group is not None
    assert group.inbound == {0: [first, third], 2: [second]}
    assert group.owed == {first.session: [0, 1, 2]}
    assert (group.count, group.heartbeats) == (4, {3})
    assert batcher.count == batcher.size_bytes == 0
