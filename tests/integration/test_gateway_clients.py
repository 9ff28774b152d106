"""Clients that people have, against the gateway's own endpoint: paho, aiomqtt, mosquitto_pub, mosquitto_sub."""

import asyncio
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import aiomqtt
import mqtt5
import paho.mqtt.client as paho
import pytest
from gateway_server import RawClient, Running, frame, need, until
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from headwater import log_topics
from headwater.status import Status

pytestmark = pytest.mark.integration

FRAME = "hw/1/north/pump-1/frame"
JSON = "hw/1/north/esp-1/json"
STATUS = "hw/1/north/pump-1/status"


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with Running(tmp_path) as server:
        yield server


def paho_client(port: int, version: MQTTProtocolVersion, client_id: str = "paho") -> paho.Client:
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=version)
    client.will_set(STATUS, Status(online=False).to_json(), qos=1, retain=True)
    client.connect("127.0.0.1", port, keepalive=20)
    client.loop_start()
    return client


@pytest.mark.parametrize("version", [MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311])
def test_paho_publishes_and_every_frame_is_in_the_log_when_it_is_acknowledged(
    running: Running, version: MQTTProtocolVersion
) -> None:
    client = paho_client(running.port, version)
    sent = [client.publish(FRAME, frame(seq), qos=1) for seq in range(1, 101)]
    for message in sent:
        message.wait_for_publish(40)
        assert message.is_published()
    assert running.seqs() == list(range(1, 101))
    client.disconnect()
    client.loop_stop()


@pytest.mark.parametrize("version", [MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311])
def test_paho_gets_what_it_subscribes_to(running: Running, version: MQTTProtocolVersion) -> None:
    got: list[tuple[str, bytes, int, bool]] = []
    subscribed = threading.Event()
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="device", protocol=version)
    client.on_message = lambda _c, _u, message: got.append(
        (message.topic, message.payload, message.qos, message.retain)
    )
    client.on_subscribe = lambda *_: subscribed.set()
    client.connect("127.0.0.1", running.port)
    client.loop_start()
    client.subscribe([("hw/1/north/pump-1/command", 1), ("hw/1/north/pump-1/config", 1)])
    assert subscribed.wait(40)
    desk = paho_client(running.port, MQTTProtocolVersion.MQTTv5, "desk")
    desk.publish("hw/1/north/pump-1/command", b"{}", qos=1).wait_for_publish(40)
    desk.publish("hw/1/north/pump-1/config", b"[]", qos=0, retain=True).wait_for_publish(40)
    until(lambda: len(got) == 2)
    assert got == [
        ("hw/1/north/pump-1/command", b"{}", 1, False),
        ("hw/1/north/pump-1/config", b"[]", 0, False),
    ]
    for one in (client, desk):
        one.disconnect()
        one.loop_stop()


def test_a_killed_client_leaves_its_will(running: Running) -> None:
    client = paho_client(running.port, MQTTProtocolVersion.MQTTv5)
    status = Status(online=True, epoch=7, assigned=3, agent="1")
    client.publish(STATUS, status.to_json(), qos=1, retain=True).wait_for_publish(40)
    sock = client.socket()
    assert sock is not None
    client.loop_stop()
    sock.close()
    seen = []
    until(lambda: seen.append(1) or running.gateway.counters().get("broker_wills"))
    until(lambda: [s.online for batch in running.batches() for s in batch.statuses] == [True, False])
    events = [json.loads(record.value) for record in running.records(log_topics.EVENTS)]
    assert [(event["kind"], event["online"], event["epoch"]) for event in events] == [
        ("status", True, "7"),
        ("status", False, "0"),
    ]


def test_aiomqtt_publishes_and_subscribes(running: Running) -> None:
    async def talk() -> tuple[str, bytes]:
        async with aiomqtt.Client("127.0.0.1", running.port, protocol=aiomqtt.ProtocolVersion.V5) as client:
            await client.subscribe("hw/1/+/+/command", qos=1)
            for seq in range(1, 21):
                await client.publish(FRAME, frame(seq), qos=1)
            await client.publish("hw/1/north/pump-1/command", b"go", qos=1)
            async for message in client.messages:
                return str(message.topic), bytes(message.payload)
        raise AssertionError

    assert asyncio.run(talk()) == ("hw/1/north/pump-1/command", b"go")
    assert running.seqs() == list(range(1, 21))


@pytest.mark.parametrize("version", ["5", "311"])
def test_mosquitto_pub_is_acknowledged_and_its_json_is_in_the_log(running: Running, version: str) -> None:
    program = need("mosquitto_pub")
    command = [program, "-p", str(running.port), "-V", version, "-q", "1", "-t", JSON, "-m", '{"temp": 21.5}']
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    (batch,) = [batch for batch in running.batches() if len(batch)]
    assert (batch.metrics, batch.value.tolist(), batch.epoch.tolist()) == (("temp",), [21.5], [0])


@pytest.mark.parametrize("version", ["5", "311"])
def test_mosquitto_sub_gets_retained_and_live_messages(running: Running, version: str) -> None:
    program = need("mosquitto_sub")
    client = paho_client(running.port, MQTTProtocolVersion.MQTTv5)
    status = Status(online=True).to_json()
    client.publish(STATUS, status, qos=1, retain=True).wait_for_publish(40)
    command = [program, "-p", str(running.port), "-V", version, "-q", "1", "-t", "hw/1/+/+/status", "-t", FRAME]
    command += ["-C", "2", "-F", "%t %r %l", "-W", "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline().split() == [STATUS, "1", str(len(status))]
        client.publish(FRAME, frame(1), qos=1).wait_for_publish(40)
        assert reader.stdout.readline().split()[:2] == [FRAME, "0"]
        assert reader.wait(60) == 0
    client.disconnect()
    client.loop_stop()


def test_mosquitto_pub_with_mqtt_3_1_is_refused_clearly(running: Running) -> None:
    program = need("mosquitto_pub")
    command = [program, "-p", str(running.port), "-V", "31", "-q", "1", "-t", JSON, "-m", "{}"]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False, text=True)
    assert done.returncode != 0
    assert "unacceptable protocol version" in done.stderr
    until(lambda: running.gateway.counters().get("broker_refused_version") == 1)


def test_quality_2_is_said_to_be_unavailable(running: Running) -> None:
    program = need("mosquitto_pub")
    command = [program, "-p", str(running.port), "-V", "5", "-q", "2", "-t", JSON, "-m", "{}"]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False, text=True)
    assert "QoS not supported" in done.stderr
    assert running.records(log_topics.READINGS) == []


def test_a_session_is_taken_over_by_the_same_client(running: Running) -> None:
    lost = threading.Event()
    first = paho.Client(CallbackAPIVersion.VERSION2, client_id="same", protocol=MQTTProtocolVersion.MQTTv5)
    reasons: list[int] = []
    first.on_disconnect = lambda _c, _u, _f, reason, _p: (reasons.append(reason.value), lost.set())
    first.reconnect_delay_set(30, 30)
    first.connect("127.0.0.1", running.port)
    first.loop_start()
    until(first.is_connected)
    second = paho_client(running.port, MQTTProtocolVersion.MQTTv5, "same")
    assert lost.wait(40)
    assert reasons[0] == 0x8E
    for client in (first, second):
        client.disconnect()
        client.loop_stop()


def test_stopping_the_gateway_writes_that_its_clients_are_gone(tmp_path: Path) -> None:
    with Running(tmp_path) as server:
        client = paho_client(server.port, MQTTProtocolVersion.MQTTv5)
        client.publish(STATUS, Status(online=True).to_json(), qos=1, retain=True).wait_for_publish(40)
        server.call(server.gateway.stop())
        assert [s.online for batch in server.batches() for s in batch.statuses] == [True, False]
        client.loop_stop()
        server.gateway.stop = _nothing  # type: ignore[method-assign]


async def _nothing() -> None:
    """Stopped already."""


def test_messages_sent_in_one_piece_with_connect_are_served(running: Running) -> None:
    client = RawClient(running.port, connect=False)
    packets = [mqtt5.PublishPacket(FRAME, frame(n), qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=n) for n in (1, 2)]
    client.send(mqtt5.ConnectPacket("eager", clean_start=True), *packets)
    kinds = [type(client.next()).__name__ for _ in range(3)]
    assert kinds == ["ConnAckPacket", "PubAckPacket", "PubAckPacket"]
    client.close()


def test_a_connection_without_traffic_is_ended_after_its_keepalive(running: Running) -> None:
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="quiet", protocol=MQTTProtocolVersion.MQTTv311)
    client.connect("127.0.0.1", running.port, keepalive=1)
    client.loop_start()
    until(client.is_connected)
    time.sleep(2.5)
    assert client.is_connected(), "pings keep it alive"
    client.loop_stop()
    until(lambda: running.gateway.counters().get("broker_ended_keepalive") == 1)
