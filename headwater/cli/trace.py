"""`headwater trace SITE/DEVICE`: where a device's newest frames are: log, processor, store."""

import argparse
from typing import Any

from gateway.settings import GatewaySettings
from headwater import log_topics
from headwater.batch_arrow import batch_from_arrow
from headwater.cli.engines import expect, open_log_reader, open_reader
from headwater.cli.pipeline import PipelineSettings
from headwater.cli.shared import add_data_option, add_engine_options, print_json, read_settings, table
from headwater.errors import SettingsError
from headwater.instant import format_utc
from headwater.io.store_sqlite_query import StoreReader
from headwater.names import is_name
from headwater.ports import Log

RECORDS_BACK_MAX = 600


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    add_data_option(parser)
    add_engine_options(parser)
    parser.add_argument("device", help="SITE/DEVICE")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Prints one line a hop; the first hop that a device has not reached is where to look."""
    site, _, device = options.device.partition("/")
    if not is_name(site) or not is_name(device):
        raise SettingsError(f"{options.device!r}: write SITE/DEVICE, such as north-works/pump-001")
    settings = read_settings(options)
    pipeline = table(settings, "pipeline", PipelineSettings)
    for what in ("log", "store"):
        expect(pipeline, what)
    partitions = table(settings, "gateway", GatewaySettings).partitions
    report = {
        "device": options.device,
        "log": _in_log(open_log_reader(settings), site, device, partitions),
        "store": _in_store(open_reader(pipeline), site, device),
    }
    if options.json:
        print_json(report)
        return 0
    print(f"{options.device}")
    for hop in ("log", "store"):
        print(f"  {hop:<6} " + ", ".join(f"{key} {value}" for key, value in report[hop].items()))
    return 0


def _in_log(log: Log, site: str, device: str, partitions: int) -> dict[str, Any]:
    """The newest frame of the device among the last records of every partition.

    All are searched, because the data folder may have been made with another number of partitions than these settings say.
    """
    found: dict[str, Any] = {"frame": "none in the last records"}
    for shard in range(max(partitions, log_topics.PARTITIONS_DEFAULT)):
        end = log.end(log_topics.READINGS, shard)
        start = max(log.start(log_topics.READINGS, shard), end - RECORDS_BACK_MAX)
        for record in log.read(log_topics.READINGS, shard, start, RECORDS_BACK_MAX):
            batch = batch_from_arrow(record.value)
            for row, code in enumerate(batch.device.tolist()):
                if batch.devices[code] == (site, device):
                    found |= {
                        "frame": f"seq {int(batch.seq[row])}",
                        "partition": shard,
                        "offset": record.offset,
                        "received": format_utc(int(batch.received_us[row])),
                    }
            for letter in batch.dead_letters:
                if (letter.site, letter.device) == (site, device):
                    found["dead_letter"] = f"{letter.reason}: {letter.detail}"
    log.close()
    return found


def _in_store(store: StoreReader, site: str, device: str) -> dict[str, Any]:
    """The device's newest account and row."""
    accounts = [row for row in store.accounts() if (row["site"], row["device"]) == (site, device)]
    row = store.device(site, device)
    store.close()
    if row is None:
        return {"frame": "none: the processor has stored nothing of this device"}
    keys = ("epoch", "contiguous", "assigned", "stored", "dead_lettered", "gap", "in_flight", "unknown")
    newest = {key: accounts[-1][key] for key in keys} if accounts else {}
    return {"online": row.get("online"), "newest reading": format_utc(int(row["last_us"])), **newest}
