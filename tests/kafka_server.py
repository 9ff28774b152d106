"""A real Kafka for tests: one node for the whole run, started when the first test asks for it."""

import importlib.util
import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from headwater.io.log_kafka_client import KafkaOptions

SCRIPT = Path(__file__).parents[1] / "scripts" / "kafka.py"


def load_script() -> ModuleType:
    """The module scripts/kafka.py; skips the test where Kafka can't be started, fails it under CI."""
    if "kafka_script" not in sys.modules:
        sys.path.insert(0, str(SCRIPT.parent))  # It stands on a module beside it, as when it is run.
        spec = importlib.util.spec_from_file_location("kafka_script", SCRIPT)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["kafka_script"] = module
        spec.loader.exec_module(module)
    script = sys.modules["kafka_script"]
    reason = script.lacking()
    if reason and os.environ.get("CI") == "true":
        pytest.fail(f"no Kafka: {reason}")
    if reason:
        pytest.skip(f"no Kafka: {reason}")
    return script


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """The `Cluster` of one running node. A test that kills or suspends it brings it back."""
    cluster = load_script().Cluster(tmp_path_factory.mktemp("kafka") / "one", is_tied=True)
    cluster.start()
    yield cluster
    cluster.kill(1)


def options_of(cluster: Any, **more: Any) -> KafkaOptions:
    """Options of a log of its own in the cluster; short waits, so that an outage is told soon."""
    fields: dict[str, Any] = {"topic_prefix": f"t{uuid.uuid4().hex[:8]}.", "partitions": 4, "append_timeout_s": 1.0}
    return KafkaOptions(cluster.url.removeprefix("kafka://"), **fields | more)
