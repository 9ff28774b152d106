"""Hands the job to a Flink cluster: settings as JSON, our Python as a zip, the jars, and the state to go on from."""

import json
import os
import re
import subprocess
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import unquote, urlsplit

from headwater.errors import ConnectError
from headwater.io.flink_configuration import LOGGING_TO_CONSOLE
from headwater.io.flink_environment import FlinkEnvironment
from headwater.io.flink_rest import FlinkRest

MAX_PARALLELISM: Final = 128  # Of key groups: fixed for the life of the state.
FETCH_BYTES: Final = 8 * 1024 * 1024
BUFFER_BYTES: Final = 32 * 1024 * 1024
ExecutionMode = Literal["process", "thread"]


@dataclass(frozen=True, slots=True)
class FlinkJob:
    """What a submission says.

    Attributes:
        name: by which the job is found again.
        servers: Kafka, "host:port,…".
        readings, results: names of the topics in the cluster.
        partitions: of the log.
        host: what `cloud_processor.flink_host.host_for` takes.
        parallelism: parallel tasks.
        checkpoint_every_ms: time between checkpoints.
        mode: where Python runs (docs/decisions/0013-flink-process-mode.md).
        bundle_records, bundle_ms: Python gets so many records at once, or what came in so long.
        record_bytes_max: largest record that the topics take.
        client: further settings of both Kafka clients, by the names of the Java client (security.protocol, …).
        incarnation: of the log; offsets of another one are not gone on from.
        python: the interpreter on the TaskManagers, with apache-flink and pydantic.
        checkpoints: URL of the folder of checkpoints and savepoints; "": as the cluster is configured.
    """

    name: str
    servers: str
    readings: str
    results: str
    partitions: int
    python: str
    incarnation: str
    host: Mapping[str, Any] = field(default_factory=dict)
    parallelism: int = 1
    checkpoint_every_ms: int = 10_000
    mode: ExecutionMode = "process"
    bundle_records: int = 100
    bundle_ms: int = 50
    record_bytes_max: int = 8 * 1024 * 1024
    client: Mapping[str, str] = field(default_factory=dict)
    checkpoints: str = ""


def submit(
    job: FlinkJob,
    url: str,
    environment: FlinkEnvironment,
    *,
    program: Path,
    packages: Sequence[Path],
    folder: Path,
    restore: str = "",
) -> str:
    """Submits the job and returns its id.

    Args:
        job: see there.
        url: of the cluster, flink://host:8081.
        environment: whose client submits.
        program: the job's Python file.
        packages: folders of the Python packages that workers import.
        folder: for what is handed over.
        restore: savepoint or checkpoint to go on from; "" begins without state.

    Raises:
        ConnectError: the cluster is away or refused the job.
    """
    rest = FlinkRest(url)
    rest.overview()
    folder.mkdir(parents=True, exist_ok=True)
    code, settings = folder / "headwater-code.zip", folder / "job.json"
    zip_packages(packages, code)
    settings.touch(mode=0o600)
    settings.write_text(json.dumps(_settings(job, environment)), encoding="utf-8")
    command = [str(environment.home / "bin" / "flink"), "run", "--detached", "--jobmanager", rest.address]
    command += [f"-D{name}={value}" for name, value in _options(job).items()]
    # Offsets of a log that was replaced find no operator any more and are left behind; the tasks' state is not.
    command += ["--fromSavepoint", restore, "--allowNonRestoredState"] if restore else []
    command += ["--jarfile", str(environment.connector), "-pyfs", str(code), "-py", str(program), str(settings)]
    python = str(environment.python)
    done = subprocess.run(
        [*command[:2], "-pyclientexec", python, *command[2:]],
        env=os.environ
        | {"FLINK_CONF_DIR": str(_client_configuration(folder, environment)), "FLINK_LOG_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"submitted with JobID ([0-9a-f]{32})", done.stdout)
    if done.returncode or found is None:
        raise ConnectError(f"Flink at {rest.address} did not take the job: {_reason(done.stdout + done.stderr)}")
    return found[1]


def newest_state(checkpoints: str) -> str:
    """The newest complete savepoint or retained checkpoint under a folder of this machine (file:///…); "" if none is."""
    parts = urlsplit(checkpoints)
    if parts.scheme != "file":
        return ""
    found = [
        *Path(unquote(parts.path)).glob("**/chk-*/_metadata"),
        *Path(unquote(parts.path)).glob("**/savepoint-*/_metadata"),
    ]
    newest = max(found, key=lambda path: path.stat().st_mtime_ns, default=None)
    return "" if newest is None else newest.parent.as_uri()


def zip_packages(packages: Sequence[Path], target: Path) -> None:
    """Writes Python packages as one zip, the same bytes for the same sources."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as out:
        for package in packages:
            for path in sorted(package.rglob("*.py")):
                entry = zipfile.ZipInfo(path.relative_to(package.parent).as_posix())
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = 0o644 << 16
                out.writestr(entry, path.read_bytes())


def _settings(job: FlinkJob, environment: FlinkEnvironment) -> dict[str, Any]:
    """What `job.py` reads."""
    return {
        "name": job.name,
        "servers": job.servers,
        "partitions": job.partitions,
        "parallelism": job.parallelism,
        "max_parallelism": MAX_PARALLELISM,
        "jars": [environment.connector.as_uri(), environment.own_jar.as_uri()],
        "host": dict(job.host),
        "readings": job.readings,
        "results": job.results,
        "incarnation": job.incarnation,
        # A TaskManager's heap is small: neither client may keep more than a few MiB.
        "consumer": {
            **job.client,
            "fetch.max.bytes": str(max(FETCH_BYTES, job.record_bytes_max)),
            "max.partition.fetch.bytes": str(FETCH_BYTES // 4),
        },
        "producer": {
            **job.client,
            "acks": "all",
            "enable.idempotence": "true",
            "linger.ms": "5",
            "buffer.memory": str(max(BUFFER_BYTES, 2 * job.record_bytes_max)),
            "max.request.size": str(job.record_bytes_max),
        },
    }


def _options(job: FlinkJob) -> dict[str, str]:
    options = {
        "execution.checkpointing.interval": f"{job.checkpoint_every_ms}ms",
        "execution.checkpointing.mode": "EXACTLY_ONCE",
        # A barrier that overtakes records would overtake the marks that bring state in front of it.
        "execution.checkpointing.unaligned.enabled": "false",
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
        # Our operators neither keep nor change what they were given, so nobody needs a copy.
        "pipeline.object-reuse": "true",
        "restart-strategy.type": "exponential-delay",
        "restart-strategy.exponential-delay.initial-backoff": "500ms",
        "restart-strategy.exponential-delay.max-backoff": "10s",
        "restart-strategy.exponential-delay.reset-backoff-threshold": "60s",
        "python.executable": job.python,
        "python.execution-mode": job.mode,
        "python.fn-execution.bundle.size": str(job.bundle_records),
        "python.fn-execution.bundle.time": str(job.bundle_ms),
    }
    if job.checkpoints:
        options["execution.checkpointing.dir"] = job.checkpoints
        options["execution.checkpointing.savepoint-dir"] = job.checkpoints
    return options


def _client_configuration(folder: Path, environment: FlinkEnvironment) -> Path:
    """The client's own configuration: the wheel's, with messages that go to the terminal instead of into the wheel."""
    configuration = folder / "client-conf"
    configuration.mkdir(exist_ok=True)
    for path in (environment.home / "conf").iterdir():
        (configuration / path.name).write_bytes(path.read_bytes())
    (configuration / "log4j-cli.properties").write_text(LOGGING_TO_CONSOLE, encoding="utf-8")
    return configuration


def _reason(said: str) -> str:
    """What a person needs of a long double traceback: the lines that name an error, the first ones of them."""
    lines = [
        line.strip()
        for line in said.splitlines()
        if re.match(r"(Caused by: )?[\w.$]+(Exception|Error)\b", line.strip())
    ]
    return " | ".join(dict.fromkeys(lines))[:1500] or said[-1500:]
