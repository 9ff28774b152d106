"""`headwater replay FILE.csv`: what the agent would send of a file, in how many bytes, how exactly, at what cost."""

import argparse
import json

from edge_agent.replay import replay_csv
from edge_agent.settings import AgentSettings
from headwater.cli.shared import print_json, read_settings, table
from headwater.instant import format_utc

EVENTS_SHOWN_MAX = 20


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("file", help="a CSV file with a time column")
    parser.add_argument("--reduction", help='for all metrics: "raw", "deadband:ε", "swing:ε" or "summary:width"')
    parser.add_argument("--exclude", action="append", default=[], metavar="COLUMN", help="leave a column out (labels)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Prints the report; nothing is sent or kept."""
    flags = ['agent.source="csv"']
    if options.reduction:
        flags.append(f'agent.metrics={{"*" = {{reduction = {json.dumps(options.reduction)}}}}}')
    if options.exclude:
        flags.append(f"agent.options.exclude={json.dumps(options.exclude)}")
    report = replay_csv(options.file, table(read_settings(options, *flags), "agent", AgentSettings))
    if options.json:
        print_json(report.to_json())
        return 0
    print(f"{options.file}: {report.readings:,} readings")
    print(
        f"  would send   {report.frames:,} frames, {report.bytes:,} bytes, {report.bytes_per_reading:.3f} bytes a reading"
    )
    print(f"  kept         {report.kept:,} ({report.kept_ratio:.1%}), suppressed {report.suppressed:,}, "
          f"aggregated {report.aggregated:,}, dropped {report.dropped:,}")  # fmt: skip
    print(f"  CPU          {report.cpu_us_per_reading:.2f} µs a reading")
    print(f"  {'metric':<40} {'reduction':<16} {'ε':>10} {'largest error':>14} {'kept':>9}")
    for name, found in report.metrics.items():
        kept = found.kept / found.samples if found.samples else 0.0
        print(f"  {name:<40} {found.reduction:<16} {found.epsilon:>10.4g} {found.error_max:>14.6g} {kept:>9.1%}")
    print(f"  events       {len(report.events)}")
    for event in report.events[:EVENTS_SHOWN_MAX]:
        kind = "onset" if event.is_onset else "clear"
        print(f"    {format_utc(event.time_us)}  {kind}  {event.metric}  {event.detector}: {event.message}")
    if len(report.events) > EVENTS_SHOWN_MAX:
        print(f"    … {len(report.events) - EVENTS_SHOWN_MAX} more (--json shows all)")
    return 0
