"""The pipeline with its log on a real Kafka, as processes that are killed: the ledger of the devices is the judge."""

import json
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import mqtt5
import pytest
from gateway_server import RawClient, Running, frame, until
from kafka_server import load_script, options_of

from headwater.ack import parse_ack
from headwater.errors import ConnectError
from headwater.io.log_kafka import KafkaLog
from headwater.io.store_sqlite_query import StoreReader

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]
HEADWATER = [sys.executable, "-W", "error::ResourceWarning", "-m", "headwater"]
PARTITIONS = 4


class Plant:
    """Commands of one pipeline over one log, each a process; what they say is kept."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url, self.prefix = folder, url, f"p{uuid.uuid4().hex[:8]}."
        (self.port,) = load_script().free_ports(1)
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def common(self) -> list[str]:
        settings = {
            "kafka.topic_prefix": self.prefix, "gateway.partitions": PARTITIONS, "processor.partitions": PARTITIONS,
            "gateway.port": self.port, "kafka.append_timeout": "2s", "processor.checkpoint_every": "500ms",
            "processor.retry_max": "500ms",
        }  # fmt: skip
        pairs = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
        return ["--log", self.url, *pairs]

    def start(self, name: str, *arguments: str, until_it_says: str = "") -> None:
        """Starts a command and waits until it has said so once more."""
        path = self.folder / f"{name}.err"
        path.touch()
        before = path.read_text(encoding="utf-8").count(until_it_says)
        with (self.folder / f"{name}.out").open("ab") as out, (self.folder / f"{name}.err").open("ab") as err:
            self.running[name] = subprocess.Popen([*HEADWATER, *arguments], stdout=out, stderr=err, cwd=ROOT)
        if until_it_says:
            until(lambda: path.read_text(encoding="utf-8").count(until_it_says) > before)

    def kill(self, name: str) -> None:
        process = self.running.pop(name)
        assert process.poll() is None, self.said(name)
        process.kill()
        process.wait()

    def stop(self, name: str) -> None:
        process = self.running.pop(name)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, self.said(name)

    def has_ended(self, name: str) -> bool:
        return self.running[name].poll() is not None

    def end(self, name: str) -> None:
        """Waits until a command that ends by itself has ended well."""
        assert self.running.pop(name).wait(120) == 0, self.said(name)

    def said(self, name: str) -> str:
        return (self.folder / f"{name}.err").read_text(encoding="utf-8")[-4000:]

    def load(self, seconds: int, devices: int = 20) -> None:
        """Starts a fleet that offers frames for so long and then waits until all of them are durable."""
        self.start(
            "fleet", "simulate", "--gateway", f"mqtt://127.0.0.1:{self.port}", "--devices", str(devices),
            "--for", f"{seconds}s", "--frames-every", "1s", "--speed", "5", "--seed", "5",
            "--ledger", str(self.folder / "ledger"), "--set", "simulator.resend_after=3s",
        )  # fmt: skip

    def check(self, *stores: Path) -> Mapping[str, Any]:
        command = [sys.executable, str(ROOT / "scripts" / "check_ledger.py"), "--ledger", str(self.folder / "ledger")]
        command += [part for store in stores for part in ("--store", str(store))]
        done = subprocess.run([*command, "--drained", "--json"], capture_output=True, text=True, check=False)
        report: dict[str, Any] = json.loads(done.stdout)
        assert done.returncode == 0, report
        assert report["accepted"] == report["stored"] > 0
        assert report["dead_letters"] == report["gaps"] == 0
        return report


@pytest.fixture
def plant(kafka: Any, tmp_path: Path) -> Iterator[Plant]:
    made = Plant(tmp_path, kafka.url)
    yield made
    for process in made.running.values():
        process.kill()
        process.wait()
    kafka.start()


def stored(path: Path) -> int:
    """How many frames a store holds; 0 of one that is not made yet."""
    reader = StoreReader(path)
    try:
        return int(reader.account_total()["stored"])
    except ConnectError:
        return 0
    finally:
        reader.close()


def headwater(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*HEADWATER, *arguments], capture_output=True, text=True, cwd=ROOT, timeout=90, check=False)


def test_up_on_kafka_outlives_its_broker_and_the_tools_look_into_the_log(
    plant: Plant, kafka: Any, tmp_path: Path
) -> None:
    data = ["--data", str(tmp_path / "data")]
    plant.start("up", "up", "--no-page", "--json", *data, *plant.common, until_it_says="MQTT on")
    plant.load(6)
    until(lambda: stored(tmp_path / "data" / "store.db") > 50)
    kafka.kill(1)
    time.sleep(1)
    kafka.start()
    plant.end("fleet")
    findings = {
        one["hop"]: one for one in json.loads(headwater("doctor", "--json", *data, *plant.common).stdout)["findings"]
    }
    for hop in ("gateway", "log", "processor", "store"):
        assert findings[hop]["is_good"], findings[hop]
    tap = headwater("tap", "--from-start", "--count", "1", "--json", *data, *plant.common)
    device = json.loads(tap.stdout)["device"]
    trace = json.loads(headwater("trace", device, "--json", *data, *plant.common).stdout)
    assert trace["log"]["frame"].startswith("seq ")
    assert trace["store"]["unknown"] == 0
    plant.stop("up")
    store = StoreReader(tmp_path / "data" / "store.db")
    assert store.account_total()["unknown"] == 0
    assert store.frames_doubled() == 0
    store.close()
    counters = json.loads((tmp_path / "up.out").read_text(encoding="utf-8"))
    assert counters["processor"]["lag_records"] == 0
    plant.check(tmp_path / "data" / "store.db")


def test_processors_that_share_the_log_and_are_killed_lose_and_double_nothing(plant: Plant, tmp_path: Path) -> None:
    shares = {"a": "0,2", "b": "1,3"}

    def start(name: str) -> None:
        data = str(tmp_path / name)
        plant.start(
            name,
            "processor",
            "--json",
            "--data",
            data,
            *plant.common,
            "--set",
            f"processor.shards={shares[name]}",
            until_it_says="processor: log",
        )

    # One broker: acks of level store would be the choice, but no gateway sees two stores.
    plant.start(
        "gateway",
        "gateway",
        "--data",
        str(tmp_path / "gateway"),
        *plant.common,
        "--set",
        "gateway.ack_level=backbone",
        until_it_says="MQTT on",
    )
    assert "not replicated" in plant.said("gateway")
    for name in shares:
        start(name)
    plant.load(8, devices=40)
    stores = {name: tmp_path / name / "store.db" for name in shares}
    for _ in range(2):
        for name, path in stores.items():
            goal = stored(path) + 50
            until(lambda: stored(path) >= goal or plant.has_ended("fleet"))  # noqa: B023
            plant.kill(name)
            start(name)
    plant.end("fleet")
    plant.stop("gateway")
    for name in shares:
        plant.stop(name)
    plant.check(*stores.values())
    for name, path in stores.items():
        reader = StoreReader(path)
        assert {str(place[2]) for place in reader.positions()} <= set(shares[name].split(","))
        assert reader.account_total()["unknown"] == reader.frames_doubled() == 0
        reader.close()
        last = json.loads((tmp_path / f"{name}.out").read_text(encoding="utf-8"))
        assert last["lag_records"] == 0
    swapped = headwater("processor", "--data", str(tmp_path / "a"), *plant.common, "--set", "processor.shards=1,3")
    assert (swapped.returncode, "but the state holds shard 0" in swapped.stderr) == (78, True)


def test_acks_of_a_gateway_over_kafka_follow_the_log_and_survive_its_restart(kafka: Any, tmp_path: Path) -> None:
    options = options_of(kafka, append_timeout_s=10.0)
    for first_seq, expected in ((1, 3), (4, 6)):
        with Running(tmp_path, log=KafkaLog(options), ack_level="backbone", store_poll_us=20_000) as server:
            device = RawClient(server.port, "device")
            device.send(mqtt5.SubscribePacket(1, [mqtt5.TopicFilter("hw/1/north/pump-1/ack")]))
            for seq in range(first_seq, first_seq + 3):
                topic, payload = "hw/1/north/pump-1/frame", frame(seq)
                device.send(mqtt5.PublishPacket(topic, payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=seq))
            contiguous = 0
            while contiguous < expected:
                got = device.next()
                if isinstance(got, mqtt5.PublishPacket):
                    ack = parse_ack(got.payload)
                    assert (ack.level, ack.log) == ("backbone", server.log.incarnation)
                    contiguous = ack.contiguous
            assert contiguous == expected
            assert server.seqs() == list(range(1, expected + 1))
            device.close()
