"""`headwater bench NAME`: runs a module of `benchmarks/` from a checkout and prints one JSON object."""

import argparse
import importlib
import os
import platform
import sys
from pathlib import Path
from typing import Any

import headwater
from headwater.cli.shared import print_json, say
from headwater.errors import SettingsError


def names() -> list[str]:
    """The benchmarks of this checkout."""
    return sorted(path.stem for path in folder().glob("*.py") if not path.stem.startswith("_"))


def folder() -> Path:
    """Where the benchmarks are, beside the package in a checkout."""
    return Path(headwater.__file__).parents[1] / "benchmarks"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("name", help=f"one of: {', '.join(names()) or 'none here (benchmarks need a checkout)'}")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--quick", action="store_true", help="fewer runs, for a first look")


def run(options: argparse.Namespace) -> int:
    """Runs it and prints {bench, version, machine, figures, ratios}."""
    if options.name not in names():
        raise SettingsError(
            f"there is no benchmark {options.name!r}; there are: {', '.join(names()) or 'none: run in a checkout'}"
        )
    sys.path.insert(0, str(folder().parent))
    result = importlib.import_module(f"benchmarks.{options.name}").run(quick=options.quick)
    report = {"bench": options.name, "version": headwater.__version__, "machine": machine(), **result}
    if options.json:
        print_json(report)
        return 0
    say(f"{options.name} · headwater {report['version']} · {', '.join(f'{k} {v}' for k, v in machine().items())}")
    for part in ("figures", "ratios"):
        for name, value in result[part].items():
            print(
                f"{part[:-1]:<7} {name:<44} {value:>16,.6g}"
                if isinstance(value, float | int)
                else f"{part[:-1]:<7} {name:<44} {value}"
            )
    return 0


def machine() -> dict[str, Any]:
    """What a reader needs to place the figures."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ),
        platform.processor() or platform.machine(),
    )
    return {
        "cpu": model,
        "cores": os.cpu_count() or 0,
        "python": platform.python_version(),
        "system": platform.system(),
    }
