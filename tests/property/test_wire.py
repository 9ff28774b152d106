"""Whatever bytes come, the guard either refuses them or hands the decoder what it can read; nothing else may happen."""

import mqtt5
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway import mqtt311, wire
from gateway.publish import DUPLICATE, RETAIN, Publish, read_publish, topic_text

PACKETS = [
    mqtt5.ConnectPacket(
        "c",
        username="u",
        password=b"p",
        will=mqtt5.Will("hw/1/a/b/status", payload=b"x", content_type="t"),
        user_properties=[("k", "v")],
    ).write(),
    mqtt5.PublishPacket(
        "hw/1/a/b/frame",
        b"payload",
        qos=mqtt5.QoS.AT_LEAST_ONCE,
        packet_id=7,
        content_type="text",
        user_properties=[("k", "v"), ("k", "w")],
        correlation_data=b"c",
    ).write(),
    mqtt5.PublishPacket("hw/1/a/b/frame", b"x" * 300).write(),
    mqtt5.SubscribePacket(3, [mqtt5.TopicFilter("a/+"), mqtt5.TopicFilter("b/#")], subscription_id=9).write(),
    mqtt5.UnsubscribePacket(4, ["a/+", "b"]).write(),
    mqtt5.PubAckPacket(5, reason_code=mqtt5.PubAckReasonCode.QUOTA_EXCEEDED, reason_str="no").write(),
    mqtt5.DisconnectPacket(reason_code=mqtt5.DisconnectReasonCode.DISCONNECT_WITH_WILL_MESSAGE).write(),
    mqtt5.PingReqPacket().write(),
]


def whole(packet: bytes) -> None:
    if not packet or wire.packet_end(packet, 0, 1 << 20) != len(packet):
        raise wire.MalformedPacketError("not one whole packet")


def published(packet: bytes, *, is_mqtt5: bool) -> Publish:
    """What a session does with the bytes of a PUBLISH."""
    got = read_publish(packet, 0, len(packet), is_mqtt5=is_mqtt5)
    topic_text(got.mqtt_topic)
    return got


def guarded(packet: bytes) -> mqtt5.Packet | Publish:
    """What a session does with the bytes of one packet."""
    view = memoryview(packet)
    whole(packet)
    if packet[0] >> 4 == wire.PUBLISH:
        publish = published(packet, is_mqtt5=True)
        try:
            twin, _ = mqtt5.read(view)
        except (ValueError, IndexError):
            return publish
        # Where the codec reads the packet too, it reads the same.
        assert isinstance(twin, mqtt5.PublishPacket)
        assert (twin.topic.encode(), twin.payload, twin.packet_id or 0) == publish[:3]
        assert (twin.duplicate, twin.retain) == (bool(publish.flags & DUPLICATE), bool(publish.flags & RETAIN))
        return publish
    wire.check_mqtt5(view)
    try:
        got, size = mqtt5.read(view)
    except (ValueError, IndexError) as error:
        raise wire.MalformedPacketError(str(error)) from error
    assert size == len(packet)
    return got


def guarded311(packet: bytes) -> mqtt5.Packet | Publish:
    whole(packet)
    if packet[0] >> 4 == wire.PUBLISH:
        return published(packet, is_mqtt5=False)
    return mqtt311.read(memoryview(packet))


@pytest.mark.parametrize("packet", PACKETS, ids=lambda packet: str(packet[0]))
def test_what_the_codec_writes_passes_the_guard(packet: bytes) -> None:
    assert guarded(packet) is not None


@pytest.mark.parametrize("packet", PACKETS, ids=lambda packet: str(packet[0]))
def test_every_prefix_is_waited_for(packet: bytes) -> None:
    for size in range(len(packet)):
        assert wire.packet_end(memoryview(packet[:size]), 0, 1 << 20) == 0


@given(st.sampled_from(PACKETS), st.data())
def test_changed_packets_are_read_or_refused(packet: bytes, data: st.DataObject) -> None:
    changed = bytearray(packet)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    try:
        guarded(bytes(changed))
    except (wire.MalformedPacketError, wire.OversizedPacketError):
        return


@given(st.integers(0, 15), st.integers(0, 15), st.binary(max_size=80))
@example(3, 2, b"\x00\x01\xff\x00\x01\x00")
def test_random_bodies_are_read_or_refused_by_both_versions(kind: int, flags: int, body: bytes) -> None:
    packet = bytes((kind << 4 | flags, len(body))) + body
    for read in (guarded, guarded311):
        try:
            read(packet)
        except (wire.MalformedPacketError, wire.OversizedPacketError):
            continue


def test_a_topic_that_is_not_utf8_never_reaches_the_decoder() -> None:
    with pytest.raises(wire.MalformedPacketError, match="UTF-8"):
        guarded(b"\x32\x06\x00\x01\xff\x00\x01\x00")


def test_a_length_over_the_bound_is_refused_before_its_bytes_come() -> None:
    with pytest.raises(wire.OversizedPacketError, match="1048579"):
        wire.packet_end(memoryview(b"\x30\xff\xff\x3f"), 0, 1 << 20)


def test_a_length_of_five_bytes_is_no_length() -> None:
    with pytest.raises(wire.MalformedPacketError):
        wire.packet_end(memoryview(b"\x30\xff\xff\xff\xff\x01"), 0, 1 << 30)
