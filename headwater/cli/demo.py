"""`headwater demo`: the whole pipeline in one process, with simulated machines and a live page."""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dashboards.app import make_app
from dashboards.server import PageServer
from dashboards.settings import DashboardSettings
from edge_agent.settings import AgentSettings
from headwater.cli.embedding import build_pipeline, gather, report
from headwater.cli.engines import open_points
from headwater.cli.pipeline import PipelineSettings
from headwater.cli.shared import (
    add_data_option,
    add_engine_options,
    duration,
    print_json,
    read_settings,
    say,
    stop_on_signals,
    table,
)
from headwater.cli.watch import Watch
from headwater.embedded import Pipeline
from headwater.embedded_fleet import Fleet, PlantPlan, RealFleet, RealSource, SimulatedFleet, real_source
from headwater.instant import US_PER_S
from headwater.io.clock_system import SystemClock
from simulators.settings import SimulatorSettings

LOOK_EVERY_S = 0.25
HISTORY_US = 3_600 * US_PER_S  # The plant's story began an hour before the demo, so that wear is at different stages.
DEMO_DATA = "headwater-demo"
DEMO_PARTITIONS = 4
DEMO_WEAR_SPEED = 1_500.0
DEMO_FAULTS_PER_DAY = 360.0


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    add_data_option(parser)
    add_engine_options(parser)
    parser.set_defaults(data=DEMO_DATA)
    parser.add_argument(
        "--for", dest="run_us", type=duration, metavar="DURATION", help='end after this time, such as "30s"'
    )
    parser.add_argument("--devices", type=int, default=12, help="simulated machines (default: 12)")
    parser.add_argument("--port", type=int, help="TCP port of the page; 0 lets the system choose")
    parser.add_argument(
        "--mqtt-port", type=int, default=0, help="TCP port of the gateway (default: the system chooses)"
    )
    parser.add_argument(
        "--source", default="simulated", help='"simulated", "host" (this machine\'s sensors) or "csv:FILE"'
    )
    parser.add_argument("--seed", type=int, default=1, help="seed of the plant")
    parser.add_argument("--no-page", action="store_true", help="without the live page")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end, nothing else")


def run(options: argparse.Namespace) -> int:
    """Runs until Ctrl-C or the end of `--for`, then drains and sums up; run again on the same data, it resumes."""
    flags = [f"gateway.port={options.mqtt_port}", f"gateway.partitions={DEMO_PARTITIONS}"]
    flags += [f"processor.partitions={DEMO_PARTITIONS}", f"simulator.wear_speed={DEMO_WEAR_SPEED}"]
    flags += [f"simulator.faults_per_day={DEMO_FAULTS_PER_DAY}", 'agent.flush_every="1s"', 'agent.reconnect_max="5s"']
    flags += ["processor.health_baseline=20", 'processor.health_every="10s"']
    flags += [] if options.port is None else [f"page.port={options.port}"]
    settings = read_settings(options, *flags)
    pipeline_settings = table(settings, "pipeline", PipelineSettings)
    data = pipeline_settings.folder
    agent = table(settings, "agent", AgentSettings)
    real = None if options.source == "simulated" else real_source(options.source, agent, SystemClock())
    tell: Callable[[str], None] = (lambda _text: None) if options.json else say
    with stop_on_signals() as stop:
        tell(f"headwater demo: data in {data.resolve()}; Ctrl-C ends it, running it again resumes")
        pipeline = build_pipeline(settings)
        mqtt_port = pipeline.start()
        tell(f"  gateway    MQTT 5 and 3.1.1 on 127.0.0.1:{mqtt_port}")
        tell("  processor  windows, twin, health, accounts")
        fleet = _fleet(options, settings, pipeline, data, mqtt_port, real)
        watch = Watch(pipeline.reader, lambda: gather(pipeline, fleet), quiet=options.json)
        fleet.start()
        tell(f"  agents     {len(fleet.agents)} with a spool each, source {options.source}")
        page = None if options.no_page else _page(settings, pipeline, fleet)
        if page is not None:
            host = table(settings, "page", DashboardSettings).host
            tell(f"  page       http://{host}:{page.start()}/")
        until_s = time.monotonic() + options.run_us / US_PER_S if options.run_us is not None else None
        while not stop.is_set() and (until_s is None or time.monotonic() < until_s) and not fleet.is_exhausted:
            stop.wait(LOOK_EVERY_S)
            pipeline.check()
            watch.look(_faults(fleet))
        watch.close()
        tell("stopping: no more samples; sending what the spools hold")
        return _end(options, pipeline, fleet, watch, page, pipeline_settings)


def _end(
    options: argparse.Namespace,
    pipeline: Pipeline,
    fleet: Fleet,
    watch: Watch,
    page: PageServer | None,
    settings: PipelineSettings,
) -> int:
    fleet.stop(settings.drain_max_us)
    counters = gather(pipeline, fleet)
    watch.look(_faults(fleet))
    watch.close()
    if page is not None:
        page.stop()
    pipeline.stop_stages()
    summary = report(pipeline, fleet, counters, watch)
    pipeline.close()
    if options.json:
        print_json(summary)
    else:
        _tell_summary(summary)
    return 1 if summary["unknown"] else 0


def _tell_summary(summary: dict[str, Any]) -> None:
    say(
        f"frames     {summary['assigned']:,} assigned = {summary['stored']:,} stored + {summary['dead_letters']:,} dead "
        f"letters + {summary['gaps']:,} in declared gaps + {summary['in_flight']:,} in flight; "
        f"unknown {summary['unknown']}, duplicates {summary['duplicates']}"
    )
    say(f"readings   {summary['readings_sampled']:,} sampled, {summary['bytes_published']:,} bytes published")
    if summary["first_point_s"] is not None:
        latency = ", ".join(
            f"{name} {value:,.0f} ms" for name, value in summary["latency_ms"].items() if value is not None
        )
        say(
            f"latency    first point after {summary['first_point_s']:.2f} s; from sensor to store {latency or 'not known'}"
        )
    found = summary["anomalies"]
    if found["false_alarms"] is None:
        say(f"anomalies  {found['reported']} reported")
    else:
        say(
            f"anomalies  {found['detected']} of {found['injected']} faults detected, {found['false_alarms']} false alarms"
        )
    say(f"memory     {summary['rss_mib']} MiB")


def _fleet(
    options: argparse.Namespace,
    settings: dict[str, Any],
    pipeline: Pipeline,
    data: Path,
    mqtt_port: int,
    real: RealSource | None,
) -> Fleet:
    agent = table(settings, "agent", AgentSettings)
    if real is not None:
        return RealFleet(real, data, agent, pipeline.clock, mqtt_port)
    simulator = table(settings, "simulator", SimulatorSettings)
    plan = PlantPlan(
        options.seed,
        options.devices,
        pipeline.clock.now_us() - HISTORY_US,
        simulator.wear_speed,
        simulator.faults_per_day,
    )
    return SimulatedFleet(data, plan, agent, pipeline.clock, pipeline.loop, mqtt_port)


def _page(settings: dict[str, Any], pipeline: Pipeline, fleet: Fleet) -> PageServer:
    page = table(settings, "page", DashboardSettings)
    app = make_app(
        pipeline.reader,
        counters=lambda: gather(pipeline, fleet),
        simulator=fleet.control if isinstance(fleet, SimulatedFleet) else None,
        settings=page,
        clock=pipeline.clock,
        points=open_points(settings),
    )
    return PageServer(app, page.host, page.port)


def _faults(fleet: Fleet) -> list[dict[str, Any]]:
    if not isinstance(fleet, SimulatedFleet):
        return []
    found: Any = fleet.control.state()["faults"]
    return [fault for fault in found if fleet.started_us <= fault["start_us"] <= fleet.now_us()]
