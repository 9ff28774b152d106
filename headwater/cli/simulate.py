"""`headwater simulate`: thousands of simulated devices in one process load a gateway by MQTT."""

import argparse
import json
import os
import sys

from headwater.cli.shared import duration, print_json, read_settings, say, table
from simulators.fleet import simulate
from simulators.fleet_report import FleetReport
from simulators.settings import SimulatorSettings


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("--devices", type=int, help="how many devices")
    parser.add_argument("--gateway", metavar="URL", help="such as mqtt://127.0.0.1:1883")
    parser.add_argument("--for", dest="run_us", type=duration, metavar="DURATION", help="how long to offer load")
    parser.add_argument(
        "--frames-every", dest="every_us", type=duration, metavar="DURATION", help="event time per frame"
    )
    parser.add_argument("--speed", type=float, help="event time per second of wall time")
    parser.add_argument("--no-pace", action="store_true", help="offer frames as fast as they are taken")
    parser.add_argument("--connections", type=int, help="MQTT connections to share; 0: one per device")
    parser.add_argument("--ledger", metavar="DIR", help="write a ledger for scripts/check_ledger.py")
    parser.add_argument("--seed", type=int, help="seed of the plant")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Offers the load; exit code 1 if a frame did not become durable."""
    wanted = {
        "devices": options.devices,
        "gateway": options.gateway,
        "duration_us": options.run_us,
        "frames_every_us": options.every_us,
        "speed": options.speed,
        "connections": options.connections,
        "ledger": options.ledger,
        "seed": options.seed,
        "is_paced": False if options.no_pace else None,
    }
    flags = [
        f"simulator.{name.removesuffix('_us')}={json.dumps(value)}"
        for name, value in wanted.items()
        if value is not None
    ]
    report = simulate(table(read_settings(options, *flags), "simulator", SimulatorSettings), _show)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    if options.json:
        print_json(report.as_dict())
    else:
        say(_line(report))
        if not report.is_clean:
            say(f"simulate: {report.waiting} frames did not become durable in time")
    return 0 if report.is_clean else 1


def _line(report: FleetReport) -> str:
    rates = report.as_dict()
    return (
        f"{report.connected}/{report.connections} connections · {report.frames:,} frames, {report.readings:,} readings "
        f"({rates['readings_acked_per_s']:,.0f}/s durable) · {report.waiting:,} waiting · {report.resent:,} resent · "
        f"ack p50 {report.ack_p50_ms:.0f} ms, p95 {report.ack_p95_ms:.0f} ms"
    )


def _show(report: FleetReport) -> None:
    if sys.stderr.isatty():
        width = os.get_terminal_size(sys.stderr.fileno()).columns - 1
        print("\r\x1b[K" + _line(report)[:width], end="", file=sys.stderr, flush=True)
