"""The gateway behind a real Mosquitto, with SQLite or a real Kafka as the log, beside bridges that people write.

    load ─▶ Mosquitto, session of the bridge ─▶ bridge, a process of its own ─▶ log ─▶ PUBACK

Every run begins with all frames waiting in the session and ends when all are acknowledged, so the rate is what the bridge
takes, Mosquitto and the log sharing the machine with it. Afterwards nothing may be left in the session: a bridge whose acks
trail behind would look better than it is.
"""

import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import mqtt5
from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks import _kafka
from benchmarks._bridges import KAFKA_TOPIC, MQTT_FILTER, SESSION

DEVICES = 4
_BRIDGES = Path(__file__).with_name("_bridges.py")
_LOAD = Path(__file__).with_name("_mqtt_load.py")


def program() -> str | None:
    """The path of Mosquitto, None where it is not installed."""
    return shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin")


@contextlib.contextmanager
def mosquitto(folder: Path) -> Iterator[int]:
    """Runs a Mosquitto without persistence and without bounds of its own; gives its port."""
    path = program()
    assert path is not None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    conf = folder / "mosquitto.conf"
    conf.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\n"
        "max_inflight_messages 0\nmax_queued_messages 0\nlog_type none\n"
    )
    process = subprocess.Popen([path, "-c", str(conf)])
    try:
        while True:
            with contextlib.suppress(OSError), Line(port, "probe"):
                break
            time.sleep(0.02)
        yield port
    finally:
        process.terminate()
        process.wait()


class Line:
    """A short conversation with a broker in MQTT 5."""

    def __init__(self, port: int, client_id: str, *, expiry_s: int = 0, clean: bool = True) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._data = b""
        connect = mqtt5.ConnectPacket(client_id, clean_start=clean, session_expiry_interval=expiry_s)
        self.ask(connect, mqtt5.ConnAckPacket)

    def ask(self, packet: Any, answer: type) -> list[Any]:
        """Sends a packet and returns what comes before its answer."""
        self._socket.sendall(packet.write())
        before = []
        while True:
            with contextlib.suppress(IndexError):
                got, size = mqtt5.read(memoryview(self._data))
                self._data = self._data[size:]
                if isinstance(got, answer):
                    return before
                before.append(got)
                continue
            data = self._socket.recv(65_536)
            assert data, "the broker hung up"
            self._data += data

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.sendall(mqtt5.DisconnectPacket().write())
        self._socket.close()


def make_session(port: int) -> None:
    """Makes the session that the bridge will find."""
    with Line(port, SESSION, expiry_s=3600) as line:
        wanted = mqtt5.TopicFilter(MQTT_FILTER, max_qos=mqtt5.QoS.AT_LEAST_ONCE)
        line.ask(mqtt5.SubscribePacket(1, [wanted]), mqtt5.SubAckPacket)


def end_session(port: int) -> int:
    """Ends the session; returns how many messages were still in it."""
    with Line(port, SESSION, expiry_s=3600, clean=False) as line:
        left = line.ask(mqtt5.PingReqPacket(), mqtt5.PingRespPacket)
    with Line(port, SESSION):
        return sum(isinstance(packet, mqtt5.PublishPacket) for packet in left)


def fill(folder: Path, port: int) -> None:
    """Publishes the frames of all devices, at the same time."""
    players = [
        subprocess.Popen(
            [sys.executable, "-I", str(_LOAD), "publish", str(folder / f"device-{device}"), str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        for device in range(DEVICES)
    ]
    for player in players:
        player.communicate(b"go\n")
        assert player.returncode == 0


def measure(name: str, folder: Path, port: int, log_url: str, count: int) -> dict[str, float]:
    """CPU microseconds per frame and frames per second of one bridge on `count` frames that wait."""
    make_session(port)
    fill(folder, port)
    command = [sys.executable, "-m", "benchmarks._bridges", name, str(port), log_url, str(count)]
    bridge = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=_BRIDGES.parents[1]
    )
    assert bridge.stdin is not None
    assert bridge.stdout is not None
    assert bridge.stdout.readline() == "ready\n", f"{name} did not get ready"
    bridge.stdin.write("go\n")
    bridge.stdin.flush()
    took = json.loads(bridge.stdout.readline())
    bridge.communicate(timeout=60)
    assert bridge.returncode == 0, f"{name} ended with {bridge.returncode}"
    left = end_session(port)
    assert left == 0, f"{name} left {left} messages unacknowledged"
    return {"cpu_us_per_frame": took["cpu_s"] * 1e6 / count, "frames_per_s": count / took["wall_s"]}


@contextlib.contextmanager
def kafka(folder: Path) -> Iterator[str]:
    """Runs a Kafka of one node with the peers' topic; gives its URL."""
    with _kafka.running(folder) as url:
        admin = AdminClient({"bootstrap.servers": url.removeprefix("kafka://")})
        topic = NewTopic(KAFKA_TOPIC, 12, 1, config={"retention.ms": "-1"})
        for made in admin.create_topics([topic]).values():
            made.result(30)
        yield url


def figures(folder: Path, count: int, rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    """Figures and ratios, medians over rounds after the first; none where there is no Mosquitto, fewer without a Kafka."""
    if program() is None:
        return {}, {}
    got: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(mosquitto(folder))
        url = stack.enter_context(kafka(folder)) if not _kafka.lacking() else ""
        for number in range(rounds + 1):
            with tempfile.TemporaryDirectory() as data:
                sqlite = measure("headwater", folder, port, data, count)
            taken = {f"broker_{name}": value for name, value in sqlite.items()}
            if url:
                taken |= _on_kafka(folder, port, url, count, number)
            for name, value in taken.items() if number else ():
                got.setdefault(name, []).append(value)
    medians = {name: round(statistics.median(values), 2) for name, values in got.items()}
    ratios = {name: medians.pop(name) for name in list(medians) if name.startswith("vs_")}
    return medians, ratios


def _on_kafka(folder: Path, port: int, url: str, count: int, number: int) -> dict[str, float]:
    """One round with Kafka as the log: all bridges one after the other, the gateway in topics of its own."""
    ours = measure("headwater", folder, port, f"{url}/round-{number}.", count)
    taken = {"broker_kafka_cpu_us_per_frame": ours["cpu_us_per_frame"], "frames_per_s": ours["frames_per_s"]}
    for name in ("paho_confluent", "aiomqtt_aiokafka"):
        peer = measure(name, folder, port, url, count)
        taken[f"{name}_cpu_us_per_message"] = peer["cpu_us_per_frame"]
        taken[f"{name}_messages_per_s"] = peer["frames_per_s"]
        taken[f"vs_{name}"] = peer["cpu_us_per_frame"] / ours["cpu_us_per_frame"]
    return taken
