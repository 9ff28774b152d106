"""A real Flink on loopback for the tests of this folder: one cluster per module, started when its first test asks."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from flink_world import ROOT, SOURCES, World

from headwater.io.flink_cluster import ClusterSizes, FlinkCluster
from headwater.io.flink_environment import FlinkEnvironment


@pytest.fixture(scope="session")
def environment() -> FlinkEnvironment:
    """The environment of PyFlink; skips where it is not installed, fails under CI."""
    found = FlinkEnvironment(ROOT / ".venv-flink")
    trouble = found.lacking(SOURCES)
    if trouble and os.environ.get("CI") == "true":
        pytest.fail(f"no Flink: {trouble}")
    if trouble:
        pytest.skip(f"no Flink: {trouble}")
    return found


@pytest.fixture(scope="module")
def cluster(environment: FlinkEnvironment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlinkCluster]:
    """A running cluster: one TaskManager with two slots. A test that kills something brings it back."""
    made = FlinkCluster(tmp_path_factory.mktemp("flink"), environment)
    made.start(ClusterSizes())
    yield made
    made.stop()


@pytest.fixture
def world(kafka: object, cluster: FlinkCluster, environment: FlinkEnvironment, tmp_path: Path) -> Iterator[World]:
    """A log of its own."""
    servers = kafka.url.removeprefix("kafka://")  # type: ignore[attr-defined]
    made = World(servers, cluster, environment, tmp_path)
    yield made
    made.close()
