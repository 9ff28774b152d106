"""The configuration of one Flink process: what its Java reads in `conf`, the jars in `lib`, and its environment.

folder/conf/config.yaml, log4j-console.properties     folder/lib ─▶ links into the environment     folder/messages
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from headwater.io.flink_environment import FlinkEnvironment

# Java only moves records here: the optimising compiler costs more than it gives (docs/decisions/0013-flink-process-mode.md).
JAVA_OPTIONS: Final = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"
_LAYOUT: Final = "PatternLayout", "%d{ISO8601} %p %c{1} %m%n"
LOGGING: Final = f"""\
rootLogger.level = INFO
rootLogger.appenderRef.file.ref = FILE
appender.file.name = FILE
appender.file.type = RollingFile
appender.file.fileName = ${{sys:log.file}}
appender.file.filePattern = ${{sys:log.file}}.%i
appender.file.layout.type = {_LAYOUT[0]}
appender.file.layout.pattern = {_LAYOUT[1]}
appender.file.policies.type = SizeBasedTriggeringPolicy
appender.file.policies.size = 8MB
appender.file.strategy.type = DefaultRolloverStrategy
appender.file.strategy.max = 3
"""
# In a container messages belong on its output.
LOGGING_TO_CONSOLE: Final = f"""\
rootLogger.level = INFO
rootLogger.appenderRef.console.ref = CONSOLE
appender.console.name = CONSOLE
appender.console.type = Console
appender.console.layout.type = {_LAYOUT[0]}
appender.console.layout.pattern = {_LAYOUT[1]}
"""
_QUIET: Final = """\
# It complains at every checkpoint of a name that the Kafka sink uses twice.
logger.metrics.name = org.apache.flink.metrics.MetricGroup
logger.metrics.level = ERROR
logger.kafka.name = org.apache.flink.kafka
logger.kafka.level = WARN
"""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the processes of a cluster reach each other.

    Attributes:
        job_manager: host under which TaskManagers and clients reach the JobManager.
        bind: address that each process listens on.
        task_manager: host under which a TaskManager is reached; "" lets it find that out by itself.
        rest, rpc, blob: ports of the JobManager.
    """

    job_manager: str
    bind: str
    task_manager: str
    rest: int
    rpc: int
    blob: int


def settings_of(
    addresses: Addresses,
    *,
    job_manager_mib: int,
    task_manager_mib: int,
    slots: int,
    checkpoints: str,
    savepoints: str,
    python: Path,
) -> dict[str, object]:
    """Returns Flink's settings by their names.

    Args:
        addresses: see there.
        job_manager_mib: memory of the JobManager.
        task_manager_mib: memory of a TaskManager; Python workers come on top.
        slots: parallel tasks per TaskManager.
        checkpoints: URL of their folder.
        savepoints: URL of their folder.
        python: interpreter of the workers.
    """
    found = {
        "jobmanager.rpc.address": addresses.job_manager,
        "jobmanager.rpc.port": addresses.rpc,
        "jobmanager.bind-host": addresses.bind,
        "jobmanager.memory.process.size": f"{job_manager_mib}m",
        "jobmanager.memory.jvm-metaspace.size": "192m",
        "jobmanager.execution.failover-strategy": "region",
        # Jobs bring the same jars for clusters elsewhere; here those of lib are used.
        "classloader.resolve-order": "parent-first",
        "rest.address": addresses.job_manager,
        "rest.bind-address": addresses.bind,
        "rest.port": addresses.rest,
        "rest.bind-port": addresses.rest,
        "blob.server.port": addresses.blob,
        "taskmanager.bind-host": addresses.bind,
        "taskmanager.memory.process.size": f"{task_manager_mib}m",
        "taskmanager.memory.network.min": "64m",
        "taskmanager.memory.network.max": "64m",
        "taskmanager.memory.jvm-metaspace.size": "192m",
        "taskmanager.memory.managed.size": "64m",
        "taskmanager.numberOfTaskSlots": slots,
        "heartbeat.interval": 1000,
        "heartbeat.timeout": 5000,
        "execution.checkpointing.dir": checkpoints,
        "execution.checkpointing.savepoint-dir": savepoints,
        "python.executable": python,
        "python.client.executable": python,
        "env.java.opts.jobmanager": JAVA_OPTIONS,
        "env.java.opts.taskmanager": JAVA_OPTIONS,
    }
    return found | ({"taskmanager.host": addresses.task_manager} if addresses.task_manager else {})


def write_configuration(
    folder: Path, environment: FlinkEnvironment, settings: Mapping[str, object], logging: str = LOGGING
) -> None:
    """Writes what `variables` point to, in the place of what was there.

    Args:
        folder: of the process or the cluster.
        environment: where Flink is installed.
        settings: by Flink's names.
        logging: of log4j: where messages go.
    """
    configuration = folder / "conf"
    shutil.rmtree(configuration, ignore_errors=True)
    shutil.copytree(environment.home / "conf", configuration)
    shipped = (configuration / "config.yaml").read_text(encoding="utf-8")
    lines = {"env.java.opts.all": _java_options(shipped), **settings}
    text = "".join(f"{name}: {value}\n" for name, value in lines.items())
    (configuration / "config.yaml").write_text(text, encoding="utf-8")
    (configuration / "log4j-console.properties").write_text(logging + _QUIET, encoding="utf-8")
    _share_jars(folder / "lib", environment.shared_jars)
    (folder / "messages").mkdir(exist_ok=True)


def variables(folder: Path, environment: FlinkEnvironment) -> dict[str, str]:
    """The environment of a Flink process over a folder that `write_configuration` filled."""
    return {
        "FLINK_HOME": str(environment.home),
        "FLINK_CONF_DIR": str(folder / "conf"),
        "FLINK_LIB_DIR": str(folder / "lib"),
        "FLINK_LOG_DIR": str(folder / "messages"),
        "FLINK_PID_DIR": str(folder),
        # In thread mode Python starts inside of Java and finds the environment's packages by this alone.
        "PYTHONPATH": str(environment.home.parent),
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def command(environment: FlinkEnvironment, role: str) -> list[str]:
    """What runs a "jobmanager" or a "taskmanager" in the foreground."""
    return [str(environment.home / "bin" / f"{role}.sh"), "start-foreground"]


def _share_jars(lib: Path, jars: Sequence[Path]) -> None:
    """Links what every job needs into the cluster's own lib, where its classes load once and not with each job."""
    shutil.rmtree(lib, ignore_errors=True)
    lib.mkdir()
    for jar in jars:
        (lib / jar.name).symlink_to(jar)


def _java_options(shipped: str) -> str:
    """The options that let Flink run on Java 17, from the configuration that the wheel ships."""
    line = next(line for line in shipped.splitlines() if line.strip().startswith("all:"))
    return line.partition("all:")[2].strip()
