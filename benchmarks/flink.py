"""The same log on Kafka through the job on Flink and through the embedded runner: readings per second, CPU, latency.

    this process ─▶ Kafka: headwater.readings ─▶ Flink (JVM + Python worker) ─▶ Kafka: headwater.results
                                              └▶ embedded runner ─▶ a store that keeps nothing

Everything runs on this machine's cores: broker, JobManager, TaskManager, Python worker. Records hold about 10,000 readings
of 12 devices with eight metrics at 10 Hz, random values, 95 KB packed; `hz_1_` is the same at 1 Hz, where there is a row of
a window for ten readings. The topology is the default one. Rates are taken between the first tenth of the results and
the last, so that nothing of starting is in them; they are of the cores that others leave. The embedded runner has no
network between itself and its store here, so it is the hardest peer there is. Latencies are the broker's own times, from a
record's append to that of its results, at 20 records a second.
"""

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka import Consumer, TopicPartition

from benchmarks import _kafka
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
SHARDS, DEVICES, METRICS, EACH, FRAMES = 4, 12, 8, 104, 12
READINGS = FRAMES * METRICS * EACH
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


def record(shard: int, number: int, rng: np.random.Generator, rate_hz: int = 10) -> LogRecord:
    """The record `number` of a shard: a frame of every device with the next 104 readings of each metric."""
    k, n, period_us = FRAMES, READINGS, S // rate_hz
    start_us = T0_US + number * EACH * period_us
    own_us = np.repeat(np.arange(k), METRICS * EACH) * 1000
    time_us = np.tile(start_us + np.arange(EACH) * period_us, k * METRICS) + own_us
    end_us = np.full(k, start_us + EACH * period_us)
    batch = Batch(
        shard, tuple(("plant", f"device-{shard}-{i}") for i in range(DEVICES)),
        tuple(f"metric_{i}" for i in range(METRICS)), np.arange(k, dtype=np.int32), np.full(k, 7, np.uint64),
        np.full(k, number + 1), end_us + S, end_us, np.full(k, 3, np.uint8), np.ones(k, np.int64),
        np.arange(k + 1) * METRICS * EACH, np.tile(np.repeat(np.arange(METRICS, dtype=np.int32), EACH), k), time_us,
        rng.normal(50, 5, n), np.zeros(n, np.uint8), np.zeros(k + 1, np.int64), np.zeros((k, 4), np.int64),
        np.full(k, 900, np.int32), int(end_us[0]) + S,
    )  # fmt: skip
    return LogRecord(log_topics.READINGS, shard, b"", batch_to_arrow(batch, compression="lz4"), start_us)


class Log:
    """A log of its own topics, filled once."""

    def __init__(self, servers: str, prefix: str, rate_hz: int = 10) -> None:
        self.options = KafkaOptions(servers, topic_prefix=prefix, partitions=SHARDS)
        self.log = KafkaLog(self.options)
        self.reader = KafkaLogReader(self.options)
        self._rng = np.random.default_rng(1)
        self._number = 0
        self._rate_hz = rate_hz
        self.record_bytes = 0

    def fill(self, records: int) -> None:
        for _ in range(records // SHARDS):
            group = [record(shard, self._number, self._rng, self._rate_hz) for shard in range(SHARDS)]
            self._number += 1
            self.record_bytes = len(group[0].value)
            self.log.append(group)

    def results(self) -> int:
        return sum(self.reader.end(log_topics.RESULTS, shard) for shard in range(SHARDS))

    def append_times_ms(self, log_topic: str) -> np.ndarray:
        """When the broker appended the newest ROUNDS records of each partition, in order of partition and offset."""
        consumer = Consumer(
            {"bootstrap.servers": self.options.servers, "group.id": "bench", "enable.auto.commit": False}
        )
        found = []
        for shard in range(SHARDS):
            place = TopicPartition(self.options.kafka_topic(log_topic), shard)
            place.offset = consumer.get_watermark_offsets(place)[1] - ROUNDS
            consumer.assign([place])
            while len(found) < (shard + 1) * ROUNDS:
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
        self, log: Log, cluster: FlinkCluster, folder: Path, *, mode: ExecutionMode = "process", parallelism: int = 1
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
        n, status = (records - begin) * READINGS, self.cluster.rest.status(self.id)
        return {
            "readings_per_s": n / (time.monotonic() - wall),
            "cpu_ns_per_reading_jvm": (cpu_s(jvm) - java) / n * 1e9,
            "cpu_ns_per_reading_python": (cpu_s(python) - worker) / n * 1e9,
            **{name: float(status[name]) for name in ("checkpoint_bytes", "checkpoint_ms")},
        }

    def latencies_ms(self) -> np.ndarray:
        """Times from a record's append to that of its results, at 20 records a second."""
        begin = self.log.results()
        for _ in range(ROUNDS):
            self.log.fill(SHARDS)
            time.sleep(SHARDS / 20)
        self.wait(begin + ROUNDS * SHARDS)
        return self.log.append_times_ms(log_topics.RESULTS) - self.log.append_times_ms(log_topics.READINGS)

    def cancel(self) -> None:
        self.cluster.rest.cancel(self.id)
        while self.cluster.rest.jobs("bench"):
            time.sleep(0.05)


def measured(log: Log, cluster: FlinkCluster, folder: Path, records: int, **how: Any) -> dict[str, float]:
    """Rate, CPU and latencies of a job of its own over one full log."""
    job = Job(log, cluster, folder, **how)
    found = job.measure(records)
    late = job.latencies_ms()
    job.cancel()
    return found | {f"latency_p{q}_ms": float(np.percentile(late, q)) for q in (50, 99)}


def run(*, quick: bool = False) -> dict[str, dict[str, float]]:
    """Measures; `quick` for a first look, in process mode only."""
    records = 400 if quick else 3000
    environment = FlinkEnvironment(ROOT / ".venv-flink")
    environment.check(SOURCES)
    keep_memory()
    # Threads last: a TaskManager that had Python inside once can't have it a second time (decision 0013).
    hows: dict[str, dict[str, Any]] = {"": {}}
    if not quick:
        hows |= {"parallel_2_": {"parallelism": 2}, "hz_1_": {}, "thread_": {"mode": "thread"}}
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name, _kafka.running(Path(name)) as url:
        folder = Path(name)
        cluster = FlinkCluster(folder / "flink", environment)
        cluster.start(ClusterSizes())
        try:
            for prefix, how in hows.items():
                log = Log(url.removeprefix("kafka://"), f"{prefix}log.", rate_hz=1 if prefix == "hz_1_" else 10)
                log.fill(records)
                ours = embedded(log, records)
                found[prefix] = measured(log, cluster, folder, records, **how)
                found[prefix] |= {
                    "embedded_readings_per_s": ours["rate"],
                    "embedded_cpu_ns_per_reading": ours["cpu_ns"],
                }
                record_bytes = log.record_bytes
                log.close()
        finally:
            cluster.stop()
    one = found[""]
    return {
        "figures": {
            "record_bytes": record_bytes,
            "readings_per_record": READINGS,
            **{prefix + name: value for prefix, part in found.items() for name, value in part.items()},
            "readings_per_s_per_core_of_python": 1e9 / one["cpu_ns_per_reading_python"],
        },
        "ratios": {
            "vs_embedded": one["readings_per_s"] / one["embedded_readings_per_s"],
            "vs_embedded_cpu_python": one["embedded_cpu_ns_per_reading"] / one["cpu_ns_per_reading_python"],
            "vs_embedded_cpu": one["embedded_cpu_ns_per_reading"]
            / (one["cpu_ns_per_reading_python"] + one["cpu_ns_per_reading_jvm"]),
        },
    }


if __name__ == "__main__":
    for kind, values in run(quick="--quick" in sys.argv).items():
        for name, value in values.items():
            print(f"{kind[:-1]:7} {name:40} {value:16.3f}")
