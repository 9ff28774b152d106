"""Home Assistant both ways: what the gateway tells it, and devices that announce themselves in its way."""

import json
from dataclasses import replace
from typing import Any

import mqtt5
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from sessions import LIMITS, NOW_US, QOS1, Client, make_broker

from gateway.broker import Broker
from gateway.home_assistant_config import (
    DiscoveryTopic,
    parse_config,
    parse_discovery_topic,
    parse_template,
    value_of,
)
from gateway.home_assistant_in import AnnouncedDevices
from gateway.home_assistant_out import DEVICES_MAX, METRICS_MAX, TELL_AGAIN_US, HomeAssistant, id_of, node_of
from gateway.identity import ANONYMOUS, Identity
from gateway.inbound import Foreign, Note
from gateway.settings import GatewaySettings
from headwater.batch import Batch, DeadLetter, DeviceStatus
from headwater.batch_build import batch_from_frames
from headwater.errors import DecodeError
from headwater.frame import Block, Frame
from headwater.quality import Quality
from headwater.reasons import ClockQuality, DeadLetterReason
from headwater.status import Status
from headwater.summary import summarize

PORCH = Identity("porch", (("home", "porch"),))
CONFIG = "homeassistant/sensor/porch/temp/config"
STATE = "porch/sensor/temp/state"


# What the gateway tells.


def batch(values: dict[str, float], at_us: int = NOW_US, site: str = "north", device: str = "pump-1") -> Batch:
    block = Block(tuple(values), np.array([at_us]), np.array([[value] for value in values.values()]))
    frame = Frame(site, device, 7, 1, at_us, ClockQuality.SYNCED, blocks=(block,))
    return batch_from_frames([(frame, at_us, 1)], shard=0, made_us=at_us)


def units(told: dict[str, str], who: bytes = b"north/pump-1") -> Note:
    return Note(0, (who, Status(online=True, metrics={name: {"unit": unit} for name, unit in told.items()}).to_json()))


def make_home() -> HomeAssistant:
    return HomeAssistant("homeassistant", 10_000_000, 60_000_000)


def test_every_metric_is_announced_once_with_its_unit_and_the_values_follow_in_one_message() -> None:
    home = make_home()
    home.describe([units({"temp": "Cel", "flow/in": "m3/h"})])
    home.note([batch({"temp": 21.5, "flow/in": 3.0})], 0)
    kept, states = home.due(0, 100)
    assert sorted(topic for topic, _ in kept) == [
        f"homeassistant/sensor/north_pump-1/{id_of('flow/in')}/config",
        "homeassistant/sensor/north_pump-1/temp/config",
    ]
    told = json.loads(dict(kept)["homeassistant/sensor/north_pump-1/temp/config"])
    assert told["unit_of_measurement"] == "°C"
    assert told["device"]["identifiers"] == ["headwater_north_pump-1"]
    assert states == [("hw/1/north/pump-1/state", b'{"temp":21.5,"flow/in":3.0}')]
    assert home.due(1, 100) == ([], [])


def test_values_are_told_at_most_every_so_often_and_only_when_there_are_new_ones() -> None:
    home = make_home()
    home.note([batch({"temp": 1.0})], 0)
    home.due(0, 100)
    home.note([batch({"temp": 2.0}, NOW_US + 1)], 1_000_000)
    home.note([batch({"temp": 0.5}, NOW_US - 1)], 2_000_000)
    assert home.due(9_999_999, 100) == ([], [])
    assert home.due(10_000_000, 100) == ([], [("hw/1/north/pump-1/state", b'{"temp":2.0}')])
    assert home.due(30_000_000, 100) == ([], [])


def test_a_unit_that_is_learnt_later_is_told_again() -> None:
    home = make_home()
    home.note([batch({"temp": 1.0})], 0)
    home.due(0, 100)
    home.describe([units({"temp": "bar"}), Note(0, (b"north/pump-1/config", b"{}")), Note(0, (b"n/d", b"junk"))])
    ((_, payload),), _ = home.due(1, 100)
    assert json.loads(payload)["unit_of_measurement"] == "bar"
    assert home.counters["entries_refused"] == 1


def test_a_device_that_falls_silent_is_taken_back() -> None:
    home = make_home()
    home.note([batch({"temp": 1.0})], 0)
    home.due(0, 100)
    assert home.due(60_000_000, 100) == ([], [])
    assert home.due(60_000_001, 100) == ([("homeassistant/sensor/north_pump-1/temp/config", b"")], [])
    home.note([batch({"temp": 1.0})], 70_000_000)
    assert len(home.due(70_000_000, 100)[0]) == 1


def test_everything_is_told_again_every_hour() -> None:
    home = HomeAssistant("homeassistant", 10_000_000, 10 * TELL_AGAIN_US)
    home.note([batch({"temp": 1.0, "flow": 2.0})], 0)
    first, _ = home.due(0, 100)
    assert home.due(TELL_AGAIN_US - 1, 100)[0] == []
    assert [home.due(TELL_AGAIN_US, 1)[0], home.due(TELL_AGAIN_US + 1, 1)[0]] == [first[:1], first[1:]]
    assert home.due(TELL_AGAIN_US + 2, 100)[0] == []


def test_bad_values_are_not_shown_and_summaries_are() -> None:
    home = make_home()
    quality = np.array([[0, Quality.BAD_RANGE]], np.uint8)
    block = Block(("temp",), NOW_US + np.arange(2), np.array([[1.0, 99.0]]), quality)
    panes = summarize(
        ("power",), np.zeros(2, np.int32), NOW_US + np.arange(2), np.array([5.0, 6.0]), width_us=1_000_000
    )
    frame = Frame("north", "pump-1", 7, 1, NOW_US, ClockQuality.SYNCED, blocks=(block,), summaries=panes)
    home.note([batch_from_frames([(frame, NOW_US, 1)], shard=0, made_us=NOW_US)], 0)
    ((_, told),) = home.due(0, 100)[1]
    assert json.loads(told) == {"temp": 1.0, "power": 6.0}


def test_what_is_told_at_once_is_bounded_and_the_rest_follows() -> None:
    home = make_home()
    home.note([batch({f"m{n}": 1.0 for n in range(10)})], 0)
    told = [home.due(0, 4) for _ in range(4)]
    assert [len(kept) for kept, _ in told] == [4, 4, 2, 0]
    assert [len(states) for _, states in told] == [0, 0, 1, 0]


def test_devices_and_metrics_are_bounded() -> None:
    home = make_home()
    home.note([batch({f"m{n}": 1.0 for n in range(METRICS_MAX + 3)})], 0)
    assert home.counters["left_out"] == 3
    for n in range(DEVICES_MAX):
        home.note([batch({"a": 1.0}, device=f"d{n}")], 0)
    assert home.counters["left_out"] == 4


def test_no_two_devices_or_metrics_meet_in_one_topic() -> None:
    nodes = [node_of("a", "b_c"), node_of("a_b", "c"), node_of("a_b_c", "d"), node_of("a", "b")]
    assert len(set(nodes)) == 4
    assert len({id_of(metric) for metric in ("a/b", "a.b", "a_b", "a:b")}) == 4


@given(
    st.dictionaries(
        st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_./:-]{0,20}", fullmatch=True),
        st.floats(allow_nan=False, allow_infinity=False),
        min_size=1,
        max_size=5,
    )
)
def test_what_is_told_can_be_read_as_home_assistant_reads_it(values: dict[str, float]) -> None:
    home = make_home()
    home.note([batch(values)], 0)
    kept, ((state_topic, state),) = home.due(0, 100)
    read = {}
    for topic, payload in kept:
        found = parse_discovery_topic(topic, "homeassistant")
        assert found is not None
        entity = parse_config(found, payload)
        assert entity.state_topic == state_topic
        read[json.loads(payload)["name"]] = value_of(entity.path, state, json.loads(state))
    assert read == values


# Devices that announce themselves.


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
    ("template", "path"),
    [
        ("{{ value }}", None),
        ("{{value}}", None),
        ("{{- value_json.a -}}", ("a",)),
        ("{{ value_json.a.b }}", ("a", "b")),
        ("{{ value_json['a b'][\"c\"].d }}", ("a b", "c", "d")),
    ],
)
def test_simple_templates_are_read(template: str, path: tuple[str, ...] | None) -> None:
    assert parse_template(template) == path


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


def test_a_will_that_nobody_announced_is_admitted_and_comes_to_nothing() -> None:
    broker = make()
    device = client(broker, will=mqtt5.Will("tele/x/LWT", payload=b"Offline", qos=QOS1))
    device.session.lost(NOW_US)
    assert (broker.counters["wills_unannounced"], broker.notes) == (1, [])
    answer = Client(broker).connect("d", PORCH, will=mqtt5.Will("hw/1/home/shed/status", payload=b"", qos=QOS1))
    assert isinstance(answer, mqtt5.ConnAckPacket)
    assert answer.reason_code == mqtt5.ConnAckReasonCode.NOT_AUTHORIZED


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


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_state_is_a_finite_number_or_none(payload: bytes) -> None:
    value = value_of(None, payload, None)
    assert value is None or isinstance(value, float)


@given(st.text(max_size=40))
def test_any_template_is_read_or_refused(text: str) -> None:
    try:
        path = parse_template("{{ value_json" + text + " }}")
    except DecodeError:
        return
    assert path


@pytest.mark.parametrize(
    "topic", ["homeassistant/sensor/config", "homeassistant/sensor/a/b/c/config", "x/sensor/a/config"]
)
def test_other_topics_are_no_discovery(topic: str) -> None:
    assert parse_discovery_topic(topic, "homeassistant") is None
    assert parse_discovery_topic("homeassistant/sensor/a/config", "homeassistant") == DiscoveryTopic("sensor", "", "a")


def test_devices_of_its_kind_need_the_gateways_own_endpoint() -> None:
    with pytest.raises(ValidationError, match="own endpoint"):
        GatewaySettings(mqtt="mqtt://127.0.0.1:1883", home_assistant_devices=True)
    with pytest.raises(ValidationError, match="not a name"):
        GatewaySettings(home_assistant_site="Home Sweet")
    with pytest.raises(ValidationError, match="MQTT topics"):
        GatewaySettings(home_assistant_prefix="a/b")
