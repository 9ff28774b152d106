"""The profile `flink` of docker-compose.yml: its services' own command lines against real servers, and a JobManager killed."""

import contextlib
import getpass
import os
import signal
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from compose_network import HEADWATER, WAIT_S, Network, healthy, run, running, said, settle, until, variables_of
from influx_server import Influx1, free_port
from mosquitto_server import Mosquitto

from headwater.io.flink_environment import FlinkEnvironment

pytestmark = [pytest.mark.flink, pytest.mark.integration, pytest.mark.crash]

JAVA_TERMINATED = 128 + signal.SIGTERM
PATIENCE_S = 150.0


def three_free_ports() -> int:
    """The first of three free ports in a row: REST, calls and files of a JobManager."""
    while True:
        first = free_port()
        with ExitStack() as held, contextlib.suppress(OSError, OverflowError):
            for place in range(3):
                probe = held.enter_context(socket.socket())
                probe.bind(("127.0.0.1", first + place))
            return first


def test_readings_get_through_flink_to_influxdb_and_again_after_its_job_manager_was_killed(
    kafka: Any, environment: FlinkEnvironment, tmp_path: Path
) -> None:
    plant, broker_port, rest_port = tmp_path / "plant", free_port(), three_free_ports()
    init = [*HEADWATER, "init", str(plant), "--compose", "--flink", "--host", "127.0.0.1"]
    subprocess.run(init, check=True, capture_output=True)
    settle(plant, broker_port, getpass.getuser())
    own = {"HEADWATER_KAFKA__TOPIC_PREFIX": f"compose{os.getpid()}.", "HEADWATER_FLINK__CHECKPOINT_EVERY": "1s"}
    places = {"/opt/flink": str(environment.root), "0.0.0.0": "127.0.0.1"}
    with ExitStack() as stack:
        influx = stack.enter_context(Influx1(tmp_path / "influx"))
        kafka_port = int(kafka.url.rpartition(":")[2])
        ports = {"mosquitto:8883": broker_port, "kafka:9092": kafka_port, "influxdb:8086": influx.port, "jobmanager:8081": rest_port}  # fmt: skip
        network = Network(tmp_path, ports, variables_of(plant), places)
        broker = stack.push(Mosquitto(tmp_path, plant / "mosquitto" / "mosquitto.conf", broker_port))
        broker.start(is_plain=False)
        assert run(network, "influx-init").wait(WAIT_S) == 0, said(network, "influx-init")

        def start(name: str, code: int = 0) -> "subprocess.Popen[bytes]":
            process = stack.enter_context(running(network, name, code=code, **own))
            until(lambda: healthy(network, name, own) or process.poll(), f"the health of {name}", PATIENCE_S)
            assert process.poll() is None, said(network, name)
            return process

        def count() -> int:
            found = influx.query("raw", 'SELECT count("value") AS "count" FROM "telemetry"')
            return int(found[0]["count"]) if found else 0

        start("gateway")
        first = run(network, "jobmanager", **own)
        stack.callback(first.kill)
        until(lambda: healthy(network, "jobmanager", own), "the health of jobmanager", PATIENCE_S)
        assert not healthy(network, "taskmanager", own)
        start("taskmanager", JAVA_TERMINATED)
        start("job")
        start("processor")
        stack.enter_context(running(network, "demo-device"))
        until(lambda: count() > 0, "a reading in InfluxDB", PATIENCE_S)
        doctor = run(network, "doctor", "--hop", "flink", "--hop", "sink", **own)
        assert doctor.wait(WAIT_S) == 0, said(network, "doctor")

        first.kill()
        first.wait()
        assert not healthy(network, "job", own)
        start("jobmanager", JAVA_TERMINATED)
        until(lambda: "going on from file:" in said(network, "job"), "the job again", PATIENCE_S)
        before = count()
        until(lambda: count() > before, "further readings in InfluxDB", PATIENCE_S)
