"""`headwater processor`: log in, store out, as a process of its own."""

import argparse
import threading

from cloud_processor.processor import Processor
from cloud_processor.settings import ProcessorSettings
from headwater.cli.pipeline import PipelineSettings
from headwater.cli.shared import add_data_option, print_json, read_settings, say, stop_on_signals, table
from headwater.errors import ConnectError
from headwater.io.checkpoints_sqlite import SqliteCheckpoints
from headwater.io.clock_system import SystemClock
from headwater.io.log_sqlite import SqliteLogReader
from headwater.io.memory_glibc import keep_memory
from headwater.io.store_sqlite import SqliteStore

KEEP_EVERY_S = 30.0


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    add_data_option(parser)
    parser.add_argument("--json", action="store_true", help="print the counters as JSON at the end")


def run(options: argparse.Namespace) -> int:
    """Processes until SIGINT or SIGTERM, from where the last checkpoint ended."""
    settings = read_settings(options)
    pipeline = table(settings, "pipeline", PipelineSettings)
    keep_memory()
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
    store = SqliteStore(store_path, retention=pipeline.retention)
    checkpoints = SqliteCheckpoints(pipeline.file_of("state"))
    if store.set_aside is not None:
        say(f"processor: the store was damaged and is now {store.set_aside}: replaying the log into a new one")
        checkpoints.forget()
    processor = Processor(settings, log, store, checkpoints, clock, "processor")
    say(f"processor: log {pipeline.file_of('log')}, store {store_path}")
    keeper = threading.Thread(target=_keep, args=(store, clock, stop), name="keeper", daemon=True)
    keeper.start()
    try:
        processor.run(stop)
        return processor.counters()
    finally:
        stop.set()
        keeper.join()
        checkpoints.close()
        store.close()
        log.close()


def _keep(store: SqliteStore, clock: SystemClock, stop: threading.Event) -> None:
    """Lets go of what is older than its retention, in slices."""
    while not stop.wait(KEEP_EVERY_S):
        try:
            store.retain(clock.now_us())
        except ConnectError as error:
            say(f"processor: old rows stay for now: {error}")
