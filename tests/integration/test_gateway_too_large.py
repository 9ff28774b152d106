"""A log that refuses records as too large behind a real gateway: nobody waits, nothing vanishes, nothing crashes."""

import time
from pathlib import Path
from typing import Any

import mqtt5
import numpy as np
import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from gateway_server import RawClient, Running, frame, until
from kafka_server import options_of

from headwater import log_topics
from headwater.ack import parse_ack
from headwater.codec import encode_frame
from headwater.frame import Block, Frame
from headwater.io.log_kafka import KafkaLog
from headwater.io.log_memory import MemoryLog
from headwater.log_topics import READINGS
from headwater.reasons import ClockQuality

pytestmark = pytest.mark.integration
QOS1 = mqtt5.QoS.AT_LEAST_ONCE
SETTINGS = {"ack_level": "backbone", "store_poll_us": 20_000, "ack_every_us": 20_000}


def noise(seq: int, rows: int = 20_000) -> bytes:
    """A frame of readings that nothing can pack."""
    block = Block(
        ("a",), time.time_ns() // 1_000 - rows + np.arange(rows), np.random.default_rng(seq).random((1, rows))
    )
    return encode_frame(
        Frame("north", "pump-1", 77, seq, time.time_ns() // 1_000, ClockQuality.SYNCED, blocks=(block,))
    )


def send_ten(server: Running) -> bytes:
    """Frames 1 to 9 of one device, the fifth too large alone, and one frame of another; waits until all are durable.

    Returns the one that is too large.
    """
    device = RawClient(server.port, "device")
    device.send(mqtt5.SubscribePacket(1, [mqtt5.TopicFilter("hw/1/north/pump-1/ack")]))
    payloads = []
    for seq in range(1, 10):
        payloads.append(noise(seq) if seq == 5 else noise(seq, rows=2_000))
        device.send(mqtt5.PublishPacket("hw/1/north/pump-1/frame", payloads[-1], qos=QOS1, packet_id=seq))
    device.send(mqtt5.PublishPacket("hw/1/north/fan-1/frame", frame(1, device="fan-1"), qos=QOS1, packet_id=10))
    acknowledged, contiguous = [], 0
    while len(acknowledged) < 10 or contiguous < 9:
        got = device.next()
        assert got is not None, "the connection ended"
        if isinstance(got, mqtt5.PubAckPacket):
            acknowledged.append(got.packet_id)
        elif isinstance(got, mqtt5.PublishPacket):
            contiguous = parse_ack(got.payload).contiguous
    device.close()
    assert acknowledged == list(range(1, 11))
    return payloads[4]


def check(server: Running, refused: bytes) -> None:
    assert sorted(set(server.seqs())) == [1, 2, 3, 4, 6, 7, 8, 9]
    assert server.seqs("fan-1")[:1] == [1]
    letters = {(one.reason, one.seq, one.readings) for batch in server.batches() for one in batch.dead_letters}
    assert letters == {("too_large", 5, 20_000)}
    (record, *_) = server.records(log_topics.DEAD_LETTERS)
    is_original = record.value == refused[:65_536]
    assert is_original, "the first 64 KiB of what was sent"
    counters = server.gateway.counters()
    assert counters["append_cuts"] >= 1
    assert counters.get("failures", 0) == 0


def test_a_frame_that_the_log_takes_in_no_record_is_a_dead_letter_and_acknowledged(tmp_path: Path) -> None:
    with Running(tmp_path, log=MemoryLog(record_max_bytes=100_000), **SETTINGS) as server:
        check(server, send_ten(server))
        assert server.seqs() == [1, 2, 3, 4, 6, 7, 8, 9]


def test_a_log_that_takes_nothing_at_all_is_waited_for_and_acknowledges_nothing(tmp_path: Path) -> None:
    with Running(tmp_path, log=MemoryLog(record_max_bytes=1), retry_us=1_000) as server:
        device = RawClient(server.port)
        device.send(mqtt5.PublishPacket("hw/1/north/pump-1/frame", frame(1), qos=QOS1, packet_id=1))
        until(lambda: server.gateway.counters().get("append_retries", 0) > 3)
        assert server.gateway.counters()["connections"] == 1
        assert server.gateway.counters().get("committed_messages", 0) == 0
        device.close()


def test_kafka_gets_smaller_records_than_our_own_limit(kafka: Any, tmp_path: Path) -> None:
    log = KafkaLog(options_of(kafka, message_max_bytes=100_000, append_timeout_s=10.0))
    with Running(tmp_path, log=log, **SETTINGS) as server:
        check(server, send_ten(server))


def test_kafka_gets_smaller_records_than_a_topic_that_was_changed_under_us(kafka: Any, tmp_path: Path) -> None:
    options = options_of(kafka, append_timeout_s=10.0)
    log = KafkaLog(options)
    topic = options.kafka_topic(READINGS)
    resource = ConfigResource(
        ResourceType.TOPIC,
        topic,
        incremental_configs=[ConfigEntry("max.message.bytes", "100000", incremental_operation=AlterConfigOpType.SET)],
    )
    admin = AdminClient({"bootstrap.servers": options.servers})
    for future in admin.incremental_alter_configs([resource]).values():
        future.result()
    with Running(tmp_path, log=log, **SETTINGS) as server:
        check(server, send_ten(server))
