"""The column encoder writes what a plain writer writes point by point, and a plain reader reads it back bit for bit."""

import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from line_parser import line, parse_all

from headwater.batch import Batch
from headwater.decimal_text import PAD, float_parts, integer_parts
from headwater.frame import Summaries
from headwater.line_protocol import ROWS_PER_CHUNK, Field, cut_lines, encode, escape_tag, point_lines, telemetry_lines
from headwater.points import MEASUREMENT_FIELDS, MEASUREMENT_TAGS, PointTable, tag_column

INT64 = st.integers(-(2**63), 2**63 - 1)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
DECIMAL = st.tuples(st.integers(-(10**9), 10**9), st.integers(0, 9)).map(lambda pair: pair[0] / 10 ** pair[1])
SINGLE = st.floats(width=32, allow_nan=False, allow_infinity=False)
ANY_BITS = st.integers(0, 2**64 - 1).map(lambda bits: struct.unpack("<d", struct.pack("<Q", bits))[0])
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)


def texts(parts: list[np.ndarray], n: int) -> list[str]:
    rows = [np.ascontiguousarray(part).view(np.uint8).reshape(n, -1) for part in parts]
    return [bytes(row[row != PAD]).decode() for row in np.concatenate(rows, axis=1)]


@given(st.lists(st.one_of(FINITE, DECIMAL, SINGLE, ANY_BITS.filter(math.isfinite)), min_size=1, max_size=40))
@example([0.0, -0.0, 0.1, 0.1 + 0.2, 5e-324, 1.7976931348623157e308, 99999999999999995.0, 2.0**53 + 2, 1e15, 1e22])
@settings(max_examples=300, deadline=None)
def test_every_float_reads_back_as_the_same_bits(values: list[float]) -> None:
    read = [float(text) for text in texts(float_parts(np.array(values)), len(values))]
    assert np.array(read).tobytes() == np.array(values).tobytes()


@given(st.lists(DECIMAL, min_size=1, max_size=40))
def test_a_decimal_is_written_as_people_write_it(values: list[float]) -> None:
    short = [value for value in values if abs(value) < 1e6 and round(value, 8) == value and "e" not in repr(value)]
    if short:
        assert texts(float_parts(np.array(short)), len(short)) == [repr(value).removesuffix(".0") for value in short]


@pytest.mark.parametrize("spread", [0.0, 3.0, 30.0])
def test_a_long_float_has_no_more_digits_than_it_needs(spread: float) -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(size=2_000) * 10.0 ** rng.uniform(-spread, spread, 2_000)
    written = texts(float_parts(values), len(values))

    def digits(text: str) -> int:
        return len(text.split("e", maxsplit=1)[0].replace(".", "").strip("-0"))

    longer = sum(digits(text) > digits(repr(float(value))) for text, value in zip(written, values, strict=True))
    assert longer <= 1  # Beside a power of two the gaps differ.


@given(st.lists(INT64, min_size=1, max_size=40))
@example([0, -1, 9_999, 10_000, -(2**63), 2**63 - 1])
def test_every_integer_is_written_as_python_writes_it(values: list[int]) -> None:
    assert texts(integer_parts(np.array(values, np.int64)), len(values)) == [str(value) for value in values]


CELLS: dict[str, Any] = {
    "float": st.one_of(st.floats(), DECIMAL),
    "int": INT64,
    "bool": st.booleans(),
    "string": st.one_of(st.none(), TEXT),
}


@st.composite
def tables(draw: st.DrawFn) -> PointTable:
    measurement = draw(st.sampled_from(sorted(MEASUREMENT_TAGS)))
    n = draw(st.integers(0, 8))
    kinds = {"float": np.float64, "int": np.int64, "bool": np.bool_, "string": object}
    words = TEXT.filter(lambda text: not text.endswith("\\"))
    tags = {name: tag_column(draw(st.lists(words, min_size=n, max_size=n))) for name in MEASUREMENT_TAGS[measurement]}
    names = draw(st.lists(st.sampled_from(sorted(MEASUREMENT_FIELDS[measurement])), unique=True))
    fields = {}
    for name in names:
        kind = MEASUREMENT_FIELDS[measurement][name]
        fields[name] = np.array(draw(st.lists(CELLS[kind], min_size=n, max_size=n)), kinds[kind])
    times = draw(st.lists(st.integers(-(10**15), 4 * 10**15), min_size=n, max_size=n, unique=True))
    return PointTable(measurement, np.array(times, np.int64), tags, fields)


def plain_rows(table: PointTable) -> list[tuple[str, dict[str, str], dict[str, Any], int]]:
    tags = {name: tag.strings() for name, tag in table.tags.items()}
    fields = {name: column.tolist() for name, column in table.fields.items()}
    return [
        (
            table.measurement,
            {name: texts[row] for name, texts in tags.items()},
            {name: cells[row] for name, cells in fields.items()},
            time_us * 1_000,
        )
        for row, time_us in enumerate(table.time_us.tolist())
    ]


def same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return struct.pack("<d", one) == struct.pack("<d", other)
    return type(one) is type(other) and one == other


@given(tables())
@settings(max_examples=300, deadline=None)
def test_a_table_reads_back_as_its_points(table: PointTable) -> None:
    expected = []
    for measurement, tags, fields, time_ns in plain_rows(table):
        told = {
            name: cell for name, cell in fields.items()
            if cell is not None and not (isinstance(cell, float) and not math.isfinite(cell))
        }  # fmt: skip
        if told:
            expected.append((measurement, {name: text for name, text in tags.items() if text}, told, time_ns))
    found = parse_all(b"".join(point_lines(table)))
    assert [(point[0], point[1], point[3]) for point in found] == [(row[0], row[1], row[3]) for row in expected]
    for point, row in zip(found, expected, strict=True):
        assert point[2].keys() == row[2].keys()
        assert all(same(cell, row[2][name]) for name, cell in point[2].items()), (point, row)


@given(tables())
@settings(max_examples=100, deadline=None)
def test_lines_are_those_of_the_plain_writer_where_floats_have_few_places(table: PointTable) -> None:
    assume(0 not in table.time_us)  # Which is written as 0000.
    fields = {name: np.round(np.clip(np.nan_to_num(column), -1e6, 1e6), 3) if column.dtype.kind == "f" else column
              for name, column in table.fields.items()}  # fmt: skip
    plain = PointTable(table.measurement, table.time_us, table.tags, fields)
    assert b"".join(point_lines(plain)).decode() == "".join(line(*row) for row in plain_rows(plain))


def telemetry(n: int, panes: int, seed: int) -> Batch:
    """n readings of three series in two frames, some uncertain and some bad, and some panes."""
    rng = np.random.default_rng(seed)
    at, split = 1_700_000_000_000_000 + np.arange(n) * 1_000, n // 2
    start, cut = rng.integers(0, 9, panes) * 1_000_000, panes // 2
    summaries = Summaries(
        ("flow",), np.zeros(panes, np.int32), start, np.full(panes, 1_000_000), rng.integers(1, 9, panes),
        *(np.abs(rng.normal(size=panes)) for _ in range(6)), start, start, np.zeros(panes + 1, np.int64),
        np.empty(0, np.int32), np.empty(0, np.int64),
    )  # fmt: skip
    two = np.ones(2, np.int64)
    return Batch(
        0, (("north", "pump-1"), ("south", "pump-1")), ("flow", "temp"), np.array([1, 0], np.int32),
        np.full(2, 7, np.uint64), np.array([1, 2]), two, two, np.zeros(2, np.uint8), two, np.array([0, split, n]),
        rng.integers(0, 2, n).astype(np.int32), at, rng.normal(size=n), rng.choice([0, 0, 2, 65], n).astype(np.uint8),
        np.array([0, cut, panes]), np.zeros((2, 4), np.int64), np.zeros(2, np.int32), 1, summaries=summaries,
    )  # fmt: skip


@given(st.integers(0, 20), st.integers(0, 6), st.integers(0, 2**32))
@settings(deadline=None)
def test_each_reading_and_each_pane_of_a_batch_is_a_point(n: int, panes: int, seed: int) -> None:
    batch = telemetry(n, panes, seed)
    expected: list[tuple[str, dict[str, str], dict[str, Any], int]] = []
    owners = [batch.devices[code] for code in batch.device.tolist()]
    for row in range(n):
        site, device = owners[int(row >= batch.reading_start[1])]
        quality = int(batch.quality[row])
        fields = {"bad" if quality >= 64 else "value": float(batch.value[row])}
        fields |= {"quality": quality} if quality else {}
        tags = {"site": site, "device": device, "metric": batch.metrics[batch.metric[row]]}
        expected.append(("telemetry", tags, fields, int(batch.time_us[row]) * 1_000))
    rows = batch.summaries
    for row in range(panes):
        site, device = owners[int(row >= batch.summary_start[1])]
        told = {"value": rows.mean[row], "min": rows.min[row], "max": rows.max[row]}
        told |= {"std": math.sqrt(rows.m2[row] / rows.count[row])}
        fields = {name: float(value) for name, value in told.items()} | {"count": int(rows.count[row])}
        tags = {"site": site, "device": device, "metric": "flow"}
        expected.append(("telemetry", tags, fields, int(rows.start_us[row]) * 1_000 + 1))
    assert parse_all(b"".join(telemetry_lines(batch))) == expected


@given(
    st.lists(st.binary(max_size=9).filter(lambda line: b"\n" not in line), max_size=30),
    st.integers(1, 9),
    st.integers(1, 40),
)
def test_cut_lines_are_all_lines_within_the_bounds(lines: list[bytes], lines_max: int, bytes_max: int) -> None:
    whole = b"".join(line + b"\n" for line in lines)
    pieces = list(cut_lines(whole, lines_max, bytes_max))
    assert b"".join(pieces) == whole
    for piece in pieces:
        assert piece.endswith(b"\n")
        assert piece.count(b"\n") <= lines_max
        assert len(piece) <= bytes_max or piece.count(b"\n") == 1


def test_chunks_end_with_a_line_and_hold_all_rows() -> None:
    n = 2 * ROWS_PER_CHUNK + 5
    fields = [Field("v", np.arange(n).astype(float)), Field("w", np.where(np.arange(n) % 3 == 0, np.nan, 0.5))]
    chunks = list(encode("m", [([b",a=1", b",a=22"], np.arange(n) % 2)], fields, np.arange(n)))
    assert len(chunks) == 3
    points = [point for chunk in chunks for point in parse_all(chunk)]
    assert [point[3] for point in points] == [1_000 * row for row in range(n)]
    assert [point[2] for point in points[:2]] == [{"v": 0.0}, {"v": 1.0, "w": 0.5}]
    assert points[1][1] == {"a": "22"}


@given(st.text(st.characters(), min_size=1))
def test_whatever_a_text_holds_a_line_stays_one_line(text: str) -> None:
    tags = {name: tag_column([text]) for name in MEASUREMENT_TAGS["alert"]}
    fields = {"message": np.array([text], object)}
    (chunk,) = point_lines(PointTable("alert", np.array([1]), tags, fields))
    assert chunk.count(b"\n") == 1
    assert chunk.endswith(b" 1000\n")
    assert not escape_tag(text).endswith(b"\\")


def test_of_windows_with_one_identity_only_the_highest_revision_is_told() -> None:
    tags = {name: tag_column(["a", "b", "a", "a"]) for name in MEASUREMENT_TAGS["window"]}
    fields = {"mean": np.array([1.0, 2.0, 3.0, 4.0]), "revision": np.array([0, 0, 2, 1])}
    points = parse_all(b"".join(point_lines(PointTable("window", np.full(4, 9), tags, fields))))
    assert [point[2]["mean"] for point in points] == [2.0, 3.0]
