"""The command lines of docker-compose.yml, run natively with its environment against real servers, from a device to the page.

Names and paths of the network are put in for those of this machine; an InfluxDB 1.6 stands for the 2.7 of the file.
"""

import getpass
import http.client
import os
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from compose_network import COMPOSE, HEADWATER, WAIT_S, Network, healthy, run, running, settle, until, variables_of
from influx_server import Influx1, free_port
from mosquitto_server import Mosquitto

pytestmark = pytest.mark.integration


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
    settle(plant, broker_port, getpass.getuser())
    with ExitStack() as stack:
        influx = stack.enter_context(Influx1(tmp_path / "influx"))
        kafka_port = int(kafka.url.rpartition(":")[2])
        ports = {"mosquitto:8883": broker_port, "kafka:9092": kafka_port, "influxdb:8086": influx.port}
        network = Network(tmp_path, ports, variables_of(plant))
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
