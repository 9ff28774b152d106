"""One process of a Flink cluster in the foreground, in the place of this one: what a container runs."""

import os
from pathlib import Path
from typing import Final, NoReturn

from headwater.io.flink_cluster import ClusterSizes
from headwater.io.flink_configuration import (
    LOGGING_TO_CONSOLE,
    Addresses,
    command,
    settings_of,
    variables,
    write_configuration,
)
from headwater.io.flink_environment import FlinkEnvironment

ANY: Final = "0.0.0.0"  # noqa: S104 — a container's network is its own.


def become_node(
    role: str,
    folder: Path,
    environment: FlinkEnvironment,
    sizes: ClusterSizes,
    *,
    host: str,
    port: int,
    bind: str,
    checkpoints: str,
) -> NoReturn:
    """Writes the configuration and becomes the process.

    Args:
        role: "jobmanager" or "taskmanager".
        folder: for configuration and process ids; messages go to the terminal.
        environment: where Flink is installed.
        sizes: of the process.
        host: under which the JobManager is reached.
        port: of its REST interface; the two that follow it are those of its calls and of its files.
        bind: address to listen on; with one of a single interface, a TaskManager is reached there too.
        checkpoints: URL of the folder of checkpoints and savepoints, that all of them reach.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = settings_of(
        Addresses(host, bind, "" if bind == ANY else bind, port, port + 1, port + 2),
        job_manager_mib=sizes.job_manager_mib,
        task_manager_mib=sizes.task_manager_mib,
        slots=sizes.slots,
        checkpoints=checkpoints,
        savepoints=checkpoints,
        python=environment.python,
    )
    write_configuration(folder, environment, settings, LOGGING_TO_CONSOLE)
    words = command(environment, role)
    os.execve(words[0], words, os.environ | variables(folder, environment))  # noqa: S606 — our own script, no shell.
