"""`headwater flink`: Apache Flink as the host of the tasks: its environment, a cluster on this machine, and the job."""

import argparse
import os
from collections.abc import Mapping
from typing import NoReturn

from headwater.cli.flink_jobs import SOURCES, FlinkJobs, is_flink
from headwater.cli.flink_keep import keep
from headwater.cli.flink_settings import FlinkSettings
from headwater.cli.flink_watch import watch
from headwater.cli.pipeline import PipelineSettings
from headwater.cli.shared import add_data_option, print_json, read_settings, say, stop_on_signals, table
from headwater.errors import SettingsError
from headwater.io.flink_node import become_node
from headwater.io.supervisor_systemd import Supervisor
from headwater.settings import Table

ROLES = ("jobmanager", "taskmanager")
ACTIONS = ("install", "cluster", "submit", "status", "stop", *ROLES)
CLUSTER = ("start", "run", "stop", "status")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    add_data_option(parser)
    parser.add_argument(
        "action", choices=ACTIONS, help="what to do; status and stop are of the job, the last two are for containers"
    )
    parser.add_argument("what", nargs="?", choices=CLUSTER, help="of the cluster: start, run, stop or status")
    parser.add_argument("--log", metavar="URL", help="the log, such as kafka://127.0.0.1:9092")
    parser.add_argument("--url", default="", help="the cluster, such as flink://127.0.0.1:8081 (default: the one here)")
    parser.add_argument(
        "--port", type=int, default=8081, help="cluster start or run: its REST port; 0 lets the system choose"
    )
    parser.add_argument("--from", dest="restore", default="", metavar="PATH", help="submit: go on from this savepoint")
    parser.add_argument("--fresh", action="store_true", help="submit: begin without state, at the log's oldest record")
    parser.add_argument("--keep", action="store_true", help="submit: if it is not there, and whenever it is lost again")
    parser.add_argument("--ready", action="store_true", help="cluster status: fail where there is no TaskManager")
    parser.add_argument("--bind", default="127.0.0.1", help="jobmanager, taskmanager: address to listen on")


def run(options: argparse.Namespace) -> int:
    """Does what was asked; reports are JSON on stdout."""
    settings = read_settings(options)
    jobs = FlinkJobs(settings, options.url)
    if options.action == "install":
        say(f"flink: what is missing in {jobs.environment.root} of about 850 MB is installed; this may take minutes")
        jobs.environment.install(SOURCES)
        say("flink: installed")
    elif options.action == "cluster":
        return _cluster(options, jobs, table(settings, "flink", FlinkSettings))
    elif options.action in ROLES:
        _node(options, jobs, settings)
    elif options.action == "submit" and options.keep:
        with stop_on_signals() as stop:
            keep(jobs, stop, Supervisor(os.environ).ready)
    elif options.action == "submit":
        job, state = jobs.submit(options.restore, is_fresh=options.fresh)
        say(f"flink: job {job} on {jobs.url}, {f'goes on from {state}' if state else 'begins without state'}")
        print_json({"job": job, "state": state})
    elif options.action == "status":
        found = jobs.running()
        print_json(jobs.rest.status(found) if found else {"job": "", "state": "NONE"})
    else:
        print_json({"savepoint": jobs.stop()})
    return 0


def _cluster(options: argparse.Namespace, jobs: FlinkJobs, flink: FlinkSettings) -> int:
    if options.what == "start":
        jobs.environment.check(SOURCES)
        jobs.cluster.start(flink.sizes, options.port)
        say(f"flink: cluster on {jobs.cluster.url}, files in {jobs.cluster.folder}")
        print(jobs.cluster.url)
    elif options.what == "run":
        with stop_on_signals() as stop:
            watch(jobs, flink, options.port, stop)
    elif options.what == "stop":
        jobs.cluster.stop()
    else:
        told = jobs.rest.overview()
        print_json({"url": jobs.url} | told)
        return int(options.ready and not told["taskmanagers"])
    return 0


def _node(options: argparse.Namespace, jobs: FlinkJobs, settings: Mapping[str, Table]) -> NoReturn:
    """Becomes one process of a cluster whose REST address is [pipeline] processor."""
    pipeline, flink = table(settings, "pipeline", PipelineSettings), table(settings, "flink", FlinkSettings)
    if not is_flink(pipeline) or not flink.checkpoints:
        raise SettingsError(
            f"flink {options.action}: set [pipeline] processor to flink://HOST:PORT of the JobManager, and [flink] checkpoints "
            "to the URL of a folder that all processes reach, such as file:///checkpoints"
        )
    jobs.environment.check(SOURCES)
    host, _, port = jobs.rest.address.rpartition(":")
    become_node(
        options.action,
        pipeline.folder / "flink",
        jobs.environment,
        flink.sizes,
        host=host,
        port=int(port),
        bind=options.bind,
        checkpoints=flink.checkpoints,
    )
