"""Sparkplug through the gateway's own broker: who may speak, names, presence, wills, rebirths, states, acknowledgements."""

import json
from dataclasses import replace

import mqtt5
import pytest
from sessions import LIMITS, NOW_US, QOS1, Client, make_broker
from sparkplug_messages import NOW_MS, bdseq, by_alias, number, payload

from gateway.broker import Broker
from gateway.home_assistant_in import AnnouncedDevices
from gateway.identity import ANONYMOUS, Identity
from gateway.inbound import Foreign
from gateway.session import Phase
from gateway.sparkplug_host import REBIRTHS_PER_S_MAX, SparkplugHost, SparkplugLimits
from headwater.batch import DeadLetter, DeviceStatus
from headwater.errors import DecodeError
from headwater.location import Location
from headwater.reasons import DeadLetterReason
from headwater.sparkplug_codec import decode_payload, encode_payload
from headwater.sparkplug_topic import HostState, name_of, parse_sparkplug_topic, parse_state
from headwater.status import Status

REBIRTH_US = 30_000_000
NODE = Identity("press", (("plant", "press-1"),))
BIRTH = encode_payload(payload(0, (bdseq(3), number("Speed", 1.0, 1, unit="rpm"))))
DEATH = encode_payload(payload(None, (bdseq(3),)))


def make(nodes_max: int = 10) -> Broker:
    broker = make_broker()
    limits = SparkplugLimits(nodes_max, 2_000_000, REBIRTH_US)
    broker.sparkplug = SparkplugHost("headwater", limits, broker.presence, partitions=4, letter_max_bytes=100)
    return broker


def client(broker: Broker, client_id: str = "c", identity: Identity = ANONYMOUS, **more: object) -> Client:
    made = Client(broker)
    made.connect(client_id, identity, **more)
    return made


def data(seq: int, value: float = 2.0) -> bytes:
    return encode_payload(payload(seq, (by_alias(1, value, time_ms=NOW_MS + seq),), NOW_MS + seq))


def statuses(broker: Broker) -> list[tuple[str, str, bool]]:
    return [(n.what.site, n.what.device, n.what.online) for n in broker.notes if isinstance(n.what, DeviceStatus)]


def letters(broker: Broker) -> list[DeadLetter]:
    return [note.what for note in broker.notes if isinstance(note.what, DeadLetter)]


def frames(broker: Broker) -> list[Foreign]:
    return [note.what for note in broker.notes if isinstance(note.what, Foreign)]


def rebirths(broker: Broker, now_us: int = NOW_US) -> list[str]:
    return [where for where, _ in broker.due(now_us)]


def test_a_node_is_a_device_of_its_groups_site_and_so_is_its_device() -> None:
    broker = make()
    node = client(broker)
    node.publish("spBv1.0/Plant A/NBIRTH/Press 1", BIRTH)
    node.publish("spBv1.0/Plant A/DBIRTH/Press 1/Motor", encode_payload(payload(1, (number("Temp", 5.0, 2),))))
    assert [(f.frame.site, f.frame.device, f.frame.blocks[0].metrics) for f in frames(broker)] == [
        ("plant_a", "press_1", ("Speed",)),
        ("plant_a", "press_1--motor", ("Temp",)),
    ]
    assert statuses(broker) == [("plant_a", "press_1", True), ("plant_a", "press_1--motor", True)]
    (key, entry), _ = [note.what for note in broker.notes if isinstance(note.what, tuple)]
    assert (key, json.loads(entry)["metrics"]["Speed"]["unit"]) == (b"plant_a/press_1", "rpm")


def test_where_one_of_our_agents_stands_comes_with_its_birth_and_a_wrong_location_costs_only_that() -> None:
    broker = make()
    here = Status(online=True, agent="1", location=Location(47.5, 8.25)).to_json()
    for node, status in (("press-1", here), ("press-2", here.replace(b"47.5", b"147.5"))):
        birth = replace(payload(0, (bdseq(3), number("Speed", 1.0, 1))), status=status)
        client(broker, node).publish(f"spBv1.0/plant/NBIRTH/{node}", encode_payload(birth))
    told = [note.what for note in broker.notes if isinstance(note.what, DeviceStatus)]
    assert [(one.device, one.online, one.location) for one in told] == [
        ("press-1", True, Location(47.5, 8.25)),
        ("press-2", True, None),
    ]
    assert broker.sparkplug is not None
    assert broker.sparkplug.counters["statuses_refused"] == 1


def test_the_will_of_a_lost_connection_takes_the_node_and_its_devices_offline() -> None:
    broker = make()
    will = mqtt5.Will("spBv1.0/plant/NDEATH/press-1", payload=DEATH, qos=QOS1)
    node = client(broker, identity=NODE, will=will)
    node.publish("spBv1.0/plant/NBIRTH/press-1", BIRTH)
    node.publish("spBv1.0/plant/DBIRTH/press-1/motor", encode_payload(payload(1, (number("Temp", 5.0, 2),))))
    broker.notes.clear()
    node.session.lost(NOW_US)
    assert statuses(broker) == [("plant", "press-1--motor", False), ("plant", "press-1", False)]
    assert broker.sparkplug is not None
    assert broker.sparkplug.counters["deaths"] == 1


def test_a_will_that_comes_after_the_rebirth_on_another_connection_kills_nobody() -> None:
    broker = make()
    topic = "spBv1.0/plant/NDEATH/press-1"
    old = client(broker, "old", will=mqtt5.Will(topic, payload=DEATH, qos=QOS1))
    old.publish("spBv1.0/plant/NBIRTH/press-1", BIRTH)
    new = client(broker, "new")
    new.publish(
        "spBv1.0/plant/NBIRTH/press-1", encode_payload(payload(0, (bdseq(4), number("Speed", 1.0, 1)), NOW_MS + 9))
    )
    broker.notes.clear()
    old.session.lost(NOW_US)
    assert statuses(broker) == []
    new.publish("spBv1.0/plant/NDATA/press-1", data(1))
    assert len(frames(broker)) == 1


def test_a_connection_that_ends_without_a_death_takes_its_nodes_with_it() -> None:
    broker = make()
    node = client(broker)
    node.publish("spBv1.0/plant/NBIRTH/press-1", BIRTH)
    node.send(mqtt5.DisconnectPacket())
    assert node.session.phase is Phase.CLOSED
    assert statuses(broker)[-1] == ("plant", "press-1", False)
    other = client(broker, "d")
    other.publish("spBv1.0/plant/NDATA/press-1", data(1))
    assert [letter.reason for letter in letters(broker)] == [DeadLetterReason.ALIAS]


@pytest.mark.parametrize(
    ("where", "code"),
    [
        ("spBv1.0/plant/NBIRTH/press-2", 0x87),
        ("spBv1.0/other/NBIRTH/press-1", 0x87),
        ("spBv1.0/plant/NCMD/press-1", 0x87),
        ("spBv1.0/STATE/scada", 0x87),
        ("spBv1.0/STATE/headwater", 0x87),
        ("spBv1.0/plant/NBIRTH", 0x90),
        ("spBv1.0/plant/DBIRTH/press-1", 0x90),
        ("spBv1.0/plant/NBIRTH/press-1/motor", 0x90),
        ("spBv1.0/plant/NOTHING/press-1", 0x90),
        ("spBv1.0//NBIRTH/press-1", 0x90),
        ("spBv1.0/plant/NBIRTH/°", 0x90),
        (f"spBv1.0/plant/DBIRTH/press-1/{'x' * 60}", 0x90),
    ],
)
def test_a_topic_that_a_node_may_not_use_is_a_dead_letter(where: str, code: int) -> None:
    broker = make()
    node = client(broker, identity=NODE)
    node.publish(where, BIRTH, 7)
    (letter,) = letters(broker)
    assert (letter.site, letter.payload) == ("", BIRTH[:100])
    node.session.settle([0])
    (answer,) = node.got()
    assert isinstance(answer, mqtt5.PubAckPacket)
    assert answer.reason_code == code


def test_a_node_may_speak_for_its_devices() -> None:
    broker = make()
    node = client(broker, identity=NODE)
    node.publish("spBv1.0/plant/NBIRTH/press-1", BIRTH)
    node.publish("spBv1.0/plant/DBIRTH/press-1/motor", encode_payload(payload(1, (number("Temp", 5.0, 2),))))
    assert letters(broker) == []


@pytest.mark.parametrize(
    ("pattern", "granted"),
    [
        ("spBv1.0/plant/NCMD/press-1", True),
        ("spBv1.0/plant/NCMD/press-1/#", True),
        ("spBv1.0/plant/DCMD/press-1/#", True),
        ("spBv1.0/plant/DCMD/press-1/+", True),
        ("spBv1.0/plant/DCMD/press-1/motor", True),
        ("spBv1.0/Plant/NCMD/Press-1/#", True),
        ("spBv1.0/STATE/#", True),
        ("spBv1.0/STATE/headwater", True),
        ("spBv1.0/plant/NCMD/press-2/#", False),
        ("spBv1.0/plant/NCMD/+/#", False),
        ("spBv1.0/+/NCMD/press-1/#", False),
        ("spBv1.0/plant/NDATA/press-2", False),
        ("spBv1.0/#", False),
    ],
)
def test_a_node_hears_its_own_commands_and_states_only(pattern: str, granted: bool) -> None:
    assert NODE.may_subscribe(pattern) is granted
    assert ANONYMOUS.may_subscribe(pattern)


def test_ids_that_become_the_same_name_are_not_mixed() -> None:
    broker = make()
    node = client(broker)
    node.publish("spBv1.0/plant/NBIRTH/Press 1", BIRTH)
    node.publish("spBv1.0/plant/NBIRTH/press_1", BIRTH)
    (letter,) = letters(broker)
    assert (letter.reason, "plant/Press 1" in letter.detail) == (DeadLetterReason.NAME, True)
    node.publish("spBv1.0/plant/NBIRTH/press", BIRTH)
    node.publish("spBv1.0/plant/NBIRTH/a--b", BIRTH)
    node.publish("spBv1.0/plant/NBIRTH/a", BIRTH)
    node.publish("spBv1.0/plant/DBIRTH/a/b", encode_payload(payload(1)))
    assert [one.reason for one in letters(broker)] == [DeadLetterReason.NAME] * 2


def test_a_node_without_a_birth_is_asked_for_one_and_not_too_often() -> None:
    broker = make()
    node = client(broker)
    subscribe = mqtt5.SubscribePacket(1, [mqtt5.TopicFilter("spBv1.0/plant/NCMD/press-1/#", max_qos=QOS1)])
    node.send(subscribe)
    node.publish("spBv1.0/plant/NDATA/press-1", data(5))
    ((where, command),) = broker.due(NOW_US)
    (metric,) = decode_payload(command).metrics
    assert (where, metric.name, metric.raw) == ("spBv1.0/plant/NCMD/press-1", "Node Control/Rebirth", True)
    broker.announce(where, command, retain=False)
    (got,) = node.got()
    assert isinstance(got, mqtt5.PublishPacket)
    assert (got.payload, got.retain, int(got.qos)) == (command, False, 0)
    node.publish("spBv1.0/plant/NDATA/press-1", data(6))
    assert rebirths(broker, NOW_US + REBIRTH_US - 1) == []
    assert rebirths(broker, NOW_US + REBIRTH_US) == ["spBv1.0/plant/NCMD/press-1"]
    node.publish("spBv1.0/plant/NDATA/press-1", data(7))
    node.publish("spBv1.0/plant/NBIRTH/press-1", BIRTH)
    assert rebirths(broker, NOW_US + 3 * REBIRTH_US) == []


def test_a_thousand_nodes_are_asked_little_by_little() -> None:
    broker = make(nodes_max=100)
    node = client(broker)
    for at in range(2 * REBIRTHS_PER_S_MAX):
        node.publish(f"spBv1.0/plant/NDATA/n{at}", data(1))
    asked = [rebirths(broker, NOW_US), rebirths(broker, NOW_US + 1), rebirths(broker, NOW_US + 1_000_000)]
    assert [len(one) for one in asked] == [REBIRTHS_PER_S_MAX, 0, REBIRTHS_PER_S_MAX]
    assert len({where for one in asked for where in one}) == 2 * REBIRTHS_PER_S_MAX


def test_a_gap_is_given_up_with_time_and_a_birth_is_asked_for() -> None:
    broker = make()
    node = client(broker)
    node.publish("spBv1.0/plant/NBIRTH/press-1", BIRTH)
    node.publish("spBv1.0/plant/NDATA/press-1", data(3), 5)
    assert len(frames(broker)) == 1
    assert rebirths(broker, NOW_US + 2_000_000) == ["spBv1.0/plant/NCMD/press-1"]
    assert len(frames(broker)) == 2
    assert broker.notes[-1].ticket == 0


def test_nodes_are_bounded_and_the_dead_make_room() -> None:
    broker = make(nodes_max=2)
    node = client(broker)
    for name in ("a", "b", "c"):
        node.publish(f"spBv1.0/plant/NBIRTH/{name}", BIRTH)
    assert [letter.reason for letter in letters(broker)] == [DeadLetterReason.LIMIT]
    node.publish("spBv1.0/plant/NDEATH/a", DEATH)
    node.publish("spBv1.0/plant/NBIRTH/c", BIRTH)
    assert statuses(broker)[-1] == ("plant", "c", True)


def test_the_metrics_of_all_nodes_are_bounded_and_the_dead_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.sparkplug_host.DEFINITIONS_MAX", 25)
    broker = make()
    node = client(broker)
    told = encode_payload(payload(0, [bdseq(3), *(number(f"m{n}", 1.0) for n in range(9))]))
    for name in ("a", "b", "c"):
        node.publish(f"spBv1.0/plant/NBIRTH/{name}", told)
    assert [letter.reason for letter in letters(broker)] == [DeadLetterReason.LIMIT]
    node.publish("spBv1.0/plant/NDEATH/a", DEATH)
    node.publish("spBv1.0/plant/NBIRTH/c", told)
    node.publish("spBv1.0/plant/NBIRTH/d", told)
    assert [letter.reason for letter in letters(broker)] == [DeadLetterReason.LIMIT] * 2
    assert statuses(broker)[-1] == ("plant", "c", True)


def test_every_qos_1_message_is_owed_one_acknowledgement() -> None:
    broker = make()
    node = client(broker)
    told = [BIRTH, data(1), data(1), b"junk", encode_payload(payload(2))]
    for at, one in enumerate(told):
        node.publish(f"spBv1.0/plant/{'NDATA' if at else 'NBIRTH'}/press-1", one, at + 1)
    owed = [note.ticket for note in broker.notes if note.ticket >= 0]
    assert owed == [0, 1, 2, 3, 4]
    assert [letter.reason for letter in letters(broker)] == [DeadLetterReason.PARSE]


def test_states_and_commands_of_an_operator_are_passed_on() -> None:
    broker = make()
    scada = client(broker, "scada")
    node = client(broker, "node", identity=NODE)
    patterns = ("spBv1.0/STATE/scada", "spBv1.0/plant/NCMD/press-1")
    node.send(mqtt5.SubscribePacket(1, [mqtt5.TopicFilter(pattern, max_qos=QOS1) for pattern in patterns]))
    state = HostState(online=True, time_ms=5).to_json()
    assert [type(one) for one in scada.publish("spBv1.0/STATE/scada", state, 1, retain=True)] == [mqtt5.PubAckPacket]
    scada.publish("spBv1.0/plant/NCMD/press-1", b"x", retain=True)
    assert [(one.topic, one.payload) for one in node.got() if isinstance(one, mqtt5.PublishPacket)] == [
        ("spBv1.0/STATE/scada", state),
        ("spBv1.0/plant/NCMD/press-1", b"x"),
    ]
    assert [one.mqtt_topic for one in broker.retained.matching("spBv1.0/#")] == ["spBv1.0/STATE/scada"]
    assert broker.notes == []


def test_the_will_of_a_host_says_that_it_is_gone() -> None:
    broker = make()
    offline = HostState(online=False, time_ms=5).to_json()
    scada = client(broker, "scada", will=mqtt5.Will("spBv1.0/STATE/scada", payload=offline, qos=QOS1, retain=True))
    scada.session.lost(NOW_US)
    kept = broker.retained.get("spBv1.0/STATE/scada")
    assert kept is not None
    assert not parse_state(kept.payload).online


def test_a_will_on_another_sparkplug_topic_is_refused() -> None:
    broker = make()
    answer = Client(broker, limits=LIMITS).connect("c", will=mqtt5.Will("spBv1.0/plant/NDATA/a", payload=b"", qos=QOS1))
    assert isinstance(answer, mqtt5.ConnAckPacket)
    assert answer.reason_code == mqtt5.ConnAckReasonCode.TOPIC_NAME_INVALID


def test_a_will_with_wildcards_is_refused_in_both_versions() -> None:
    broker = make()
    broker.announced = AnnouncedDevices("homeassistant", "home", 5, broker.presence, partitions=4, letter_max_bytes=9)
    desk = client(broker, "desk")
    desk.send(mqtt5.SubscribePacket(1, [mqtt5.TopicFilter("#", max_qos=QOS1)]))
    for topic in ("spBv1.0/aX/NDEATH/n", "spBv1.0/STATE/aX", "homeassistant/sensor/aX/b/config", "aX"):
        hostile = Client(broker)
        connect = mqtt5.ConnectPacket("c", clean_start=True, will=mqtt5.Will(topic, payload=DEATH)).write()
        hostile.session.feed(connect.replace(b"aX", b"a+"), NOW_US)
        hostile.admit(ANONYMOUS)
        hostile.session.lost(NOW_US)
        assert [one for one in desk.got() if isinstance(one, mqtt5.PublishPacket)] == []
    assert broker.counters["wills"] == 0


def test_without_sparkplug_its_topics_are_none_of_ours() -> None:
    broker = make_broker()
    client(broker).publish("spBv1.0/plant/NBIRTH/press-1", BIRTH)
    assert [letter.reason for letter in letters(broker)] == [DeadLetterReason.TOPIC]
    assert broker.due(NOW_US) == []


def test_a_subscriber_gets_what_nodes_publish() -> None:
    broker = make()
    desk = client(broker, "desk")
    desk.send(mqtt5.SubscribePacket(1, [mqtt5.TopicFilter("spBv1.0/#", max_qos=QOS1)]))
    client(broker, "node").publish("spBv1.0/plant/NBIRTH/press-1", BIRTH, 1)
    assert [one.payload for one in desk.got() if isinstance(one, mqtt5.PublishPacket)] == [BIRTH]


def test_the_gateway_tells_its_own_state() -> None:
    host = make().sparkplug
    assert host is not None
    where, told = host.state(NOW_US, online=True)
    assert (where, parse_state(told)) == ("spBv1.0/STATE/headwater", HostState(online=True, time_ms=NOW_MS))


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (b"ONLINE", DeadLetterReason.PARSE),
        (b"[" * 1000, DeadLetterReason.PARSE),
        (b"[]", DeadLetterReason.SCHEMA),
        (b'{"online": 1, "timestamp": 5}', DeadLetterReason.SCHEMA),
        (b'{"online": true, "timestamp": -5}', DeadLetterReason.SCHEMA),
        (b'{"online": true}' + b" " * 2000, DeadLetterReason.TOO_LARGE),
    ],
)
def test_a_state_that_is_none_is_refused(told: bytes, reason: DeadLetterReason) -> None:
    with pytest.raises(DecodeError) as caught:
        parse_state(told)
    assert caught.value.reason is reason


def test_names_of_ids() -> None:
    assert [name_of(text) for text in ("Plant A", "x" * 65, "ÄÖ", "-a", "A.b")] == ["plant_a", "", "", "a", "a_b"]
    assert [parse_sparkplug_topic(text) for text in ("spBv1.0", "spAv1.0/g/NDATA/n", "spBv1.0/g/STATE/n")] == [None] * 3
