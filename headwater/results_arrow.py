"""Results as Arrow IPC streams and back (contracts §6): what `headwater.results` holds; any Arrow reader can read it.

    one record batch, a row per table:   kind          body
                                         telemetry     a batch as in headwater.readings (batch_arrow.py)
                                         points        an Arrow IPC stream of the rows of one measurement
                                         accounts      an Arrow IPC stream, a row per device and epoch
                                         dead_letters  an Arrow IPC stream, a row each

Source, position, run, time and counters travel as JSON in the metadata of the outer schema. Every float keeps its bits.
What one record gave is cut into several streams where it is large, because a log takes records of bounded size.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from typing import Any, Final

import pyarrow as pa

from headwater.batch import Batch, DeadLetter
from headwater.batch_arrow import ARROW_BYTES_MAX, batch_from_arrow, batch_to_arrow
from headwater.errors import DecodeError
from headwater.points import DeviceAccount, PointTable, StoreWrite
from headwater.reasons import DeadLetterReason
from headwater.results import Results
from headwater.results_arrow_tables import (
    ACCOUNTS,
    DEAD_LETTERS,
    points_from_arrow,
    points_to_arrow,
    record_columns,
    records_of,
)
from headwater.task import StepCounters

FORMAT: Final = b"1"
FORMAT_KEY: Final = b"headwater.results"
BYTES_MAX: Final = 4 * 1024 * 1024
ROWS_MAX: Final = 8_192
META_KEY: Final = b"headwater.meta"
SCHEMA: Final = pa.schema(
    [pa.field("kind", pa.string(), nullable=False), pa.field("body", pa.binary(), nullable=False)]
)


def results_to_arrow(
    results: Results, telemetry: Sequence[bytes] | None = None, *, bytes_max: int = BYTES_MAX
) -> list[bytes]:
    """Writes results as Arrow IPC streams, most often one.

    Args:
        results: all that the record gave, as part 0.
        telemetry: the batches of `results.write.telemetry` as `batch_to_arrow` writes them, where the caller has them;
            an untouched batch then keeps the bytes that it came in.
        bytes_max: a stream is cut between tables (of at most ROWS_MAX rows) before it grows beyond; one that holds a
            single batch may be as large as that batch was in its own log.
    """
    write = results.write
    if telemetry is None:
        telemetry = [batch_to_arrow(batch, compression="lz4") for batch in write.telemetry]
    assert len(telemetry) == len(write.telemetry), "telemetry as bytes is not the telemetry of the write"
    tables = [("telemetry", body) for body in telemetry]
    for table in write.tables:
        schema, arrays = points_to_arrow(table)
        tables += [("points", _stream(schema, part)) for part in _cut(arrays)]
    for kind, schema, records in (
        ("accounts", ACCOUNTS, write.accounts),
        ("dead_letters", DEAD_LETTERS, write.dead_letters),
    ):
        if records:
            tables += [(kind, _stream(schema, part)) for part in _cut(record_columns(schema, records))]
    parts: list[list[tuple[str, bytes]]] = [[]]
    size = 0
    for kind, body in tables:
        if parts[-1] and size + len(body) > bytes_max:
            parts.append([])
            size = 0
        parts[-1].append((kind, body))
        size += len(body)
    return [_part_to_arrow(results, part, number, len(parts)) for number, part in enumerate(parts)]


def _part_to_arrow(results: Results, part: list[tuple[str, bytes]], number: int, count: int) -> bytes:
    meta = {
        "source": results.source,
        "position": results.position,
        "part": number,
        "is_last": number == count - 1,
        "run": results.run,
        "made_us": results.made_us,
        "counters": asdict(results.counters if number == 0 else StepCounters()),
    }
    schema = SCHEMA.with_metadata({FORMAT_KEY: FORMAT, META_KEY: json.dumps(meta, separators=(",", ":")).encode()})
    kinds, bodies = [kind for kind, _ in part], [body for _, body in part]
    return _stream(schema, [pa.array(kinds, pa.string()), pa.array(bodies, pa.binary())])


def _cut(arrays: list[Any]) -> list[list[Any]]:
    """Cuts columns into parts of at most ROWS_MAX rows."""
    return [[array.slice(at, ROWS_MAX) for array in arrays] for at in range(0, len(arrays[0]), ROWS_MAX)]


def results_from_arrow(data: bytes | memoryview) -> Results:
    """Reads what `results_to_arrow` wrote; readings are read-only views of `data` where they are not compressed.

    Raises:
        DecodeError: these bytes are not results, or results of another format.
    """
    schema, table = _read(data)
    known = schema.metadata or {}
    if known.get(FORMAT_KEY) != FORMAT:
        raise DecodeError(DeadLetterReason.VERSION, f"results format {known.get(FORMAT_KEY)!r}, this reads {FORMAT!r}")
    if not schema.equals(SCHEMA) or any(column.null_count for column in table.columns):
        raise DecodeError(DeadLetterReason.SCHEMA, "the columns are not those of results")
    telemetry: list[Batch] = []
    tables: list[PointTable] = []
    accounts: list[DeviceAccount] = []
    letters: list[DeadLetter] = []
    readers: dict[str, Callable[[Any], object]] = {
        "telemetry": lambda body: telemetry.append(batch_from_arrow(body)),
        "points": lambda body: tables.append(points_from_arrow(*_read(body))),
        "accounts": lambda body: accounts.extend(records_of(ACCOUNTS, DeviceAccount, *_read(body))),
        "dead_letters": lambda body: letters.extend(records_of(DEAD_LETTERS, DeadLetter, *_read(body))),
    }
    bodies = table.column(1)
    for row, kind in enumerate(table.column(0).to_pylist()):
        if kind not in readers:
            raise DecodeError(DeadLetterReason.SCHEMA, f"a table of kind {kind[:40]!r}")
        readers[kind](memoryview(bodies[row].as_buffer()))
    meta = _read_meta(known.get(META_KEY, b""))
    positions = {meta["source"]: meta["position"]} if meta.pop("is_last") else {}
    return Results(StoreWrite(tuple(telemetry), tuple(tables), tuple(accounts), tuple(letters), positions), **meta)


def _stream(schema: Any, arrays: list[Any]) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as stream:
        stream.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _read(data: bytes | memoryview) -> tuple[Any, Any]:
    """Returns schema and the one record batch of an Arrow IPC stream, validated."""
    if len(data) > ARROW_BYTES_MAX:
        raise DecodeError(DeadLetterReason.TOO_LARGE, f"{len(data)} bytes are over {ARROW_BYTES_MAX}")
    try:
        with pa.ipc.open_stream(pa.py_buffer(data)) as stream:
            table = stream.read_next_batch()
            if next(iter(stream), None) is not None:
                raise DecodeError(DeadLetterReason.SCHEMA, "more than one record batch")
            table.validate(full=True)
            return stream.schema, table
    except (pa.ArrowException, OSError, MemoryError, StopIteration) as error:
        raise DecodeError(DeadLetterReason.PARSE, f"not an Arrow stream: {str(error)[:200]}") from error


def _read_meta(text: bytes) -> dict[str, Any]:
    names = [field.name for field in fields(StepCounters)]
    try:
        meta = json.loads(text)
        log, log_topic, shard = meta["source"]
        found = {name: meta[name] for name in ("position", "part", "is_last", "run", "made_us")}
        counted = [meta["counters"][name] for name in names]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DecodeError(DeadLetterReason.PARSE, f"metadata of results: {type(error).__name__}") from error
    numbers = [*counted, shard, found["position"], found["part"], found["made_us"]]
    if (
        not all(isinstance(word, str) for word in (log, log_topic, found["run"]))
        or not all(type(number) is int and 0 <= number < 1 << 63 for number in numbers)
        or type(found["is_last"]) is not bool
    ):
        raise DecodeError(DeadLetterReason.SCHEMA, "metadata of results has a field out of range")
    counters = StepCounters(**dict(zip(names, counted, strict=True)))
    return {**found, "source": (log, log_topic, shard), "counters": counters}
