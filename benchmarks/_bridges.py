"""Bridges from a Mosquitto to a log, each a process of its own: `python _bridges.py NAME MQTT_PORT LOG COUNT`.

    headwater              the gateway, decoding; LOG is kafka://HOST:PORT/PREFIX or a folder for a SQLite log
    paho_confluent         paho-mqtt with manual acks, confluent-kafka; the raw payload as the record
    aiomqtt_aiokafka       aiomqtt with manual acks, aiokafka; the raw payload as the record

All give the same guarantee: QoS 1, and the PUBACK only after the log has the message (Kafka: idempotent, acks=all). All ask for 2000
messages at a time and find COUNT of them waiting in their session. A bridge says `ready` on stdout once it is connected to the
log, begins at a line on stdin, and prints CPU and wall seconds when all are acknowledged. CPU is user and system time of
the process, threads of client libraries included, from the connection to Mosquitto on.
"""
# ruff: noqa: PLC0415 — a bridge loads what it uses and nothing of the others.

import asyncio
import contextlib
import json
import sys
import time
from pathlib import Path
from typing import Any

SESSION = "bridge"
MQTT_FILTER = "hw/1/+/+/frame"
RECEIVE_MAX = 2000
KAFKA_TOPIC = "peer.frames"
SETTLE_S = 0.3


def ready() -> None:
    """Says so and waits for the start."""
    print("ready", flush=True)
    sys.stdin.readline()


def done(cpu_s: float, wall_s: float) -> None:
    """Prints the result."""
    print(json.dumps({"cpu_s": cpu_s, "wall_s": wall_s}), flush=True)


async def headwater(port: int, log_url: str, count: int) -> None:
    from gateway.bridge import Gateway
    from gateway.collector import rest_collector
    from gateway.settings import GatewaySettings
    from headwater.io.clock_system import SystemClock
    from headwater.io.memory_glibc import keep_memory

    if log_url.startswith("kafka://"):
        from headwater.io.log_kafka import KafkaLog
        from headwater.io.log_kafka_client import KafkaOptions

        servers, _, prefix = log_url.removeprefix("kafka://").partition("/")
        log: Any = KafkaLog(KafkaOptions(servers, topic_prefix=prefix, partitions=12))
    else:
        from headwater.io.log_sqlite import SqliteLog

        log = SqliteLog(Path(log_url) / "log.db")
    settings = GatewaySettings(
        mqtt=f"mqtt://127.0.0.1:{port}",
        mqtt_client_id=SESSION,
        partitions=12,
        ack_level="backbone",
        receive_max=RECEIVE_MAX,
    )
    # As `headwater gateway` does.
    rest_collector()
    keep_memory()
    gateway = Gateway(settings, log, SystemClock(), None)
    await gateway.start()
    # It has read the end of the log, and connects to Mosquitto as soon as the loop goes on.
    ready()
    cpu, wall = time.process_time(), time.perf_counter()
    while (counters := gateway.counters()).get("committed_messages", 0) < count or counters["in_flight"]:  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    done(time.process_time() - cpu, time.perf_counter() - wall)
    assert counters["admitted_frames"] >= count, counters
    assert counters["dead_letters"] == 0, counters
    await gateway.stop()
    log.close()


def paho_confluent(port: int, log_url: str, count: int) -> None:
    import paho.mqtt.client as paho
    from confluent_kafka import Producer
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties

    producer = Producer(
        {"bootstrap.servers": log_url.removeprefix("kafka://"), "enable.idempotence": True, "linger.ms": 5}
    )
    producer.list_topics(KAFKA_TOPIC, timeout=30)
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=SESSION, protocol=5, manual_ack=True)
    acked = 0

    def on_message(client: Any, _userdata: object, message: Any) -> None:
        mid, qos = message.mid, message.qos

        def delivered(error: object, _record: object) -> None:
            nonlocal acked
            assert error is None
            client.ack(mid, qos)
            acked += 1

        device = message.topic.split("/")[3].encode()
        producer.produce(KAFKA_TOPIC, message.payload, device, on_delivery=delivered)

    client.on_message = on_message
    properties = Properties(PacketTypes.CONNECT)
    properties.ReceiveMaximum, properties.SessionExpiryInterval = RECEIVE_MAX, 3600
    ready()
    cpu, wall = time.process_time(), time.perf_counter()
    client.connect("127.0.0.1", port, clean_start=False, properties=properties)
    while acked < count:
        # One thread and no look at the clock between messages: the least CPU that paho's own loop allows.
        client.loop(0.005)
        producer.poll(0)
    done(time.process_time() - cpu, time.perf_counter() - wall)
    end = time.monotonic() + SETTLE_S
    while time.monotonic() < end:
        client.loop(0.05)
    client.disconnect()


async def aiomqtt_aiokafka(port: int, log_url: str, count: int) -> None:
    import aiomqtt
    from aiokafka import AIOKafkaProducer
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties

    producer = AIOKafkaProducer(
        bootstrap_servers=log_url.removeprefix("kafka://"), enable_idempotence=True, acks="all", linger_ms=5
    )
    await producer.start()
    properties = Properties(PacketTypes.CONNECT)
    properties.ReceiveMaximum, properties.SessionExpiryInterval = RECEIVE_MAX, 3600
    client = aiomqtt.Client(
        "127.0.0.1",
        port,
        identifier=SESSION,
        protocol=aiomqtt.ProtocolVersion.V5,
        clean_start=False,
        properties=properties,
    )
    # aiomqtt 2 has no manual acks; the paho client inside it does.
    inner = client._client  # noqa: SLF001
    inner.manual_ack_set(True)
    acked, all_acked = 0, asyncio.Event()

    def delivered(mid: int, future: Any) -> None:
        nonlocal acked
        future.result()
        inner.ack(mid, 1)
        acked += 1
        if acked >= count:
            all_acked.set()

    ready()
    cpu, wall = time.process_time(), time.perf_counter()
    async with client:

        async def take() -> None:
            async for message in client.messages:
                device = message.topic.value.split("/")[3].encode()
                future = await producer.send(KAFKA_TOPIC, message.payload, device)
                mid = message.mid
                future.add_done_callback(lambda future, mid=mid: delivered(mid, future))

        taking = asyncio.create_task(take())
        await all_acked.wait()
        done(time.process_time() - cpu, time.perf_counter() - wall)
        await asyncio.sleep(SETTLE_S)
        taking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await taking
    await producer.stop()


if __name__ == "__main__":
    name, port, log_url, count = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    if name == "headwater":
        asyncio.run(headwater(port, log_url, count))
    elif name == "paho_confluent":
        paho_confluent(port, log_url, count)
    else:
        asyncio.run(aiomqtt_aiokafka(port, log_url, count))
