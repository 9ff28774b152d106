import json

import pytest

from edge_agent.sources.mqtt_json import MqttSource
from headwater.errors import ConnectError, SettingsError
from headwater.mqtt_link import LinkDown, LinkMessage, LinkUp
from headwater.testing import ManualClock


class FakeLink:
    """A broker's side of the connection: what is put into `coming` arrives at the next look."""

    wants_write = False

    def __init__(self):
        self.coming = [LinkUp(10)]
        self.subscribed = ()
        self.closed = False

    def start(self):
        pass

    def events(self):
        taken, self.coming = self.coming, []
        return taken

    def subscribe(self, mqtt_topics):
        self.subscribed = mqtt_topics

    def publish(self, mqtt_topic, payload, *, retain=False):
        raise AssertionError("a source never publishes")

    def close(self):
        self.closed = True

    def drop(self):
        self.closed = True

    def fileno(self):
        return -1

    def on_ready(self, *, readable, writable):
        pass


def make(**options):
    link, clock = FakeLink(), ManualClock()
    source = MqttSource(options, clock, lambda: link)
    source.open()
    source.read(clock.now_us())
    return source, link, clock


def say(link, topic, payload):
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    link.coming.append(LinkMessage(topic, body))


def test_numbers_and_switches_of_a_message_become_readings_at_arrival():
    source, link, clock = make()
    assert link.subscribed == ("zigbee2mqtt/+",)
    say(
        link,
        "zigbee2mqtt/Living Room",
        {"temperature": 21.4, "occupancy": True, "state": "OFF", "model": "x", "n": None},
    )
    (block,) = source.read(clock.now_us())
    assert block.metrics == ("Living_Room/temperature", "Living_Room/occupancy", "Living_Room/state")
    assert block.value.tolist() == [[21.4], [1], [0]]
    assert block.time_us.tolist() == [clock.now_us()]
    assert {metric.name: metric.is_state for metric in source.metrics} == {
        "Living_Room/temperature": False,
        "Living_Room/occupancy": True,
        "Living_Room/state": True,
    }


def test_a_bare_number_is_a_reading_of_its_topic():
    source, link, clock = make(topics=["house/#"], prefix="house/")
    say(link, "house/attic/temperature", b"18.25")
    (block,) = source.read(clock.now_us())
    assert (block.metrics, block.value.tolist()) == (("attic/temperature",), [[18.25]])


def test_two_messages_between_two_reads_have_two_times():
    source, link, clock = make()
    for value in (1, 2, 3):
        say(link, "zigbee2mqtt/a", {"x": value})
    times = [int(block.time_us[0]) for block in source.read(clock.now_us())]
    assert times == [clock.now_us(), clock.now_us() + 1, clock.now_us() + 2]


def test_a_message_may_bring_its_own_time():
    source, link, clock = make(time_key="ts")
    say(link, "zigbee2mqtt/a", {"x": 1, "ts": 1_700_000_123_456})
    say(link, "zigbee2mqtt/a", {"x": 1, "ts": "yesterday"})
    first, second = source.read(clock.now_us())
    assert first.time_us.tolist() == [1_700_000_123_456_000]
    assert second.metrics == ("a/x",)


def test_rubbish_is_counted():
    source, link, clock = make(payload_bytes_max=1_000)
    for payload in (b"", b"\xff", b"{", b"[" * 900, b"x" * 2_000, b'{"big": 1' + b"0" * 400 + b"}"):
        say(link, "zigbee2mqtt/a", payload)
    assert source.read(clock.now_us()) == []
    assert (source.rubbish, source.beyond_limits) == (4, 1)


def test_the_number_of_metrics_is_bounded():
    source, link, clock = make(metrics_max=2)
    say(link, "zigbee2mqtt/a", {"x": 1, "y": 2, "z": 3})
    (block,) = source.read(clock.now_us())
    assert block.metrics == ("a/x", "a/y")
    assert source.beyond_limits == 1


def test_a_lost_broker_is_a_connection_error_and_can_be_opened_again():
    source, link, clock = make()
    link.coming.append(LinkDown("cable"))
    with pytest.raises(ConnectError, match="cable"):
        source.read(clock.now_us())
    assert link.closed
    with pytest.raises(ConnectError):
        source.read(clock.now_us())
    source.open()
    assert source.read(clock.now_us()) == []


def test_a_wrong_address_is_refused():
    with pytest.raises(SettingsError, match="mqtt://"):
        MqttSource({"url": "http://x"}, ManualClock())
