"""`headwater processor`: log in, store out, as a process of its own."""

import argparse
import threading

from cloud_processor.processor import Processor
from cloud_processor.settings import ProcessorSettings

from headwater.cli.pipeline import PipelineSettings
from headwater.cli.shared import add_data_option, print_json, read_settings, say, stop_on_signals, table
from headwater.io.checkpoints_sqlite import SqliteCheckpoints
from headwater.io.clock_system import SystemClock
from headwater.io.log_sqlite import SqliteLogReader
from headwater.io.store_sqlite import SqliteStore


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    add_data_option(parser)
    parser.add_argument("--json", action="store_true", help="print the counters as JSON at the end")


def run(options: argparse.Namespace) -> int:
    """Processes until SIGINT or SIGTERM, from where the last checkpoint ended."""
    settings = read_settings(options)
    pipeline = table(settings, "pipeline", PipelineSettings)
    with stop_on_signals() as stop:
        counters = _process(table(settings, "processor", ProcessorSettings), pipeline, stop)
    if options.json:
        print_json(counters)
    return 0


def _process(settings: ProcessorSettings, pipeline: PipelineSettings, stop: threading.Event) -> dict[str, object]:
    store_path = pipeline.file_of("store")
    store_path.parent.mkdir(parents=True, exist_ok=True)
    clock = SystemClock()
    log = SqliteLogReader(pipeline.file_of("log"))
    store = SqliteStore(store_path)
    checkpoints = SqliteCheckpoints(pipeline.file_of("state"))
    processor = Processor(settings, log, store, checkpoints, clock, "processor")
    say(f"processor: log {pipeline.file_of('log')}, store {store_path}")
    try:
        processor.run(stop)
        return processor.counters()
    finally:
        checkpoints.close()
        store.close()
        log.close()
