"""Devices that announce themselves in Home Assistant's way, by paho, at a real Mosquitto that the gateway subscribes to."""

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import mqtt5
import paho.mqtt.client as paho
import pytest
from gateway_server import PARTITIONS, Running, until
from mosquitto_server import Mosquitto, free_port
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from headwater import log_topics
from headwater.batch_arrow import batch_from_arrow
from headwater.errors import ConnectError
from headwater.io.log_sqlite import SqliteLogReader
from headwater.ports import Log

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
ADMITS = {"home_assistant_devices": True, "reconnect_min": "20ms"}
NO_SUBSCRIBER = 0x10


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path) as server:
        yield server


class Device:
    """A device of Home Assistant's kind; everything it says is acknowledged by the broker before it goes on."""

    def __init__(self, broker: Mosquitto, node: str = "porch", *, has_will: bool = False) -> None:
        self.node = node
        self._has_will = has_will
        self.client = paho.Client(CallbackAPIVersion.VERSION2, client_id=node, protocol=MQTTProtocolVersion.MQTTv311)
        if has_will:
            # At QoS 0, as most of them do it: no broker keeps that for a gateway that is away, but for its being retained.
            self.client.will_set(f"{node}/status", b"offline", qos=0, retain=True)
        self.client.connect("127.0.0.1", broker.port, keepalive=20)
        self.client.loop_start()

    def say(self, topic: str, payload: bytes | str, *, retain: bool = False) -> None:
        self.client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(40)

    def announce(self, sensor: str, **more: Any) -> None:
        told = {"~": self.node, "stat_t": f"~/{sensor}", **more}
        if self._has_will:
            told["avty_t"] = "~/status"
        self.say(f"homeassistant/sensor/{self.node}/{sensor}/config", json.dumps(told), retain=True)

    def withdraw(self, sensor: str) -> None:
        self.say(f"homeassistant/sensor/{self.node}/{sensor}/config", b"", retain=True)

    def cut(self) -> None:
        """Dies without a goodbye."""
        sock = self.client.socket()
        assert sock is not None
        self.client.loop_stop()
        sock.close()

    def stop(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def values(log: Log | SqliteLogReader, metric: str, device: str = "porch") -> list[float]:
    """The readings of a metric, in the order of the log."""
    return [
        value
        for partition in range(PARTITIONS)
        for record in log.read(log_topics.READINGS, partition, 0, 100_000)
        for batch in [batch_from_arrow(record.value)]
        if ("home", device) in batch.devices
        for name, value in zip((batch.metrics[at] for at in batch.metric), batch.value.tolist(), strict=True)
        if name == metric
    ]


def statuses(server: Running) -> list[bool]:
    return [status.online for batch in server.batches() for status in batch.statuses if status.device == "porch"]


def is_heard(broker: Mosquitto, topic: str) -> bool:
    """Tells whether anybody subscribes to a topic, as MQTT 5 tells a publisher."""
    client = broker.client("asks")
    client.send(mqtt5.PublishPacket(topic, b"unknown", qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=1))
    answer = client.next()
    assert isinstance(answer, mqtt5.PubAckPacket)
    client.close()
    return int(answer.reason_code) != NO_SUBSCRIBER


@contextmanager
def gateway_process(folder: Path, broker: Mosquitto, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
    """A gateway as a process of its own, for kill -9."""
    told = {"partitions": str(PARTITIONS), "home_assistant_devices": "true", "mqtt": f'"{broker.url}"', **settings}
    command = [sys.executable, "-m", "headwater", "gateway", "--data", str(folder)]
    for name, value in told.items():
        command += ["--set", f"gateway.{name}={value}"]
    with (folder / "messages.txt").open("ab") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=sink, cwd=ROOT)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


def values_in(folder: Path, metric: str) -> list[float]:
    try:
        with closing(SqliteLogReader(folder / "log.db")) as log:
            return values(log, metric)
    except ConnectError:
        return []


def letters_in(folder: Path) -> list[dict[str, str]]:
    with closing(SqliteLogReader(folder / "log.db")) as log:
        return [
            dict(record.headers)
            for partition in range(PARTITIONS)
            for record in log.read(log_topics.DEAD_LETTERS, partition, 0, 1000)
        ]


def test_a_device_that_announces_itself_is_read_and_its_will_takes_it_offline(
    tmp_path: Path, broker: Mosquitto
) -> None:
    early = Device(broker, "early")
    early.announce("temp", val_tpl="{{ value_json.temp }}")
    early.say("early/temp", b'{"temp": 3.5}', retain=True)
    with Running(tmp_path, mqtt=broker.url, **ADMITS) as server:
        until(lambda: values(server.log, "temp", "early") == [3.5])
        device = Device(broker, has_will=True)
        device.announce("temp")
        device.announce("hum", stat_t="~/all", val_tpl="{{ value_json.hum }}")
        device.announce("dew", stat_t="~/all", val_tpl="{{ value_json.dew }}")
        device.say("porch/status", b"online", retain=True)
        until(lambda: statuses(server) == [True])
        until(lambda: all(is_heard(broker, f"porch/{topic}") for topic in ("temp", "all", "status")))
        for number in range(20):
            device.say("porch/temp", str(number))
        device.say("porch/all", b'{"hum": 61, "dew": 9.5}')
        until(lambda: values(server.log, "dew") == [9.5])
        assert values(server.log, "temp") == [float(number) for number in range(20)]
        assert values(server.log, "hum") == [61.0], "two sensors on one topic share a subscription"
        device.cut()
        until(lambda: statuses(server) == [True, False])
        counters = server.gateway.counters()
        assert counters["dead_letters"] == 1, "one of those who asked was no JSON"
        assert counters["filters_refused"] == 0
    early.stop()


def test_a_gateway_that_is_killed_loses_nothing_of_what_waits_for_it(tmp_path: Path, broker: Mosquitto) -> None:
    """More waits than may be on its way at once, so the announcements can't come first on the session itself."""
    device = Device(broker)
    device.announce("temp")
    device.announce("hum")
    sent = 0

    def say() -> None:
        nonlocal sent
        sent += 1
        device.say("porch/temp", str(sent))
        device.say("porch/hum", str(-sent))

    with gateway_process(tmp_path, broker, receive_max="10") as process:
        until(lambda: say() or values_in(tmp_path, "temp"))
        begun = int(values_in(tmp_path, "temp")[0])
        for _ in range(50):
            say()
        process.send_signal(signal.SIGKILL)
        process.wait()
    for _ in range(100):
        say()
    with gateway_process(tmp_path, broker, receive_max="10"):
        until(lambda: len(set(values_in(tmp_path, "temp"))) == sent - begun + 1)
        until(lambda: len(set(values_in(tmp_path, "hum"))) >= sent - begun)
        say()
        until(lambda: values_in(tmp_path, "hum")[-1:] == [float(-sent)])
    for metric, sign in (("temp", 1), ("hum", -1)):
        found = values_in(tmp_path, metric)
        first = list(dict.fromkeys(found))
        assert first == sorted(first, key=abs), "in the order sent, repetitions apart"
        assert {sign * number for number in range(begun + 1, sent + 1)} <= set(found)
    assert letters_in(tmp_path) == []
    device.stop()


def test_a_broker_that_lost_everything_is_asked_again_for_what_is_known(tmp_path: Path, broker: Mosquitto) -> None:
    device = Device(broker)
    device.announce("temp")
    with Running(tmp_path, mqtt=broker.url, **ADMITS) as server:
        until(lambda: is_heard(broker, "porch/temp"))
        broker.kill(wipe=True)
        broker.start()
        until(lambda: server.gateway.counters()["sessions_lost"] == 1)
        until(lambda: is_heard(broker, "porch/temp"))
        until(device.client.is_connected)
        device.say("porch/temp", b"1")
        until(lambda: values(server.log, "temp") == [1.0])
        broker.kill(wipe=True)
    broker.start()
    with Running(tmp_path, mqtt=broker.url, **ADMITS) as server:
        assert not is_heard(broker, "porch/temp"), "who starts anew at an empty broker knows of nobody"
        until(device.client.is_connected)
        device.announce("temp")
        until(lambda: is_heard(broker, "porch/temp"))
        device.say("porch/temp", b"2")
        until(lambda: values(server.log, "temp") == [1.0, 2.0])
    device.stop()


def test_what_is_withdrawn_or_moved_is_not_subscribed_to_any_more(tmp_path: Path, broker: Mosquitto) -> None:
    device = Device(broker)
    with Running(tmp_path, mqtt=broker.url, **ADMITS) as server:
        device.announce("temp")
        device.announce("hum")
        until(lambda: is_heard(broker, "porch/temp") and is_heard(broker, "porch/hum"))
        device.announce("hum", stat_t="~/humidity")
        until(lambda: is_heard(broker, "porch/humidity"))
        device.withdraw("temp")
        until(lambda: not is_heard(broker, "porch/temp"))
        assert not is_heard(broker, "porch/hum")
        device.announce("temp")
        until(lambda: is_heard(broker, "porch/temp"))
        device.say("porch/temp", b"5")
        until(lambda: values(server.log, "temp") == [5.0])
    device.withdraw("temp")
    device.withdraw("hum")
    with Running(tmp_path, mqtt=broker.url, **ADMITS) as server:
        device.say("porch/temp", b"6")
        until(lambda: not is_heard(broker, "porch/temp"))
        assert values(server.log, "temp") == [5.0]
        assert server.gateway.counters()["announced_entities"] == 0
    with Running(tmp_path, mqtt=broker.url, home_assistant_devices=False) as server:
        device.announce("temp")
        until(lambda: server.gateway.counters()["dead_letters"] >= 1)
        until(lambda: not is_heard(broker, "homeassistant/sensor/porch/temp/config"))
    device.stop()


def test_what_gateways_tell_home_assistant_are_no_devices(tmp_path: Path, broker: Mosquitto) -> None:
    other = tmp_path / "other"
    other.mkdir()
    device = Device(broker)
    with Running(tmp_path, mqtt=broker.url, home_assistant=True, **ADMITS) as server:
        device.say("hw/1/north/esp/json", b'{"a": 1}')
        until(lambda: server.gateway.counters().get("home_assistant_discoveries") == 1)
        settings = {"mqtt_client_id": "other", "sites": ["home"], **ADMITS}
        with Running(other, mqtt=broker.url, **settings) as second:
            until(lambda: second.gateway.counters().get("announced_gateways", 0) >= 1)
            assert second.gateway.counters()["announced_entities"] == 0
            assert second.gateway.counters()["dead_letters"] == 0
        device.announce("temp")
        until(lambda: server.gateway.counters()["announced_entities"] == 1)
        assert server.gateway.counters().get("announced_gateways", 0) == 0, "its own are not even sent to it"
        assert server.gateway.counters()["dead_letters"] == 0
    device.stop()


def test_hundreds_of_sensors_are_learned_from_a_mosquitto_as_it_comes(tmp_path: Path) -> None:
    """Its own window is 20 and its queue 1000; what has waited comes after the announcements all the same."""
    port = free_port()
    conf = tmp_path / "plain.conf"
    conf.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    with Mosquitto(tmp_path, conf, port) as broker:
        device = Device(broker)
        for number in range(300):
            device.announce(f"s{number}", avty_t="porch/status")
        for folder in (tmp_path / "first", tmp_path / "second"):
            folder.mkdir()
            with Running(folder, mqtt=broker.url, **ADMITS) as server:
                until(lambda server=server: server.gateway.counters()["announced_entities"] == 300)
                until(lambda: is_heard(broker, "porch/s299"))
                if folder.name == "second":
                    until(lambda server=server: server.gateway.counters().get("announced_readings") == 300)
                    assert server.gateway.counters()["dead_letters"] == 0
            for number in range(300):
                device.say(f"porch/s{number}", str(number))
        device.stop()


def test_a_device_that_ends_while_the_gateway_is_away_is_offline_afterwards(tmp_path: Path, broker: Mosquitto) -> None:
    device = Device(broker, has_will=True)
    device.announce("temp")
    device.say("porch/status", b"online", retain=True)
    with Running(tmp_path, mqtt=broker.url, **ADMITS) as server:
        until(lambda: statuses(server) == [True])
    device.cut()
    with Running(tmp_path, mqtt=broker.url, **ADMITS) as server:
        until(lambda: statuses(server) == [True, False])


class Blindfold(threading.Thread):
    """Stands before a broker and hangs up on whoever only wants to look, after it was let in."""

    def __init__(self, broker: Mosquitto) -> None:
        super().__init__(name="blindfold", daemon=True)
        self._broker = broker
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.looks = 0

    def run(self) -> None:
        with self._listener, socket.create_connection(("127.0.0.1", self._broker.port)) as broker:
            while True:
                client, _ = self._listener.accept()
                first = client.recv(4096)
                if b"gateway.look" not in first:
                    break
                self.looks += 1
                with client:
                    client.sendall(mqtt5.ConnAckPacket().write())
            with client:
                broker.sendall(first)
                back = threading.Thread(target=self._carry, args=(broker, client))
                back.start()
                self._carry(client, broker)
                back.join()

    @staticmethod
    def _carry(one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(65_536):
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)


def test_a_broker_that_shows_nothing_beforehand_is_subscribed_all_the_same(
    tmp_path: Path, broker: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    device = Device(broker)
    device.announce("temp")
    before = Blindfold(broker)
    before.start()
    with Running(tmp_path, mqtt=f"mqtt://127.0.0.1:{before.port}", **ADMITS) as server:
        assert before.looks == 3
        assert "may become dead letters" in caplog.text
        until(lambda: is_heard(broker, "porch/temp"))
        device.say("porch/temp", b"1")
        until(lambda: values(server.log, "temp") == [1.0])
    before.join(10)
    assert not before.is_alive()
    device.stop()


@pytest.mark.parametrize("is_before", [False, True])
def test_hostile_announcements_cost_dead_letters_and_never_the_connection(
    tmp_path: Path, broker: Mosquitto, is_before: bool
) -> None:
    device = Device(broker)
    topics = [
        "a/\x07",
        "a/\ufffe",
        "a/\ud800",
        "/" * 250,
        "a/#",
        "+/b",
        "$SYS/broker/uptime",
        "hw/1/n/d/frame",
        "x" * 257,
    ]
    topics += ["$share/g/a", "homeassistant/sensor/a/config", "spBv1.0/a/NDATA/b", "", " "]

    def attack() -> None:
        for number, topic in enumerate(topics):
            device.announce(f"bad{number}", stat_t=topic)
        device.announce("huge", name="x" * 600_000)
        device.announce("good")

    if is_before:
        attack()
    with Running(tmp_path, mqtt=broker.url, **ADMITS) as server:
        if not is_before:
            attack()
        until(lambda: is_heard(broker, "porch/good"))
        device.say("porch/good", b"1")
        until(lambda: values(server.log, "good") == [1.0])
        counters = server.gateway.counters()
        assert (counters["connects"], counters["connections_lost"], counters["connect_failures"]) == (1, 0, 0)
        assert counters["announced_entities"] == 2, "a topic of one space is one"
        until(lambda: len(server.records(log_topics.DEAD_LETTERS)) == len(topics))
    device.stop()
