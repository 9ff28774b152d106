"""The command line: `headwater COMMAND`; one module per group of commands, imported only when it is used."""

import argparse
import importlib
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

from headwater import __version__
from headwater.cli.shared import add_shared_options
from headwater.cli.thrift import keep_to_one_thread, save_resources
from headwater.errors import ConnectError, HeadwaterError, SettingsError

EXIT_FAILED = 1
EXIT_SETTINGS = 78  # EX_CONFIG of sysexits.h
EXIT_INTERRUPTED = 130

# command → (module, one line of help)
COMMANDS = {
    "demo": ("headwater.cli.demo", "run the whole pipeline in one process, with simulated machines and a live page"),
    "up": ("headwater.cli.up", "run gateway, processor and live page in one process for real devices"),
    "agent": ("headwater.cli.agent", "run the edge agent on a device"),
    "gateway": ("headwater.cli.gateway", "run the gateway: MQTT in, log out"),
    "processor": ("headwater.cli.processor", "run the processor: log in, store out"),
    "sink": ("headwater.cli.processor", "run the sink: results of a job on Flink in, store out"),
    "flink": ("headwater.cli.flink", "install Flink, run a cluster here, submit and stop the job"),
    "simulate": ("headwater.cli.simulate", "load a gateway with simulated devices"),
    "page": ("headwater.cli.page", "serve the live page over a store"),
    "replay": ("headwater.cli.replay", "show what the agent would make of a CSV file"),
    "tap": ("headwater.cli.tap", "show what passes through the log or over MQTT"),
    "trace": ("headwater.cli.trace", "show where a device's frames are"),
    "doctor": ("headwater.cli.doctor", "walk every hop and name the failing one"),
    "influx": ("headwater.cli.influx", "make buckets, retention and tokens on InfluxDB: headwater influx setup"),
    "init": ("headwater.cli.init", "write a folder with settings, certificates and a broker's files for a plant"),
    "enroll": ("headwater.cli.enroll", "give a device its certificate or password, in a folder to copy to it"),
    "config": ("headwater.cli.config", "print the commented sample settings"),
    "check": ("headwater.cli.check", "check the settings without touching the world"),
    "dashboards": ("headwater.cli.dashboards", "build, check and push the dashboards of Grafana"),
    "bench": ("headwater.cli.bench", "measure, with a ratio against a peer in the same run"),
}


def build_parser(only: str | None = None) -> argparse.ArgumentParser:
    """Makes the parser; only the named command's module is imported, or all of them for None."""
    parser = argparse.ArgumentParser(
        prog="headwater", description="Sensor readings from devices to dashboards, every one accounted for."
    )
    parser.add_argument("--version", action="version", version=f"headwater {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (module, text) in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if only in {None, name}:
            add_shared_options(command)
            importlib.import_module(module).add_options(command)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; 78 for wrong settings, 130 after Ctrl-C."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    named = next((word for word in arguments if word in COMMANDS), "")
    if named == "agent":
        # Here, because the command's module imports numpy, and then it is too late.
        save_resources()
    else:
        keep_to_one_thread()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("gateway").setLevel(logging.INFO)  # It tells when it is connected again.
    try:
        options = build_parser(named).parse_args(arguments)
        return int(importlib.import_module(COMMANDS[options.command][0]).run(options))
    except SettingsError as error:
        return _fail(arguments, error, EXIT_SETTINGS, "settings")
    except ConnectError as error:
        return _fail(arguments, error, EXIT_FAILED, "connection")
    except HeadwaterError as error:
        return _fail(arguments, error, EXIT_FAILED, "error")
    except ModuleNotFoundError as error:
        return _missing(arguments, error)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe went away (`headwater tap | head`): end quietly, without a second failure at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED


def _missing(arguments: Sequence[str], error: ModuleNotFoundError) -> int:
    extras = {"pyarrow": "hub", "mqtt5": "hub", "starlette": "hub", "uvicorn": "hub", "aiomqtt": "hub"}
    extras |= {"urllib3": "influx", "influxdb_client": "influx"}
    extras |= dict.fromkeys(("grafana_foundation_sdk", "grafana_client", "niquests", "yaml"), "grafana")
    extras |= {"pymodbus": "modbus", "smbus2": "i2c", "confluent_kafka": "kafka", "cryptography": "enroll"}
    extra = extras.get((error.name or "").split(".", maxsplit=1)[0])
    if extra is None:
        raise error
    return _fail(
        arguments, SettingsError(f"this needs {error.name}: pip install 'headwater[{extra}]'"), EXIT_FAILED, "error"
    )


def _fail(arguments: Sequence[str], error: Exception, code: int, what: str) -> int:
    command = next(word for word in arguments if word in COMMANDS)
    if "--debug" in arguments:
        traceback.print_exception(error)
    for line in str(error).splitlines():
        print(f"headwater {command}: {what}: {line}", file=sys.stderr)
    return code


def run_and_exit() -> NoReturn:
    """The entry point of `python -m headwater`."""
    sys.exit(main())
