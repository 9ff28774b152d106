"""`headwater init` and `enroll` in use: a real Mosquitto and the gateway's own endpoint refuse whom they should refuse."""

import json
import os
import shutil
import signal
import ssl
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import paho.mqtt.client as paho
import pytest
from gateway_server import Running, frame, until
from mosquitto_server import Mosquitto, free_port
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edge_agent.agent import Agent, AgentHost
from edge_agent.settings import AgentSettings
from gateway.settings import GatewaySettings
from headwater.cli.shared import table, table_classes
from headwater.frame import Block
from headwater.io.clock_system import SystemClock
from headwater.metric import Metric
from headwater.settings import load_settings

pytestmark = pytest.mark.integration
FRAME = "hw/1/north/pump-1/frame"


def headwater(*arguments: str, code: int = 0) -> str:
    """Runs a command and returns what it said to people."""
    done = subprocess.run(
        [sys.executable, "-m", "headwater", *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == code, done.stderr
    return done.stderr


class Plant:
    """A hub's folder, and devices enrolled at it."""

    def __init__(self, folder: Path, *more: str) -> None:
        self.hub, self.folder = folder / "hub", folder
        self.port = free_port()
        headwater("init", str(self.hub), "--host", "127.0.0.1", "--port", str(self.port), *more)

    def enroll(self, who: str, name: str) -> Path:
        headwater("enroll", who, str(self.folder / name), "--hub", str(self.hub))
        return self.folder / name

    def gateway(self) -> dict[str, object]:
        text = (self.hub / "headwater.toml").read_text()
        settings = table(load_settings(table_classes(), text=text), "gateway", GatewaySettings)
        return {name: getattr(settings, name) for name in settings.model_fields_set}

    def agent(self, folder: Path) -> AgentSettings:
        tables = load_settings(table_classes(), text=(folder / "headwater.toml").read_text())
        settings = table(tables, "agent", AgentSettings)
        files = ("ca_file", "cert_file", "key_file", "password_file")
        here = {name: str(folder / getattr(settings, name)) for name in files if getattr(settings, name)}
        return settings.model_copy(update=here | {"flush_every_us": 50_000, "reconnect_max_us": 200_000})


class Client:
    """A paho client with one device's files; `codes` are the broker's answers to what it published, by order."""

    def __init__(self, plant: Plant, folder: Path, client_id: str) -> None:
        settings = plant.agent(folder)
        self.codes: list[int] = []
        self.heard: list[str] = []
        self.paho = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=MQTTProtocolVersion.MQTTv5)
        self.paho.on_publish = lambda _c, _u, _m, code, _p: self.codes.append(code.value)
        self.paho.on_message = lambda _c, _u, message: self.heard.append(message.topic)
        self.paho.tls_set(settings.ca_file, settings.cert_file or None, settings.key_file or None)
        if settings.username:
            self.paho.username_pw_set(settings.username, Path(settings.password_file).read_text().strip())
        self.paho.reconnect_delay_set(0.02, 0.1)
        self.paho.connect("127.0.0.1", plant.port)
        self.paho.loop_start()
        until(self.paho.is_connected)

    def publish(self, *messages: tuple[str, bytes]) -> list[int]:
        """Publishes one after the other and returns the answers."""
        before = len(self.codes)
        for number, (topic, payload) in enumerate(messages, 1):
            self.paho.publish(topic, payload, qos=1)
            until(lambda number=number: len(self.codes) == before + number)
        return self.codes[before:]

    def close(self) -> None:
        self.paho.disconnect()
        self.paho.loop_stop()


class Ticks:
    """A source with a reading for every call."""

    metrics = (Metric("m", every_us=20_000),)
    is_exhausted = False

    def open(self) -> None:
        pass

    def read(self, now_us: int) -> list[Block]:
        return [Block(("m",), np.array([now_us]), np.array([[float(now_us % 1_000)]]))]

    def close(self) -> None:
        pass


@pytest.fixture(params=["certificates", "passwords"])
def plant(tmp_path: Path, request: pytest.FixtureRequest) -> Plant:
    return Plant(tmp_path, "--broker", *(["--passwords"] if request.param == "passwords" else []))


@pytest.fixture
def broker(plant: Plant) -> Iterator[Mosquitto]:
    server = Mosquitto(plant.folder, plant.hub / "mosquitto" / "mosquitto.conf", plant.port)
    with server.tls():
        yield server


def test_an_agent_with_its_folder_sends_through_the_broker_and_is_acknowledged(plant: Plant, broker: Mosquitto) -> None:
    device = plant.enroll("north/pump-1", "pump-1")
    broker.signal(signal.SIGHUP)
    with Running(plant.folder, **plant.gateway(), ack_level="backbone", partitions=4) as server:
        spool = plant.folder / "spool.db"
        agent = Agent("north", "pump-1", Ticks(), plant.agent(device), SystemClock(), spool)
        stop = threading.Event()
        thread = threading.Thread(target=AgentHost([agent], drain_max_us=1_000_000).run, args=(stop,))
        thread.start()
        until(lambda: agent.counters()["acks"] > 1 or agent.uplink.counters.last_error)
        stop.set()
        thread.join()
        assert agent.counters()["acks"] > 1, agent.uplink.counters.last_error
        assert server.seqs() == list(range(1, len(server.seqs()) + 1))


def test_the_doctor_walks_to_the_broker(plant: Plant, broker: Mosquitto) -> None:
    command = [sys.executable, "-m", "headwater", "doctor", "--json", "--config", str(plant.hub / "headwater.toml")]

    def seen(*more: str) -> dict[str, object]:
        done = subprocess.run([*command, *more], capture_output=True, text=True, check=False, timeout=60)
        (found,) = [one for one in json.loads(done.stdout)["findings"] if one["hop"] == "gateway"]
        return found

    found = seen()
    assert found["is_good"]
    assert found["what"] == f"MQTT 5 broker at mqtts://127.0.0.1:{plant.port} lets the gateway in"
    refused = seen("--set", "gateway.mqtt_ca_file=")
    assert not refused["is_good"]
    assert "certificate" in str(refused["what"])
    assert not seen("--set", "gateway.mqtt_ca_file=nowhere.pem")["is_good"]


def test_a_device_says_and_hears_what_is_its_own_and_nothing_else(plant: Plant, broker: Mosquitto) -> None:
    one, two = plant.enroll("north/pump-1", "one"), plant.enroll("north/pump-2", "two")
    broker.signal(signal.SIGHUP)
    with Running(plant.folder, **plant.gateway(), ack_level="backbone", partitions=4) as server:
        spy = Client(plant, two, "spy")
        wrong = [
            "hw/1/north/pump-1/frame",
            "hw/1/north/pump-1/ack",
            "hw/1/north/pump-2/ack",
            "hw/1/north/pump-2/config",
        ]
        wrong += ["hw/1/north/pump-1/command", "hw/gateway/main", "spBv1.0/north/NDATA/x", "else"]
        assert spy.publish(*((topic, frame(1)) for topic in wrong)) == [0x87] * len(wrong)
        until(spy.paho.is_connected)  # Mosquitto 2.0 also hangs up on who tries what it may not.
        heard = [
            "hw/1/north/pump-2/ack",
            "hw/1/north/pump-1/ack",
            "hw/1/+/+/frame",
            "hw/1/+/+/command",
            "hw/gateway/#",
            "#",
        ]
        spy.paho.on_connect = lambda *_: spy.paho.subscribe([(pattern, 1) for pattern in heard])
        spy.paho.subscribe([(pattern, 1) for pattern in heard])
        good = Client(plant, one, "good")
        assert good.publish((FRAME, frame(1)), (FRAME, frame(2))) == [0, 0]
        until(lambda: server.seqs() == [1, 2])
        assert spy.publish(("hw/1/north/pump-2/frame", frame(1, device="pump-2"))) == [0]
        until(lambda: server.seqs("pump-2") == [1])
        until(lambda: spy.heard)
        assert set(spy.heard) == {"hw/1/north/pump-2/ack"}, "its own ack came last, so the others' would be here"
        assert server.gateway.counters()["dead_letters"] == 0
        spy.close()
        good.close()


@pytest.mark.parametrize("plant", ["certificates"], indirect=True)
def test_who_is_not_enrolled_or_no_longer_gets_nothing_done(plant: Plant, broker: Mosquitto, tmp_path: Path) -> None:
    device = plant.enroll("north/pump-1", "one")
    broker.signal(signal.SIGHUP)
    client = Client(plant, device, "c")
    assert client.publish((FRAME, b"x")) != [0x87]
    client.close()
    acl = plant.hub / "mosquitto" / "acl"
    acl.write_text(acl.read_text().partition("user north.pump-1")[0])
    broker.signal(signal.SIGHUP)
    client = Client(plant, device, "c")
    until(lambda: client.publish((FRAME, b"x")) == [0x87])
    client.close()

    stranger = Plant(tmp_path / "elsewhere", "--broker")
    theirs = stranger.enroll("north/pump-1", "theirs")
    shutil.copy(device / "ca.pem", theirs / "ca.pem")
    for folder in (theirs, None):
        anonymous = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        files = [str(folder / "client.pem"), str(folder / "client.key")] if folder else [None, None]
        anonymous.tls_set(str(device / "ca.pem"), *files)
        codes: list[int] = []
        anonymous.on_connect = lambda _c, _u, _f, code, _p, codes=codes: codes.append(code.value)
        refused = threading.Event()
        anonymous.on_disconnect = lambda *_, refused=refused: refused.set()
        try:
            anonymous.connect("127.0.0.1", plant.port)
            anonymous.loop_start()
            assert refused.wait(30)
        except OSError as error:
            assert isinstance(error, ssl.SSLError | ConnectionError)  # noqa: PT017 — either is a refusal.
        anonymous.loop_stop()
        assert 0 not in codes


@pytest.mark.parametrize("plant", ["certificates"], indirect=True)
def test_a_server_that_the_plants_authority_did_not_sign_is_not_spoken_to(plant: Plant, broker: Mosquitto) -> None:
    other = Plant(plant.folder / "other", "--broker")
    settings = plant.gateway() | {"mqtt_ca_file": str(other.hub / "tls" / "ca.pem"), "reconnect_min": "10ms"}
    with Running(plant.folder, wait=False, **settings) as server:
        until(lambda: server.gateway.counters()["connect_failures"] >= 2)
        assert server.gateway.counters()["connects"] == 0


@pytest.mark.parametrize("more", [[], ["--passwords"]])
def test_the_gateways_own_endpoint_takes_the_same_folders(tmp_path: Path, more: list[str]) -> None:
    plant = Plant(tmp_path, *more)
    one = plant.enroll("north/pump-1", "one")
    desk = plant.enroll("operator@second", "desk")
    assert "second" in (desk / "headwater.toml").read_text() or (desk / "client.pem").exists()
    with Running(tmp_path, **plant.gateway(), partitions=4) as server:
        client = Client(plant, one, "c")
        assert client.publish((FRAME, frame(1)), ("hw/1/north/pump-2/frame", frame(1, device="pump-2"))) == [0, 0x87]
        assert client.publish(("hw/1/north/pump-1/config", b"{}")) == [0x87]
        assert server.seqs() == [1]
        client.close()


def test_secrets_are_private_and_nothing_is_overwritten(tmp_path: Path) -> None:
    plant = Plant(tmp_path, "--broker")
    device = plant.enroll("north/pump-1", "one")
    for path in [*plant.hub.rglob("*"), *device.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        is_private = path.suffix in {".key", ".token", ".password"} or path.name == "acl"
        assert mode == (0o700 if path.is_dir() else 0o600 if is_private else 0o644), path
    before = {path: path.read_bytes() for path in plant.hub.rglob("*") if path.is_file()}
    said = headwater("init", str(plant.hub), "--host", "x", code=78)
    assert "is there already" in said
    said = headwater("enroll", "north/pump-2", str(device), "--hub", str(plant.hub), code=78)
    assert "is there already" in said
    said = headwater("enroll", "north/pump-1", str(tmp_path / "again"), "--hub", str(plant.hub), code=78)
    assert "take its lines away first" in said
    assert before == {path: path.read_bytes() for path in plant.hub.rglob("*") if path.is_file()}
    assert not (tmp_path / "again").exists()
    headwater("check", "--config", str(plant.hub / "headwater.toml"))
    headwater("check", "--config", str(device / "headwater.toml"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["init", "x"], "--host"),
        (["init", "x", "--host", "h", "--port", "0"], "port"),
        (["init", "x", "--host", "h", "--root", "relative"], "absolute"),
        (["init", "x", "--host", "ü\u2028"], "host"),
        (["enroll", "pump", "y"], "SITE/DEVICE"),
        (["enroll", "../x/y", "y"], "must match"),
        (["enroll", "north/..", "y"], "must match"),
        (["enroll", "boss@me", "y"], "operator@NAME"),
        (["enroll", "north/pump", "y"], "headwater init"),
    ],
)
def test_wrong_words_end_with_a_sentence_and_leave_nothing(tmp_path: Path, arguments: list[str], said: str) -> None:
    command = [sys.executable, "-m", "headwater", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert done.returncode == 78, done.stderr
    assert said in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['cryptography'] = None; from headwater.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "init", str(tmp_path / "hub"), "--host", "h"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "headwater[enroll]" in done.stderr


def test_the_gateway_may_read_the_topics_of_devices_that_announce_themselves(tmp_path: Path) -> None:
    plant = Plant(tmp_path, "--broker", "--passwords", "--announced", "porch/+", "--announced", "zigbee2mqtt/#")
    acl = plant.hub / "mosquitto" / "acl"
    device = plant.enroll("home/porch", "porch")
    rights = ["homeassistant/sensor/porch/+/config", "porch/#", "else/#"]
    acl.write_text(acl.read_text() + "".join(f"topic write {topic}\n" for topic in rights))
    server = Mosquitto(plant.folder, plant.hub / "mosquitto" / "mosquitto.conf", plant.port)
    with server.tls(), Running(plant.folder, **plant.gateway(), partitions=4) as running:
        client = Client(plant, device, "porch")
        for sensor, topic in (("temp", "porch/temp"), ("spy", "else/spy")):
            told = json.dumps({"state_topic": topic}).encode()
            client.publish((f"homeassistant/sensor/porch/{sensor}/config", told))
        until(lambda: running.gateway.counters()["announced_entities"] == 2)
        client.publish(("else/spy", b"1"))
        until(lambda: client.publish(("porch/temp", b"2")) and any(batch.metrics for batch in running.batches()))
        assert {metric for batch in running.batches() for metric in batch.metrics} == {"temp"}
        client.close()


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (["--announced", "porch/#"], "add --broker"),
        (["--broker", "--announced", "#"], "topic filter"),
        (["--broker", "--announced", "a\ntopic readwrite #"], "topic filter"),
    ],
)
def test_announced_topics_are_filters_at_a_broker(tmp_path: Path, more: list[str], why: str) -> None:
    assert why in headwater("init", str(tmp_path / "hub"), "--host", "h", *more, code=78)
    assert not (tmp_path / "hub").exists()
