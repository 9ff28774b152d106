"""`headwater doctor`: walks every hop, says what is wrong and how to mend it; exit code 1 if something is."""

import argparse
import asyncio
import platform
import shutil
import sqlite3
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gateway.settings import GatewaySettings
from headwater import log_topics
from headwater.cli import doctor_flink, doctor_influx
from headwater.cli.engines import expect, open_log_reader, open_reader, url_of
from headwater.cli.flink_jobs import is_flink
from headwater.cli.pipeline import PipelineSettings
from headwater.cli.shared import add_data_option, add_engine_options, print_json, read_settings, table
from headwater.errors import ConnectError, HeadwaterError, SettingsError
from headwater.instant import US_PER_S
from headwater.io.mqtt_broker import Broker, parse_broker, read_secret, tls_context
from headwater.settings import Table

FREE_BYTES_MIN = 200 * 1024 * 1024
STALE_S_MAX = 120.0
LAG_RECORDS_MAX = 1000
TIMEOUT_S = 3.0
# Versions below this one can lose commits when two connections write and checkpoint at the same moment
# (sqlite.org/wal.html, "the WAL-reset bug"). We keep to one writing connection, so it is a remark, not a fault.
SQLITE_FIXED = (3, 51, 3)


@dataclass(frozen=True, slots=True)
class Finding:
    """What one look at one hop showed.

    Attributes:
        hop, is_good, what: where, and how it is, in words.
        mend: what to do, "" if all is well.
        is_idle: it is not good only because nothing has flowed, or not for a while.
    """

    hop: str
    is_good: bool
    what: str
    mend: str = ""
    is_idle: bool = False


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    add_data_option(parser)
    add_engine_options(parser)
    parser.add_argument("--processor", metavar="URL", help="who hosts the tasks, such as flink://127.0.0.1:8081")
    parser.add_argument(
        "--hop", action="append", default=[], choices=[hop_of(look) for look in LOOKS], help="look at this one only"
    )
    parser.add_argument("--idle-ok", action="store_true", help="it is no failure that nothing flows; for health checks")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Looks at each hop in the order of the flow; wrong settings exit with 78 before any look."""
    settings = read_settings(options)
    looks = [look for look in LOOKS if not options.hop or hop_of(look) in options.hop]
    findings = [finding for look in looks if (finding := look(settings)) is not None]
    is_good = all(finding.is_good or (finding.is_idle and options.idle_ok) for finding in findings)
    if options.json:
        print_json({"ok": is_good, "findings": [asdict(finding) for finding in findings]})
        return 0 if is_good else 1
    for finding in findings:
        print(f"{'ok  ' if finding.is_good else 'FAIL'}  {finding.hop:<10} {finding.what}")
        if finding.mend:
            print(f"      {'':<10} → {finding.mend}")
    return 0 if is_good else 1


def hop_of(look: Callable[..., object]) -> str:
    """The name of the hop that a function looks at.

    >>> hop_of(look_at_store)
    'store'
    """
    return look.__name__.removeprefix("look_at_")


def look_at_machine(settings: Mapping[str, Table]) -> Finding:
    """Python, SQLite and free space."""
    pipeline = table(settings, "pipeline", PipelineSettings)
    folder = next(path for path in (pipeline.folder.resolve(), *pipeline.folder.resolve().parents) if path.exists())
    free = shutil.disk_usage(folder).free
    what = f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {free >> 20} MiB free in {folder}"
    if free < FREE_BYTES_MIN:
        return Finding(
            "machine", False, what, "free some space: log, store and spools stop taking frames on a full disk"
        )
    old = sqlite3.sqlite_version_info < SQLITE_FIXED
    return Finding(
        "machine", True, what, "never open our files for writing from another program with this SQLite" if old else ""
    )


def look_at_clock(_settings: Mapping[str, Table]) -> Finding:
    """Is the system clock synchronised, as far as the system tells?"""
    marker = Path("/run/systemd/timesync/synchronized")
    now_s = time.time()
    if now_s < 1_700_000_000:
        return Finding("clock", False, f"the clock says {time.ctime(now_s)}", "set it or connect to a time server")
    return Finding("clock", True, "synchronised" if marker.exists() else "plausible; no word of a time server")


def look_at_gateway(settings: Mapping[str, Table]) -> Finding:
    """Does something at the gateway's address, or the broker's, speak MQTT 5?"""
    if table(settings, "gateway", GatewaySettings).mqtt:
        return look_at_broker(table(settings, "gateway", GatewaySettings))
    gateway = settings["gateway"].model_dump()
    where = f"{gateway['host']}:{gateway['port']}"
    if gateway["tls_certificate"]:
        return Finding("gateway", True, f"{where} uses TLS: not tried")
    try:
        asyncio.run(_connect(gateway["host"], gateway["port"]))
    except (OSError, TimeoutError, HeadwaterError) as error:
        return Finding(
            "gateway",
            False,
            f"{where}: {str(error) or 'no answer'}",
            "start `headwater up` or `headwater gateway`, or correct gateway.port",
        )
    return Finding("gateway", True, f"MQTT 5 on {where}")


def look_at_broker(gateway: GatewaySettings) -> Finding:
    """Does the broker let the gateway in? Asked under another client id, so that the running gateway keeps its session."""
    broker = Broker(
        gateway.mqtt,
        username=gateway.mqtt_username,
        password_file=gateway.mqtt_password_file,
        ca_file=gateway.mqtt_ca_file,
        cert_file=gateway.mqtt_cert_file,
        key_file=gateway.mqtt_key_file,
    )
    try:
        scheme, host, port = parse_broker(broker.url)
        secret = read_secret(broker.password_file)
        context = tls_context(broker) if scheme == "mqtts" else None
        asyncio.run(
            _connect(
                host,
                port,
                identifier=f"{gateway.mqtt_client_id}.doctor",
                username=broker.username or None,
                password=secret,
                tls_context=context,
            )
        )
    except SettingsError as error:
        return Finding("gateway", False, str(error), "correct [gateway] mqtt and the files beside it")
    except (OSError, TimeoutError, HeadwaterError) as error:
        mend = "start the broker, or correct [gateway] mqtt, the files and the user beside it"
        return Finding("gateway", False, f"{broker.url}: {str(error) or 'no answer'}", mend)
    return Finding("gateway", True, f"MQTT 5 broker at {broker.url} lets the gateway in")


async def _connect(host: str, port: int, **more: Any) -> None:
    from aiomqtt import Client, MqttError, ProtocolVersion  # noqa: PLC0415  the client is needed only here

    try:
        async with Client(host, port, protocol=ProtocolVersion.V5, timeout=TIMEOUT_S, **more):
            pass
    except MqttError as error:
        raise HeadwaterError(str(error)) from error


def look_at_log(settings: Mapping[str, Table]) -> Finding:
    """Is there a log, and has the processor caught up with it?"""
    pipeline = table(settings, "pipeline", PipelineSettings)
    try:
        expect(pipeline, "log")
    except ConnectError as error:
        return Finding("log", False, str(error), "start the gateway with this data folder")
    log, where = open_log_reader(settings), url_of(pipeline, "log")
    try:
        incarnation = log.incarnation
        parts = max(table(settings, "gateway", GatewaySettings).partitions, log_topics.PARTITIONS_DEFAULT)
        ends = {part: log.end(log_topics.READINGS, part) for part in range(parts)}
    except ConnectError as error:
        return Finding("log", False, str(error), "is it up, and has the gateway been started on it?")
    except HeadwaterError as error:
        return Finding("log", False, str(error), "see the gateway's messages: a damaged log is set aside and replaced")
    finally:
        log.close()
    return (
        Finding("log", True, f"{where}: {sum(ends.values())} records, incarnation {incarnation}")
        if any(ends.values())
        else Finding("log", False, f"{where} is empty", "no frame has come: look at the agents", is_idle=True)
    )


def look_at_flink(settings: Mapping[str, Table]) -> Finding | None:
    """Does the job run on Flink, and does it follow the log? None where the processor is ours."""
    if not is_flink(table(settings, "pipeline", PipelineSettings)):
        return None
    return Finding("flink", *doctor_flink.examine_flink(settings))


def look_at_sink(settings: Mapping[str, Table]) -> Finding | None:
    """Does the store follow the results of the job on Flink? None where the processor is ours."""
    if not is_flink(table(settings, "pipeline", PipelineSettings)):
        return None
    return Finding("sink", *doctor_flink.examine_sink(settings))


def look_at_processor(settings: Mapping[str, Table]) -> Finding | None:
    """How far is the store behind the log? None where Flink hosts the tasks."""
    pipeline = table(settings, "pipeline", PipelineSettings)
    if is_flink(pipeline):
        return None
    try:
        expect(pipeline, "log")
        expect(pipeline, "store")
    except ConnectError as error:
        return Finding("processor", False, str(error), "start the processor with this data folder")
    log, store = open_log_reader(settings), open_reader(pipeline)
    try:
        at = {place: offset for place, offset in store.positions().items() if place[1] == log_topics.READINGS}
        incarnation = log.incarnation
        lag = sum(log.end(topic, part) - offset for (found, topic, part), offset in at.items() if found == incarnation)
    except ConnectError as error:
        return Finding("processor", False, str(error), "start the log and the processor")
    finally:
        log.close()
        store.close()
    if not at:
        mend = "start the processor with this data folder"
        return Finding("processor", False, "it has stored nothing yet", mend, is_idle=True)
    if lag > LAG_RECORDS_MAX:
        return Finding("processor", False, f"{lag} records behind", "is the processor running, and is its core free?")
    return Finding("processor", True, f"{max(lag, 0)} records behind")


def look_at_store(settings: Mapping[str, Table]) -> Finding:
    """Is the store fresh, and is the account clean?"""
    pipeline = table(settings, "pipeline", PipelineSettings)
    try:
        expect(pipeline, "store")
    except ConnectError as error:
        return Finding("store", False, str(error), "start the processor with this data folder")
    store = open_reader(pipeline)
    try:
        age_s = time.time() - store.newest_us() / US_PER_S
        total = store.account_total()
    finally:
        store.close()
    if total["unknown"]:
        return Finding(
            "store",
            False,
            f"{total['unknown']} frames are unknown",
            "this must never be: keep the data folder and report it",
        )
    if age_s > STALE_S_MAX:
        return Finding(
            "store",
            False,
            f"the newest reading is {age_s:.0f} s old",
            "are agents connected? `headwater trace SITE/DEVICE` shows where one stops",
            is_idle=True,
        )
    return Finding("store", True, f"newest reading {max(age_s, 0):.1f} s old; unknown 0")


def look_at_page(settings: Mapping[str, Table]) -> Finding:
    """Does the page answer?"""
    page = settings["page"].model_dump()
    url = f"http://{page['host']}:{page['port']}/"
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
            return Finding("page", True, f"{url} answers {answer.status}")
    except urllib.error.HTTPError as error:
        return Finding("page", error.code in {401, 403}, f"{url} answers {error.code}")
    except OSError as error:
        return Finding(
            "page", False, f"{url}: {error}", "start `headwater up` or `headwater page`, or correct page.port"
        )


def look_at_influx(settings: Mapping[str, Table]) -> Finding | None:
    """Does the InfluxDB behind the store answer, and may we write it? None where the store is another."""
    seen = doctor_influx.examine(settings)
    return None if seen is None else Finding("influx", *seen)


LOOKS: tuple[Callable[[Mapping[str, Table]], Finding | None], ...] = (
    look_at_machine,
    look_at_clock,
    look_at_gateway,
    look_at_log,
    look_at_flink,
    look_at_sink,
    look_at_processor,
    look_at_influx,
    look_at_store,
    look_at_page,
)
