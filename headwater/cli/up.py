"""`headwater up`: gateway, processor and live page in one process, for real devices."""

import argparse
import os
from collections.abc import Mapping
from contextlib import nullcontext

from dashboards.app import make_app, read_token
from dashboards.server import PageServer
from dashboards.settings import DashboardSettings, check_exposure
from gateway.settings import GatewaySettings
from headwater.cli.embedding import build_pipeline, gather
from headwater.cli.engines import open_points
from headwater.cli.flink_jobs import FlinkJobs, is_flink
from headwater.cli.flink_keep import keeping
from headwater.cli.pipeline import PipelineSettings
from headwater.cli.shared import (
    add_data_option,
    add_engine_options,
    add_mqtt_option,
    duration,
    mqtt_flags,
    print_json,
    read_settings,
    say,
    stop_on_signals,
    table,
)
from headwater.io.supervisor_systemd import Supervisor
from headwater.settings import Table

LOOK_EVERY_S = 0.5


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    add_data_option(parser)
    add_engine_options(parser)
    parser.add_argument("--processor", metavar="URL", help="who hosts the tasks, such as flink://127.0.0.1:8081")
    parser.add_argument("--port", type=int, help="TCP port of the page; 0 lets the system choose")
    parser.add_argument("--mqtt-port", type=int, help="TCP port of the gateway; 0 lets the system choose")
    add_mqtt_option(parser)
    parser.add_argument("--for", dest="run_us", type=duration, metavar="DURATION", help="end after this time")
    parser.add_argument("--no-page", action="store_true", help="without the live page")
    parser.add_argument("--json", action="store_true", help="print the counters as JSON at the end")


def run(options: argparse.Namespace) -> int:
    """Runs until SIGINT, SIGTERM or a take-over, then finishes what the log holds."""
    flags = [] if options.port is None else [f"page.port={options.port}"]
    flags += [] if options.mqtt_port is None else [f"gateway.port={options.mqtt_port}"]
    settings = read_settings(options, *flags, *mqtt_flags(options))
    page, gateway = table(settings, "page", DashboardSettings), table(settings, "gateway", GatewaySettings)
    check_exposure(page.host, read_token(page))
    supervisor = Supervisor(os.environ)
    with stop_on_signals(options.run_us) as stop:
        has_job = is_flink(table(settings, "pipeline", PipelineSettings))
        if has_job:
            _ensure_job(settings)
        pipeline = build_pipeline(settings)
        server = None
        if not options.no_page:
            app = make_app(
                pipeline.reader,
                counters=lambda: gather(pipeline),
                simulator=None,
                settings=page,
                clock=pipeline.clock,
                points=open_points(settings),
            )
            server = PageServer(app, page.host, page.port)
        pipeline.start()
        say(f"up: MQTT {'at' if gateway.mqtt else 'on'} {pipeline.gateway.where}")
        if server is not None:
            say(f"up: page on http://{page.host}:{server.start()}/")
        supervisor.ready(f"MQTT {pipeline.gateway.where}")
        with keeping(FlinkJobs(settings), stop) if has_job else nullcontext():
            while not stop.wait(LOOK_EVERY_S) and not pipeline.gateway.is_over:
                pipeline.check()
                if pipeline.has_turned():
                    supervisor.alive(pipeline.clock.monotonic_us())
    supervisor.stopping("finishing what the log holds")
    if pipeline.gateway.is_over:
        say(f"up: another gateway took the session {gateway.mqtt_client_id!r} at {gateway.mqtt} over: ending")
    if server is not None:
        server.stop()
    pipeline.stop_stages()
    counters = gather(pipeline)
    pipeline.close()
    if options.json:
        print_json(counters)
    return 0


def _ensure_job(settings: Mapping[str, Table]) -> None:
    """Uses the job that runs on the cluster, or submits it with the newest state; it stays when this process ends."""
    jobs = FlinkJobs(settings)
    found = jobs.running()
    if found:
        say(f"up: job {found} on {jobs.url}")
        return
    job, state = jobs.submit()
    say(f"up: submitted job {job} to {jobs.url}, {f'going on from {state}' if state else 'without state'}")
