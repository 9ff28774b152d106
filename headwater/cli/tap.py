"""`headwater tap`: what passes, a line a frame, from the log or from any MQTT broker."""

import argparse
import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from gateway.settings import GatewaySettings
from headwater import log_topics
from headwater.batch import Batch
from headwater.batch_arrow import batch_from_arrow
from headwater.cli.engines import expect, open_log_reader
from headwater.cli.pipeline import PipelineSettings
from headwater.cli.shared import add_data_option, add_engine_options, read_settings, say, stop_on_signals, table
from headwater.codec import decode_frame
from headwater.errors import ConnectError, DecodeError, SettingsError
from headwater.frame import Frame
from headwater.instant import format_utc
from headwater.names import parse_mqtt_topic
from headwater.ports import Log

POLL_S = 0.2
RECORDS_MAX = 64


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    add_data_option(parser)
    add_engine_options(parser)
    parser.add_argument("device", nargs="?", default="", help="only this one: SITE/DEVICE")
    parser.add_argument(
        "--mqtt", metavar="URL", help="listen on a broker, such as mqtt://127.0.0.1:1883, instead of the log"
    )
    parser.add_argument("--from-start", action="store_true", help="from the oldest record that the log holds")
    parser.add_argument("--count", type=int, default=0, metavar="N", help="end after N frames")
    parser.add_argument("--values", action="store_true", help="show every reading")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def run(options: argparse.Namespace) -> int:
    """Prints frames until Ctrl-C or `--count`."""
    if options.mqtt:
        try:
            asyncio.run(_tap_mqtt(options))
        except asyncio.CancelledError:
            return 0
        return 0
    settings = read_settings(options)
    pipeline = table(settings, "pipeline", PipelineSettings)
    partitions = max(table(settings, "gateway", GatewaySettings).partitions, log_topics.PARTITIONS_DEFAULT)
    expect(pipeline, "log")
    log = open_log_reader(settings)
    shown = 0
    try:
        with stop_on_signals() as stop:
            for batch in _batches(log, partitions, from_start=options.from_start, stop=stop):
                for row in _rows(batch, with_values=options.values):
                    if options.device in {"", row["device"]}:
                        _show(row, as_json=options.json)
                        shown += 1
                        if options.count and shown >= options.count:
                            return 0
    finally:
        log.close()
    return 0


def _batches(log: Log, partitions: int, *, from_start: bool, stop: threading.Event) -> Iterator[Batch]:
    """Follows all partitions of the readings; partitions are found as they appear."""
    at: dict[int, int] = {}
    first = True
    while not stop.is_set():
        found = False
        for partition in range(partitions):
            if partition not in at:
                end = log.end(log_topics.READINGS, partition)
                at[partition] = end if first and not from_start else log.start(log_topics.READINGS, partition)
            for record in log.read(log_topics.READINGS, partition, at[partition], RECORDS_MAX):
                at[partition] = record.offset + 1
                found = True
                yield batch_from_arrow(record.value)
        first = False
        if not found:
            stop.wait(POLL_S)


def _rows(batch: Batch, *, with_values: bool) -> Iterator[dict[str, Any]]:
    """A JSON-ready row per frame."""
    for row in range(len(batch)):
        first, end = int(batch.reading_start[row]), int(batch.reading_start[row + 1])
        site, device = batch.devices[batch.device[row]]
        shown = {
            "received": format_utc(int(batch.received_us[row])),
            "device": f"{site}/{device}",
            "epoch": str(int(batch.epoch[row])),
            "seq": int(batch.seq[row]),
            "readings": end - first,
            "summaries": int(batch.summary_start[row + 1] - batch.summary_start[row]),
            "bytes": int(batch.payload_bytes[row]),
            "anomalies": [anomaly.message or anomaly.detector for at, anomaly in batch.anomalies if at == row],
        }
        if with_values:
            columns = zip(
                batch.metric[first:end].tolist(),
                batch.time_us[first:end].tolist(),
                batch.value[first:end].tolist(),
                strict=True,
            )
            shown["values"] = [
                [batch.metrics[metric], format_utc(time_us), value] for metric, time_us, value in columns
            ]
        yield shown
    for letter in batch.dead_letters:
        yield {
            "received": format_utc(letter.at_us),
            "device": f"{letter.site}/{letter.device}",
            "dead_letter": letter.reason,
            "detail": letter.detail,
        }


def _show(row: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(row), flush=True)
    elif "dead_letter" in row:
        print(f"{row['received']}  {row['device']:<32} DEAD LETTER {row['dead_letter']}: {row['detail']}", flush=True)
    else:
        alarm = f"  ! {'; '.join(row['anomalies'])}" if row["anomalies"] else ""
        counts = (
            f"seq {row['seq']:>7}  {row['readings']:>5} readings  {row['summaries']:>4} summaries  {row['bytes']:>6} B"
        )
        print(f"{row['received']}  {row['device']:<32} {counts}{alarm}", flush=True)
        for metric, time, value in row.get("values", ()):
            print(f"    {time}  {metric:<40} {value!r}", flush=True)


async def _tap_mqtt(options: argparse.Namespace) -> None:
    from aiomqtt import Client, MqttError, ProtocolVersion  # noqa: PLC0415  the client is needed only here

    url = urlsplit(options.mqtt)
    if url.scheme != "mqtt" or not url.hostname:
        raise SettingsError(f"--mqtt {options.mqtt!r}: write mqtt://host:port")
    try:
        async with Client(url.hostname, url.port or 1883, protocol=ProtocolVersion.V5) as client:
            await client.subscribe(f"hw/1/{options.device or '+/+'}/#")
            say(f"tap: listening on {options.mqtt}")
            shown = 0
            async for message in client.messages:
                payload = message.payload if isinstance(message.payload, bytes) else b""
                _show_message(str(message.topic), payload, as_json=options.json)
                shown += 1
                if options.count and shown >= options.count:
                    return
    except MqttError as error:
        raise ConnectError(f"{options.mqtt}: {error}") from error


def _show_message(mqtt_topic: str, payload: bytes, *, as_json: bool) -> None:
    place = parse_mqtt_topic(mqtt_topic)
    row: dict[str, Any] = {"mqtt_topic": mqtt_topic, "bytes": len(payload)}
    if place is not None and place.leaf == "frame":
        try:
            frame: Frame = decode_frame(payload)
            row |= {"seq": frame.seq, "readings": frame.reading_count, "summaries": len(frame.summaries)}
        except DecodeError as error:
            row["error"] = str(error)
    elif len(payload) <= 4096:
        row["text"] = payload.decode("utf-8", "replace")
    print(json.dumps(row) if as_json else "  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
