"""A connection without a socket: CONNECT, versions, PUBACKs, limits, ends."""

import mqtt5
import pytest
from sessions import LIMITS, NOW_US, QOS1, Client, make_broker

from gateway.identity import ANONYMOUS
from gateway.session import Code, Phase

FRAME = "hw/1/north/pump-1/frame"
ACK = "hw/1/north/pump-1/ack"


def test_connack_tells_every_limit() -> None:
    got = Client(make_broker()).connect("c", keep_alive=30, session_expiry_interval=60)
    assert isinstance(got, mqtt5.ConnAckPacket)
    assert got.reason_code == mqtt5.ConnAckReasonCode.SUCCESS
    assert (got.receive_max, got.max_packet_size, got.topic_alias_max) == (5, 10_000, 0)
    assert got.max_qos == QOS1
    assert not got.shared_subscription_available
    assert not got.subscription_id_available
    assert not got.session_present
    assert got.session_expiry_interval == 0
    assert got.server_keep_alive is None


def test_a_client_without_keepalive_gets_the_longest_one() -> None:
    got = Client(make_broker()).connect("c")
    assert isinstance(got, mqtt5.ConnAckPacket)
    assert got.server_keep_alive == 600


def test_a_client_without_a_name_is_given_one() -> None:
    client = Client(make_broker())
    got = client.connect("")
    assert isinstance(got, mqtt5.ConnAckPacket)
    assert got.assigned_client_id == client.session.client_id != ""


def test_packets_in_any_pieces_are_the_same() -> None:
    broker = make_broker()
    client = Client(broker)
    client.connect()
    packets = [mqtt5.PublishPacket(FRAME, bytes([n]) * n * 40, qos=QOS1, packet_id=n) for n in (1, 2, 3)]
    raw = b"".join(packet.write() for packet in packets) + mqtt5.PingReqPacket().write()
    for at in range(len(raw)):
        client.session.feed(raw[at : at + 1], NOW_US)
    assert [message.payload for message in broker.inbound] == [packet.payload for packet in packets]
    assert [type(packet) for packet in client.got()] == [mqtt5.PingRespPacket]


def test_what_comes_before_the_identity_is_known_waits() -> None:
    broker = make_broker()
    client = Client(broker)
    client.send(mqtt5.ConnectPacket("c"), mqtt5.PublishPacket(FRAME, b"x", qos=QOS1, packet_id=1))
    assert broker.inbound == []
    assert client.session.phase is Phase.CHECKING
    session, packet = broker.claims.pop()
    broker.admit(session, packet, ANONYMOUS, NOW_US)
    session.feed(b"", NOW_US)
    assert [message.payload for message in broker.inbound] == [b"x"]


def test_pubacks_leave_in_order_of_receipt_in_one_piece() -> None:
    client = Client(make_broker())
    client.connect()
    for packet_id in (9, 4, 7):
        assert client.publish(FRAME, b"x", packet_id) == []
    client.session.settle([2])
    assert client.got() == []
    client.session.settle([0, 1])
    acks = client.got()
    assert [ack.packet_id for ack in acks if isinstance(ack, mqtt5.PubAckPacket)] == [9, 4, 7]


def test_a_closed_connection_is_never_acknowledged() -> None:
    broker = make_broker()
    first = Client(broker)
    first.connect()
    first.publish(FRAME, b"x", 1)
    second = Client(broker)
    second.connect()
    assert second.publish(FRAME, b"y", 1) == []
    first.got()
    first.session.settle([0])
    assert first.got() == []
    assert second.got() == []
    second.session.settle([0])
    assert len(second.got()) == 1


def test_beyond_receive_maximum_nothing_is_read_until_something_is_durable() -> None:
    broker = make_broker()
    client = Client(broker)
    client.connect()
    packets = [mqtt5.PublishPacket(FRAME, b"x", qos=QOS1, packet_id=n) for n in range(1, 8)]
    client.send(*packets)
    assert client.session.is_stalled
    assert len(broker.inbound) == 5
    client.session.settle([0, 1])
    client.session.feed(b"", NOW_US)
    assert len(broker.inbound) == 7
    assert client.session.phase is Phase.OPEN


def test_a_packet_id_in_flight_is_owed_one_puback_only() -> None:
    broker = make_broker()
    client = Client(broker)
    client.connect()
    client.publish(FRAME, b"x", 1)
    client.publish(FRAME, b"x", 1, duplicate=True)
    assert len(broker.inbound) == 1
    got = client.publish(FRAME, b"z", 1)
    assert isinstance(got[0], mqtt5.DisconnectPacket)
    assert got[0].reason_code == Code.PROTOCOL_ERROR


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (mqtt5.PublishPacket(FRAME, b"x", qos=mqtt5.QoS.EXACTLY_ONCE, packet_id=1).write(), Code.QOS_NOT_SUPPORTED),
        (b"\x32\x06\x00\x01a\x00\x00\x00", Code.PROTOCOL_ERROR),
        (b"\x30\xff\xff\xff\x7f", Code.PACKET_TOO_LARGE),
        (b"\x00\x00", Code.MALFORMED_PACKET),
        (b"\x32\x06\x00\x01\xff\x00\x01\x00", Code.MALFORMED_PACKET),
        (mqtt5.ConnectPacket("again").write(), Code.PROTOCOL_ERROR),
        (
            mqtt5.SubscribePacket(1, [mqtt5.TopicFilter(ACK)], subscription_id=3).write(),
            Code.SUBSCRIPTION_IDS_NOT_SUPPORTED,
        ),
        (mqtt5.AuthPacket().write(), Code.PROTOCOL_ERROR),
    ],
)
def test_what_may_not_be_said_ends_the_connection_with_its_reason(raw: bytes, code: Code) -> None:
    client = Client(make_broker())
    client.connect()
    got = client.send(raw)
    assert isinstance(got[-1], mqtt5.DisconnectPacket)
    assert got[-1].reason_code == code
    assert client.session.phase is Phase.CLOSED


def test_mqtt_3_1_1_is_spoken_to_in_its_own_words() -> None:
    broker = make_broker()
    client = Client(broker)
    assert client.connect311() == b"\x20\x02\x00\x00"
    client.session.feed(b"\x32" + bytes([2 + len(FRAME) + 2 + 1]) + b"\x00\x17" + FRAME.encode() + b"\x00\x0ax", NOW_US)
    assert [message.payload for message in broker.inbound] == [b"x"]
    client.session.settle([0])
    assert client.session.take_output() == b"\x40\x02\x00\x0a"
    client.session.feed(b"\xc0\x00", NOW_US)
    assert client.session.take_output() == b"\xd0\x00"


@pytest.mark.parametrize(
    ("connect", "answer"),
    [
        ("10 0d 0006 4d51497364 70 03 02 003c 0000", "20020001"),  # MQIsdp 3, that is MQTT 3.1
        ("10 0f 0006 4d5149736470 03 02 003c 0001 61", "20020001"),
        ("10 0d 0004 4d515454 03 02 003c 0001 61", "20020001"),
    ],
)
def test_mqtt_3_1_gets_a_clear_refusal(connect: str, answer: str) -> None:
    client = Client(make_broker())
    raw = bytes.fromhex(connect)
    client.session.feed(bytes((raw[0], len(raw) - 2)) + raw[2:], NOW_US)
    assert client.session.take_output().hex() == answer
    assert client.session.phase is Phase.CLOSED
    assert client.session.why == "version"


def test_a_version_to_come_is_refused_in_the_words_of_mqtt_5() -> None:
    client = Client(make_broker())
    (got,) = client.send(bytes.fromhex("100d00044d515454 06 02 003c 0001 61".replace(" ", "")))
    assert isinstance(got, mqtt5.ConnAckPacket)
    assert got.reason_code == mqtt5.ConnAckReasonCode.UNSUPPORTED_PROTOCOL_VERSION


def test_what_is_not_mqtt_is_dropped_without_a_word() -> None:
    client = Client(make_broker())
    assert client.send(b"GET / HTTP/1.1\r\n\r\n") == []
    assert client.session.phase is Phase.CLOSED


def test_one_and_a_half_keepalives_of_silence_end_a_connection() -> None:
    client = Client(make_broker())
    client.connect(keep_alive=10)
    client.session.check_time(9_000_000, NOW_US, 1)
    client.session.feed(mqtt5.PingReqPacket().write(), NOW_US)
    client.got()
    client.session.check_time(9_000_000, NOW_US, 1)
    client.session.check_time(6_000_000, NOW_US, 1)
    assert client.session.phase is Phase.OPEN
    client.session.check_time(1, NOW_US, 1)
    assert client.session.phase is Phase.CLOSED
    (got,) = client.got()
    assert isinstance(got, mqtt5.DisconnectPacket)
    assert got.reason_code == Code.KEEP_ALIVE_TIMEOUT


def test_who_never_says_connect_is_dropped() -> None:
    client = Client(make_broker())
    client.session.feed(b"\x10", NOW_US)
    client.session.check_time(10, NOW_US, 10)
    assert client.session.phase is Phase.NEW
    client.session.check_time(1, NOW_US, 10)
    assert client.session.why == "connect_timeout"


def test_too_many_messages_a_second_end_a_connection() -> None:
    client = Client(make_broker())
    client.connect()
    for _ in range(2):
        got = client.send(*[mqtt5.PublishPacket("hw/1/n/p/json", b"{}") for _ in range(700)])
    assert isinstance(got[-1], mqtt5.DisconnectPacket)
    assert got[-1].reason_code == Code.MESSAGE_RATE_TOO_HIGH


def test_too_many_bytes_a_second_end_a_connection() -> None:
    client = Client(make_broker())
    client.connect()
    for _ in range(200):
        client.send(mqtt5.PublishPacket("hw/1/n/p/json", b"x" * 9_000))
    assert client.session.why == "rate"


def test_deliveries_keep_to_the_receive_maximum_of_the_client_and_the_queue_is_bounded() -> None:
    client = Client(make_broker())
    client.connect(receive_max=2)
    for number in range(8):
        client.session.deliver("t", bytes([number]), 1, retain=False)
    sent = client.got()
    assert len(sent) == 2
    assert client.session.dropped == 2
    first = sent[0]
    assert isinstance(first, mqtt5.PublishPacket)
    assert first.packet_id is not None
    (third,) = client.send(mqtt5.PubAckPacket(first.packet_id))
    assert isinstance(third, mqtt5.PublishPacket)
    assert third.payload == b"\x02"


def test_a_message_larger_than_the_client_takes_is_dropped_and_counted() -> None:
    client = Client(make_broker())
    client.connect(max_packet_size=100)
    client.session.deliver("t", b"x" * 200, 0, retain=False)
    assert client.got() == []
    assert client.session.dropped == 1


def test_limits_are_the_ones_given() -> None:
    assert Client(make_broker()).session.ledger.room == LIMITS.receive_max
