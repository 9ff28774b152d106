"""The command lines of docker-compose.yml, run natively with its environment against real servers, from a device to the page.

Names and paths of the network are put in for those of this machine; an InfluxDB 1.6 stands for the 2.7 of the file.
"""

import getpass
import http.client
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from influx_server import Influx1, free_port
from mosquitto_server import Mosquitto

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
HEADWATER = [sys.executable, "-m", "headwater"]
WAIT_S = 60.0


class Network:
    """What stands for the containers' names, ports and paths."""

    def __init__(self, folder: Path, ports: Mapping[str, int]) -> None:
        self.folder = folder
        self._names = {name: f"127.0.0.1:{port}" for name, port in ports.items()}

    def here(self, text: str) -> str:
        """Puts this machine's places in."""
        for name, place in self._names.items():
            text = text.replace(name, place)
        for folder in ("/plant", "/data", "/tokens", "/device", "/spool"):
            if text == folder or text.startswith(f"{folder}/"):
                text = str(self.folder / text[1:])
        return text.replace("version=2", "version=1")

    def command(self, service: Mapping[str, Any]) -> list[str]:
        """The service's own words after `headwater`."""
        words = service["command"]
        if "entrypoint" in service:
            words = shlex.split(words[0].split(";")[0])[1:]
        return [self.here(word) for word in words]

    def environment(self, service: Mapping[str, Any]) -> dict[str, str]:
        """The service's own environment."""
        return {key: self.here(value) for key, value in service.get("environment", {}).items()}


def run(network: Network, name: str, *more: str, **environment: str) -> subprocess.Popen[bytes]:
    service = SERVICES[name]
    output = (network.folder / f"{name}.txt").open("ab")
    folder = network.folder / "device" if "working_dir" in service else network.folder
    with output:
        return subprocess.Popen(
            [*HEADWATER, *network.command(service), *more],
            env=os.environ | network.environment(service) | environment,
            cwd=folder,
            stdout=output,
            stderr=output,
        )


@contextmanager
def running(network: Network, name: str, *more: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A service until the block ends; it must still be there then, and end cleanly."""
    process = run(network, name, *more, **environment)
    try:
        yield process
        assert process.poll() is None, (network.folder / f"{name}.txt").read_text()[-2000:]
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S) == 0, (network.folder / f"{name}.txt").read_text()[-2000:]
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def until(is_so: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.1)


def healthy(network: Network, name: str, more: Mapping[str, str]) -> bool:
    """What the service's own health check says."""
    service = SERVICES[name]
    words = [network.here(word) for word in service["healthcheck"]["test"][2:]]
    environment = os.environ | network.environment(service) | more
    done = subprocess.run(
        [*HEADWATER, *words], env=environment, cwd=network.folder, stdout=subprocess.DEVNULL, check=False
    )
    return done.returncode == 0


def answered(port: int, token: str) -> int:
    page = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    page.request("GET", "/api/v1/fleet", headers={"Authorization": f"Bearer {token}"} if token else {})
    status = page.getresponse().status
    page.close()
    return status


def test_a_reading_of_a_demo_device_gets_through_all_services(tmp_path: Path, kafka: Any) -> None:
    plant, broker_port, page_port = tmp_path / "plant", free_port(), free_port()
    init = [*HEADWATER, "init", str(plant), "--compose", "--host", "127.0.0.1"]
    subprocess.run(init, check=True, capture_output=True)
    for path in (plant / "headwater.toml", plant / "mosquitto" / "mosquitto.conf"):
        path.write_text(path.read_text().replace("/plant/", f"{plant}/").replace("8883", str(broker_port)))
    with (plant / "mosquitto" / "mosquitto.conf").open("a") as conf:
        conf.write(f"user {getpass.getuser()}\n")  # A container's broker is not root, so it changes to nobody.
    (plant / "demo-device").rename(tmp_path / "device")
    for name in ("data", "tokens", "spool"):
        (tmp_path / name).mkdir()
    with ExitStack() as stack:
        influx = stack.enter_context(Influx1(tmp_path / "influx"))
        kafka_port = int(kafka.url.rpartition(":")[2])
        ports = {"mosquitto:8883": broker_port, "kafka:9092": kafka_port, "influxdb:8086": influx.port}
        network = Network(tmp_path, ports)
        broker = stack.push(Mosquitto(tmp_path, plant / "mosquitto" / "mosquitto.conf", broker_port))
        broker.start(is_plain=False)
        setup = run(network, "influx-init")
        assert setup.wait(WAIT_S) == 0, (tmp_path / "influx-init.txt").read_text()
        own = {"HEADWATER_KAFKA__TOPIC_PREFIX": f"compose{os.getpid()}.", "HEADWATER_PAGE__PORT": str(page_port)}
        for name in ("gateway", "processor", "page"):
            assert not healthy(network, name, own), f"{name} is not there yet"
            stack.enter_context(running(network, name, **own))
            until(lambda name=name: healthy(network, name, own), f"the health of {name}")
        with running(network, "demo-device"):
            until(lambda: influx.query("raw", 'SELECT count("value") FROM "telemetry"'), "a reading in InfluxDB")
            (row,) = influx.query("events", 'SELECT last("state") AS "state" FROM "device" GROUP BY "site", "device"')
            assert row["device"] == "pump-001"
        token = (plant / "secrets" / "page.token").read_text().strip()
        until(lambda: answered(page_port, token) == 200, "the page")
        assert answered(page_port, "") == 401


def test_init_draws_every_secret_anew_for_its_owner_only_and_overwrites_nothing(tmp_path: Path) -> None:
    drawn: list[dict[str, bytes]] = []
    for name in ("one", "two"):
        plant = tmp_path / name
        command = [*HEADWATER, "init", str(plant), "--compose", "--host", "hub.example"]
        subprocess.run(command, check=True, capture_output=True)
        drawn.append({path.name: path.read_bytes() for path in (plant / "secrets").iterdir()})
        assert all(path.stat().st_mode & 0o077 == 0 for path in (plant / "secrets").iterdir())
        assert (plant / "mosquitto" / "data").is_dir()
        assert f"HEADWATER_PLANT={plant}\n" in (plant / ".env").read_text()
        assert subprocess.run(command, check=False, capture_output=True).returncode == 78
    assert drawn[0].keys() == drawn[1].keys()
    assert all(drawn[0][name] != drawn[1][name] for name in drawn[0])
    used = {Path(secret["file"]).name for secret in COMPOSE["secrets"].values()}
    assert used <= drawn[0].keys()
    for config in COMPOSE["configs"].values():
        assert (tmp_path / "one" / config["file"].removeprefix("${HEADWATER_PLANT}/")).is_file()


@pytest.mark.parametrize("more", [["--passwords"], ["--root", "/x"], ["--port", "1883"]])
def test_what_the_compose_file_does_not_know_is_refused(tmp_path: Path, more: list[str]) -> None:
    command = [*HEADWATER, "init", str(tmp_path / "plant"), "--compose", "--host", "hub.example", *more]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 78
    assert not (tmp_path / "plant").exists()
