"""Devices that announce themselves in Home Assistant's way: who may, what is read, what is refused, their wills."""

import json
from dataclasses import replace
from typing import Any

import mqtt5
import pytest
from pydantic import ValidationError
from sessions import LIMITS, NOW_US, QOS1, Client, make_broker

from gateway.broker import Broker
from gateway.home_assistant_in import AnnouncedDevices
from gateway.identity import ANONYMOUS, Identity
from gateway.inbound import Foreign
from gateway.settings import GatewaySettings
from headwater.batch import DeadLetter, DeviceStatus
from headwater.reasons import DeadLetterReason

PORCH = Identity("porch", (("home", "porch"),))
CONFIG = "homeassistant/sensor/porch/temp/config"
STATE = "porch/sensor/temp/state"


def make(entities_max: int = 10) -> Broker:
    broker = make_broker()
    broker.announced = AnnouncedDevices(
        "homeassistant", "home", entities_max, broker.presence, partitions=4, letter_max_bytes=100
    )
    return broker


def client(broker: Broker, client_id: str = "c", identity: Identity = ANONYMOUS, **more: object) -> Client:
    made = Client(broker)
    made.connect(client_id, identity, **more)
    return made


def config(**more: Any) -> bytes:
    return json.dumps({"name": "Temp", "state_topic": STATE, "unit_of_measurement": "°C"} | more).encode()


def readings(broker: Broker) -> list[tuple[str, str, float]]:
    return [
        (note.what.frame.device, metric, float(block.value[row, 0]))
        for note in broker.notes
        if isinstance(note.what, Foreign)
        for block in note.what.frame.blocks
        for row, metric in enumerate(block.metrics)
    ]


def letters(broker: Broker) -> list[DeadLetter]:
    return [note.what for note in broker.notes if isinstance(note.what, DeadLetter)]


def test_a_device_that_announces_itself_is_read_from_there_on() -> None:
    broker = make()
    device = client(broker, identity=PORCH)
    device.publish(STATE, b"20.0")
    assert [letter.reason for letter in letters(broker)] == [DeadLetterReason.TOPIC], "nobody announced it yet"
    device.publish(CONFIG, config(), retain=True)
    device.publish(STATE, b" 21.5 ", 5)
    assert readings(broker) == [("porch", "temp", 21.5)]
    (note,) = [note for note in broker.notes if isinstance(note.what, Foreign)]
    assert (note.ticket, note.what.frame.site) == (0, "home")
    ((key, entry),) = [note.what for note in broker.notes if isinstance(note.what, tuple)]
    assert (key, json.loads(entry)["metrics"]["temp"]["unit"]) == (b"home/porch", "°C")
    assert [(n.what.device, n.what.online) for n in broker.notes if isinstance(n.what, DeviceStatus)] == [
        ("porch", True)
    ]
    assert [kept.mqtt_topic for kept in broker.retained.matching("#")] == [CONFIG]


def test_one_json_message_feeds_several_sensors() -> None:
    broker = make()
    device = client(broker, identity=PORCH)
    paths = {"temp": "{{ value_json.climate['temp'] }}", "hum": '{{value_json["hum"]}}', "ok": "{{ value_json.ok }}"}
    for metric, template in paths.items():
        device.publish(f"homeassistant/sensor/porch/{metric}/config", config(value_template=template))
    device.publish(STATE, b'{"climate": {"temp": 3.5}, "hum": "61", "ok": true, "other": 1}')
    assert readings(broker) == [("porch", "temp", 3.5), ("porch", "hum", 61.0), ("porch", "ok", 1.0)]
    device.publish(STATE, b'{"climate": 7, "hum": "unknown", "ok": null}')
    device.publish(STATE, b'{"climate": {"temp": 1e999}}')
    assert broker.announced is not None
    assert broker.announced.counters["left_out_text"] == 5
    assert broker.announced.counters["left_out_not_finite"] == 1
    device.publish(STATE, b"not json")
    assert [letter.reason for letter in letters(broker)] == [DeadLetterReason.PARSE]


@pytest.mark.parametrize(
    "template",
    [
        "{{ value | float }}",
        "{{ value_json.a | round(1) }}",
        "{{ value_json }}",
        "{{ value_json.a + 1 }}",
        "{{ value_json[0] }}",
        "{% if value %}1{% endif %}",
        "value",
        "{{ value }} {{ value }}",
        "{{ value_json['a\\'b'] }}",
        "{{ value_json." + "a." * 20 + "a }}",
        "{{ value_json.__class__['a' }}",
    ],
)
def test_templates_that_do_more_are_refused_and_their_values_counted(template: str) -> None:
    broker = make()
    device = client(broker, identity=PORCH)
    device.publish(CONFIG, config(value_template=template))
    (letter,) = letters(broker)
    assert letter.reason in {DeadLetterReason.SCHEMA, DeadLetterReason.LIMIT}
    assert "template" in letter.detail
    device.publish(STATE, b"1")
    assert (readings(broker), len(letters(broker))) == ([], 1)
    assert broker.announced is not None
    assert broker.announced.counters["left_out_template"] == 1


@pytest.mark.parametrize(
    ("topic", "payload", "reason"),
    [
        (CONFIG, b"junk", DeadLetterReason.PARSE),
        (CONFIG, b"[]", DeadLetterReason.SCHEMA),
        (CONFIG, b"{}", DeadLetterReason.SCHEMA),
        (CONFIG, config(state_topic=5), DeadLetterReason.SCHEMA),
        (CONFIG, config(state_topic="a/+"), DeadLetterReason.SCHEMA),
        (CONFIG, config(state_topic="a/\x07"), DeadLetterReason.SCHEMA),
        (CONFIG, config(state_topic="a/\ud800"), DeadLetterReason.SCHEMA),
        (CONFIG, config(state_topic="a/" * 64), DeadLetterReason.SCHEMA),
        (CONFIG, config(availability_topic="a/#"), DeadLetterReason.SCHEMA),
        (CONFIG, config(state_topic="hw/1/a/b/frame"), DeadLetterReason.SCHEMA),
        (CONFIG, config(state_topic="spBv1.0/a/NDATA/b"), DeadLetterReason.SCHEMA),
        (CONFIG, config(state_topic="homeassistant/status"), DeadLetterReason.SCHEMA),
        (CONFIG, config(name="x" * 20_000), DeadLetterReason.TOO_LARGE),
        ("homeassistant/sensor/porch/°/config", config(), DeadLetterReason.NAME),
    ],
)
def test_announcements_that_are_wrong_are_dead_letters(topic: str, payload: bytes, reason: DeadLetterReason) -> None:
    broker = make()
    made = Client(broker, limits=replace(LIMITS, packet_max_bytes=100_000))
    made.connect("c", ANONYMOUS)
    made.publish(topic, payload)
    assert [letter.reason for letter in letters(broker)] == [reason]


def test_who_may_not_speak_for_a_device_may_neither_announce_it_nor_give_its_values() -> None:
    broker = make()
    client(broker, "other", Identity("other", (("home", "shed"),))).publish(CONFIG, config())
    client(broker, "porch", PORCH).publish(CONFIG, config())
    client(broker, "again", Identity("other", (("home", "shed"),))).publish(STATE, b"1")
    assert [letter.reason for letter in letters(broker)] == [DeadLetterReason.IDENTITY] * 2
    assert readings(broker) == []


def test_who_names_anothers_topic_neither_reads_nor_silences_it() -> None:
    broker = make()
    shed = client(broker, "shed", Identity("shed", (("home", "shed"),)))
    shed.publish("homeassistant/sensor/shed/spy/config", config())
    porch = client(broker, "porch", PORCH)
    porch.publish(CONFIG, config())
    porch.publish(STATE, b"21")
    assert readings(broker) == [("porch", "temp", 21.0)]
    assert letters(broker) == []
    assert broker.announced is not None
    assert broker.announced.counters["left_out_identity"] == 1


def test_an_announcement_is_withdrawn_by_an_empty_one_and_replaced_by_another() -> None:
    broker = make()
    device = client(broker, identity=PORCH)
    device.publish(CONFIG, config())
    device.publish(CONFIG, config(state_topic="new/topic"))
    device.publish("new/topic", b"1")
    device.publish(STATE, b"2")
    device.publish(CONFIG, b"")
    device.publish("new/topic", b"3")
    assert readings(broker) == [("porch", "temp", 1.0)]
    assert [letter.reason for letter in letters(broker)] == [DeadLetterReason.TOPIC] * 2


def test_announcements_are_bounded_and_two_sensors_never_share_a_name() -> None:
    broker = make(entities_max=2)
    device = client(broker)
    device.publish("homeassistant/sensor/porch/a b/config", config())
    device.publish("homeassistant/sensor/Porch/a_b/config", config())
    device.publish("homeassistant/sensor/porch/c/config", config())
    device.publish("homeassistant/sensor/porch/d/config", config())
    assert [letter.reason for letter in letters(broker)] == [DeadLetterReason.NAME, DeadLetterReason.LIMIT]


def test_the_will_on_an_availability_topic_takes_the_device_offline() -> None:
    broker = make()
    will = mqtt5.Will("porch/status", payload=b"offline", qos=QOS1, retain=True)
    device = client(broker, identity=PORCH, will=will)
    device.publish(CONFIG, config(avty_t="~/status", **{"~": "porch"}))
    device.publish("porch/status", b"online")
    device.publish(STATE, b"1")
    device.session.lost(NOW_US)
    seen = [note.what.online for note in broker.notes if isinstance(note.what, DeviceStatus)]
    assert seen == [True, False]
    assert letters(broker) == []


def test_a_device_of_which_only_its_end_is_heard_is_offline() -> None:
    broker = make()
    device = client(broker, identity=PORCH)
    device.publish(CONFIG, config(avty_t="porch/status"))
    for _ in range(2):
        device.publish("porch/status", b"offline")
    seen = [note.what.online for note in broker.notes if isinstance(note.what, DeviceStatus)]
    assert seen == [False], "the gateway may be new, and the one before it has written that the device is online"


def test_a_device_of_very_many_sensors_is_read_and_not_listed() -> None:
    broker = make(entities_max=2000)
    device = client(broker, identity=PORCH)
    for number in range(900):
        device.publish(
            f"homeassistant/sensor/porch/a_long_name_of_a_sensor_that_fills_the_entry_{number}/config", config()
        )
    assert broker.announced is not None
    assert 100 < broker.announced.counters["entries_unlisted"] < 600
    (entry,) = [note.what[1] for note in broker.notes if isinstance(note.what, tuple)]
    assert 60_000 < len(entry) <= 65_536, "the last one that is not too long, of a burst"
    device.publish(STATE, b"1")
    assert len(readings(broker)) == 900


def test_of_a_burst_of_announcements_every_one_is_acknowledged() -> None:
    broker = make()
    device = client(broker, identity=PORCH)
    for number in range(3):
        device.publish(f"homeassistant/sensor/porch/s{number}/config", config(), number + 1)
    assert [(type(note.what), note.ticket) for note in broker.notes] == [(type(None), 0), (type(None), 1), (tuple, 2)]
    broker.notes = []
    device.publish("homeassistant/sensor/porch/s3/config", config(), 4)
    assert [(type(note.what), note.ticket) for note in broker.notes] == [(tuple, 3)]


def test_a_will_that_nobody_announced_is_admitted_and_comes_to_nothing() -> None:
    broker = make()
    device = client(broker, will=mqtt5.Will("tele/x/LWT", payload=b"Offline", qos=QOS1))
    device.session.lost(NOW_US)
    assert (broker.counters["wills_unannounced"], broker.notes) == (1, [])
    answer = Client(broker).connect("d", PORCH, will=mqtt5.Will("hw/1/home/shed/status", payload=b"", qos=QOS1))
    assert isinstance(answer, mqtt5.ConnAckPacket)
    assert answer.reason_code == mqtt5.ConnAckReasonCode.NOT_AUTHORIZED


def test_what_comes_again_is_told_once_and_tried_again_where_it_was_refused() -> None:
    broker = make(entities_max=1)
    device = client(broker)
    for _ in range(2):
        device.publish(CONFIG, config())
        device.publish("homeassistant/sensor/shed/temp/config", config())
    assert broker.announced is not None
    assert (broker.announced.counters["again"], broker.announced.counters["refused"]) == (1, 2)
    assert [letter.reason for letter in letters(broker)] == [DeadLetterReason.LIMIT]
    assert len([note for note in broker.notes if isinstance(note.what, tuple)]) == 1
    device.publish(CONFIG, b"")
    device.publish("homeassistant/sensor/shed/temp/config", config())
    assert broker.announced.sizes()["entities"] == 1, "there is room now"


def test_what_a_gateway_tells_home_assistant_is_counted_whatever_its_names() -> None:
    broker = make()
    device = client(broker)
    for node in ("north_esp", "n" * 100):
        where = f"homeassistant/sensor/{node}/a/config"
        device.publish(where, config(state_topic="hw/1/north/esp/state"))
    assert broker.announced is not None
    assert (broker.announced.counters["gateways"], letters(broker)) == (2, [])
    assert broker.announced.sizes()["entities"] == 0


def test_a_repeated_value_is_never_taken_for_an_equal_one_before_it() -> None:
    broker = make()
    device = client(broker)
    device.publish(CONFIG, config())
    for packet_id in (3, 4):
        device.send(mqtt5.PublishPacket(STATE, b"21", qos=QOS1, packet_id=packet_id, duplicate=True))
    foreign = [note.what for note in broker.notes if isinstance(note.what, Foreign)]
    assert [one.is_repeated for one in foreign] == [False, False]


def test_other_components_are_counted_and_passed_on() -> None:
    broker = make()
    desk = client(broker, "desk")
    desk.send(mqtt5.SubscribePacket(1, [mqtt5.TopicFilter("homeassistant/#", max_qos=QOS1)]))
    device = client(broker, "porch", PORCH)
    device.publish("homeassistant/switch/porch/lamp/config", config(), 4)
    assert [one.topic for one in desk.got() if isinstance(one, mqtt5.PublishPacket)] == [
        "homeassistant/switch/porch/lamp/config"
    ]
    assert broker.announced is not None
    assert broker.announced.counters["other_components"] == 1
    assert [note.ticket for note in broker.notes] == [0]


def test_without_the_flag_its_topics_are_none_of_ours() -> None:
    broker = make_broker()
    client(broker).publish(CONFIG, config())
    assert [letter.reason for letter in letters(broker)] == [DeadLetterReason.TOPIC]


@pytest.mark.parametrize(("sites", "is_ours"), [((), True), (("home", "north"), True), (("north",), False)])
def test_behind_a_broker_the_gateway_of_their_site_takes_them(sites: tuple[str, ...], is_ours: bool) -> None:
    settings = GatewaySettings(mqtt="mqtt://127.0.0.1:1883", home_assistant_devices=True, sites=sites)
    assert settings.admits_announced is is_ours
    assert not settings.model_copy(update={"home_assistant_devices": False}).admits_announced


def test_its_settings_become_topics_and_names() -> None:
    with pytest.raises(ValidationError, match="not a name"):
        GatewaySettings(home_assistant_site="Home Sweet")
    with pytest.raises(ValidationError, match="MQTT topics"):
        GatewaySettings(home_assistant_prefix="a/b")
