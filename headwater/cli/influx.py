"""`headwater influx setup`: makes buckets, retention and tokens on the InfluxDB that pipeline.store names."""

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path

from headwater.cli.engines import influx_options, is_influx
from headwater.cli.influx_settings import InfluxSettings
from headwater.cli.pipeline import PipelineSettings
from headwater.cli.shared import add_data_option, print_json, read_settings, table
from headwater.errors import SettingsError


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("action", choices=["setup"], help="make what is missing; may be done again")
    add_data_option(parser)
    parser.add_argument("--url", help="the server, such as influxdb://127.0.0.1:8086; default: pipeline.store")
    parser.add_argument(
        "--admin-token-file", metavar="FILE", help="file with an administrator's token (1.x: user:password)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Makes what is missing and says what it did."""
    settings = read_settings(options, *([f"pipeline.store={json.dumps(options.url)}"] if options.url else []))
    pipeline, influx = table(settings, "pipeline", PipelineSettings), table(settings, "influx", InfluxSettings)
    if not is_influx(pipeline):
        raise SettingsError("no InfluxDB: set pipeline.store, or give --url influxdb://HOST:8086")
    admin = Path(options.admin_token_file) if options.admin_token_file else None
    if admin is not None and not admin.is_file():
        raise SettingsError(f"--admin-token-file {admin}: there is no such file")
    from headwater.io.store_influx_setup import Wish, set_up  # noqa: PLC0415  its client is in the extra `influx`

    server = replace(influx_options(settings), token_file=admin)
    keep_us: dict[str, int] = {}
    for name, age_us in (
        (influx.raw, pipeline.telemetry_keep_us),
        (influx.windows, pipeline.window_keep_us),
        (influx.events, pipeline.event_keep_us),
    ):
        # Measurements that share a bucket are kept as long as the one that is kept longest; 0 is for ever.
        keep_us[name] = 0 if 0 in {age_us, keep_us.get(name)} else max(age_us, keep_us.get(name, 0))
    steps = set_up(server, Wish(keep_us, influx.write_token(pipeline.folder), influx.read_token(pipeline.folder)))
    if options.json:
        print_json({"url": server.address.url, "steps": [asdict(step) for step in steps]})
        return 0
    for step in steps:
        print(f"{step.done:<8} {step.what}")
    return 0
