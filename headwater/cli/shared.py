"""What all commands share: options, the settings file, signals, and how a long run ends."""

import argparse
import importlib
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from headwater.errors import SettingsError
from headwater.instant import US_PER_S, parse_duration_us
from headwater.settings import Table, load_settings

# Table of the settings file → the class that holds it, imported only when settings are read.
TABLES = {
    "pipeline": "headwater.cli.pipeline:PipelineSettings",
    "influx": "headwater.cli.influx_settings:InfluxSettings",
    "agent": "edge_agent.settings:AgentSettings",
    "gateway": "gateway.settings:GatewaySettings",
    "processor": "cloud_processor.settings:ProcessorSettings",
    "page": "dashboards.settings:DashboardSettings",
    "kafka": "headwater.cli.kafka_settings:KafkaSettings",
    "grafana": "dashboards.grafana.settings:GrafanaSettings",
    "flink": "headwater.cli.flink_settings:FlinkSettings",
    "simulator": "simulators.settings:SimulatorSettings",
}
DEFAULT_FILE = "headwater.toml"
AnyTable = TypeVar("AnyTable", bound=Table)


def add_shared_options(parser: argparse.ArgumentParser) -> None:
    """Adds --config, --set and --debug."""
    group = parser.add_argument_group("settings")
    group.add_argument("--config", metavar="FILE", help=f"settings file (default: {DEFAULT_FILE} if it is there)")
    group.add_argument(
        "--set", metavar="TABLE.KEY=VALUE", action="append", default=[], help="change one setting; may be repeated"
    )
    group.add_argument("--debug", action="store_true", help="show a traceback with an error")


def add_data_option(parser: argparse.ArgumentParser) -> None:
    """Adds --data DIR, which `read_settings` reads as pipeline.data."""
    parser.add_argument("--data", metavar="DIR", help="folder of log, state, store and spools")


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Adds --log URL and --store URL, which `read_settings` reads as pipeline.log and pipeline.store."""
    parser.add_argument("--log", metavar="URL", help="the log, such as kafka://127.0.0.1:9092")
    parser.add_argument("--store", metavar="URL", help="the store, such as influxdb://127.0.0.1:8086")


def add_mqtt_option(parser: argparse.ArgumentParser) -> None:
    """Adds --mqtt URL, which `mqtt_flags` turns into gateway.mqtt."""
    parser.add_argument(
        "--mqtt", metavar="URL", help="subscribe at this broker, such as mqtt://127.0.0.1:1883, instead of listening"
    )


def mqtt_flags(options: argparse.Namespace) -> list[str]:
    """Returns what --mqtt stands for."""
    return [] if options.mqtt is None else [f"gateway.mqtt={json.dumps(options.mqtt)}"]


def duration(text: str) -> int:
    """Reads a duration option into microseconds, with argparse's kind of error."""
    try:
        return parse_duration_us(text)
    except SettingsError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def table_classes(names: tuple[str, ...] = tuple(TABLES)) -> dict[str, type[Table]]:
    """Imports the models of the named tables."""
    found = {}
    for name in names:
        module, _, attribute = TABLES[name].partition(":")
        found[name] = getattr(importlib.import_module(module), attribute)
    return found


def read_settings(options: argparse.Namespace, *flags: str) -> dict[str, Table]:
    """Reads all tables; `flags` are "table.key=value" that options of the command stand for (--set wins over them).

    Raises:
        SettingsError: a file that was named is not there, or something in it is wrong.
    """
    path = Path(options.config or DEFAULT_FILE)
    if options.config and not path.is_file():
        raise SettingsError(f"--config {path}: there is no such file; `headwater config > {path}` writes a sample")
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    given = {name: getattr(options, name, None) for name in ("data", "log", "store", "processor")}
    places = [f"pipeline.{name}={json.dumps(value)}" for name, value in given.items() if value]
    return load_settings(
        table_classes(), text=text, where=str(path), environment=os.environ, flags=(*places, *flags, *options.set)
    )


def table(settings: Mapping[str, Table], name: str, kind: type[AnyTable]) -> AnyTable:
    """Returns one table with its type."""
    found = settings[name]
    assert isinstance(found, kind)
    return found


def print_json(value: Any) -> None:
    """Prints one JSON object on stdout; NaN and infinities are defects and raise."""
    print(json.dumps(value, indent=2, allow_nan=False, default=str), flush=True)


def say(text: str) -> None:
    """Prints a line for people on stderr, so that stdout stays a clean report."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def stop_on_signals(after_us: int | None = None) -> Iterator[threading.Event]:
    """Gives an event that SIGINT, SIGTERM and the end of `after_us` set; a second signal ends the process at once."""
    stop = threading.Event()
    timer = threading.Timer((after_us or 0) / US_PER_S, stop.set)
    timer.daemon = True
    if after_us is not None:
        timer.start()

    def ask(number: int, _frame: object) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        timer.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)
