"""Results survive the log bit for bit, any Arrow reader reads them, and rubbish is refused with a reason."""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from cloud_processor.settings import ProcessorSettings
from cloud_processor.topology import build_task
from headwater.batch import DeadLetter
from headwater.batch_arrow import batch_to_arrow
from headwater.errors import DecodeError
from headwater.points import DeviceAccount, PointTable, StoreWrite, tag_column
from headwater.reasons import DeadLetterReason
from headwater.results import Results
from headwater.results_arrow import FORMAT_KEY, META_KEY, ROWS_MAX, SCHEMA, results_from_arrow, results_to_arrow
from headwater.task import StepCounters

sys.path.insert(0, str(Path(__file__).parents[2] / "property"))

import shard_logs

ACCOUNT = DeviceAccount("s", "d", (1 << 64) - 1, 5, ((7, 9), (12, 12)), 12, 8, 1, 0, 3, 0, 99, 1, 2, 3, 4, 5)
SOURCE = ("a1", "headwater.readings", 3)
LETTER = DeadLetter(5, DeadLetterReason.PARSE, "processor", "headwater.readings/0/3", "no", payload=b"\x00\xff")


def small() -> Results:
    write = StoreWrite(accounts=(ACCOUNT,), dead_letters=(LETTER,), positions={SOURCE: 41})
    return Results(write, SOURCE, 41, 0, "r1", 9, StepCounters(frames=2))


def single(write: StoreWrite, telemetry: tuple[bytes, ...] | None = None) -> bytes:
    (data,) = results_to_arrow(Results(write, SOURCE, 41), telemetry)
    return data


def same_table(one: PointTable, other: PointTable) -> bool:
    return (
        one.measurement == other.measurement
        and one.time_us.tobytes() == other.time_us.tobytes()
        and [(name, tag.strings()) for name, tag in one.tags.items()]
        == [(name, tag.strings()) for name, tag in other.tags.items()]
        and list(one.fields) == list(other.fields)
        and all(
            column.dtype == other.fields[name].dtype
            and (
                column.tolist() == other.fields[name].tolist()
                if column.dtype == object
                else column.tobytes() == other.fields[name].tobytes()
            )
            for name, column in one.fields.items()
        )
    )


@pytest.mark.parametrize("seed", range(3))
def test_all_that_a_task_gives_comes_back_bit_for_bit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    task = build_task(ProcessorSettings(health_baseline=10, twin_every="1s"), 0)
    measurements = set()
    for offset, batch in enumerate(shard_logs.records(rng, shard_logs.random_log(rng, frames=60), 9)):
        result = task.step(batch, offset)
        write = shard_logs.written(task, result)
        (data,) = results_to_arrow(Results(write, SOURCE, offset + 1, 0, "r1", batch.made_us, result.counters))
        found = results_from_arrow(data)
        assert (found.run, found.made_us, found.counters) == ("r1", batch.made_us, result.counters)
        assert found.write.accounts == write.accounts
        assert found.write.dead_letters == write.dead_letters
        assert found.write.positions == {SOURCE: offset + 1}
        assert len(found.write.tables) == len(write.tables)
        assert all(map(same_table, found.write.tables, write.tables))
        assert [batch_to_arrow(b) for b in found.write.telemetry] == [batch_to_arrow(b) for b in write.telemetry]
        measurements |= {table.measurement for table in write.tables}
    assert measurements >= {"window", "device", "pipeline", "anomaly", "health"}


def test_floats_keep_their_bits_and_flags_and_texts_their_kinds() -> None:
    value = np.array([np.nan, -0.0, 5e-324, np.inf]).view(np.int64)
    value[0] += 1
    table = PointTable(
        "device",
        np.arange(4),
        {"site": tag_column(list("aaba")), "device": tag_column(list("xyzx"))},
        {
            "lat": value.view(np.float64),
            "online": np.array([True, False, True, True]),
            "state": np.array([1, -1, 1 << 62, 0]),
            "firmware": np.array(["", "é", "1", "2"], object),
        },
    )
    (found,) = results_from_arrow(single(StoreWrite(tables=(table,)))).write.tables
    assert same_table(found, table)


def test_accounts_and_dead_letters_come_back_whole() -> None:
    found = results_from_arrow(results_to_arrow(small())[0])
    assert found.write.accounts == (ACCOUNT,)
    assert found.write.dead_letters == (LETTER,)
    assert found.write.positions == {SOURCE: 41}


def test_any_arrow_reader_reads_them() -> None:
    with pa.ipc.open_stream(results_to_arrow(small())[0]) as stream:
        table = stream.read_all()
    assert table.column("kind").to_pylist() == ["accounts", "dead_letters"]
    with pa.ipc.open_stream(table.column("body")[0].as_py()) as stream:
        assert stream.read_all().column("device").to_pylist() == ["d"]


def test_an_untouched_batch_keeps_its_bytes() -> None:
    rng = np.random.default_rng(5)
    batch = shard_logs.records(rng, shard_logs.random_log(rng), 9)[0]
    data = batch_to_arrow(batch)
    assert data in single(StoreWrite((batch,)), (data,))
    with pytest.raises(AssertionError):
        single(StoreWrite((batch,)), ())


def test_large_results_are_cut_between_tables_and_large_tables_between_rows() -> None:
    n = 3 * ROWS_MAX - 5
    fields = {"value": np.arange(float(n)), "state": np.array(["firing"] * n, object)}
    tags = {name: tag_column(["x"] * n) for name in ("site", "device", "rule", "severity")}
    table = PointTable("alert", np.arange(n), tags, fields)
    whole = Results(StoreWrite(tables=(table, table), accounts=(ACCOUNT,), positions={SOURCE: 41}), SOURCE, 41, counters=StepCounters(frames=2))  # fmt: skip
    streams = results_to_arrow(whole, bytes_max=1_000_000)
    found = [results_from_arrow(data) for data in streams]
    assert len(found) > 2
    assert max(map(len, streams)) < 1_100_000
    assert [part.part for part in found] == list(range(len(found)))
    assert [part.write.positions for part in found] == [*[{}] * (len(found) - 1), {SOURCE: 41}]
    assert sum(part.counters.frames for part in found) == 2
    tables = [rows for part in found for rows in part.write.tables]
    assert np.concatenate([rows.time_us for rows in tables]).tolist() == [*range(n), *range(n)]
    assert np.concatenate([rows.fields["value"] for rows in tables]).tolist() == [*range(n), *range(n)]
    assert {tag for rows in tables for tag in rows.tags["rule"].strings()} == {"x"}


def stream_of(meta: object, kinds: list[str] | None = None, version: bytes = b"1", body: bytes = b"x") -> bytes:
    text = meta if isinstance(meta, bytes) else json.dumps(meta).encode()
    schema = SCHEMA.with_metadata({FORMAT_KEY: version, META_KEY: text})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as stream:
        arrays = [pa.array(kinds or [], pa.string()), pa.array([body] * len(kinds or []), pa.binary())]
        stream.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
    return sink.getvalue().to_pybytes()


GOOD = {
    "run": "",
    "made_us": 0,
    "source": ["a", "b", 0],
    "position": 1,
    "part": 0,
    "is_last": True,
    "counters": dict.fromkeys(StepCounters.__annotations__, 0),
}


def test_the_metadata_that_the_rubbish_below_is_made_from_is_good() -> None:
    assert results_from_arrow(stream_of(GOOD)).write.positions == {("a", "b", 0): 1}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", DeadLetterReason.PARSE),
        (b"rubbish" * 20, DeadLetterReason.PARSE),
        (stream_of(GOOD, version=b"2"), DeadLetterReason.VERSION),
        (stream_of(GOOD, kinds=["telemetry"]), DeadLetterReason.PARSE),
        (stream_of(GOOD, kinds=["secrets"]), DeadLetterReason.SCHEMA),
        (stream_of(GOOD, kinds=["accounts"], body=stream_of(GOOD)), DeadLetterReason.SCHEMA),
        (stream_of(GOOD, kinds=["points"], body=stream_of(GOOD)), DeadLetterReason.SCHEMA),
        (stream_of(b"{"), DeadLetterReason.PARSE),
        (stream_of([]), DeadLetterReason.PARSE),
        (stream_of(GOOD | {"source": ["a", "b", -1]}), DeadLetterReason.SCHEMA),
        (stream_of(GOOD | {"source": ["a", 5, 0]}), DeadLetterReason.SCHEMA),
        (stream_of(GOOD | {"source": []}), DeadLetterReason.PARSE),
        (stream_of(GOOD | {"is_last": 1}), DeadLetterReason.SCHEMA),
        (stream_of(GOOD | {"made_us": 1.5}), DeadLetterReason.SCHEMA),
        (stream_of(GOOD | {"run": 5}), DeadLetterReason.SCHEMA),
        (stream_of(GOOD | {"counters": {}}), DeadLetterReason.PARSE),
    ],
)
def test_rubbish_is_refused_with_a_reason(data: bytes, reason: DeadLetterReason) -> None:
    with pytest.raises(DecodeError) as caught:
        results_from_arrow(data)
    assert caught.value.reason == reason


def test_no_cut_and_no_flipped_bit_crashes_it() -> None:
    rng = np.random.default_rng(6)
    (data,) = results_to_arrow(small())
    for _ in range(400):
        bad = bytearray(data[: int(rng.integers(1, len(data) + 1))])
        bad[int(rng.integers(0, len(bad)))] ^= 1 << int(rng.integers(0, 8))
        try:
            results_from_arrow(bytes(bad))
        except DecodeError:
            continue
