"""`headwater flink`: Apache Flink as the host of the tasks: its environment, a cluster on this machine, and the job."""

import argparse

from headwater.cli.flink_jobs import SOURCES, FlinkJobs
from headwater.cli.flink_settings import FlinkSettings
from headwater.cli.flink_watch import watch
from headwater.cli.shared import add_data_option, print_json, read_settings, say, stop_on_signals, table

ACTIONS = ("install", "cluster", "submit", "status", "stop")
CLUSTER = ("start", "run", "stop", "status")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    add_data_option(parser)
    parser.add_argument("action", choices=ACTIONS, help="what to do; status and stop are of the job")
    parser.add_argument("what", nargs="?", choices=CLUSTER, help="of the cluster: start, run, stop or status")
    parser.add_argument("--log", metavar="URL", help="the log, such as kafka://127.0.0.1:9092")
    parser.add_argument("--url", default="", help="the cluster, such as flink://127.0.0.1:8081 (default: the one here)")
    parser.add_argument(
        "--port", type=int, default=8081, help="cluster start or run: its REST port; 0 lets the system choose"
    )
    parser.add_argument("--from", dest="restore", default="", metavar="PATH", help="submit: go on from this savepoint")
    parser.add_argument("--fresh", action="store_true", help="submit: begin without state, at the log's oldest record")


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
        print_json({"url": jobs.url} | jobs.rest.overview())
    return 0
