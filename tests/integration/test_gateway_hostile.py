"""Hostile input beside a healthy client: nothing crashes, nobody waits, every reject is a dead letter with a reason."""

import json
import os
import random
import threading
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import mqtt5
import paho.mqtt.client as paho
import pytest
from gateway_server import RawClient, Running, frame, until
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from gateway.identity import hash_password
from headwater import log_topics
from headwater.errors import ConnectError
from headwater.io.log_sqlite import SqliteLog

pytestmark = pytest.mark.integration

QOS1 = mqtt5.QoS.AT_LEAST_ONCE
USERS = f"""
[users.pump-1]
password = "{hash_password(b"one", b"0123456789abcdef", cost=64)}"
devices = ["north/pump-1"]
[users.bad]
password = "{hash_password(b"two", b"0123456789abcdef", cost=64)}"
devices = ["north/bad*"]
"""


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    (tmp_path / "users.toml").write_text(USERS)
    with Running(tmp_path, users=str(tmp_path / "users.toml"), dead_letters_max=100_000) as server:
        yield server


class Healthy(threading.Thread):
    """A device that does everything right and notes whether it was served."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.stop = threading.Event()
        self.acked = 0
        self.client = paho.Client(CallbackAPIVersion.VERSION2, client_id="pump-1", protocol=MQTTProtocolVersion.MQTTv5)
        self.client.username_pw_set("pump-1", "one")
        self.disconnects: list[object] = []
        self.client.on_disconnect = lambda *args: self.disconnects.append(args)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()

    def run(self) -> None:
        while not self.stop.is_set():
            message = self.client.publish("hw/1/north/pump-1/frame", frame(self.acked + 1), qos=1)
            message.wait_for_publish(30)
            assert message.is_published(), "the healthy client waited for 30 s"
            self.acked += 1

    def finish(self) -> None:
        self.stop.set()
        self.join()
        assert not self.disconnects
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def healthy(running: Running) -> Iterator[Healthy]:
    client = Healthy(running.port)
    client.start()
    yield client
    client.finish()


class Bad(RawClient):
    """A device with a right name and wrong messages."""

    def __init__(self, port: int) -> None:
        super().__init__(port, connect=False)
        self.packet_id = 0
        self.send(mqtt5.ConnectPacket("bad", username="bad", password=b"two", clean_start=True))
        got = self.next()
        assert isinstance(got, mqtt5.ConnAckPacket)
        assert got.reason_code == mqtt5.ConnAckReasonCode.SUCCESS

    def publish(self, mqtt_topic: str, payload: bytes) -> int:
        """Publishes at QoS 1, waits for the PUBACK and returns its reason code."""
        self.packet_id += 1
        self.send(mqtt5.PublishPacket(mqtt_topic, payload, qos=QOS1, packet_id=self.packet_id))
        got = self.next()
        assert isinstance(got, mqtt5.PubAckPacket)
        assert got.packet_id == self.packet_id
        return int(got.reason_code)


def hostile_payloads() -> list[tuple[str, bytes]]:
    """(reason, payload) for the frame topic of north/bad-1."""
    good = frame(1, device="bad-1")
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = good[:1] + bytes((0x11,)) + deflate.compress(bytes(100_000_000)) + deflate.flush()
    flipped = bytearray(good)
    flipped[len(flipped) // 2] ^= 0xFF
    return [
        ("inflate too_large", bomb[: 256 * 1024]),
        ("too_large", b"H" * (256 * 1024 + 1)),
        ("parse", b""),
        ("parse", b"{}"),
        ("version", bytes((ord("H"), 0x90)) + good[2:]),
        ("identity", frame(1, device="pump-1")),
        ("identity", frame(1, device="bad-2")),
        ("checksum inflate parse", bytes(flipped)),
        ("checksum inflate parse", good[:-5]),
    ]


def test_hostile_frames_are_dead_letters_acknowledged_after_they_are_durable(
    running: Running, healthy: Healthy
) -> None:
    bad = Bad(running.port)
    for reasons, payload in hostile_payloads():
        before = len(running.records(log_topics.DEAD_LETTERS))
        assert bad.publish("hw/1/north/bad-1/frame", payload) == 0
        (record,) = running.records(log_topics.DEAD_LETTERS)[before:] or [None]
        assert record is not None, f"no dead letter for {reasons}"
        assert record.headers["reason"] in reasons.split()
        assert record.value == payload[:65_536]
        assert record.key == b"north/bad-1"
    bad.close()
    served = healthy.acked
    until(lambda: healthy.acked > served + 3)


def test_hostile_json_is_dead_lettered_by_reason(running: Running, healthy: Healthy) -> None:
    cases = {
        b'{"a": NaN}': "not_finite",
        b'{"a": 1e999}': "not_finite",
        b'{"a": 1, "a": 2}': "schema",
        b"[" * 5000: "parse",
        b'{"a": ' + b"9" * 6000 + b"}": "parse",
        b'{"a b": 1}': "name",
        b'{"a": "1"}': "schema",
        b'{"ts": 5, "values": {"a": 1}}': "time_range",
        b"\xff\xfe": "parse",
        b'{"a":1}' + b" " * 70_000: "too_large",
    }
    bad = Bad(running.port)
    for payload in cases:
        assert bad.publish("hw/1/north/bad-1/json", payload) == 0
    got = [record.headers["reason"] for record in running.records(log_topics.DEAD_LETTERS)]
    assert got == list(cases.values())
    bad.close()


def test_foreign_topics_and_identities_are_refused_with_a_reason_code(running: Running, healthy: Healthy) -> None:
    bad = Bad(running.port)
    assert bad.publish("hw/1/north/pump-1/frame", frame(1)) == 0x87
    assert bad.publish("hw/1/north/bad-1/ack", b"{}") == 0x87
    assert bad.publish("hw/1/north/bad-1/command", b"{}") == 0x87
    assert bad.publish("no/such/topic", b"x") == 0x90
    reasons = Counter(record.headers["reason"] for record in running.records(log_topics.DEAD_LETTERS))
    assert reasons == {"identity": 2, "topic": 2}
    bad.close()


def test_wrong_passwords_and_nobody_are_refused(running: Running) -> None:
    for packet, code in (
        (mqtt5.ConnectPacket("x", username="pump-1", password=b"wrong"), 0x86),
        (mqtt5.ConnectPacket("x", username="nobody", password=b"one"), 0x86),
        (mqtt5.ConnectPacket("x"), 0x87),
    ):
        client = RawClient(running.port, connect=False)
        client.send(packet)
        got = client.next()
        assert isinstance(got, mqtt5.ConnAckPacket)
        assert int(got.reason_code) == code
        assert client.next() is None
        client.close()


def test_random_bytes_and_cut_packets_end_only_their_own_connection(running: Running, healthy: Healthy) -> None:
    generator = random.Random(7)
    whole = mqtt5.PublishPacket("hw/1/north/bad-1/frame", frame(1, device="bad-1"), qos=QOS1, packet_id=9).write()
    for round_number in range(60):
        if round_number % 3 == 0:
            client: RawClient = RawClient(running.port, connect=False)
            client.send(generator.randbytes(generator.randint(1, 2000)))
        else:
            client = Bad(running.port)
            changed = bytearray(whole[: generator.randint(2, len(whole))])
            for _ in range(generator.randint(0, 5)):
                changed[generator.randrange(len(changed))] = generator.randrange(256)
            client.send(bytes(changed))
        client.close()
    flood = Bad(running.port)
    flood.send(b"\x30\xff\xff\xff\x7f" + os.urandom(1000))
    got = flood.next()
    assert isinstance(got, mqtt5.DisconnectPacket)
    assert int(got.reason_code) == 0x95
    flood.close()
    served = healthy.acked
    until(lambda: healthy.acked > served + 3)
    until(lambda: running.gateway.counters()["connections"] == 1)


def test_a_client_that_never_reads_is_cut_off_and_the_others_go_on(tmp_path: Path) -> None:
    with Running(tmp_path, write_max_bytes=65_536) as server:
        deaf = RawClient(server.port, "deaf")
        deaf.send(mqtt5.SubscribePacket(1, [mqtt5.TopicFilter("hw/1/+/+/frame")]))
        talker = RawClient(server.port, "talker")
        big = os.urandom(200_000)
        for packet_id in range(1, 400):
            talker.send(mqtt5.PublishPacket("hw/1/north/pump-1/frame", big, qos=QOS1, packet_id=packet_id))
            if server.gateway.counters().get("broker_ended_slow"):
                break
        until(lambda: server.gateway.counters().get("broker_ended_slow") == 1)
        got = talker.next()
        assert isinstance(got, mqtt5.PubAckPacket)
        deaf.close()
        talker.close()


def test_more_dead_letters_than_allowed_lose_their_bytes_but_not_their_number(tmp_path: Path) -> None:
    with Running(tmp_path, dead_letters_max=1) as server:
        client = RawClient(server.port)
        packets = [mqtt5.PublishPacket("hw/1/n/p/frame", b"junk", qos=QOS1, packet_id=n) for n in range(1, 101)]
        client.send(*packets)
        for _ in packets:
            assert isinstance(client.next(), mqtt5.PubAckPacket)
        records = server.records(log_topics.DEAD_LETTERS)
        assert sum(int(record.headers.get("count", "1")) for record in records) == 100
        assert len(records) < 20
        assert sum(len(batch.dead_letters) for batch in server.batches()) == 100
        assert server.gateway.counters()["dead_letters"] == 100
        client.close()


def test_a_log_that_takes_nothing_holds_every_puback_and_keeps_the_clients(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db")
    append, broken = log.append, threading.Event()
    broken.set()

    def fragile(records: list[object]) -> list[int]:
        if broken.is_set():
            raise ConnectError("the disk is full")
        return append(records)  # type: ignore[arg-type]

    log.append = fragile  # type: ignore[assignment,method-assign]
    with Running(tmp_path, log=log, retry_us=20_000) as server:
        client = RawClient(server.port)
        client.send(
            *[mqtt5.PublishPacket("hw/1/north/pump-1/frame", frame(n), qos=QOS1, packet_id=n) for n in (1, 2, 3)]
        )
        until(lambda: server.gateway.counters().get("append_retries", 0) >= 3)
        client.send(mqtt5.PingReqPacket())
        assert isinstance(client.next(), mqtt5.PingRespPacket), "a PUBACK went out although nothing is durable"
        broken.clear()
        acks = [client.next() for _ in range(3)]
        assert [ack.packet_id for ack in acks if isinstance(ack, mqtt5.PubAckPacket)] == [1, 2, 3]
        assert server.seqs() == [1, 2, 3]
        assert json.dumps(server.gateway.counters())
        client.close()


def test_a_gateway_stops_although_its_log_takes_nothing(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db")

    def broken(_: list[object]) -> list[int]:
        raise ConnectError("the disk is full")

    log.append = broken  # type: ignore[assignment,method-assign]
    with Running(tmp_path, log=log, retry_us=20_000) as server:
        client = RawClient(server.port)
        client.send(mqtt5.PublishPacket("hw/1/north/pump-1/frame", frame(1), qos=QOS1, packet_id=1))
        until(lambda: server.gateway.counters().get("append_retries", 0) >= 1)
    got = client.next()
    assert isinstance(got, mqtt5.DisconnectPacket)
    assert int(got.reason_code) == 0x8B
    client.close()
    assert server.gateway.counters()["abandoned_messages"] >= 1
