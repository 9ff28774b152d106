"""`headwater check`: are the settings right? Touches nothing but the file."""

import argparse

from headwater.cli.shared import print_json, read_settings, say


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("--json", action="store_true", help="print {ok, tables}")


def run(options: argparse.Namespace) -> int:
    """Reads all settings; wrong ones raise SettingsError, which exits with 78."""
    tables = read_settings(options)
    if options.json:
        print_json({"ok": True, "tables": sorted(tables)})
    else:
        say(f"The settings are right ({', '.join(tables)}). `headwater doctor` looks at the world too.")
    return 0
