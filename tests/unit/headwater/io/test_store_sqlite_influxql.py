"""The points that InfluxQL reads from the SQLite store are those that InfluxDB would get as line protocol."""

import re
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headwater.batch import Batch
from headwater.errors import ConnectError
from headwater.io.store_sqlite import SqliteStore
from headwater.io.store_sqlite_influxql import FIELDS, InfluxqlReader
from headwater.line_protocol import point_lines, telemetry_lines
from headwater.points import MEASUREMENT_TAGS, StoreWrite

sys.path.insert(0, str(Path(__file__).parents[3] / "contract"))
from store_writes import batch, table

EVER = (-(1 << 62), 1 << 62)
_PAIR = re.compile(r'([\w]+)=("(?:[^"\\]|\\.)*"|[^,]+)')

Rows = dict[tuple[str, ...], dict[str, set[Any]]]


def value_of(text: str) -> Any:
    if text[0] == '"':
        return text[1:-1]
    if text in ("t", "f"):
        return text == "t"
    return int(text[:-1]) if text[-1] == "i" else float(text)


def told(lines: bytes) -> dict[str, Rows]:
    """{measurement: {(tag values…, time_ns): {field: values}}}; a field told more than once has several values."""
    found: dict[str, Rows] = defaultdict(lambda: defaultdict(lambda: defaultdict(set)))
    for line in lines.decode().splitlines():
        head, fields, time_ns = re.split(r" (?=\w+=)| (?=-?\d+$)", line)
        name, *tags = head.split(",")
        values = [tag.partition("=")[2] for tag in tags]
        for field, text in _PAIR.findall(fields):
            found[name][(*values, time_ns)][field].add(value_of(text))
    return found


def held(reader: InfluxqlReader, name: str, span: tuple[int, int] = EVER) -> dict[tuple[str, ...], dict[str, Any]]:
    """{(tag values…, time_ns): {field: value}} of all series."""
    series, fields = reader.series(name, 100_000), list(FIELDS[name])
    points = reader.points(name, series, fields, *span, lambda _: None)
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for at, (code, time_ns) in enumerate(zip(points.series.tolist(), points.time_ns.tolist(), strict=True)):
        key = (*series[code], str(time_ns))
        assert key not in rows, "a series and time come once"
        cells = {field: points.columns[field] for field in fields}
        rows[key] = {
            field: cell.values[at].item() if hasattr(cell.values[at], "item") else cell.values[at]
            for field, cell in cells.items()
            if cell.valid[at]
        }
        assert rows[key], "a point has a field"
    return rows


def numbered(one: Batch, turn: int) -> Batch:
    """The batch without foreign frames, whose readings alone are their identity, whatever summaries they hold."""
    is_foreign = one.epoch == 0
    epoch = np.where(is_foreign, 9, one.epoch).astype(np.uint64)
    return replace(one, epoch=epoch, seq=np.where(is_foreign, 1_000 * (turn + 1) + np.arange(len(one)), one.seq))


def fill(path: Path, seed: int) -> tuple[InfluxqlReader, bytes]:
    rng = np.random.default_rng(seed)
    seqs: dict[tuple[int, int], int] = {}
    batches = tuple(numbered(batch(rng, seqs), turn) for turn in range(5))
    tables = tuple(table(rng, name, 12) for name in MEASUREMENT_TAGS if name != "telemetry")
    with_store = SqliteStore(path)
    with_store.write(StoreWrite(telemetry=batches, tables=tables))
    with_store.close()
    lines = [line for one in batches for line in telemetry_lines(one)] + [
        line for one in tables for line in point_lines(one)
    ]
    return InfluxqlReader(path), b"".join(lines)


@pytest.mark.parametrize("seed", range(10))
def test_the_points_are_those_of_the_line_protocol(tmp_path: Path, seed: int) -> None:
    reader, lines = fill(tmp_path / "store.db", seed)
    expected = told(lines)
    # Windows are made of readings: those of a metric without any are not looked for.
    known = {key[:3] for key in expected["telemetry"]}
    expected["window"] = {key: fields for key, fields in expected["window"].items() if key[:3] in known}
    assert set(reader.schemas()) == set(MEASUREMENT_TAGS)
    for name, rows in expected.items():
        found = held(reader, name)
        assert found.keys() == rows.keys(), name
        for key, fields in rows.items():
            assert found[key].keys() == fields.keys(), (name, key)
            for field, values in fields.items():
                assert found[key][field] in values, (name, key, field)
    reader.close()


@pytest.mark.parametrize("seed", range(3))
def test_a_range_of_time_and_some_series_are_a_part_of_all(tmp_path: Path, seed: int) -> None:
    reader, _ = fill(tmp_path / "store.db", seed)
    for name in MEASUREMENT_TAGS:
        rows = held(reader, name)
        times = sorted(int(key[-1]) for key in rows)
        low, high = times[len(times) // 4], times[3 * len(times) // 4]
        inside = {key: fields for key, fields in rows.items() if low <= int(key[-1]) <= high}
        assert held(reader, name, (low, high)) == inside
        assert held(reader, name, (high, low - 1)) == {}
        series = reader.series(name, 100_000)
        some, fields = series[::2], [next(iter(FIELDS[name]))]
        points = reader.points(name, some, fields, *EVER, lambda _: None)
        expected = sorted(key for key, told in rows.items() if key[:-1] in some and fields[0] in told)
        pairs = zip(points.series.tolist(), points.time_ns.tolist(), strict=True)
        assert sorted((*some[code], str(time_ns)) for code, time_ns in pairs) == expected
    reader.close()


def test_there_may_be_no_store_or_nothing_in_it(tmp_path: Path) -> None:
    reader = InfluxqlReader(tmp_path / "store.db")
    with pytest.raises(ConnectError, match="there is no store"):
        reader.schemas()
    SqliteStore(tmp_path / "store.db").close()
    assert reader.schemas() == {}
    for name in MEASUREMENT_TAGS:
        assert reader.series(name, 10) == []
    ghost = reader.points("telemetry", [("no", "such", "metric")], ["value"], *EVER, lambda _: None)
    assert len(ghost.time_ns) == 0
    reader.close()


def test_reading_ends_when_it_is_told_to_and_the_next_is_whole(tmp_path: Path) -> None:
    reader, _ = fill(tmp_path / "store.db", 1)

    class EnoughError(ValueError):
        pass

    def take(n: int) -> None:
        if n:
            raise EnoughError

    for name in MEASUREMENT_TAGS:
        series = reader.series(name, 100)
        with pytest.raises(EnoughError):
            reader.points(name, series, list(FIELDS[name]), *EVER, take)
        assert held(reader, name)
    reader.close()


def test_series_are_at_most_one_more_than_asked_for(tmp_path: Path) -> None:
    reader, _ = fill(tmp_path / "store.db", 2)
    for name in MEASUREMENT_TAGS:
        assert len(reader.series(name, 1)) == 2
        assert reader.series(name, 100) == sorted(reader.series(name, 100))
    reader.close()
