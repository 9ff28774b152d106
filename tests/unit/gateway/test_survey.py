"""A look at what devices announced, before the session is opened."""

import json

import mqtt5
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.home_assistant_in import AnnouncedDevices
from gateway.intake import Intake
from gateway.stage import Stage
from gateway.subscription import Subscription
from gateway.survey import Survey
from gateway.terms import Terms

NOW_US = 1_700_000_000_000_000
TERMS = Terms("gw", (), "hub", "secret", 604_800_000_000, 30_000_000, 2000, packet_max_bytes=1000, letter_max_bytes=64)
CONFIG = "homeassistant/sensor/porch/temp/config"
CONNACK, PONG = mqtt5.ConnAckPacket().write(), mqtt5.PingRespPacket().write()


class Surveyed:
    """An intake that admits such devices, and a survey at a broker that is the test."""

    def __init__(self) -> None:
        self.intake = Intake(partitions=4, dead_letter_max_bytes=64)
        self.announced = self.intake.announced = AnnouncedDevices(
            "homeassistant", "home", 10, self.intake.presence, partitions=4, letter_max_bytes=64
        )
        self.session = Subscription(self.intake, TERMS, self)
        self.survey = Survey(self.intake, TERMS, self.session)

    def said(self, *raw: bytes) -> list[mqtt5.Packet]:
        for one in raw:
            self.survey.feed(one, NOW_US)
        out, found = self.survey.take_output(), []
        while out:
            packet, size = mqtt5.read(memoryview(out))
            found.append(packet)
            out = out[size:]
        return found


def kept(where: str, payload: bytes, packet_id: int = 0) -> bytes:
    qos = mqtt5.QoS.AT_LEAST_ONCE if packet_id else mqtt5.QoS.AT_MOST_ONCE
    return mqtt5.PublishPacket(where, payload, retain=True, qos=qos, packet_id=packet_id or None).write()


def test_it_connects_beside_the_session_and_learns_what_is_retained() -> None:
    one = Surveyed()
    connect, subscribe, ping = one.said(CONNACK)
    assert isinstance(connect, mqtt5.ConnectPacket)
    assert (connect.client_id, connect.clean_start, connect.max_packet_size) == ("gw.look", True, 65_536)
    assert connect.receive_max == 65_534, "the default is not sent, and then a Mosquitto keeps to 20"
    assert isinstance(subscribe, mqtt5.SubscribePacket)
    asked = [topic_filter.pattern for topic_filter in subscribe.topic_filters]
    assert asked == ["homeassistant/sensor/+/config", "homeassistant/sensor/+/+/config"]
    assert isinstance(ping, mqtt5.PingReqPacket)
    good = json.dumps({"state_topic": "porch/temp"}).encode()
    acks = one.said(kept(CONFIG, good, 7), kept("homeassistant/sensor/x/config", b"junk"), kept("else", b"1"))
    assert [ack.packet_id for ack in acks if isinstance(ack, mqtt5.PubAckPacket)] == [7]
    assert not one.survey.is_seen
    assert [type(packet) for packet in one.said(PONG)] == [mqtt5.PingReqPacket], "a small window may hold more back"
    assert not one.survey.is_seen
    assert isinstance(one.said(PONG)[0], mqtt5.DisconnectPacket)
    assert (one.survey.is_seen, one.survey.count, one.survey.stage) == (True, 2, Stage.CLOSED)
    assert one.announced.topics() == ["porch/temp"]
    assert {note.ticket for note in one.intake.notes} == {-1}, "nothing is owed: the session brings them again"


def test_what_the_session_brings_again_is_acknowledged_and_not_told_twice() -> None:
    one = Surveyed()
    one.said(CONNACK, kept("homeassistant/sensor/x/config", b"junk"), PONG, PONG)
    assert len(one.intake.notes) == 1
    one.intake.notes.clear()
    one.session.feed(CONNACK + kept("homeassistant/sensor/x/config", b"junk", 3), NOW_US)
    assert [(note.what, note.ticket) for note in one.intake.notes] == [(None, 0)]
    assert one.announced.counters["refused"] == 2


@pytest.mark.parametrize(
    ("said", "is_answered"),
    [
        ([mqtt5.ConnAckPacket(reason_code=mqtt5.ConnAckReasonCode.NOT_AUTHORIZED).write()], False),
        ([CONNACK, b"\xe0\x00"], True),
        ([CONNACK, b"\x00\x00"], True),
    ],
)
def test_a_broker_that_does_not_show_it_is_told_from_one_that_is_not_there(
    said: list[bytes], *, is_answered: bool
) -> None:
    one = Surveyed()
    one.said(*said)
    assert (one.survey.is_answered, one.survey.is_seen, one.survey.stage) == (is_answered, False, Stage.CLOSED)
    assert one.survey.why


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_no_bytes_make_it_fail(pieces: list[bytes]) -> None:
    one = Surveyed()
    one.said(CONNACK, *pieces)
    assert one.survey.stage in Stage
