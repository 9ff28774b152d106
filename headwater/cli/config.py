"""`headwater config`: the commented sample settings, or the settings in force."""

import argparse

from headwater.cli.shared import print_json, read_settings, table_classes
from headwater.settings import sample_settings


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("--json", action="store_true", help="print the settings in force (file, environment, flags)")


def run(options: argparse.Namespace) -> int:
    """Prints the sample, or with --json what is in force; secrets are read from files and never shown."""
    if options.json:
        print_json(
            {name: found.model_dump(mode="json", by_alias=True) for name, found in read_settings(options).items()}
        )
    else:
        print(sample_settings(table_classes()), end="")
    return 0
