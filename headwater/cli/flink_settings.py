"""The `[flink]` table: how Apache Flink hosts the tasks (docs/flink.md)."""

from pathlib import Path

from pydantic import Field

from headwater.io.flink_cluster import ClusterSizes
from headwater.settings import DurationUs, Table

FLINK = "flink://"


class FlinkSettings(Table):
    """Used where `[pipeline] processor` is flink://HOST:PORT, and by `headwater flink`."""

    environment: str = Field(
        ".venv-flink",
        description="Folder of the Python environment with apache-flink; headwater flink install makes it.",
    )
    python: str = Field(
        "", description='Python on the TaskManagers, with apache-flink and pydantic; "": that of the environment.'
    )
    name: str = Field(
        "headwater",
        min_length=1,
        description="Name of the job and of its folder of checkpoints, by which both are found again.",
    )
    parallelism: int = Field(1, ge=1, le=128, description="Parallel tasks; each takes a slot and a Python worker.")
    checkpoint_every_us: DurationUs = Field(
        10_000_000,
        ge=100_000,
        alias="checkpoint_every",
        description="Time between checkpoints; a fault replays so much.",
    )
    checkpoints: str = Field(
        "",
        description='URL of the folder of checkpoints and savepoints, that all TaskManagers reach; "": DATA/flink for a\n'
        "cluster of headwater flink cluster, else as the cluster is configured.",
    )
    bundle_records: int = Field(100, ge=1, description="Python gets so many records at once at the most …")
    bundle_us: DurationUs = Field(
        50_000, ge=1_000, alias="bundle", description="… or what came within this time: it bounds the latency."
    )
    slots: int = Field(2, ge=1, description="headwater flink cluster: parallel tasks per TaskManager.")
    task_managers: int = Field(1, ge=1, description="headwater flink cluster: TaskManagers.")
    task_manager_mib: int = Field(
        1280, ge=768, description="headwater flink cluster: memory of a TaskManager; Python workers come on top."
    )
    job_manager_mib: int = Field(768, ge=640, description="headwater flink cluster: memory of the JobManager.")
    client: dict[str, str] = Field(
        {}, description="Further settings of the job's Kafka clients, by the names of the Java client."
    )

    @property
    def folder(self) -> Path:
        """The environment."""
        return Path(self.environment)

    @property
    def sizes(self) -> ClusterSizes:
        """Of a cluster of ours."""
        return ClusterSizes(self.job_manager_mib, self.task_manager_mib, self.slots, self.task_managers)
