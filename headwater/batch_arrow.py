"""Batches as Arrow IPC streams and back (contracts §6): what the log holds; any Arrow reader can read it.

Both ways hand buffers over instead of values: a few µs per column and about a nanosecond per reading. What
`batch_from_arrow` returns are read-only views of the bytes that it was given.
"""

from dataclasses import asdict
from functools import lru_cache
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headwater.batch import Batch
from headwater.batch_arrow_schema import (
    ANOMALY,
    BUCKET,
    GAP,
    READING,
    ROW,
    SCHEMA,
    SUMMARY,
    read_meta,
    write_meta,
)
from headwater.errors import DecodeError
from headwater.frame import Anomaly, Gap, Int64, Summaries
from headwater.name_table import is_metric_cached, is_name_cached
from headwater.reasons import DeadLetterReason, GapReason, Severity

# What a batch of the simulator's fleet takes in the log: 22.3 bytes a reading as it is, about 4 with lz4. The gateway chooses
# (`[gateway] compression`), because what packing costs is saved again on the way to the disk.
Compression = Literal["lz4", "zstd"] | None

# Records of a batch that the gateway closes are about 1 MiB; this bounds what a reader takes on.
ARROW_BYTES_MAX: Final = 256 * 1024 * 1024

# By the type's id: hashing an Arrow type spells it out first.
_DTYPES: Final[dict[int, npt.DTypeLike]] = {
    pa.int64().id: np.int64,
    pa.int32().id: np.int32,
    pa.uint64().id: np.uint64,
    pa.uint8().id: np.uint8,
    pa.float64().id: np.float64,
}
_COLUMNS: Final = tuple(field.name for field in ROW)
_LEDGER: Final = ("acquired", "suppressed", "aggregated", "dropped")
_PANE_NUMBERS: Final = tuple(field.name for field in SUMMARY if field.name not in {"metric", "sketch"})
_FRAME_NUMBERS: Final = ("epoch", "seq", "received_us", "created_us", "clock", "oldest_seq", "payload_bytes")


def batch_to_arrow(batch: Batch, *, compression: Compression = None) -> bytes:
    """Writes a batch as one Arrow IPC stream with one record batch; a dead letter's payload is cut at 1 KiB.

    Args:
        batch: any batch, also one without frames.
        compression: of the buffers.
    """
    rows = len(batch)
    sites, devices, pairs = _device_dictionaries(batch.devices)
    pair = np.array(pairs, np.int32).reshape(-1, 2)
    readings = _struct_array(
        READING,
        {
            "metric": _names(batch.metric, batch.metrics),
            "time_us": batch.time_us,
            "value": batch.value,
            "quality": batch.quality,
        },
    )
    columns = {
        "site": _names(pair[batch.device, 0], sites),
        "device": _names(pair[batch.device, 1], devices),
        **{name: getattr(batch, name) for name in _FRAME_NUMBERS},
        **{name: batch.ledger[:, place] for place, name in enumerate(_LEDGER)},
        "readings": _list_array(ROW.field("readings").type, batch.reading_start, readings),
        "summaries": _list_array(ROW.field("summaries").type, batch.summary_start, _pane_array(batch.summaries)),
        "anomalies": _record_array(ANOMALY, ROW.field("anomalies").type, rows, batch.anomalies),
        "gaps": _record_array(GAP, ROW.field("gaps").type, rows, batch.gaps),
    }
    arrays = [_array(field.type, columns[field.name]) for field in ROW]
    schema = SCHEMA.with_metadata(write_meta(batch, pairs))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema, options=_write_options(compression)) as stream:
        stream.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
    data: bytes = sink.getvalue().to_pybytes()
    return data


@lru_cache(maxsize=1)
def _read_options() -> Any:
    # As below: unpacking a record of 10,000 readings takes 0.07 ms alone and 0.4 ms with the threads.
    return pa.ipc.IpcReadOptions(use_threads=False)


@lru_cache(maxsize=4)
def _write_options(compression: Compression) -> Any:
    # Threads would share out a few buffers of some kilobytes each, which costs more than it saves.
    return pa.ipc.IpcWriteOptions(compression=compression, use_threads=False)


def _device_dictionaries(devices: tuple[tuple[str, str], ...]) -> tuple[list[str], list[str], list[list[int]]]:
    sites: dict[str, int] = {}
    names: dict[str, int] = {}
    pairs = [[sites.setdefault(site, len(sites)), names.setdefault(name, len(names))] for site, name in devices]
    return list(sites), list(names), pairs


def _array(kind: Any, column: Any) -> Any:
    """Wraps a numpy column as an Arrow array without a copy where it lies in one piece; Arrow arrays pass."""
    if not isinstance(column, np.ndarray):
        return column
    data = np.ascontiguousarray(column, _DTYPES[kind.id])
    return pa.Array.from_buffers(kind, len(data), [None, pa.py_buffer(data)])


def _names(code: npt.NDArray[np.int32], names: Any) -> Any:
    return pa.DictionaryArray.from_arrays(_array(pa.int32(), code), pa.array(names, pa.string()), safe=False)


def _struct_array(kind: Any, columns: dict[str, Any]) -> Any:
    arrays = [_array(field.type, columns[field.name]) for field in kind]
    return pa.StructArray.from_arrays(arrays, fields=list(kind))


def _list_array(kind: Any, start: Int64, items: Any) -> Any:
    offsets = pa.py_buffer(start.astype(np.int32))
    return pa.Array.from_buffers(kind, len(start) - 1, [None, offsets], children=[items])


def _pane_array(panes: Summaries) -> Any:
    if not len(panes):
        return _nothing(SUMMARY)
    buckets = _struct_array(BUCKET, {"key": panes.sketch_key, "count": panes.sketch_count})
    return _struct_array(
        SUMMARY,
        {
            "metric": _names(panes.metric, panes.metrics),
            **{name: getattr(panes, name) for name in _PANE_NUMBERS},
            "sketch": _list_array(SUMMARY.field("sketch").type, panes.sketch_start, buckets),
        },
    )


@lru_cache(maxsize=4)
def _nothing(kind: Any) -> Any:
    return pa.array([], kind)


def _record_array(kind: Any, list_kind: Any, rows: int, records: tuple[tuple[int, Anomaly | Gap], ...]) -> Any:
    """Makes a list per row out of (row, record) pairs that ascend by row."""
    if not records:
        return _list_array(list_kind, np.zeros(rows + 1, np.int64), _nothing(kind))
    count = np.bincount(np.array([row for row, _ in records], np.int64), minlength=rows)
    start = np.zeros(rows + 1, np.int64)
    np.cumsum(count, out=start[1:])
    return _list_array(list_kind, start, pa.array([asdict(record) for _, record in records], kind))


def batch_from_arrow(data: bytes | memoryview) -> Batch:
    """Reads what `batch_to_arrow` wrote; arrays are read-only views of `data` unless it is compressed.

    Raises:
        DecodeError: these bytes are not a batch, or one of another format.
    """
    if len(data) > ARROW_BYTES_MAX:
        raise DecodeError(DeadLetterReason.TOO_LARGE, f"{len(data)} bytes are over {ARROW_BYTES_MAX}")
    try:
        with pa.ipc.open_stream(pa.py_buffer(data), options=_read_options()) as stream:
            meta = read_meta(stream.schema.metadata)
            if not stream.schema.equals(SCHEMA):
                raise DecodeError(DeadLetterReason.SCHEMA, "the columns are not those of a batch")
            table = stream.read_next_batch()
            if next(iter(stream), None) is not None:
                raise DecodeError(DeadLetterReason.SCHEMA, "more than one record batch")
        table.validate(full=True)
        batch = _batch_of(table, meta)
    except (pa.ArrowException, OSError, MemoryError, StopIteration) as error:
        raise DecodeError(DeadLetterReason.PARSE, f"not an Arrow stream: {str(error)[:200]}") from error
    _check(batch)
    return batch


def _batch_of(table: Any, meta: dict[str, Any]) -> Batch:
    columns = dict(zip(_COLUMNS, table.columns, strict=True))
    if any(column.null_count for column in columns.values()):
        raise DecodeError(DeadLetterReason.SCHEMA, "a column has nulls")
    reading_start, items = _items(columns["readings"])
    readings = _fields(items, READING)
    summary_start, panes = _items(columns["summaries"])
    metrics, metric = _decoded_names(readings["metric"])
    devices, device = _read_devices(columns["site"], columns["device"], meta["devices"])
    return Batch(
        shard=meta["shard"],
        devices=devices,
        metrics=metrics,
        device=device,
        **{name: _numpy(columns[name]) for name in _FRAME_NUMBERS},
        reading_start=reading_start,
        metric=metric,
        **{name: _numpy(readings[name]) for name in ("time_us", "value", "quality")},
        summary_start=summary_start,
        ledger=np.stack([_numpy(columns[name]) for name in _LEDGER], axis=1),
        made_us=meta["made_us"],
        summaries=_summaries_of(_fields(panes, SUMMARY)) if summary_start[-1] else Summaries.empty(),
        anomalies=tuple(_records(columns["anomalies"], _anomaly)),
        gaps=tuple(_records(columns["gaps"], _gap)),
        dead_letters=meta["dead_letters"],
        statuses=meta["statuses"],
        low_watermark_us=meta["low_watermark_us"],
    )


def _numpy(array: Any) -> Any:
    """Returns a primitive Arrow array without nulls as a view."""
    dtype = np.dtype(_DTYPES[array.type.id])
    data = array.buffers()[1]
    if data is None or len(array) == 0:
        return np.empty(0, dtype)
    return np.frombuffer(data, dtype, len(array), array.offset * dtype.itemsize)


def _items(array: Any) -> tuple[Int64, Any]:
    """Takes a list array apart: where each row's items start, and the items."""
    items = array.values
    if len(array) == 0:
        start = np.zeros(1, np.int64)
    else:
        start = np.frombuffer(array.buffers()[1], np.int32, len(array) + 1, array.offset * 4).astype(np.int64)
    if start[0] != 0 or start[-1] != len(items) or items.null_count:
        raise DecodeError(DeadLetterReason.SCHEMA, "a list column has nulls or items outside of its rows")
    return start, items


def _fields(items: Any, kind: Any) -> dict[str, Any]:
    """Returns the fields of a struct array, none with nulls."""
    fields = {field.name: items.field(place) for place, field in enumerate(kind)}
    if any(field.null_count for field in fields.values()):
        raise DecodeError(DeadLetterReason.SCHEMA, "a field of a list column has nulls")
    return fields


def _decoded_names(array: Any) -> tuple[tuple[str, ...], npt.NDArray[np.int32]]:
    names = array.dictionary.to_pylist()
    if not all(name is not None and is_metric_cached(name) for name in names) or len(set(names)) != len(names):
        raise DecodeError(DeadLetterReason.NAME, "a dictionary of metrics holds a bad name or one twice")
    code: npt.NDArray[np.int32] = _numpy(array.indices)
    return tuple(names), code


def _read_devices(
    site: Any, device: Any, pairs: list[tuple[int, int]]
) -> tuple[tuple[tuple[str, str], ...], npt.NDArray[np.int32]]:
    sites, names = site.dictionary.to_pylist(), device.dictionary.to_pylist()
    if not all(name is not None and is_name_cached(name) for name in (*sites, *names)):
        raise DecodeError(DeadLetterReason.NAME, "a site or device has a bad name")
    if not all(0 <= s < len(sites) and 0 <= d < len(names) for s, d in pairs) or len(set(pairs)) != len(pairs):
        raise DecodeError(DeadLetterReason.SCHEMA, "the table of devices does not match its dictionaries")
    devices = tuple((sites[s], names[d]) for s, d in pairs)
    wanted = _numpy(site.indices).astype(np.int64) * len(names) + _numpy(device.indices)
    known = np.array([s * len(names) + d for s, d in pairs], np.int64)
    order = np.argsort(known)
    at = np.searchsorted(known[order], wanted)
    if len(wanted) and (at.max() >= len(known) or (known[order][at] != wanted).any()):
        raise DecodeError(DeadLetterReason.SCHEMA, "a frame's device is not in the table of devices")
    return devices, order[at].astype(np.int32)


def _summaries_of(fields: dict[str, Any]) -> Summaries:
    metrics, metric = _decoded_names(fields["metric"])
    sketch_start, items = _items(fields["sketch"])
    buckets = _fields(items, BUCKET)
    return Summaries(
        metrics=metrics,
        metric=metric,
        **{name: _numpy(fields[name]) for name in _PANE_NUMBERS},
        sketch_start=sketch_start,
        sketch_key=_numpy(buckets["key"]),
        sketch_count=_numpy(buckets["count"]),
    )


def _records(array: Any, make: Any) -> list[tuple[int, Any]]:
    start, _ = _items(array)
    if start[-1] == 0:
        return []
    try:
        return [(row, make(record)) for row, records in enumerate(array.to_pylist()) for record in records]
    except ValueError as error:
        raise DecodeError(DeadLetterReason.SCHEMA, f"a record of a batch: {error}") from error


def _anomaly(fields: dict[str, Any]) -> Anomaly:
    return Anomaly(**(fields | {"severity": Severity(fields["severity"])}))


def _gap(fields: dict[str, Any]) -> Gap:
    return Gap(**(fields | {"reason": GapReason(fields["reason"])}))


def _check(batch: Batch) -> None:
    """Refuses codes and values that a batch never holds; the lengths are right by Arrow's own validation."""
    panes = batch.summaries
    if (
        not np.isfinite(batch.value).all()
        or (len(batch.metric) and not 0 <= batch.metric.min() <= batch.metric.max() < len(batch.metrics))
        or (len(panes) and not 0 <= panes.metric.min() <= panes.metric.max() < len(panes.metrics))
    ):
        raise DecodeError(DeadLetterReason.SCHEMA, "a reading or pane of a batch is out of range")
