"""`headwater gateway`: MQTT in, log out, as a process of its own."""

import argparse
import asyncio
import os
import signal
from collections.abc import Mapping
from contextlib import suppress

from gateway.bridge import Gateway
from gateway.collector import rest_collector
from headwater import log_topics
from headwater.cli.engines import gateway_of, open_log, open_reader, url_of
from headwater.cli.pipeline import PipelineSettings
from headwater.cli.shared import (
    add_data_option,
    add_engine_options,
    add_mqtt_option,
    mqtt_flags,
    print_json,
    read_settings,
    say,
    table,
)
from headwater.errors import ConnectError
from headwater.io.clock_system import SystemClock
from headwater.io.memory_glibc import keep_memory
from headwater.io.supervisor_systemd import Supervisor
from headwater.ports import KeptLog
from headwater.settings import Table

TURN_EVERY_S = 1.0
TRIM_EVERY_S = 60.0


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    add_data_option(parser)
    add_engine_options(parser)
    add_mqtt_option(parser)
    parser.add_argument("--json", action="store_true", help="print the counters as JSON at the end")


def run(options: argparse.Namespace) -> int:
    """Serves until SIGINT, SIGTERM or a take-over; acknowledged frames are in the log whatever happens."""
    settings = read_settings(options, *mqtt_flags(options))
    pipeline = table(settings, "pipeline", PipelineSettings)
    rest_collector()
    keep_memory()
    counters = asyncio.run(_serve(settings, pipeline))
    if options.json:
        print_json(counters)
    return 0


async def _serve(tables: Mapping[str, Table], pipeline: PipelineSettings) -> dict[str, int]:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    clock, supervisor = SystemClock(), Supervisor(os.environ)
    log = open_log(tables)
    settings = gateway_of(tables, log)
    frontiers = open_reader(pipeline)
    gateway = Gateway(settings, log, clock, frontiers, on_over=stop.set)
    try:
        await gateway.start()
        say(
            f"gateway: MQTT {'at' if settings.mqtt else 'on'} {gateway.where}, log {url_of(pipeline, 'log')} ({log.incarnation})"
        )
        supervisor.ready(f"MQTT {gateway.where}, log {url_of(pipeline, 'log')}")
        trimmer = asyncio.create_task(_trim_often(log, clock, pipeline.log_keep_us))
        while not stop.is_set():
            supervisor.alive(clock.monotonic_us())
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), TURN_EVERY_S)
        supervisor.stopping("writing what has come")
        trimmer.cancel()
        await gateway.stop()
        if gateway.failure is not None:
            raise gateway.failure
        if gateway.is_over:
            say(f"gateway: another one took the session {settings.mqtt_client_id!r} at {settings.mqtt} over: ended")
        return gateway.counters()
    finally:
        frontiers.close()
        log.close()


async def _trim_often(log: KeptLog, clock: SystemClock, keep_us: int) -> None:
    while True:
        await asyncio.sleep(TRIM_EVERY_S)
        await asyncio.to_thread(_trim, log, clock.now_us() - keep_us)


def _trim(log: KeptLog, before_us: int) -> None:
    """Lets go of old records, in slices; what the disk refuses now is tried again."""
    try:
        for log_topic in log_topics.ALL:
            log.trim(log_topic, before_us)
    except ConnectError as error:
        say(f"gateway: old records stay for now: {error}")
