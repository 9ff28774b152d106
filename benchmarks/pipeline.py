"""From encoded frames on MQTT to stored windows: gateway and processor as processes of their own, as deployed.

    load (this process) ──MQTT, QoS 1──▶ headwater gateway ─▶ log.db ─▶ headwater processor ─▶ store.db

A run begins with the first PUBLISH and ends when the store's accounts say that every frame is stored. CPU is user and
system time of the two processes; the load generator shares the machine's cores and is not counted.
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
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mqtt5

from headwater.io.store_sqlite_query import StoreReader
from headwater.names import mqtt_topic
from simulators.fleet import encoded_frames
from simulators.plant import Plant

START_US = 1_700_000_000_000_000
IN_FLIGHT_MAX = 1_500
READ_BYTES = 1 << 16
TIMEOUT_S = 240.0
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
def stages(data: Path, port: int) -> Iterator[tuple[int, int]]:
    """Runs gateway and processor; gives their process ids."""
    common = [
        "--data",
        str(data),
        "--set",
        f"gateway.partitions={PARTITIONS}",
        "--set",
        f"processor.partitions={PARTITIONS}",
    ]
    common += [
        "--set",
        f"gateway.port={port}",
        "--set",
        "gateway.rate_max_messages=1000000",
        "--set",
        "gateway.rate_max_bytes=1000000000",
    ]
    running = []
    try:
        for name in ("gateway", "processor"):
            with (data / f"{name}.txt").open("wb") as said:
                running.append(subprocess.Popen([sys.executable, "-m", "headwater", name, *common], stderr=said))
        deadline_s = time.monotonic() + 30
        while time.monotonic() < deadline_s:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0 and (data / "store.db").exists():
                    break
            time.sleep(0.05)
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
        buffer = bytearray()
        sent = acked = 0
        waiting = memoryview(b"")
        line.setblocking(False)
        is_connected = False
        while acked < len(packets):
            if not waiting and is_connected and sent < len(packets) and sent - acked < IN_FLIGHT_MAX:
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
                buffer += got
                acked, is_connected = _count_acks(buffer, acked, is_connected)


def _count_acks(buffer: bytearray, acked: int, is_connected: bool) -> tuple[int, bool]:
    """Takes whole packets off the buffer."""
    at = 0
    view = memoryview(bytes(buffer))
    while at < len(view):
        try:
            packet, size = mqtt5.read(view[at:])
        except IndexError:
            break
        at += size
        if isinstance(packet, mqtt5.PubAckPacket):
            acked += 1
        elif isinstance(packet, mqtt5.ConnAckPacket):
            is_connected = True
    del buffer[:at]
    return acked, is_connected


def packets_of(devices: int, frames_per_device: int, readings_per_frame: int) -> tuple[list[bytes], int, int]:
    """Returns PUBLISH packets, and how many frames and readings they hold."""
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
    return packets, len(packets), metrics * seconds * frames_per_device


def one_run(devices: int, frames_per_device: int, readings_per_frame: int) -> dict[str, Any]:
    """Loads a fresh pipeline and returns its figures."""
    packets, frames, readings = packets_of(devices, frames_per_device, readings_per_frame)
    with tempfile.TemporaryDirectory(prefix="headwater-bench-") as folder:
        data, port = Path(folder), free_port()
        with stages(data, port) as pids:
            before = [cpu_s(pid) for pid in pids]
            begun_s = time.perf_counter()
            publish_all(port, packets)
            reader = StoreReader(data / "store.db")
            while (total := reader.account_total())["stored"] < frames:
                if time.perf_counter() - begun_s > TIMEOUT_S:
                    raise TimeoutError(f"{total['stored']} of {frames} frames were stored in {TIMEOUT_S:.0f} s")
                time.sleep(0.02)
            wall_s = time.perf_counter() - begun_s
            used = [cpu_s(pid) - was for pid, was in zip(pids, before, strict=True)]
            assert total["unknown"] == 0
            assert total["readings_stored"] == readings, (total["readings_stored"], readings)
            reader.close()
    return {
        "readings_per_s": readings / wall_s,
        "cpu_us_per_reading": sum(used) / readings * 1e6,
        "gateway_cpu_us_per_frame": used[0] / frames * 1e6,
        "processor_cpu_us_per_reading": used[1] / readings * 1e6,
        "readings": readings,
    }


def median_of(runs: list[dict[str, Any]]) -> dict[str, float]:
    """The median of every figure."""
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def run(*, quick: bool = False) -> dict[str, Any]:
    """Throughput with large frames, and what a reading costs with many devices against few."""
    turns = 1 if quick else 3
    scale = 1 if quick else 3
    large = median_of([one_run(200, 8 * scale, 800) for _ in range(turns)])
    few, many = [], []
    for _ in range(turns):
        few.append(one_run(10, 1_000 * scale, 100))
        many.append(one_run(5_000, 2 * scale, 100))
    ratio = statistics.median(m["cpu_us_per_reading"] / f["cpu_us_per_reading"] for m, f in zip(many, few, strict=True))
    return {
        "figures": {
            "readings_per_s": round(large["readings_per_s"]),
            "cpu_us_per_reading": round(large["cpu_us_per_reading"], 4),
            "readings_per_frame": 800,
            "devices": 200,
            "readings_per_s_frames_of_100": round(median_of(few)["readings_per_s"]),
            "cpu_us_per_reading_10_devices": round(median_of(few)["cpu_us_per_reading"], 4),
            "cpu_us_per_reading_5000_devices": round(median_of(many)["cpu_us_per_reading"], 4),
            "gateway_cpu_us_per_frame_of_100": round(median_of(few)["gateway_cpu_us_per_frame"], 2),
            "runs": turns,
        },
        "ratios": {"cost_5000_vs_10_devices": round(ratio, 3)},
    }
