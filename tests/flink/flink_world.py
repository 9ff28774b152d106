"""A log on a real Kafka, a job on a real Flink, a sink into a store, and the embedded runner on the same log."""

import secrets
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "property"))

from shard_logs import random_log, records  # noqa: E402 — the tests of tasks share their random shards.

from cloud_processor.processor import Processor  # noqa: E402
from cloud_processor.settings import ProcessorSettings  # noqa: E402
from cloud_processor.sink import Sink  # noqa: E402
from headwater import log_topics  # noqa: E402
from headwater.batch_arrow import batch_to_arrow  # noqa: E402
from headwater.errors import ConnectError  # noqa: E402
from headwater.io.flink_cluster import FlinkCluster  # noqa: E402
from headwater.io.flink_environment import FlinkEnvironment  # noqa: E402
from headwater.io.flink_job import FlinkJob, submit  # noqa: E402
from headwater.io.flink_rest import NotReadyError  # noqa: E402
from headwater.io.log_kafka import KafkaLog, KafkaLogReader  # noqa: E402
from headwater.io.log_kafka_client import KafkaOptions  # noqa: E402
from headwater.io.store_memory import MemoryStore  # noqa: E402
from headwater.ports import LogRecord  # noqa: E402
from headwater.testing import ManualClock  # noqa: E402

PARTITIONS = 4
SOURCES = ROOT / "cloud_processor" / "flink"
PACKAGES = [ROOT / "headwater", ROOT / "cloud_processor"]
SETTINGS = ProcessorSettings(partitions=PARTITIONS, windows=("10s", "1m/10s", "session:7s"), health_baseline=10)
PATIENCE_S = 90.0


class Drawer:
    """Checkpoints in memory."""

    def __init__(self) -> None:
        self.saved: dict[int, bytes] = {}

    def load(self) -> dict[int, bytes]:
        return dict(self.saved)

    def save(self, checkpoints: Any) -> None:
        self.saved |= checkpoints

    def close(self) -> None:
        pass


def wait_until(holds: Callable[[], Any], what: Callable[[], object] | str) -> Any:
    """Asks until it holds, by the other side's own word; `what` tells how things stand if it never does."""
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        if found := holds():
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {PATIENCE_S:.0f} s: {what() if callable(what) else what}")


class World:
    """One log with its own topics; jobs come and go on the cluster."""

    def __init__(self, servers: str, cluster: FlinkCluster, environment: FlinkEnvironment, folder: Path) -> None:
        self.cluster, self.environment, self.folder = cluster, environment, folder
        self.name = f"t{secrets.token_hex(4)}"
        self.options = KafkaOptions(servers, topic_prefix=f"{self.name}.", partitions=PARTITIONS)
        self.log = KafkaLog(self.options)
        self.reader = KafkaLogReader(self.options)
        self.store = MemoryStore()
        self.drawer = Drawer()
        self.job = ""

    def record(self, *, devices: int, frames: int) -> int:
        """Fills the log with random shards and returns how many records that are."""
        (entries,) = self.parts(1, devices=devices, frames=frames)
        self.log.append(entries)
        return len(entries)

    def parts(
        self, count: int, *, devices: int, frames: int, per_record: int = 4, seed: int = 1
    ) -> list[list[LogRecord]]:
        """Records of random shards in log order, cut into equal parts that a test appends when it is time."""
        entries = []
        for shard in range(PARTITIONS):
            rng = np.random.default_rng([seed, shard])
            for number, batch in enumerate(records(rng, random_log(rng, devices=devices, frames=frames), per_record)):
                mine = tuple((site, f"{name}-{shard}") for site, name in batch.devices)
                value = batch_to_arrow(replace(batch, devices=mine, shard=shard), compression="lz4")
                at = LogRecord(log_topics.READINGS, shard, str(shard).encode(), value, batch.made_us)
                entries.append((number, replace(at, value=b"rubbish") if number == 5 else at))
        entries.sort(key=lambda entry: entry[0])
        size = -(-len(entries) // count)
        return [[entry for _, entry in entries[at : at + size]] for at in range(0, len(entries), size)]

    def append_while_uncommitted(self, part: list[LogRecord]) -> None:
        """Appends right after a checkpoint and returns when results of it are written that no checkpoint knows of."""
        checkpoints = self.status()["checkpoints"]
        wait_until(lambda: self.status()["checkpoints"] > checkpoints, "a checkpoint")
        written = self.results()
        self.log.append(part)
        wait_until(lambda: self.results() > written, "results")

    def submit(
        self, *, parallelism: int = 1, restore: str = "", mode: Any = "process", checkpoint_every_ms: int = 300
    ) -> str:
        """Submits the job and waits until all of its tasks run."""
        host = {
            "processor": SETTINGS.model_dump(by_alias=True),
            "incarnation": self.log.incarnation,
            "run": self.name,
            "instance": "test",
        }
        job = FlinkJob(
            self.name, self.options.servers, self.options.kafka_topic(log_topics.READINGS),
            self.options.kafka_topic(log_topics.RESULTS), PARTITIONS, str(self.environment.python), self.log.incarnation, host,
            parallelism=parallelism, checkpoint_every_ms=checkpoint_every_ms, mode=mode,
        )  # fmt: skip
        self.job = submit(
            job, self.cluster.url, self.environment, program=SOURCES / "job.py", packages=PACKAGES,
            folder=self.folder, restore=restore,
        )  # fmt: skip
        self.wait_running()
        return self.job

    def status(self) -> dict[str, Any]:
        return self.cluster.rest.status(self.job)

    def wait_running(self) -> None:
        def runs() -> bool:
            try:
                status = self.status()
            except NotReadyError:
                return False
            return bool(status["state"] == "RUNNING" and status["tasks_running"] == status["tasks"] > 0)

        wait_until(runs, lambda: f"the job runs: {self.status()}")

    def results(self) -> int:
        """How many results there are, those written again included; as far as the broker tells just now."""
        try:
            return sum(self.reader.end(log_topics.RESULTS, shard) for shard in range(PARTITIONS))
        except ConnectError:
            return 0

    def drain(self) -> None:
        """Lets a sink take what there is."""
        sink = Sink(SETTINGS, self.reader, self.store, self.drawer, ManualClock(0))
        while sink.step_once():
            pass
        sink.save()

    def wait_all(self) -> None:
        """Waits until the store has reached the end of all shards."""

        def has_all() -> bool:
            try:
                self.drain()
                return all(
                    self.store.positions.get((self.log.incarnation, log_topics.READINGS, shard), 0)
                    == self.reader.end(log_topics.READINGS, shard)
                    for shard in range(PARTITIONS)
                )
            except ConnectError:
                return False

        wait_until(has_all, lambda: f"all results are stored: {self.store.positions} {self.status()}")

    def close(self) -> None:
        for job in self.cluster.rest.jobs(self.name):
            self.cluster.rest.cancel(job)
        wait_until(lambda: not self.cluster.rest.jobs(self.name), "the job is gone")
        self.reader.close()
        self.log.close()

    def embedded(self) -> tuple[Any, ...]:
        """What the embedded runner stores of the same log."""
        store = MemoryStore()
        processor = Processor(SETTINGS, self.reader, store, Drawer(), ManualClock(0), "test")
        while processor.step_once():
            pass
        return content(store)


def content(store: MemoryStore) -> tuple[Any, ...]:
    """All that a store holds, floats to their last bit."""
    return (
        store.frames,
        {name: sorted(repr(row) for row in rows.items()) for name, rows in store.points.items()},
        sorted(map(repr, store.accounts.items())),
        store.gaps,
        sorted(store.dead_letters, key=lambda letter: (letter.at_us, letter.source, letter.detail)),
        store.positions,
    )
