"""MQTT 3.1.1 against the bytes of the standard: what devices send and what they expect to get."""

import mqtt5
import pytest

from gateway import mqtt311
from gateway.publish import DUPLICATE, QOS_1, RETAIN, Publish, read_publish, topic_text
from gateway.wire import MalformedPacketError

AT_LEAST_ONCE = mqtt5.QoS.AT_LEAST_ONCE


def read(text: str) -> mqtt5.Packet:
    return mqtt311.read(memoryview(bytes.fromhex(text)))


def publish(text: str) -> Publish:
    data = bytes.fromhex(text)
    got = read_publish(data, 0, len(data), is_mqtt5=False)
    assert topic_text(got.mqtt_topic).encode() == got.mqtt_topic
    return got


def test_connect_with_everything() -> None:
    # OASIS MQTT 3.1.1, figure 3.6 with client id "dev", will "w" = "off" retained at QoS 1, user "u", password "pw".
    got = read("10 1d 0004 4d515454 04 ee 003c 0003 646576 0001 77 0003 6f6666 0001 75 0002 7077")
    assert isinstance(got, mqtt5.ConnectPacket)
    assert (got.client_id, got.username, got.password, got.keep_alive) == ("dev", "u", b"pw", 60)
    assert got.clean_start
    assert got.will is not None
    assert (got.will.topic, got.will.payload, got.will.qos, got.will.retain) == ("w", b"off", AT_LEAST_ONCE, True)


def test_connect_of_the_smallest_client() -> None:
    got = read("10 0c 0004 4d515454 04 00 0000 0000")
    assert isinstance(got, mqtt5.ConnectPacket)
    assert (got.client_id, got.clean_start, got.will, got.username) == ("", False, None, None)


def test_publish_at_both_qualities() -> None:
    assert publish("30 05 0001 61 6869") == (b"a", b"hi", 0, 0)
    assert publish("3b 07 0001 61 000a 6869") == (b"a", b"hi", 10, RETAIN | QOS_1 | DUPLICATE)


def test_subscribe_and_unsubscribe() -> None:
    # Figure 3.22 and 3.30: packet id 10, "a/b" at QoS 1, "c/d" at QoS 2.
    got = read("82 0e 000a 0003 612f62 01 0003 632f64 02")
    assert isinstance(got, mqtt5.SubscribePacket)
    assert [(f.pattern, int(f.max_qos)) for f in got.topic_filters] == [("a/b", 1), ("c/d", 2)]
    gone = read("a2 0c 000a 0003 612f62 0003 632f64")
    assert isinstance(gone, mqtt5.UnsubscribePacket)
    assert gone.patterns == ["a/b", "c/d"]


def test_the_short_packets() -> None:
    assert isinstance(read("c000"), mqtt5.PingReqPacket)
    assert isinstance(read("e000"), mqtt5.DisconnectPacket)
    ack = read("4002000a")
    assert isinstance(ack, mqtt5.PubAckPacket)
    assert ack.packet_id == 10


@pytest.mark.parametrize(
    "text",
    [
        "10 0c 0004 4d515454 03 00 0000 0000",  # level 3
        "10 0c 0004 4d515454 04 01 0000 0000",  # reserved flag
        "10 0c 0004 4d515454 04 40 0000 0000",  # password without user
        "10 0c 0004 4d515454 04 08 0000 0000",  # will QoS without will
        "10 0d 0004 4d515454 04 00 0000 0000 00",  # a byte to spare
        "80 08 000a 0003 612f62 01",  # SUBSCRIBE with wrong flags
        "82 02 000a",  # SUBSCRIBE without filters
        "82 08 000a 0003 612f62 03",  # QoS 3 asked
        "62 02 000a",  # PUBREL: QoS 2 is not spoken here
        "20 02 0000",  # CONNACK from a client
    ],
)
def test_what_no_client_may_send_is_refused(text: str) -> None:
    with pytest.raises(MalformedPacketError):
        read(text)


@pytest.mark.parametrize(
    "text",
    [
        "36 05 0001 61 0001",  # QoS 3
        "30 03 0001 ff",  # topic not UTF-8
        "30 03 0001 00",  # topic with U+0000
        "30 03 0001 2b",  # topic with a wildcard
        "30 02 0005",  # topic cut short
        "30 01 00",  # no topic
        "32 04 0001 61 00",  # packet id cut short
    ],
)
def test_a_publish_that_no_client_may_send_is_refused(text: str) -> None:
    with pytest.raises(MalformedPacketError):
        publish(text)


@pytest.mark.parametrize(
    ("packet", "text"),
    [
        (mqtt5.ConnAckPacket(), "20020000"),
        (mqtt5.ConnAckPacket(reason_code=mqtt5.ConnAckReasonCode.UNSUPPORTED_PROTOCOL_VERSION), "20020001"),
        (mqtt5.ConnAckPacket(reason_code=mqtt5.ConnAckReasonCode.CLIENT_ID_NOT_VALID), "20020002"),
        (mqtt5.ConnAckPacket(reason_code=mqtt5.ConnAckReasonCode.SERVER_BUSY), "20020003"),
        (mqtt5.ConnAckPacket(reason_code=mqtt5.ConnAckReasonCode.BAD_USER_NAME_OR_PASSWORD), "20020004"),
        (mqtt5.ConnAckPacket(reason_code=mqtt5.ConnAckReasonCode.NOT_AUTHORIZED), "20020005"),
        (mqtt5.PubAckPacket(10, reason_code=mqtt5.PubAckReasonCode.NOT_AUTHORIZED), "4002000a"),
        (
            mqtt5.SubAckPacket(10, [mqtt5.SubAckReasonCode(1), mqtt5.SubAckReasonCode.NOT_AUTHORIZED]),
            "9004000a0180",
        ),
        (mqtt5.UnsubAckPacket(10, [mqtt5.UnsubAckReasonCode.SUCCESS]), "b002000a"),
        (mqtt5.PingRespPacket(), "d000"),
        (mqtt5.DisconnectPacket(), ""),
        (mqtt5.PublishPacket("a", b"hi", retain=True), "31050001616869"),
        (mqtt5.PublishPacket("a", b"hi", qos=AT_LEAST_ONCE, packet_id=10), "3207000161000a6869"),
    ],
)
def test_what_the_server_says(packet: mqtt5.Packet, text: str) -> None:
    assert mqtt311.write(packet).hex() == text


def test_a_long_message_has_a_length_of_two_bytes() -> None:
    written = mqtt311.write(mqtt5.PublishPacket("a", b"x" * 200))
    assert written[:3].hex() == "30cb01"
    assert publish(written.hex()) == (b"a", b"x" * 200, 0, 0)
