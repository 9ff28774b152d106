"""`headwater page`: the live page over a store, as a process of its own."""

import argparse
import os

from dashboards.app import make_app
from dashboards.server import PageServer
from dashboards.settings import DashboardSettings
from headwater.cli.engines import open_page_reader, open_points
from headwater.cli.shared import add_data_option, add_engine_options, read_settings, say, stop_on_signals, table
from headwater.io.clock_system import SystemClock
from headwater.io.supervisor_systemd import Supervisor


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    add_data_option(parser)
    add_engine_options(parser)
    parser.add_argument("--port", type=int, help="TCP port of the page; 0 lets the system choose")


def run(options: argparse.Namespace) -> int:
    """Serves until SIGINT or SIGTERM."""
    flags = [] if options.port is None else [f"page.port={options.port}"]
    settings = read_settings(options, *flags)
    page = table(settings, "page", DashboardSettings)
    reader = open_page_reader(settings)
    points = open_points(settings)
    clock, supervisor = SystemClock(), Supervisor(os.environ)
    app = make_app(reader, counters=None, simulator=None, settings=page, clock=clock, points=points)
    server = PageServer(app, page.host, page.port, lambda: supervisor.alive(clock.monotonic_us()))
    with stop_on_signals() as stop:
        where = f"http://{page.host}:{server.start()}/"
        say(f"page: {where}")
        supervisor.ready(where)
        stop.wait()
    supervisor.stopping("ending the live streams")
    server.stop()
    reader.close()
    if points is not None:
        points.close()
    return 0
