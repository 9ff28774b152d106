"""The gateway as a client: what it asks a broker for, what it makes of the answers, and how a connection ends."""

import contextlib
import json
from dataclasses import replace

import mqtt5
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.home_assistant_in import AnnouncedDevices, Told
from gateway.identity import Identity
from gateway.intake import Intake
from gateway.session import Code
from gateway.stage import Stage
from gateway.subscription import Subscription
from gateway.terms import Terms
from gateway.wire_server import check_from_broker
from headwater.batch import DeadLetter, DeviceStatus
from headwater.reasons import DeadLetterReason
from headwater.status import Status

NOW_US = 1_700_000_000_000_000
FRAME = "hw/1/north/pump-1/frame"
QOS1 = mqtt5.QoS.AT_LEAST_ONCE
TERMS = Terms("gw", (), "hub", "secret", 604_800_000_000, 30_000_000, 2000, packet_max_bytes=1000, letter_max_bytes=64)
GRANTED = [mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE] * 3


class Line:
    """One connection, its broker being the test."""

    def __init__(self, terms: Terms = TERMS, *, is_open: bool = True, is_resumed: bool = False) -> None:
        self.intake = Intake(partitions=4, dead_letter_max_bytes=64)
        self.subscription = Subscription(self.intake, terms, self)
        self.greeting = self.got()
        if is_open:
            self.greeting += self.answer(mqtt5.ConnAckPacket(session_present=is_resumed))
            count = 3 * max(len(terms.sites), 1)
            self.answer(mqtt5.SubAckPacket(1, GRANTED[:1] * count))

    def answer(self, *packets: mqtt5.Packet | bytes) -> list[mqtt5.Packet]:
        raw = b"".join(packet if isinstance(packet, bytes) else packet.write() for packet in packets)
        self.subscription.feed(raw, NOW_US)
        return self.got()

    def got(self) -> list[mqtt5.Packet]:
        raw, found = self.subscription.take_output(), []
        while raw:
            packet, size = mqtt5.read(memoryview(raw))
            found.append(packet)
            raw = raw[size:]
        return found

    def letters(self) -> list[DeadLetter]:
        return [note.what for note in self.intake.notes if isinstance(note.what, DeadLetter)]


def filters(packets: list[mqtt5.Packet]) -> list[str]:
    return [f.pattern for p in packets if isinstance(p, mqtt5.SubscribePacket) for f in p.topic_filters]


def dropped(packets: list[mqtt5.Packet]) -> list[str]:
    return [pattern for p in packets if isinstance(p, mqtt5.UnsubscribePacket) for pattern in p.patterns]


def publish(mqtt_topic: str, payload: bytes, packet_id: int = 1) -> bytes:
    return mqtt5.PublishPacket(mqtt_topic, payload, qos=QOS1, packet_id=packet_id).write()


def test_it_asks_for_a_session_that_outlives_the_connection_and_for_many_messages_at_a_time() -> None:
    connect, subscribe = Line().greeting
    assert isinstance(connect, mqtt5.ConnectPacket)
    assert (connect.client_id, connect.clean_start, connect.session_expiry_interval) == ("gw", False, 604_800)
    assert (connect.receive_max, connect.keep_alive) == (2000, 30)
    assert (connect.username, connect.password) == ("hub", b"secret")
    assert connect.max_packet_size is None, "a broker drops silently what exceeds it"
    assert isinstance(subscribe, mqtt5.SubscribePacket)
    assert filters([subscribe]) == ["hw/1/+/+/frame", "hw/1/+/+/json", "hw/1/+/+/status"]
    assert [int(f.max_qos) for f in subscribe.topic_filters] == [1, 1, 1]
    assert [int(f.retain_handling) for f in subscribe.topic_filters] == [2, 2, 1]


def test_with_sites_it_asks_for_these_only_and_drops_what_an_earlier_setting_asked_for() -> None:
    line = Line(replace(TERMS, sites=("north", "south")), is_resumed=True)
    wanted = [f"hw/1/{site}/+/{leaf}" for site in ("north", "south") for leaf in ("frame", "json", "status")]
    assert filters(line.greeting) == wanted
    assert dropped(line.greeting) == ["hw/1/+/+/frame", "hw/1/+/+/json", "hw/1/+/+/status"]
    other = line.answer(publish("hw/1/west/pump/frame", b"x"), publish("hw/1/west/pump-2/frame", b"y", 2))
    assert dropped(other) == ["hw/1/west/+/frame", "hw/1/west/+/json", "hw/1/west/+/status"]
    assert [one.payload for one in line.intake.inbound] == [b"x", b"y"], (
        "the broker gave them to us: nobody else has them"
    )
    assert dropped(line.answer(publish(FRAME, b"z", 3))) == []


def test_a_new_session_has_no_filters_to_drop() -> None:
    line = Line(replace(TERMS, sites=("north",)))
    assert dropped(line.greeting) == []
    assert dropped(Line().answer(publish(FRAME, b"x"))) == []


def test_a_message_waits_for_the_log_and_is_then_acknowledged_in_order() -> None:
    line = Line()
    assert line.answer(publish(FRAME, b"a", 7), publish("hw/1/x/y/json", b"{}", 9), publish(FRAME, b"c", 8)) == []
    line.subscription.settle([2, 1])
    assert line.got() == []
    line.subscription.settle([0])
    acks = line.got()
    assert [ack.packet_id for ack in acks if isinstance(ack, mqtt5.PubAckPacket)] == [7, 9, 8]


def test_statuses_and_wills_of_devices_are_presence_that_outlives_the_connection() -> None:
    line = Line()
    where = "hw/1/north/pump-1/status"
    line.answer(publish(where, Status(online=True, epoch=7, assigned=3).to_json()))
    line.subscription.lost("cut")
    assert line.intake.presence.online == 1, "a gateway that lost its broker knows nothing about devices"
    line.answer(publish(where, Status(online=False, epoch=7).to_json(), 2))
    assert line.intake.presence.online == 1, "what comes after the end is not heard"
    said = [note.what for note in line.intake.notes if isinstance(note.what, DeviceStatus)]
    assert [(status.device, status.online, status.assigned) for status in said] == [("pump-1", True, 3)]


def hostile(mqtt_topic: bytes, properties: bytes = b"\x00", payload: bytes = b"x") -> bytes:
    body = len(mqtt_topic).to_bytes(2, "big") + mqtt_topic + b"\x00\x05" + properties + payload
    return bytes((0x32, len(body))) + body


@pytest.mark.parametrize(
    ("packet", "reason", "source", "device"),
    [
        (hostile(b"hw/1/n/\xff/frame"), DeadLetterReason.PARSE, "hw/1/n/\ufffd/frame", ""),
        (hostile(b"hw/1/n/d/frame", b"\x02\x7f\x01"), DeadLetterReason.PARSE, "hw/1/n/d/frame", "d"),
        (hostile(b"hw/1/n/d/frame", b"\x05\x26\x00\x01\xff\x00"), DeadLetterReason.PARSE, "hw/1/n/d/frame", "d"),
        (hostile(b"hw/1/n/d/frame", b"\xff\xff\xff\x7f"), DeadLetterReason.PARSE, "hw/1/n/d/frame", "d"),
        (hostile(b"hw/1/N/d/frame"), DeadLetterReason.TOPIC, "hw/1/N/d/frame", ""),
        (hostile(b"hw/1/n/d/ack"), DeadLetterReason.TOPIC, "hw/1/n/d/ack", ""),
        (hostile(b"hw/1/n/d/config"), DeadLetterReason.IDENTITY, "hw/1/n/d/config", ""),
        (hostile(b"hw/1/n/d/status", payload=b"{"), DeadLetterReason.PARSE, "hw/1/n/d/status", "d"),
        (publish("hw/1/n/d/frame", b"z" * 5000, 5), DeadLetterReason.TOO_LARGE, "hw/1/n/d/frame", "d"),
    ],
)
def test_whatever_a_device_sends_costs_one_dead_letter_and_never_the_connection(
    packet: bytes, reason: DeadLetterReason, source: str, device: str
) -> None:
    line = Line()
    for at in range(0, len(packet), 37):
        assert line.answer(packet[at : at + 37]) == []
    line.answer(publish(FRAME, b"good", 6))
    (letter,) = line.letters()
    assert (letter.reason, letter.source, letter.device) == (reason, source, device)
    assert len(letter.payload) <= 64
    assert [one.payload for one in line.intake.inbound] == [b"good"]
    line.subscription.settle([0, 1])
    assert [ack.packet_id for ack in line.got() if isinstance(ack, mqtt5.PubAckPacket)] == [5, 6]


def test_a_giant_is_passed_by_without_being_held() -> None:
    line = Line()
    packet = publish(FRAME, b"z" * 3_000_000, 5)
    for at in range(0, len(packet), 65_536):
        line.answer(packet[at : at + 65_536])
        assert len(line.subscription._pending) <= 65_536 + 1064
    line.answer(publish(FRAME, b"good", 6))
    assert [one.payload for one in line.intake.inbound] == [b"good"]
    assert [letter.payload for letter in line.letters()] == [b"z" * 64]


@pytest.mark.parametrize(
    "packet",
    [
        b"\x00\x00",
        b"\x32\x03\x00\xff\x00",
        b"\x32\x07\x00\x01a\x00\x00\x00x",
        b"\x34\x07\x00\x01a\x00\x01\x00x",
        b"\xe0\x06\x80\x04\x1f\x00\x01\xff",
        b"\xff\xff\xff\xff\xff",
        b"\xd1\x00",
        mqtt5.SubAckPacket(77, GRANTED).write(),
        mqtt5.ConnAckPacket().write(),
        mqtt5.PubAckPacket(3).write(),
        b"\x90\xff\xff\x03" + bytes(2000),
    ],
)
def test_a_broker_that_breaks_the_protocol_costs_the_connection(packet: bytes) -> None:
    line = Line()
    said = line.answer(packet)
    assert line.subscription.stage is Stage.CLOSED
    assert isinstance(said[-1], mqtt5.DisconnectPacket)
    assert line.subscription.why
    assert line.answer(publish(FRAME, b"late")) == []
    assert line.intake.inbound == []


@given(st.lists(st.binary(max_size=40), max_size=10), st.booleans())
def test_no_bytes_make_it_fail(pieces: list[bytes], is_open: bool) -> None:
    line = Line(is_open=is_open)
    for piece in pieces:
        line.subscription.feed(piece, NOW_US)
    assert line.subscription.stage in Stage


@given(st.sampled_from([0x20, 0x90, 0xB0, 0xD0, 0xE0]), st.binary(max_size=60))
def test_what_passes_the_check_does_not_bring_the_decoder_down(first: int, body: bytes) -> None:
    packet = memoryview(bytes((first, len(body))) + body)
    with contextlib.suppress(ValueError, IndexError):  # Refused, by whichever of the two.
        check_from_broker(packet)
        assert mqtt5.read(packet)[1] == len(packet)


@pytest.mark.parametrize(
    ("packet", "why"),
    [
        (mqtt5.ConnAckPacket(reason_code=mqtt5.ConnAckReasonCode.NOT_AUTHORIZED), "NOT_AUTHORIZED"),
        (mqtt5.ConnAckPacket(max_qos=mqtt5.QoS.AT_MOST_ONCE), "QoS 0 only"),
        (publish(FRAME, b"x"), "before CONNACK"),
    ],
)
def test_a_broker_that_will_not_serve_is_left_with_a_reason(packet: mqtt5.Packet | bytes, why: str) -> None:
    line = Line(is_open=False)
    line.answer(packet)
    assert line.subscription.stage is Stage.CLOSED
    assert why in line.subscription.why
    assert line.subscription.is_resumed is None


def test_a_filter_that_is_not_granted_at_qos_1_ends_the_connection_with_a_hint() -> None:
    line = Line(is_open=False)
    line.answer(mqtt5.ConnAckPacket())
    line.answer(mqtt5.SubAckPacket(1, [*GRANTED[:2], mqtt5.SubAckReasonCode.NOT_AUTHORIZED]))
    assert line.subscription.stage is Stage.CLOSED
    assert "hw/1/+/+/status" in line.subscription.why


def test_another_client_with_our_id_has_the_session_from_then_on() -> None:
    line = Line()
    line.answer(publish(FRAME, b"x"))
    line.answer(mqtt5.DisconnectPacket(reason_code=Code.SESSION_TAKEN_OVER))
    assert line.subscription.is_taken_over
    line.subscription.settle([0])
    assert line.got() == [], "what is acknowledged is the other one's business now"


def test_it_pings_a_quiet_broker_and_leaves_a_silent_one() -> None:
    line = Line()
    sub = line.subscription
    for _ in range(44):
        sub.check_time(1_000_000, NOW_US, 10_000_000, is_read=True)
    assert [type(packet) for packet in line.got()] == [mqtt5.PingReqPacket] * 2
    sub.check_time(1_000_001, NOW_US, 10_000_000, is_read=False)
    assert sub.stage is Stage.OPEN, "while nobody reads the socket, the silence is ours"
    line.answer(mqtt5.PingRespPacket())
    for _ in range(45):
        sub.check_time(1_000_000, NOW_US, 10_000_000, is_read=True)
    assert sub.stage is Stage.OPEN
    sub.check_time(1_000_000, NOW_US, 10_000_000, is_read=True)
    assert sub.stage is Stage.CLOSED


def test_a_broker_that_does_not_answer_connect_is_given_up() -> None:
    line = Line(is_open=False)
    line.subscription.check_time(10_000_001, NOW_US, 10_000_000, is_read=True)
    assert "CONNECT" in line.subscription.why


def test_acks_go_out_retained_unless_the_broker_keeps_nothing() -> None:
    for is_available in (True, False):
        line = Line(is_open=False)
        line.answer(mqtt5.ConnAckPacket(retain_available=is_available))
        line.subscription.publish("hw/1/n/d/ack", b"{}")
        (packet,) = line.got()
        assert isinstance(packet, mqtt5.PublishPacket)
        assert (packet.topic, packet.retain, packet.qos) == ("hw/1/n/d/ack", is_available, mqtt5.QoS.AT_MOST_ONCE)


@pytest.mark.parametrize("leaf", ["config", "command"])
def test_an_order_of_an_operator_is_not_for_a_gateway_that_only_listens(leaf: str) -> None:
    line = Line()
    line.subscription.identity = Identity("desk", (("*", "*"),), is_operator=True)
    line.answer(publish(f"hw/1/north/pump-1/{leaf}", b"{}"))
    (letter,) = line.letters()
    assert (letter.reason, letter.at_us) == (DeadLetterReason.TOPIC, NOW_US)
    assert [note.ticket for note in line.intake.notes] == [0], "the letter answers for the message"


def test_sparkplug_nodes_are_asked_for_and_may_be_refused() -> None:
    will = ("spBv1.0/STATE/headwater", b"{}")
    for sites, level in (((), "+"), (("north",), "north")):
        terms = replace(TERMS, sites=sites, sparkplug=True)
        intake = Intake(partitions=4, dead_letter_max_bytes=64)
        line = Line(is_open=False)
        line.subscription = Subscription(intake, terms, line, will)
        (connect,) = line.got()
        assert isinstance(connect, mqtt5.ConnectPacket)
        assert connect.will is not None
        assert (connect.will.topic, connect.will.payload, connect.will.retain) == (*will, True)
        asked = line.answer(mqtt5.ConnAckPacket())
        assert filters(asked)[:6] == [
            f"spBv1.0/{level}/NBIRTH/+",
            f"spBv1.0/{level}/NDATA/+",
            f"spBv1.0/{level}/NDEATH/+",
            f"spBv1.0/{level}/DBIRTH/+/+",
            f"spBv1.0/{level}/DDATA/+/+",
            f"spBv1.0/{level}/DDEATH/+/+",
        ]
        line.answer(mqtt5.SubAckPacket(1, [*GRANTED, *GRANTED[:2], mqtt5.SubAckReasonCode.NOT_AUTHORIZED]))
        assert not line.subscription.is_subscribed
        line.answer(mqtt5.SubAckPacket(2, GRANTED))
        assert line.subscription.is_subscribed
        assert line.subscription.refused == [f"spBv1.0/{level}/DDEATH/+/+"]


def announcing(*, is_resumed: bool = False, sensors: int = 0) -> Line:
    """A line of a gateway that admits devices that announce themselves, and knows of some."""
    line = Line(is_open=False)
    announced = line.intake.announced = AnnouncedDevices(
        "homeassistant", "home", 1000, line.intake.presence, partitions=4, letter_max_bytes=64
    )
    for number in range(sensors):
        told = json.dumps({"state_topic": f"t/{number}"}).encode()
        announced.take(Told(line.subscription, -1, f"homeassistant/sensor/s{number}/config", told), NOW_US)
    line.subscription = Subscription(line.intake, TERMS, line)
    line.greeting = line.answer(mqtt5.ConnAckPacket(session_present=is_resumed))
    return line


def test_announcements_are_asked_for_on_every_connection_but_not_our_own_and_topics_with_what_is_retained_once() -> (
    None
):
    line = announcing(sensors=1)
    by_pattern = {f.pattern: f for p in line.greeting if isinstance(p, mqtt5.SubscribePacket) for f in p.topic_filters}
    for pattern in ("homeassistant/sensor/+/config", "homeassistant/sensor/+/+/config"):
        asked = by_pattern[pattern]
        assert (int(asked.max_qos), int(asked.retain_handling), asked.no_local) == (1, 0, True)
    topic = by_pattern["t/0"]
    assert (int(topic.max_qos), int(topic.retain_handling), topic.retain_as_published) == (1, 1, False)
    assert filters(line.greeting)[-3:] == ["hw/1/+/+/frame", "hw/1/+/+/json", "hw/1/+/+/status"]


def test_many_topics_are_asked_for_in_packets_that_a_broker_takes() -> None:
    line = announcing(sensors=250)
    asked = [len(p.topic_filters) for p in line.greeting if isinstance(p, mqtt5.SubscribePacket)]
    assert asked == [2, 100, 100, 50, 3]
    config = "homeassistant/sensor/late/config"
    (packet,) = line.answer(publish(config, b'{"state_topic": "t/late"}'))
    assert filters([packet]) == ["t/late"]
    assert line.answer(publish("t/late", b"5", 2)) == []
    (packet,) = line.answer(publish(config, b"", 3))
    assert dropped([packet]) == ["t/late"]
    assert [note.ticket for note in line.intake.notes if note.ticket >= 0] == [0, 1, 2]


def test_topics_that_a_broker_refuses_are_told_and_do_not_end_the_connection() -> None:
    line = announcing(sensors=1)
    for packet_id, count in ((1, 2), (2, 1)):
        line.answer(mqtt5.SubAckPacket(packet_id, [mqtt5.SubAckReasonCode.NOT_AUTHORIZED] * count))
    line.answer(mqtt5.SubAckPacket(3, GRANTED))
    assert line.subscription.is_subscribed
    assert line.subscription.refused == ["homeassistant/sensor/+/config", "homeassistant/sensor/+/+/config", "t/0"]


def test_what_a_broker_had_kept_is_a_reading_and_says_nothing_about_presence() -> None:
    line = announcing(sensors=1)
    line.answer(mqtt5.PublishPacket("t/0", b"5", qos=QOS1, packet_id=1, retain=True).write())
    assert [type(note.what).__name__ for note in line.intake.notes] == ["Foreign"]
    assert line.intake.presence.online == 0
    line.answer(publish("t/0", b"6", 2))
    assert line.intake.presence.online == 1


def test_filters_of_an_earlier_gateway_are_dropped_when_they_bring_a_message_with_the_flag_or_without() -> None:
    for line in (announcing(is_resumed=True), Line(is_resumed=True)):
        said = line.answer(publish("old/topic", b"1"), publish("old/topic", b"2", 2))
        assert dropped(said) == ["old/topic"]
        assert [letter.reason for letter in line.letters()] == [DeadLetterReason.TOPIC] * 2
