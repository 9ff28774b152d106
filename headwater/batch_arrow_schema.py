"""The Arrow schema of a batch, format 1 (contracts §6): a row per frame, readings and records as nested lists.

The devices of a batch, its dead letters, statuses and times travel as JSON in the schema's metadata. The locations of
statuses stand beside them under a key of their own, which programs that know no locations pass over.
"""

import base64
import json
from dataclasses import asdict, replace
from typing import Any, Final

import pyarrow as pa

from headwater.batch import Batch, DeadLetter, DeviceStatus
from headwater.errors import DecodeError
from headwater.location import read_location
from headwater.reasons import DeadLetterReason

FORMAT: Final = b"1"
FORMAT_KEY: Final = b"headwater.batch"
META_KEY: Final = b"headwater.meta"
PAYLOAD_KEPT_BYTES: Final = 1024
META_BYTES_MAX: Final = 64 * 1024 * 1024

NAME: Final = pa.dictionary(pa.int32(), pa.string())


def _struct(**fields: Any) -> Any:
    return pa.struct([pa.field(name, kind, nullable=False) for name, kind in fields.items()])


def _list(item: Any) -> Any:
    return pa.list_(pa.field("item", item, nullable=False))


READING: Final = _struct(metric=NAME, time_us=pa.int64(), value=pa.float64(), quality=pa.uint8())
BUCKET: Final = _struct(key=pa.int32(), count=pa.int64())
SUMMARY: Final = _struct(
    metric=NAME,
    start_us=pa.int64(),
    width_us=pa.int64(),
    count=pa.int64(),
    mean=pa.float64(),
    m2=pa.float64(),
    min=pa.float64(),
    max=pa.float64(),
    first=pa.float64(),
    last=pa.float64(),
    first_us=pa.int64(),
    last_us=pa.int64(),
    sketch=_list(BUCKET),
)
ANOMALY: Final = _struct(
    metric=pa.string(),
    time_us=pa.int64(),
    detector=pa.string(),
    severity=pa.string(),
    is_onset=pa.bool_(),
    score=pa.float64(),
    value=pa.float64(),
    expected=pa.float64(),
    lo=pa.float64(),
    hi=pa.float64(),
    message=pa.string(),
)
GAP: Final = _struct(
    epoch=pa.uint64(),
    from_seq=pa.int64(),
    to_seq=pa.int64(),
    reason=pa.string(),
    readings=pa.int64(),
    declared_us=pa.int64(),
)
ROW: Final = _struct(
    site=NAME,
    device=NAME,
    epoch=pa.uint64(),
    seq=pa.int64(),
    received_us=pa.int64(),
    created_us=pa.int64(),
    clock=pa.uint8(),
    oldest_seq=pa.int64(),
    payload_bytes=pa.int32(),
    acquired=pa.int64(),
    suppressed=pa.int64(),
    aggregated=pa.int64(),
    dropped=pa.int64(),
    readings=_list(READING),
    summaries=_list(SUMMARY),
    anomalies=_list(ANOMALY),
    gaps=_list(GAP),
)
SCHEMA: Final = pa.schema(list(ROW))


def write_meta(batch: Batch, pairs: list[list[int]]) -> dict[bytes, bytes]:
    """Returns the schema metadata of a batch; `pairs` are the devices as places in the columns' dictionaries."""
    meta = {
        "shard": batch.shard,
        "made_us": batch.made_us,
        "low_watermark_us": batch.low_watermark_us,
        "devices": pairs,
    }
    if batch.statuses:
        meta["statuses"] = [_without_location(status) for status in batch.statuses]
        located = [(at, status.location) for at, status in enumerate(batch.statuses) if status.location]
        if located:
            meta["locations"] = [[at, location.lat, location.lon] for at, location in located]
    if batch.dead_letters:
        meta["dead_letters"] = [
            asdict(letter) | {"payload": base64.b64encode(letter.payload[:PAYLOAD_KEPT_BYTES]).decode()}
            for letter in batch.dead_letters
        ]
    return {FORMAT_KEY: FORMAT, META_KEY: json.dumps(meta, separators=(",", ":")).encode()}


def _without_location(status: DeviceStatus) -> dict[str, Any]:
    fields = asdict(status)
    del fields["location"]
    return fields


def read_meta(metadata: dict[bytes, bytes] | None) -> dict[str, Any]:
    """Reads the metadata back: shard, made_us, low_watermark_us, devices, statuses, dead_letters.

    Raises:
        DecodeError: VERSION, PARSE or SCHEMA.
    """
    known = metadata or {}
    if known.get(FORMAT_KEY) != FORMAT:
        raise DecodeError(DeadLetterReason.VERSION, f"batch format {known.get(FORMAT_KEY)!r}, this reads {FORMAT!r}")
    try:
        meta = json.loads(known.get(META_KEY, b"")[:META_BYTES_MAX])
        letters = [
            DeadLetter(**(fields | {"payload": base64.b64decode(fields["payload"], validate=True)}))
            for fields in meta.get("dead_letters", ())
        ]
        statuses = [DeviceStatus(**fields) for fields in meta.get("statuses", ())]
        locations = {at: read_location(lat, lon) for at, lat, lon in meta.get("locations", ())}
        numbers = [meta["shard"], meta["made_us"], meta["low_watermark_us"]]
        pairs = [(site, device) for site, device in meta["devices"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DecodeError(DeadLetterReason.PARSE, f"metadata of a batch: {type(error).__name__}") from error
    if not (
        all(_is_int64(number) for number in numbers)
        and all(_is_int64(site) and _is_int64(device) for site, device in pairs)
        and all(_has_types(letter) for letter in letters)
        and all(_has_types(status) for status in statuses)
        and all(type(at) is int and 0 <= at < len(statuses) for at in locations)
    ):
        raise DecodeError(DeadLetterReason.SCHEMA, "metadata of a batch has a field out of range")
    return {
        "shard": numbers[0],
        "made_us": numbers[1],
        "low_watermark_us": numbers[2],
        "devices": pairs,
        "statuses": tuple(replace(status, location=locations.get(at)) for at, status in enumerate(statuses)),
        "dead_letters": tuple(letters),
    }


def _is_int64(number: object) -> bool:
    return type(number) is int and -(1 << 63) <= number < 1 << 63


def _has_types(record: DeadLetter | DeviceStatus) -> bool:
    for name, kind in type(record).__annotations__.items():
        value = getattr(record, name)
        if name == "location" and value is None:
            continue  # It is read from beside the statuses, never in them.
        if type(value) is not kind or (kind is int and not -(1 << 63) <= value < 1 << 64):
            return False
    return True
