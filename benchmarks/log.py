"""The log on a real Kafka: what the adapter costs per record, against the bare client on the same broker in the same run.

    append: groups of a record per partition, waited for      │ peer: Producer.produce, then flush, the same settings
    read:   partitions in turn, 64 records at a time           │ peer: Consumer.consume(500) over all partitions at once

A record is what a gateway writes for 100 frames of 80 readings. CPU is user and system time of this process, the client's
own threads included; the broker shares the machine's cores and is not counted. Both sides alternate; figures are medians.
"""

import statistics
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

import headwater as hw
from benchmarks import _kafka
from headwater.batch_arrow import batch_to_arrow
from headwater.io.log_kafka import KafkaLog, KafkaLogReader
from headwater.io.log_kafka_client import KafkaOptions, LastError, make_producer
from headwater.log_topics import READINGS
from headwater.ports import LogRecord
from simulators.fleet import encoded_frames
from simulators.plant import Plant

PARTITIONS = 12
START_US = 1_700_000_000_000_000


def value() -> bytes:
    """A batch of 100 frames as the log holds it."""
    plant = Plant(seed=3, devices=100, start_us=START_US)
    frames = list(encoded_frames(plant, START_US, seconds=10, readings_per_frame=80))[:100]
    batch, rejects = hw.decode_batch(
        [hw.Arrival(*frame, START_US + 10_000_000) for frame in frames], shard=0, made_us=1
    )
    assert not rejects
    return batch_to_arrow(batch, compression="lz4")


def group(payload: bytes) -> list[LogRecord]:
    """A record per partition."""
    return [LogRecord(READINGS, partition, b"0", payload, START_US) for partition in range(PARTITIONS)]


def append(log: KafkaLog, payload: bytes, groups: int) -> None:
    """By the adapter."""
    for _ in range(groups):
        log.append(group(payload))


def append_bare(producer: Producer, topic: str, payload: bytes, groups: int) -> None:
    """By the client, with the same header and the same wait for each group."""
    left = [0]

    def delivered(error: object, _message: object) -> None:
        assert error is None
        left[0] -= 1

    for _ in range(groups):
        for partition in range(PARTITIONS):
            producer.produce(
                topic,
                payload,
                b"0",
                partition,
                on_delivery=delivered,
                headers=[("timestamp_us", str(START_US).encode())],
            )
        left[0] += PARTITIONS
        while left[0]:
            producer.poll(10)


def read(options: KafkaOptions, groups: int) -> None:
    """By the adapter, as the processor does."""
    log, at = KafkaLogReader(options), [0] * PARTITIONS
    while sum(at) < groups * PARTITIONS:
        for partition in range(PARTITIONS):
            at[partition] += len(log.read(READINGS, partition, at[partition], 64))
    log.close()


def read_bare(options: KafkaOptions, groups: int) -> None:
    """By the client, all partitions as they come."""
    consumer = Consumer({"bootstrap.servers": options.servers, "group.id": "bench", "enable.auto.commit": False})
    topic = options.kafka_topic(READINGS)
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
    got = 0
    while got < groups * PARTITIONS:
        messages = consumer.consume(500, 0.05)
        for message in messages:
            assert message.error() is None
            message.value(), message.key(), message.headers(), message.timestamp()
        got += len(messages)
    consumer.close()


def measure(work: Callable[[], None]) -> tuple[float, float]:
    """CPU and wall seconds."""
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu_s, time.perf_counter() - wall_s


def run(*, quick: bool = False) -> dict[str, Any]:
    """Alternates adapter and bare client."""
    groups, rounds = (40, 3) if quick else (150, 5)
    payload, count = value(), groups * PARTITIONS
    taken: dict[str, list[tuple[float, float]]] = {"append": [], "append_bare": [], "read": [], "read_bare": []}
    with tempfile.TemporaryDirectory(prefix="headwater-bench-log-") as folder, _kafka.running(Path(folder)) as url:
        for _ in range(rounds):
            prefix = f"b{uuid.uuid4().hex[:8]}."
            options = KafkaOptions(url.removeprefix("kafka://"), topic_prefix=prefix, partitions=PARTITIONS)
            with KafkaLog(options) as log:
                bare, topic = make_producer(options, LastError()), options.kafka_topic(READINGS)
                append(log, payload, 1)
                append_bare(bare, topic, payload, 1)
                taken["append"].append(measure(lambda: append(log, payload, groups)))
                taken["append_bare"].append(measure(lambda: append_bare(bare, topic, payload, groups)))  # noqa: B023
            taken["read"].append(measure(lambda: read(options, 2 * groups)))  # noqa: B023
            taken["read_bare"].append(measure(lambda: read_bare(options, 2 * groups)))  # noqa: B023
    cpu_s = {name: statistics.median(pair[0] for pair in pairs) for name, pairs in taken.items()}
    wall_s = {name: statistics.median(pair[1] for pair in pairs) for name, pairs in taken.items()}
    return {
        "figures": {
            "bytes_per_record": len(payload),
            "append_cpu_us_per_record": round(1e6 * cpu_s["append"] / count, 1),
            "append_records_per_s": round(count / wall_s["append"]),
            "read_cpu_us_per_record": round(1e6 * cpu_s["read"] / (2 * count), 1),
            "read_records_per_s": round(2 * count / wall_s["read"]),
        },
        "ratios": {
            "append_cpu_vs_bare_client": round(cpu_s["append"] / cpu_s["append_bare"], 2),
            "append_time_vs_bare_client": round(wall_s["append"] / wall_s["append_bare"], 2),
            "read_cpu_vs_bare_client": round(cpu_s["read"] / cpu_s["read_bare"], 2),
            "read_time_vs_bare_client": round(wall_s["read"] / wall_s["read_bare"], 2),
        },
    }
