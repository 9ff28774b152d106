"""CPU of the gateway per QoS 1 frame of 100 readings, beside an aiomqtt subscriber that only receives.

The measured process runs the gateway (or aiomqtt); frames come from another process, so that only the receiver's CPU
counts. `cpu_us_per_frame` holds everything: socket, MQTT, ledger, decode, Arrow, SQLite with synchronous=FULL, PUBACK.
`cpu_us_per_frame_mqtt` is the endpoint, sessions and ledger alone: messages are settled as soon as they are read.
`vs_aiomqtt` is aiomqtt's CPU per message over the gateway's whole CPU per frame.
"""

import asyncio
import multiprocessing
import socket
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiomqtt
import mqtt5
import numpy as np

from gateway.bridge import Gateway
from gateway.broker import Broker
from gateway.endpoint import Endpoint
from gateway.retained import RetainedMessages
from gateway.settings import GatewaySettings
from headwater.codec import encode_frame
from headwater.frame import Block, Frame
from headwater.io.clock_system import SystemClock
from headwater.io.log_sqlite import SqliteLog
from headwater.reasons import ClockQuality

DEVICES = 4
METRICS = 10
ROWS = 10
WINDOW = 2000
_SPAWN = multiprocessing.get_context("spawn")


def packets(device: int, count: int) -> list[bytes]:
    """PUBLISH packets of one device, with its frames of 100 readings."""
    generator = np.random.default_rng(device)
    names = tuple(f"metric_{number}" for number in range(METRICS))
    start_us = time.time_ns() // 1_000 - count * 1_000_000
    mqtt_topic = f"hw/1/plant/pump-{device}/frame"
    made = []
    for number in range(count):
        time_us = start_us + number * 1_000_000 + np.arange(ROWS) * 100_000
        value = np.round(50 + generator.normal(0, 1, (METRICS, ROWS)), 2)
        frame = Frame(
            "plant",
            f"pump-{device}",
            1000 + device,
            number + 1,
            int(time_us[-1]),
            ClockQuality.SYNCED,
            blocks=(Block(names, time_us, value),),
        )
        packet = mqtt5.PublishPacket(
            mqtt_topic, encode_frame(frame), qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=number % 60_000 + 1
        )
        made.append(packet.write())
    return made


def publish(port: int, device: int, count: int, ready: Any, go: Any) -> None:
    """Plays one device in a process of its own: connects, waits for the word, publishes with a window, ends acked."""
    made = packets(device, count)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(mqtt5.ConnectPacket(f"pump-{device}", clean_start=True).write())
        connection.recv(4096)
        ready.release()
        go.wait()
        sent = acked = acked_bytes = 0
        while acked < count:
            room = min(count, acked + WINDOW)
            if sent < room:
                connection.sendall(b"".join(made[sent:room]))
                sent = room
            acked_bytes += len(connection.recv(65_536))
            acked = acked_bytes // 4


def serve(port_sent: Any, count: int, go: Any) -> None:
    """Plays a broker with one subscriber in a process of its own: sends frames with a window and counts PUBACKs."""
    made = packets(0, count)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port_sent.send(server.getsockname()[1])
        connection, _ = server.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection:
            connection.recv(4096)
            connection.sendall(mqtt5.ConnAckPacket().write())
            got, _ = mqtt5.read(memoryview(connection.recv(4096)))
            connection.sendall(mqtt5.SubAckPacket(got.packet_id, [mqtt5.SubAckReasonCode(1)]).write())
            go.wait()
            sent = acked_bytes = 0
            while acked_bytes // 4 < count:
                room = min(count, acked_bytes // 4 + WINDOW)
                if sent < room:
                    connection.sendall(b"".join(made[sent:room]))
                    sent = room
                acked_bytes += len(connection.recv(65_536))
            connection.recv(4096)


async def _until(is_true: Callable[[], bool]) -> None:
    """Waits for what other processes do; nothing here could set an event."""
    while not is_true():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def _fed(port: int, count: int, done: Callable[[], int]) -> float:
    """Feeds the listener on `port` from other processes; returns CPU microseconds per frame of this process."""
    ready, go = _SPAWN.Semaphore(0), _SPAWN.Event()
    share = count // DEVICES
    players = [_SPAWN.Process(target=publish, args=(port, device, share, ready, go)) for device in range(DEVICES)]
    for player in players:
        player.start()
    for _ in players:
        await _until(lambda: ready.acquire(block=False))
    await asyncio.sleep(0.2)
    before = time.process_time()
    go.set()
    await _until(lambda: done() >= share * DEVICES)
    used_us = (time.process_time() - before) * 1e6 / (share * DEVICES)
    for player in players:
        await _until(lambda player=player: not player.is_alive())  # type: ignore[misc]
        assert player.exitcode == 0
    return used_us


async def measure_gateway(count: int) -> float:
    """CPU microseconds per frame of the whole gateway."""
    with tempfile.TemporaryDirectory() as folder, SqliteLog(Path(folder) / "log.db") as log:
        settings = GatewaySettings(port=0, partitions=4, rate_max_messages=10_000_000, rate_max_bytes=1 << 40)
        gateway = Gateway(settings, log, SystemClock(), None)
        port = await gateway.start()
        used_us = await _fed(port, count, lambda: gateway.counters().get("admitted_frames", 0))
        assert gateway.counters()["dead_letters"] == 0
        await gateway.stop()
    return used_us


async def measure_mqtt(count: int) -> float:
    """CPU microseconds per frame of endpoint, sessions and ledger: no decode, no log."""
    settings = GatewaySettings(port=0, partitions=4, rate_max_messages=10_000_000, rate_max_bytes=1 << 40)
    broker = Broker(
        partitions=4, subscriptions_max=10, retained=RetainedMessages(10, 10_000), dead_letter_max_bytes=1024
    )
    taken = 0

    def settle_all() -> None:
        nonlocal taken
        inbound, broker.inbound = broker.inbound, []
        broker.notes.clear()
        owed: dict[Any, list[int]] = {}
        for message in inbound:
            owed.setdefault(message.session, []).append(message.ticket)
        taken += len(inbound)
        for session, tickets in owed.items():
            session.settle(tickets)
            endpoint.settled(session)

    endpoint = Endpoint(settings, broker, SystemClock(), settle_all)
    port = await endpoint.start()
    used_us = await _fed(port, count, lambda: taken)
    await endpoint.close()
    return used_us


async def measure_aiomqtt(count: int) -> float:
    """CPU microseconds per message of an aiomqtt subscriber that receives, acknowledges and does nothing else."""
    here, there = _SPAWN.Pipe(duplex=False)
    go = _SPAWN.Event()
    broker = _SPAWN.Process(target=serve, args=(there, count, go))
    broker.start()
    await _until(here.poll)
    async with aiomqtt.Client("127.0.0.1", here.recv(), protocol=aiomqtt.ProtocolVersion.V5) as client:
        await client.subscribe("hw/1/+/+/frame", qos=1)
        await asyncio.sleep(0.2)
        before = time.process_time()
        go.set()
        received = 0
        async for _ in client.messages:
            received += 1
            if received == count:
                break
        used_us = (time.process_time() - before) * 1e6 / count
    await _until(lambda: not broker.is_alive())
    return used_us


def run(*, quick: bool = False) -> dict[str, dict[str, float]]:
    """Measures all three in turn, several times; figures are medians."""
    rounds, frames, messages = (1, 8_000, 2_000) if quick else (5, 40_000, 8_000)
    measures: dict[str, tuple[Callable[[int], Awaitable[float]], int]] = {
        "cpu_us_per_frame": (measure_gateway, frames),
        "cpu_us_per_frame_mqtt": (measure_mqtt, frames),
        "aiomqtt_cpu_us_per_message": (measure_aiomqtt, messages),
    }
    got: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(rounds):
        for name, (measure, count) in measures.items():
            got[name].append(asyncio.run(measure(count)))  # type: ignore[arg-type]
    figures = {name: round(statistics.median(values), 2) for name, values in got.items()}
    ratio = figures["aiomqtt_cpu_us_per_message"] / figures["cpu_us_per_frame"]
    return {"figures": figures, "ratios": {"vs_aiomqtt": round(ratio, 2)}}
