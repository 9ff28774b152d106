"""`headwater processor` and `headwater sink`: log in, store out, as a process of its own."""

import argparse
import os
import threading
from collections.abc import Mapping

from cloud_processor.processor import Processor
from cloud_processor.settings import ProcessorSettings
from cloud_processor.sink import Sink
from headwater.cli.engines import open_log_reader, open_store, url_of
from headwater.cli.flink_jobs import is_flink
from headwater.cli.pipeline import PipelineSettings
from headwater.cli.shared import (
    add_data_option,
    add_engine_options,
    print_json,
    read_settings,
    say,
    stop_on_signals,
    table,
)
from headwater.errors import ConnectError, SettingsError
from headwater.io.clock_system import SystemClock
from headwater.io.memory_glibc import keep_memory
from headwater.io.supervisor_systemd import Supervisor
from headwater.ports import KeptStore
from headwater.settings import Table

KEEP_EVERY_S = 30.0


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    add_data_option(parser)
    add_engine_options(parser)
    parser.add_argument("--json", action="store_true", help="print the counters as JSON at the end")


def run(options: argparse.Namespace) -> int:
    """Processes until SIGINT or SIGTERM, from where the last checkpoint ended."""
    settings = read_settings(options)
    pipeline = table(settings, "pipeline", PipelineSettings)
    keep_memory()
    with stop_on_signals() as stop:
        counters = _process(options.command, settings, pipeline, stop)
    if options.json:
        print_json(counters)
    return 0


def _process(
    name: str, tables: Mapping[str, Table], pipeline: PipelineSettings, stop: threading.Event
) -> dict[str, object]:
    is_sink = name == "sink"
    if is_flink(pipeline) and not is_sink:
        raise SettingsError(f"[pipeline] processor = {pipeline.processor!r}: Flink hosts the tasks; run headwater sink")
    clock, supervisor = SystemClock(), Supervisor(os.environ)
    settings = table(tables, "processor", ProcessorSettings)
    log = open_log_reader(tables, settings.partitions)
    store, checkpoints = open_store(tables, is_sink=is_sink)
    processor: Processor | Sink
    every_us = settings.pipeline_every_us
    if is_sink:
        processor = Sink(settings, log, store, checkpoints, clock, tell_every_us=every_us)
    else:
        processor = Processor(settings, log, store, checkpoints, clock, "processor", tell_every_us=every_us)
    say(f"{name}: log {url_of(pipeline, 'log')}, store {url_of(pipeline, 'store')}")
    keeper = threading.Thread(target=_keep, args=(store, clock, stop), name="keeper", daemon=True)
    keeper.start()
    try:
        supervisor.ready(f"log {url_of(pipeline, 'log')}, store {url_of(pipeline, 'store')}")
        processor.run(stop, lambda: supervisor.alive(clock.monotonic_us()))
        supervisor.stopping("all that the log holds is stored")
        return processor.counters()
    finally:
        stop.set()
        keeper.join()
        checkpoints.close()
        store.close()
        log.close()


def _keep(store: KeptStore, clock: SystemClock, stop: threading.Event) -> None:
    """Lets go of what is older than its retention, in slices."""
    while not stop.wait(KEEP_EVERY_S):
        try:
            store.retain(clock.now_us())
        except ConnectError as error:
            say(f"processor: old rows stay for now: {error}")
