"""`headwater agent`: the edge agent of one device."""

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_agent.agent import Agent, AgentHost, dry_run, run_once
from edge_agent.outline import outlined
from edge_agent.registry import make_source
from edge_agent.settings import AgentSettings
from headwater.cli.agent_unit import install
from headwater.cli.pipeline import PipelineSettings
from headwater.cli.shared import add_data_option, duration, print_json, read_settings, say, stop_on_signals, table
from headwater.errors import SettingsError
from headwater.frame import Frame
from headwater.io.clock_system import SystemClock
from headwater.io.supervisor_systemd import Supervisor


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    add_data_option(parser)
    parser.add_argument(
        "action",
        nargs="?",
        choices=("run", "install"),
        default="run",
        help="run (the default), or install: print a systemd unit for this agent, or write it with --write",
    )
    parser.add_argument("--write", action="store_true", help="install: write the unit to where systemd looks for it")
    parser.add_argument("--user-unit", action="store_true", help="install: for your own user's systemd, without root")
    parser.add_argument("--unit-file", metavar="FILE", help="install: write the unit to this file instead")
    parser.add_argument("--source", help="where readings come from: host, csv, mqtt, modbus, i2c, simulated, …")
    parser.add_argument(
        "--option", metavar="KEY=VALUE", action="append", default=[], help="an option of the source; may be repeated"
    )
    parser.add_argument("--once", action="store_true", help="sample once, print what came, send nothing")
    parser.add_argument("--dry-run", action="store_true", help="print frames instead of sending them")
    parser.add_argument("--for", dest="run_us", type=duration, metavar="DURATION", help="end after this time")
    parser.add_argument("--ledger", metavar="DIR", help="write a ledger of frames for scripts/check_ledger.py")
    parser.add_argument("--json", action="store_true", help="print the counters as JSON at the end")


def run(options: argparse.Namespace) -> int:
    """Runs until SIGINT or SIGTERM; what was accepted is in the spool whatever happens."""
    flags = [f"agent.source={json.dumps(options.source)}"] if options.source else []
    flags += [f"agent.options.{_pair(text)}" for text in options.option]
    settings = read_settings(options, *flags)
    agent = table(settings, "agent", AgentSettings)
    if options.action == "install":
        return install(options, agent)
    clock = SystemClock()
    if options.once:
        print_json(run_once(agent, clock))
        return 0
    if options.dry_run:
        with stop_on_signals(options.run_us) as stop:
            dry_run(agent, clock, lambda frame, payload: print(_line(frame, payload), flush=True), stop.is_set)
        return 0
    path = _spool_path(options, agent, table(settings, "pipeline", PipelineSettings))
    path.parent.mkdir(parents=True, exist_ok=True)
    on_offered, on_accepted, close = _ledger(options.ledger)
    made = Agent(
        agent.site,
        agent.device,
        make_source(agent.source, dict(agent.options), clock, agent.sample_every_us),
        agent,
        clock,
        path,
        on_offered=on_offered,
        on_accepted=on_accepted,
    )
    say(f"agent: {agent.site}/{agent.device}, source {agent.source}, spool {path}, gateway {agent.gateway or 'none'}")
    supervisor = Supervisor(os.environ)
    host = AgentHost([made], table(settings, "pipeline", PipelineSettings).drain_max_us, supervisor.alive)
    with stop_on_signals(options.run_us) as stop:
        supervisor.ready(f"{agent.site}/{agent.device} to {agent.gateway or 'nobody'}")
        host.run(stop, until_exhausted=True)
    supervisor.stopping(f"{made.buffered} frames wait in the spool")
    close()
    if options.json:
        print_json(made.counters())
    return 0


def _line(frame: Frame, payload: bytes) -> str:
    return json.dumps(outlined(frame, len(payload)), allow_nan=False)


def _pair(text: str) -> str:
    key, equals, _ = text.partition("=")
    if not equals or not key:
        raise SettingsError(f"--option {text!r}: write key=value, such as --option path=readings.csv")
    return text


def _spool_path(options: argparse.Namespace, agent: AgentSettings, pipeline: PipelineSettings) -> Path:
    """The spool's file: under --data if that was given, named by the settings otherwise."""
    return pipeline.folder / f"{agent.site}.{agent.device}.spool.db" if options.data else Path(agent.spool)


def _ledger(folder: str | None) -> tuple[Any, Any, Callable[[], None]]:
    if not folder:
        return None, None, lambda: None
    from simulators.ledger import Ledger  # noqa: PLC0415  a device without a ledger needs no simulator

    book = Ledger(Path(folder))
    return book.offered, book.accepted, book.close
