"""Sessions among each other: take-over, wills, retained messages, rights, and what reaches the log."""

import json

import mqtt5
import pytest
from sessions import NOW_US, QOS1, Client, make_broker

from gateway.broker import Broker
from gateway.identity import Identity
from headwater.batch import DeadLetter, DeviceStatus
from headwater.location import Location
from headwater.status import Status

PUMP = Identity("pump", (("north", "pump-1"),))
FRAME = "hw/1/north/pump-1/frame"
STATUS = "hw/1/north/pump-1/status"
ACK = "hw/1/north/pump-1/ack"
ONLINE = Status(online=True, epoch=7, assigned=9, agent="1", metrics={"temp": {"unit": "Cel"}}).to_json()
OFFLINE = Status(online=False, epoch=7).to_json()


def statuses(broker: Broker) -> list[DeviceStatus]:
    return [note.what for note in broker.notes if isinstance(note.what, DeviceStatus)]


def letters(broker: Broker) -> list[DeadLetter]:
    return [note.what for note in broker.notes if isinstance(note.what, DeadLetter)]


def connected(broker: Broker, client_id: str = "c", identity: Identity | None = None, **more: object) -> Client:
    client = Client(broker)
    if identity is None:
        client.connect(client_id, **more)
    else:
        client.connect(client_id, identity, **more)
    return client


def test_a_frame_goes_to_the_shard_of_its_device_with_the_time_of_receipt() -> None:
    broker = make_broker()
    connected(broker, identity=PUMP).publish(FRAME, b"x", 3)
    (message,) = broker.inbound
    assert (message.shard, message.received_us, message.ticket) == (1, NOW_US, 0)


@pytest.mark.parametrize(
    ("mqtt_topic", "reason", "code"),
    [
        ("hw/1/north/pump-2/frame", "identity", 0x87),
        ("hw/1/north/pump-2/status", "identity", 0x87),
        ("hw/1/north/pump-1/config", "identity", 0x87),
        ("hw/1/north/pump-1/ack", "topic", 0x87),
        ("hw/1/NORTH/pump-1/frame", "topic", 0x90),
        ("hw/1/north/../frame", "topic", 0x90),
        ("somewhere/else", "topic", 0x90),
        ("$SYS/x", "topic", 0x90),
    ],
)
def test_what_a_device_may_not_publish_is_a_dead_letter_and_acknowledged_after_it(
    mqtt_topic: str, reason: str, code: int
) -> None:
    broker = make_broker()
    client = connected(broker, identity=PUMP)
    assert client.publish(mqtt_topic, b"x" * 200, 5) == []
    (letter,) = letters(broker)
    assert (letter.reason, letter.source, letter.payload) == (reason, mqtt_topic, b"x" * 100)
    client.session.settle([0])
    (ack,) = client.got()
    assert isinstance(ack, mqtt5.PubAckPacket)
    assert ack.reason_code == code


def test_the_same_client_connecting_again_ends_its_older_connection() -> None:
    broker = make_broker()
    first = connected(broker)
    connected(broker)
    (got,) = first.got()
    assert isinstance(got, mqtt5.DisconnectPacket)
    assert got.reason_code == mqtt5.DisconnectReasonCode.SESSION_TAKEN_OVER
    assert broker.connections == 1


def test_a_client_of_the_same_name_but_another_user_takes_nothing_over() -> None:
    broker = make_broker()
    first = connected(broker, identity=PUMP)
    connected(broker, identity=Identity("other"))
    assert first.got() == []
    assert broker.connections == 2


def test_a_will_is_published_when_the_connection_breaks_but_not_after_goodbye() -> None:
    for packet, seen in ((b"", [True, False]), (mqtt5.DisconnectPacket().write(), [True, False])):
        broker = make_broker()
        client = connected(broker, will=mqtt5.Will(STATUS, payload=OFFLINE, qos=QOS1, retain=True))
        client.publish(STATUS, ONLINE, 1, retain=True)
        if packet:
            client.send(packet)
        else:
            client.session.lost(NOW_US)
        assert [status.online for status in statuses(broker)] == seen
        assert broker.counters["wills"] == (not packet)
        kept = broker.retained.get(STATUS)
        assert kept is not None
        assert json.loads(kept.payload)["online"] is False


def test_a_will_of_a_dead_connection_is_stale_when_the_device_is_back_on_another() -> None:
    broker = make_broker()
    will = mqtt5.Will(STATUS, payload=OFFLINE, retain=True)
    old, new = connected(broker, "old", will=will), connected(broker, "new", will=will)
    old.publish(STATUS, ONLINE, 1, retain=True)
    new.publish(STATUS, ONLINE, 1, retain=True)
    old.session.lost(NOW_US)
    assert [status.online for status in statuses(broker)] == [True, True]
    assert broker.counters["wills_stale"] == 1
    new.session.lost(NOW_US)
    assert [status.online for status in statuses(broker)] == [True, True, False]


def test_disconnect_with_will_publishes_it() -> None:
    broker = make_broker()
    client = connected(broker, will=mqtt5.Will(STATUS, payload=OFFLINE))
    client.send(mqtt5.DisconnectPacket(reason_code=mqtt5.DisconnectReasonCode.DISCONNECT_WITH_WILL_MESSAGE))
    assert broker.counters["wills"] == 1


def test_a_delayed_will_waits_and_a_return_in_time_cancels_it() -> None:
    broker = make_broker()
    will = mqtt5.Will(STATUS, payload=OFFLINE, will_delay_interval=10)
    connected(broker, will=will).session.lost(NOW_US)
    broker.tick(NOW_US + 9_000_000)
    assert broker.counters["wills"] == 0
    connected(broker, will=will).session.lost(NOW_US)
    broker.tick(NOW_US + 10_000_000)
    broker.tick(NOW_US + 20_000_000)
    assert broker.counters["wills"] == 1


@pytest.mark.parametrize("where", ["hw/1/north/pump-2/status", "hw/1/north/pump-1/frame", "elsewhere"])
def test_a_will_that_the_client_could_not_publish_is_refused_at_connect(where: str) -> None:
    got = Client(make_broker()).connect("c", PUMP, will=mqtt5.Will(where, payload=b"x"))
    assert isinstance(got, mqtt5.ConnAckPacket)
    assert int(got.reason_code) in {0x87, 0x90}


def test_a_birth_goes_to_the_registry_and_to_the_batch() -> None:
    broker = make_broker()
    connected(broker).publish(STATUS, ONLINE, 1, retain=True)
    assert statuses(broker) == [DeviceStatus("north", "pump-1", NOW_US, online=True, epoch=7, assigned=9, agent="1")]
    assert [note.what for note in broker.notes if isinstance(note.what, tuple)] == [(b"north/pump-1", ONLINE)]
    owed = [note.ticket for note in broker.notes if note.ticket >= 0]
    assert owed == [0]


def test_where_a_device_says_it_stands_goes_with_its_birth_and_its_return() -> None:
    broker, here = make_broker(), Location(47.5, 8.25)
    client = connected(broker)
    client.publish(STATUS, Status(online=True, agent="1", location=here).to_json(), 1, retain=True)
    client.session.lost(NOW_US)
    assert [(status.online, status.location) for status in statuses(broker)] == [(True, here), (False, here)]


@pytest.mark.parametrize("lat", [b"91", b"NaN", b"null", b'"47"'])
def test_a_status_with_a_wrong_location_is_a_dead_letter_and_the_one_before_stays(lat: bytes) -> None:
    broker = make_broker()
    client = connected(broker)
    client.publish(STATUS, ONLINE, 1, retain=True)
    client.publish(STATUS, b'{"online":true,"agent":"1","lat":%b,"lon":8.25}' % lat, 2, retain=True)
    assert [letter.reason for letter in letters(broker)] == ["schema"]
    kept = broker.retained.get(STATUS)
    assert kept is not None
    assert kept.payload == ONLINE


def test_a_status_that_can_not_be_read_is_a_dead_letter() -> None:
    broker = make_broker()
    connected(broker).publish(STATUS, b'{"online": 3}', 1, retain=True)
    assert [letter.reason for letter in letters(broker)] == ["schema"]
    assert broker.retained.get(STATUS) is None


def test_retained_messages_come_with_a_subscription_and_live_ones_after_it() -> None:
    broker = make_broker()
    broker.announce(ACK, b"1")
    client = connected(broker, identity=PUMP)
    suback, kept = client.send(mqtt5.SubscribePacket(1, [mqtt5.TopicFilter(ACK)]))
    assert isinstance(suback, mqtt5.SubAckPacket)
    assert suback.reason_codes == [mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE]
    assert isinstance(kept, mqtt5.PublishPacket)
    assert (kept.payload, kept.retain) == (b"1", True)
    broker.announce(ACK, b"2")
    (live,) = client.got()
    assert isinstance(live, mqtt5.PublishPacket)
    assert (live.payload, live.retain) == (b"2", False)


@pytest.mark.parametrize(("handling", "count"), [(0, 2), (1, 1), (2, 0)])
def test_retain_handling_is_followed(handling: int, count: int) -> None:
    broker = make_broker()
    broker.announce(ACK, b"1")
    client = connected(broker)
    topic_filter = mqtt5.TopicFilter(ACK, retain_handling=mqtt5.RetainHandling(handling))
    got = client.send(*[mqtt5.SubscribePacket(n, [topic_filter]) for n in (1, 2)])
    assert sum(isinstance(packet, mqtt5.PublishPacket) for packet in got) == count


@pytest.mark.parametrize(
    ("pattern", "code"),
    [
        ("$share/group/hw/1/+/+/frame", 0x9E),
        ("hw/1/north/pump-2/ack", 0x87),
        ("hw/1/north/+/ack", 0x87),
        ("#", 0x87),
        ("hw/1/north/pump-1/+", 1),
    ],
)
def test_subscriptions_are_judged_one_by_one(pattern: str, code: int) -> None:
    client = connected(make_broker(), identity=PUMP)
    (got,) = client.send(mqtt5.SubscribePacket(1, [mqtt5.TopicFilter(pattern, max_qos=QOS1)]))
    assert isinstance(got, mqtt5.SubAckPacket)
    assert [int(reason) for reason in got.reason_codes] == [code]


def test_the_number_of_subscriptions_is_bounded_and_unsubscribing_makes_room() -> None:
    client = connected(make_broker())
    filters = [mqtt5.TopicFilter(f"a/{n}") for n in range(4)]
    (got,) = client.send(mqtt5.SubscribePacket(1, filters))
    assert isinstance(got, mqtt5.SubAckPacket)
    assert [int(reason) for reason in got.reason_codes] == [1, 1, 1, 0x97]
    (gone,) = client.send(mqtt5.UnsubscribePacket(2, ["a/0", "a/9"]))
    assert isinstance(gone, mqtt5.UnsubAckPacket)
    assert [int(reason) for reason in gone.reason_codes] == [0, 0x11]
    (again,) = client.send(mqtt5.SubscribePacket(3, filters[3:]))
    assert isinstance(again, mqtt5.SubAckPacket)
    assert int(again.reason_codes[0]) == 1


def test_an_operator_reaches_a_device_and_a_retained_configuration_is_registered() -> None:
    broker = make_broker()
    device = connected(broker, "d", PUMP)
    device.send(mqtt5.SubscribePacket(1, [mqtt5.TopicFilter("hw/1/north/pump-1/config")]))
    desk = connected(broker, "o")
    desk.publish("hw/1/north/pump-1/config", b"{}", 1, retain=True)
    (got,) = device.got()
    assert isinstance(got, mqtt5.PublishPacket)
    assert (got.payload, got.qos) == (b"{}", QOS1)
    assert [note.what for note in broker.notes] == [(b"north/pump-1/config", b"{}")]
    assert desk.got() == []
    assert len(desk.publish("hw/1/north/pump-1/command", b"{}", 2)) == 0
    desk.session.settle([0])
    assert len(desk.got()) == 2


def test_foreign_devices_are_online_from_their_first_message_to_the_end_of_the_connection() -> None:
    broker = make_broker()
    client = connected(broker)
    for _ in range(3):
        client.publish("hw/1/north/esp-1/json", b"{}")
    client.session.lost(NOW_US + 5)
    assert [(status.device, status.online) for status in statuses(broker)] == [("esp-1", True), ("esp-1", False)]


def test_a_device_heard_on_a_new_connection_is_not_offline_when_the_old_one_ends() -> None:
    broker = make_broker()
    old, new = connected(broker, "a"), connected(broker, "b")
    old.publish("hw/1/north/esp-1/json", b"{}")
    new.publish("hw/1/north/esp-1/json", b"{}")
    old.session.lost(NOW_US)
    assert [status.online for status in statuses(broker)] == [True]


def test_what_is_no_packet_is_kept_as_a_dead_letter_of_who_sent_it() -> None:
    broker = make_broker()
    client = connected(broker, "c", PUMP)
    client.send(b"\x32\x06\x00\x01\xff\x00\x01\x00")
    (letter,) = letters(broker)
    assert letter.reason == "parse"
    assert "'pump'" in letter.source


def test_retained_messages_are_bounded() -> None:
    broker = make_broker()
    for number in range(7):
        broker.announce(f"hw/1/n/d{number}/ack", b"x")
    assert len(broker.retained) == 5
    assert broker.counters["retained_refused"] == 2
    broker.announce("hw/1/n/d0/ack", b"")
    broker.announce("hw/1/n/d6/ack", b"y" * 9_000)
    assert len(broker.retained) == 5
    broker.announce("hw/1/n/d1/ack", b"y" * 9_000)
    assert broker.counters["retained_refused"] == 3
