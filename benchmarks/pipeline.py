"""From encoded frames on MQTT to stored windows: gateway and processor as processes of their own, as deployed.

    load (this process) ──MQTT, QoS 1──▶ headwater gateway ─▶ log.db ─▶ headwater processor ─▶ store.db
    the same ──▶ Mosquitto ──▶ headwater gateway ─▶ Kafka ─▶ headwater processor ─▶ store.db     (broker_kafka_)

A run begins with the first PUBLISH and ends when the store's accounts say that every frame is stored. CPU is user and
system time of the two processes; the load generator shares the machine's cores and is not counted. The headline has
200 devices of eight metrics at 1 Hz that send their past in frames of 800 readings (100 s), as after an outage; ten and
5,000 devices send the same number of frames of 100 readings. The real servers share the cores and are not in the CPU figures
either; without Mosquitto or Kafka there are no figures of them.
"""

import os
import select
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mqtt5

from benchmarks import _kafka
from benchmarks._gateway_broker import mosquitto, program
from headwater.errors import SettingsError
from headwater.io.store_sqlite_query import StoreReader
from headwater.names import mqtt_topic
from simulators.fleet import encoded_frames
from simulators.plant import Plant

START_US = 1_700_000_000_000_000
IN_FLIGHT_MAX = 1_500
READ_BYTES = 1 << 16
TIMEOUT_S = 240.0
PUBACK_BYTES = 4  # Of success without properties, which is all that an accepted PUBLISH gets here.
PARTITIONS = 4


def cpu_s(pid: int) -> float:
    """User and system time of a running process."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """A TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def stages(data: Path, port: int, kafka_url: str = "") -> Iterator[tuple[int, int]]:
    """Runs gateway and processor; gives their process ids.

    Args:
        data: their folder.
        port: where the gateway listens, or with Kafka that of the broker it subscribes at.
        kafka_url: the log; "" for SQLite and no broker.
    """
    common = ["--data", str(data)]
    common += [f"--set={table}.partitions={PARTITIONS}" for table in ("gateway", "processor")]
    common += ["--log", kafka_url, f"--set=kafka.topic_prefix={data.name}."] if kafka_url else []
    gateway = ["--mqtt", f"mqtt://127.0.0.1:{port}"] if kafka_url else [f"--set=gateway.port={port}"]
    gateway += ["--set=gateway.rate_max_messages=1000000", "--set=gateway.rate_max_bytes=1000000000"]
    running = []
    try:
        for name, options in (("gateway", gateway), ("processor", [])):
            with (data / f"{name}.txt").open("wb") as messages:
                command = [sys.executable, "-m", "headwater", name, *common, *options]
                running.append(subprocess.Popen(command, stderr=messages))
        deadline_s = time.monotonic() + 30
        while time.monotonic() < deadline_s:
            said = (data / "gateway.txt").read_text(encoding="utf-8")
            if ("connected" if kafka_url else "MQTT on") in said and (data / "store.db").exists():
                break
            if any(process.poll() is not None for process in running):
                raise SettingsError(f"a stage ended: {said}{(data / 'processor.txt').read_text(encoding='utf-8')}")
            time.sleep(0.05)
        else:
            raise SettingsError(f"the stages did not get ready: {said}")
        time.sleep(1.0)  # Imports and first heartbeats are not what is measured.
        yield running[0].pid, running[1].pid
    finally:
        for process in running:
            process.send_signal(signal.SIGTERM)
        for process in running:
            process.wait(60)


def publish_all(port: int, packets: list[bytes]) -> None:
    """Sends every packet at QoS 1 with a bounded number in flight, as fast as the gateway takes them."""
    with socket.create_connection(("127.0.0.1", port)) as line:
        line.sendall(mqtt5.ConnectPacket("bench-load", clean_start=True, keep_alive=60).write())
        buffer = line.recv(READ_BYTES)
        packet, size = mqtt5.read(memoryview(buffer))
        assert isinstance(packet, mqtt5.ConnAckPacket), packet
        received = len(buffer) - size
        sent = 0
        waiting = memoryview(b"")
        line.setblocking(False)
        while received < PUBACK_BYTES * len(packets):
            acked = received // PUBACK_BYTES
            if not waiting and sent < len(packets) and sent - acked < IN_FLIGHT_MAX:
                end = min(sent + 256, len(packets), acked + IN_FLIGHT_MAX)
                waiting = memoryview(b"".join(packets[sent:end]))
                sent = end
            readable, writable, _ = select.select([line], [line] if waiting else [], [], 30)
            if not readable and not writable:
                raise TimeoutError(f"the gateway has been silent for 30 s after {acked} of {len(packets)} PUBACKs")
            if writable:
                waiting = waiting[line.send(waiting) :]
            if readable:
                got = line.recv(READ_BYTES)
                if not got:
                    raise ConnectionError(f"the gateway closed the connection after {acked} PUBACKs")
                received += len(got)


@dataclass(frozen=True, slots=True)
class Work:
    """PUBLISH packets ready to send, and how many frames and readings they hold."""

    packets: list[bytes]
    frames: int
    readings: int


def prepared(devices: int, frames_per_device: int, readings_per_frame: int) -> Work:
    """Encodes the frames of a plant, all devices in turn."""
    plant = Plant(3, devices, start_us=START_US, faults_per_day=0.0, has_vibration=False)
    seconds = max(1, readings_per_frame // 8)
    frames = encoded_frames(plant, START_US, seconds * frames_per_device, readings_per_frame)
    packets = [
        mqtt5.PublishPacket(
            mqtt_topic(site, device, "frame"), payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=number % 60_000 + 1
        ).write()
        for number, (site, device, payload) in enumerate(frames)
    ]
    metrics = sum(
        len(block.metrics)
        for machine in plant.machines
        for block in plant.readings(machine, START_US, START_US + 10**6)
    )
    return Work(packets, len(packets), metrics * seconds * frames_per_device)


def one_run(work: Work, kafka_url: str = "") -> dict[str, float]:
    """Loads a fresh pipeline and returns its figures; with a Kafka, behind a fresh Mosquitto and in topics of its own."""
    with tempfile.TemporaryDirectory(prefix="headwater-bench-") as folder, ExitStack() as stack:
        data = Path(folder)
        port = stack.enter_context(mosquitto(data)) if kafka_url else free_port()
        with stages(data, port, kafka_url) as pids:
            before = [cpu_s(pid) for pid in pids]
            begun_s, load_s = time.perf_counter(), time.process_time()
            publish_all(port, work.packets)
            load_s = time.process_time() - load_s
            reader = StoreReader(data / "store.db")
            while (total := reader.account_total())["stored"] < work.frames:
                if time.perf_counter() - begun_s > TIMEOUT_S:
                    raise TimeoutError(f"{total['stored']} of {work.frames} frames were stored in {TIMEOUT_S:.0f} s")
                time.sleep(0.05)
            wall_s = time.perf_counter() - begun_s
            used = [cpu_s(pid) - was for pid, was in zip(pids, before, strict=True)]
            assert total["unknown"] == 0
            assert total["readings_stored"] == work.readings, (total["readings_stored"], work.readings)
            reader.close()
    return {
        "readings_per_s": work.readings / wall_s,
        "cpu_us_per_reading": sum(used) / work.readings * 1e6,
        "gateway_cpu_us_per_frame": used[0] / work.frames * 1e6,
        "processor_cpu_us_per_reading": used[1] / work.readings * 1e6,
        "load_cpu_us_per_frame": load_s / work.frames * 1e6,
        "wall_s": wall_s,
    }


def median_of(runs: list[dict[str, float]]) -> dict[str, float]:
    """The median of every figure."""
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def with_real_servers(work: Work, turns: int) -> dict[str, float]:
    """The figures of the broker form; none where its servers are not installed."""
    if program() is None or _kafka.lacking():
        return {}
    with tempfile.TemporaryDirectory(prefix="headwater-bench-") as folder, _kafka.running(Path(folder)) as url:
        one_run(work, url)  # Kafka's first run is one of its compiler.
        found = median_of([one_run(work, url) for _ in range(turns)])
    return {
        "broker_kafka_readings_per_s": round(found["readings_per_s"]),
        "broker_kafka_cpu_us_per_reading": round(found["cpu_us_per_reading"], 4),
        "broker_kafka_gateway_cpu_us_per_frame": round(found["gateway_cpu_us_per_frame"], 2),
        "broker_kafka_measured_s": round(found["wall_s"], 2),
    }


def run(*, quick: bool = False) -> dict[str, Any]:
    """Throughput with large frames, and what a reading costs with many devices against few."""
    turns, scale = (1, 1) if quick else (3, 4)
    work = prepared(200, 8 * scale, 800)
    large = median_of([one_run(work) for _ in range(turns)])
    frames = 4 if quick else 5
    few_work, many_work = prepared(10, 500 * frames, 100), prepared(5_000, frames, 100)
    few, many = [], []
    for _ in range(turns):
        few.append(one_run(few_work))
        many.append(one_run(many_work))
    ratio = statistics.median(m["cpu_us_per_reading"] / f["cpu_us_per_reading"] for m, f in zip(many, few, strict=True))
    return {
        "figures": {
            "readings_per_s": round(large["readings_per_s"]),
            "cpu_us_per_reading": round(large["cpu_us_per_reading"], 4),
            "gateway_cpu_us_per_frame": round(large["gateway_cpu_us_per_frame"], 2),
            "processor_cpu_us_per_reading": round(large["processor_cpu_us_per_reading"], 4),
            "load_cpu_us_per_frame": round(large["load_cpu_us_per_frame"], 2),
            "measured_s": round(large["wall_s"], 2),
            **with_real_servers(work, turns),
            "readings": work.readings,
            "readings_per_frame": 800,
            "devices": 200,
            "readings_per_s_frames_of_100": round(median_of(few)["readings_per_s"]),
            "readings_per_s_frames_of_100_from_5000_devices": round(median_of(many)["readings_per_s"]),
            "cpu_us_per_reading_10_devices": round(median_of(few)["cpu_us_per_reading"], 4),
            "cpu_us_per_reading_5000_devices": round(median_of(many)["cpu_us_per_reading"], 4),
            "gateway_cpu_us_per_frame_of_100": round(median_of(few)["gateway_cpu_us_per_frame"], 2),
            "runs": turns,
        },
        "ratios": {"cost_5000_vs_10_devices": round(ratio, 3)},
    }
