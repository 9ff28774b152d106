"""The same log on Kafka through the job on Flink and through the embedded runner: readings per second, CPU, latency.

    this process ─▶ Kafka: headwater.readings ─▶ Flink (JVM + Python worker) ─▶ Kafka: headwater.results
                                              └▶ embedded runner ─▶ a store that keeps nothing

Everything runs on this machine's cores: broker, JobManager, TaskManager, Python worker. Records hold about 10,000 readings
of 12 devices with eight metrics at 1 Hz, random values, 85 KB packed. The topology is the default one. Rates are taken
between the first tenth of the results and the last, so that nothing of starting is in them. The embedded runner has no
network between itself and its store here, so it is the hardest peer there is.
"""

import importlib.util
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka import Consumer, TopicPartition

from cloud_processor.processor import Processor
from cloud_processor.settings import ProcessorSettings
from headwater import log_topics
from headwater.batch import Batch
from headwater.batch_arrow import batch_to_arrow
from headwater.cli.flink_jobs import PACKAGES, SOURCES
from headwater.errors import SettingsError
from headwater.io.clock_system import SystemClock
from headwater.io.flink_cluster import ClusterSizes, FlinkCluster
from headwater.io.flink_environment import FlinkEnvironment
from headwater.io.flink_job import ExecutionMode, FlinkJob, submit
from headwater.io.log_kafka import KafkaLog, KafkaLogReader
from headwater.io.log_kafka_client import KafkaOptions
from headwater.io.memory_glibc import keep_memory
from headwater.points import StoreWrite
from headwater.ports import LogRecord

ROOT = Path(__file__).parents[1]
S = 1_000_000
T0_US = 1_700_000_000 * S
SHARDS, DEVICES, METRICS, SECONDS, FRAMES = 4, 12, 8, 104, 12
READINGS = FRAMES * METRICS * SECONDS
SETTINGS = ProcessorSettings(partitions=SHARDS)
PATIENCE_S = 300.0
ROUNDS = 60


class NoStore:
    """Takes everything and keeps nothing."""

    def write(self, write: StoreWrite) -> None:
        self.last = write

    def close(self) -> None:
        pass


class NoCheckpoints:
    """Saves nothing."""

    def load(self) -> dict[int, bytes]:
        return {}

    def save(self, checkpoints: Any) -> None:
        pass

    def close(self) -> None:
        pass


def record(shard: int, number: int, rng: np.random.Generator) -> LogRecord:
    """The record `number` of a shard: a frame of every device, the next 104 s of its life."""
    k, n = FRAMES, READINGS
    start_us = T0_US + number * SECONDS * S
    time_us = (
        np.tile(start_us + np.arange(SECONDS) * S, k * METRICS) + np.repeat(np.arange(k), METRICS * SECONDS) * 1000
    )
    end_us = np.full(k, start_us + SECONDS * S)
    batch = Batch(
        shard, tuple(("plant", f"device-{shard}-{i}") for i in range(DEVICES)),
        tuple(f"metric_{i}" for i in range(METRICS)), np.arange(k, dtype=np.int32), np.full(k, 7, np.uint64),
        np.full(k, number + 1), end_us + S, end_us, np.full(k, 3, np.uint8), np.ones(k, np.int64),
        np.arange(k + 1) * METRICS * SECONDS, np.tile(np.repeat(np.arange(METRICS, dtype=np.int32), SECONDS), k), time_us,
        rng.normal(50, 5, n), np.zeros(n, np.uint8), np.zeros(k + 1, np.int64), np.zeros((k, 4), np.int64),
        np.full(k, 900, np.int32), int(end_us[0]) + S,
    )  # fmt: skip
    return LogRecord(log_topics.READINGS, shard, b"", batch_to_arrow(batch, compression="lz4"), start_us)


@contextmanager
def kafka(folder: Path) -> Iterator[str]:
    """A broker; gives its address."""
    spec = importlib.util.spec_from_file_location("kafka_script", ROOT / "scripts" / "kafka.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    sys.modules["kafka_script"] = script
    spec.loader.exec_module(script)
    if reason := script.lacking():
        raise SettingsError(f"no Kafka to measure on: {reason}")
    cluster = script.Cluster(folder / "kafka")
    cluster.start()
    try:
        yield cluster.url.removeprefix("kafka://")
    finally:
        cluster.kill(1)


class Log:
    """A log of its own topics, filled once."""

    def __init__(self, servers: str, prefix: str) -> None:
        self.options = KafkaOptions(servers, topic_prefix=prefix, partitions=SHARDS)
        self.log = KafkaLog(self.options)
        self.reader = KafkaLogReader(self.options)
        self._rng = np.random.default_rng(1)
        self._number = 0
        self.record_bytes = 0

    def fill(self, records: int) -> None:
        for _ in range(records // SHARDS):
            group = [record(shard, self._number, self._rng) for shard in range(SHARDS)]
            self._number += 1
            self.record_bytes = len(group[0].value)
            self.log.append(group)

    def results(self) -> int:
        return sum(self.reader.end(log_topics.RESULTS, shard) for shard in range(SHARDS))

    def append_times_ms(self, log_topic: str) -> np.ndarray:
        """When the broker appended the newest records, in order of partition and offset."""
        consumer = Consumer(
            {"bootstrap.servers": self.options.servers, "group.id": "bench", "enable.auto.commit": False}
        )
        found = []
        for shard in range(SHARDS):
            place = TopicPartition(self.options.kafka_topic(log_topic), shard, 0)
            end = consumer.get_watermark_offsets(place)[1]
            consumer.assign([place])
            while len(found) < (shard + 1) * end:
                found += [message.timestamp()[1] for message in consumer.consume(100, 1.0)]
        consumer.close()
        return np.array(found)

    def close(self) -> None:
        self.reader.close()
        self.log.close()


def embedded(log: Log, records: int) -> dict[str, float]:
    """Wall and CPU time of the embedded runner over the whole log."""
    processor = Processor(SETTINGS, log.reader, NoStore(), NoCheckpoints(), SystemClock())
    while not (done := processor.step_once()):
        pass
    wall, cpu = time.monotonic(), time.process_time()
    left = records - done
    while left > 0:
        left -= processor.step_once()
    n = (records - done) * READINGS
    return {"rate": n / (time.monotonic() - wall), "cpu_ns": (time.process_time() - cpu) / n * 1e9}


def cpu_s(pids: list[int]) -> float:
    """User and system time of processes."""
    total = 0.0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


class Job:
    """The job on the cluster, over one log."""

    def __init__(
        self, log: Log, cluster: FlinkCluster, folder: Path, mode: ExecutionMode, parallelism: int = 1
    ) -> None:
        self.log, self.cluster = log, cluster
        environment = FlinkEnvironment(ROOT / ".venv-flink")
        host = {"processor": SETTINGS.model_dump(by_alias=True), "incarnation": "i", "run": "r", "instance": "bench"}
        job = FlinkJob(
            "bench", log.options.servers, log.options.kafka_topic(log_topics.READINGS),
            log.options.kafka_topic(log_topics.RESULTS), SHARDS, str(environment.python), "i", host,
            parallelism=parallelism, mode=mode,
        )  # fmt: skip
        self.id = submit(
            job, cluster.url, environment, program=SOURCES / "job.py", packages=PACKAGES, folder=folder / "submit"
        )

    def wait(self, results: int) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while self.log.results() < results:
            if time.monotonic() > deadline_s:
                raise SettingsError(f"no more results: {self.cluster.rest.status(self.id)}")
            time.sleep(0.02)

    def measure(self, records: int) -> dict[str, float]:
        """Rate and CPU between a tenth of the results and all of them."""
        self.wait(records // 10)
        jvm, python = self.cluster.pids("taskmanager"), self.cluster.workers()
        begin, wall, java, worker = self.log.results(), time.monotonic(), cpu_s(jvm), cpu_s(python)
        self.wait(records)
        n = (records - begin) * READINGS
        return {
            "rate": n / (time.monotonic() - wall),
            "jvm_ns": (cpu_s(jvm) - java) / n * 1e9,
            "python_ns": (cpu_s(python) - worker) / n * 1e9,
            **{name: float(value) for name, value in self.cluster.rest.status(self.id).items() if "checkpoint" in name},
        }

    def latencies_ms(self) -> np.ndarray:
        """Times from a record's append to that of its results, at 20 records a second."""
        self.log.fill(SHARDS)
        self.wait(SHARDS)
        for _ in range(ROUNDS):
            self.log.fill(SHARDS)
            time.sleep(SHARDS / 20)
        self.wait((1 + ROUNDS) * SHARDS)
        found = self.log.append_times_ms(log_topics.RESULTS) - self.log.append_times_ms(log_topics.READINGS)
        # The first record of each shard waited for the job to start.
        return found.reshape(SHARDS, 1 + ROUNDS)[:, 1:]

    def cancel(self) -> None:
        self.cluster.rest.cancel(self.id)
        while self.cluster.rest.jobs("bench"):
            time.sleep(0.05)


def run(*, quick: bool = False) -> dict[str, dict[str, float]]:
    """Measures; `quick` for a first look, in process mode only."""
    records = 400 if quick else 1600
    environment = FlinkEnvironment(ROOT / ".venv-flink")
    environment.check(SOURCES)
    keep_memory()
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name, kafka(Path(name)) as servers:
        folder = Path(name)
        source = Log(servers, "full.")
        source.fill(records)
        ours = embedded(source, records)
        cluster = FlinkCluster(folder / "flink", environment)
        cluster.start(ClusterSizes())
        try:
            job = Job(source, cluster, folder, "process")
            process = job.measure(records)
            job.cancel()
            figures |= _latency(servers, cluster, folder, "process")
            if not quick:
                for prefix, mode, parallelism in (("thread", "thread", 1), ("parallel_2", "process", 2)):
                    other = Log(servers, f"{prefix}.")
                    other.fill(records)
                    job = Job(other, cluster, folder, mode, parallelism)  # type: ignore[arg-type]
                    found = job.measure(records)
                    figures |= {f"{prefix}_readings_per_s": found["rate"]}
                    figures |= {f"{prefix}_cpu_ns_per_reading": found["jvm_ns"] + found["python_ns"]}
                    job.cancel()
                    other.close()
                found = _latency(servers, cluster, folder, "thread")
                figures |= {f"thread_{name}": value for name, value in found.items()}
        finally:
            cluster.stop()
        source.close()
        return {
            "figures": {
                "readings_per_s": process["rate"],
                "record_bytes": source.record_bytes,
                "readings_per_record": READINGS,
                "cpu_ns_per_reading_jvm": process["jvm_ns"],
                "cpu_ns_per_reading_python": process["python_ns"],
                "embedded_readings_per_s": ours["rate"],
                "embedded_cpu_ns_per_reading": ours["cpu_ns"],
                "checkpoint_bytes": process["checkpoint_bytes"],
                "checkpoint_ms": process["checkpoint_ms"],
                **figures,
            },
            "ratios": {
                "vs_embedded": process["rate"] / ours["rate"],
                "vs_embedded_cpu": ours["cpu_ns"] / (process["jvm_ns"] + process["python_ns"]),
                "vs_embedded_cpu_python_only": ours["cpu_ns"] / process["python_ns"],
            },
        }


def _latency(servers: str, cluster: FlinkCluster, folder: Path, mode: ExecutionMode) -> dict[str, float]:
    log = Log(servers, f"slow-{mode}.")
    job = Job(log, cluster, folder, mode)
    found = job.latencies_ms()
    job.cancel()
    log.close()
    return {f"latency_p{q}_ms": float(np.percentile(found, q)) for q in (50, 99)}


if __name__ == "__main__":
    for kind, values in run(quick="--quick" in sys.argv).items():
        for name, value in values.items():
            print(f"{kind[:-1]:7} {name:40} {value:16.3f}")
