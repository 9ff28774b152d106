"""CPU of the gateway per QoS 1 frame of 100 readings, beside an aiomqtt subscriber that only receives.

The measured process runs the gateway (or aiomqtt); frames are made beforehand and come from other processes, so that
only the receiver's CPU counts. `cpu_us_per_frame` holds everything: socket, MQTT, ledger, decode, Arrow, SQLite with
synchronous=FULL, PUBACK. `cpu_us_per_frame_mqtt` is the endpoint, sessions and ledger alone: messages are settled as
soon as they are read. `vs_aiomqtt` is aiomqtt's CPU per message over the gateway's whole CPU per frame, the median of
rounds that measure both one after the other: what else the machine does then weighs on both sides.
`vs_aiomqtt_receive_and_ack_alone` is the same over what the gateway spends on that job alone.

Where Mosquitto is installed (see `_gateway_broker.py`): `broker_cpu_us_per_frame` and `broker_frames_per_s` of the gateway that
subscribes at it, SQLite being the log. Where Kafka can be started too (`make kafka` fetches it): `broker_kafka_cpu_us_per_frame`
and `frames_per_s` of Mosquitto, gateway and Kafka together, decode and producer included, and the same of two bridges that
people write and that don't decode: `vs_paho_confluent` and `vs_aiomqtt_aiokafka` are their CPU over the gateway's.
"""

import asyncio
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiomqtt
import mqtt5
import numpy as np

from benchmarks import _gateway_broker as broker
from gateway.bridge import Gateway
from gateway.broker import Broker
from gateway.collector import rest_collector
from gateway.endpoint import Endpoint
from gateway.retained import RetainedMessages
from gateway.settings import GatewaySettings
from headwater.codec import encode_frame
from headwater.frame import Block, Frame
from headwater.io.clock_system import SystemClock
from headwater.io.log_sqlite import SqliteLog
from headwater.io.memory_glibc import keep_memory
from headwater.reasons import ClockQuality

DEVICES = 4
METRICS = 10
ROWS = 10
_LOAD = Path(__file__).with_name("_mqtt_load.py")


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


def write_load(folder: Path, frames: int, messages: int) -> None:
    """Writes what the players of a run send: `device-N` for the gateway, `broker` for aiomqtt."""
    for device in range(DEVICES):
        hello = [mqtt5.ConnectPacket(f"pump-{device}", clean_start=True).write()]
        (folder / f"device-{device}").write_bytes(pickle.dumps((hello, packets(device, frames // DEVICES))))
    # aiomqtt counts packet ids from 1.
    hello = [mqtt5.ConnAckPacket().write(), mqtt5.SubAckPacket(1, [mqtt5.SubAckReasonCode(1)]).write()]
    (folder / "broker").write_bytes(pickle.dumps((hello, packets(0, messages))))


class Player:
    """A process that plays a device or a broker."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(_LOAD), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    async def line(self) -> str:
        """The next line it says."""
        assert self._process.stdout is not None
        return (await asyncio.to_thread(self._process.stdout.readline)).strip()

    def go(self) -> None:
        """Lets it begin."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    async def end(self) -> None:
        """Waits for its end, which is a good one."""
        code = await asyncio.to_thread(self._process.wait)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        assert code == 0, f"a player ended with {code}"


async def _fed(folder: Path, port: int, count: int, done: Callable[[], int]) -> float:
    """Feeds the listener on `port` from other processes; returns CPU microseconds per frame of this process."""
    players = [Player("publish", str(folder / f"device-{device}"), str(port)) for device in range(DEVICES)]
    for player in players:
        assert await player.line() == "ready"
    await asyncio.sleep(0.1)
    before = time.process_time()
    for player in players:
        player.go()
    while done() < count:  # noqa: ASYNC110 — nothing here could set an event.
        await asyncio.sleep(0.01)
    for player in players:  # Ended means: every PUBACK has come.
        await player.end()
    return (time.process_time() - before) * 1e6 / count


async def measure_gateway(folder: Path, count: int) -> float:
    """CPU microseconds per frame of the whole gateway."""
    with tempfile.TemporaryDirectory() as data, SqliteLog(Path(data) / "log.db") as log:
        settings = GatewaySettings(port=0, partitions=4, rate_max_messages=10_000_000, rate_max_bytes=1 << 40)
        gateway = Gateway(settings, log, SystemClock(), None)
        port = await gateway.start()
        used_us = await _fed(folder, port, count, lambda: gateway.counters().get("admitted_frames", 0))
        assert gateway.counters()["dead_letters"] == 0
        await gateway.stop()
    return used_us


async def measure_mqtt(folder: Path, count: int) -> float:
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
    used_us = await _fed(folder, port, count, lambda: taken)
    await endpoint.close()
    return used_us


async def measure_aiomqtt(folder: Path, count: int) -> float:
    """CPU microseconds per message of an aiomqtt subscriber that receives, acknowledges and does nothing else."""
    broker = Player("serve", str(folder / "broker"))
    port = int(await broker.line())
    async with aiomqtt.Client("127.0.0.1", port, protocol=aiomqtt.ProtocolVersion.V5) as client:
        await client.subscribe("hw/1/+/+/frame", qos=1)
        assert await broker.line() == "ready"
        await asyncio.sleep(0.1)
        before = time.process_time()
        broker.go()
        received = 0
        async for _ in client.messages:
            received += 1
            if received == count:
                break
        used_us = (time.process_time() - before) * 1e6 / count
    await broker.end()
    return used_us


def run(*, quick: bool = False) -> dict[str, dict[str, float]]:
    """Measures all three in turn, several times; figures are medians over the rounds after the first."""
    rounds, frames, messages = (1, 8_000, 2_000) if quick else (7, 20_000, 4_000)
    # As `headwater gateway` does.
    rest_collector()
    keep_memory()
    got: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_load(folder, frames, messages)
        for number in range(rounds + 1):
            taken = {
                "cpu_us_per_frame": asyncio.run(measure_gateway(folder, frames)),
                "cpu_us_per_frame_mqtt": asyncio.run(measure_mqtt(folder, frames)),
                "aiomqtt_cpu_us_per_message": asyncio.run(measure_aiomqtt(folder, messages)),
            }
            taken["vs_aiomqtt"] = taken["aiomqtt_cpu_us_per_message"] / taken["cpu_us_per_frame"]
            taken["vs_aiomqtt_receive_and_ack_alone"] = (
                taken["aiomqtt_cpu_us_per_message"] / taken["cpu_us_per_frame_mqtt"]
            )
            for figure, value in taken.items() if number else ():
                got.setdefault(figure, []).append(value)
        more, more_ratios = broker.figures(folder, frames, 1 if quick else 5)
    figures = {figure: round(statistics.median(values), 2) for figure, values in got.items()}
    ratios = {figure: figures.pop(figure) for figure in ("vs_aiomqtt", "vs_aiomqtt_receive_and_ack_alone")}
    figures["cpu_us_per_frame_min"] = round(min(got["cpu_us_per_frame"]), 2)
    return {"figures": figures | more, "ratios": ratios | more_ratios}
