"""The page's questions have the same answers over a real InfluxDB as over the SQLite store."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from influx_server import Influx1

from dashboards.reader import Reader
from headwater.batch import Batch
from headwater.errors import ConnectError
from headwater.frame import Anomaly, Gap, Summaries
from headwater.io.store_influx import InfluxStore
from headwater.io.store_influx_options import InfluxAddress, InfluxOptions
from headwater.io.store_influx_query import InfluxReader
from headwater.io.store_sqlite import SqliteStore
from headwater.io.store_sqlite_books import Books
from headwater.io.store_sqlite_query import StoreReader
from headwater.points import DeviceAccount, PointTable, StoreWrite, tag_column
from headwater.reasons import GapReason
from headwater.testing import ManualClock

pytestmark = pytest.mark.integration

T0_US = 1_700_000_000_000_000
S = 1_000_000
N = 600
METRICS = ("flow", "pressure/in:1")
KEY = ("north", "pump-1")


def batch(seq: int) -> Batch:
    """A frame of pump-1: N readings of each metric, some of them bad, and two panes of `flow` in the hour before."""
    rng = np.random.default_rng(seq)
    start, one = T0_US + seq * N * S, np.ones(1, np.int64)
    at = start + np.arange(N) * S
    pane = T0_US - (3_600 - 100 * seq) * S + np.arange(2) * 10 * S
    panes = Summaries(
        METRICS, np.zeros(2, np.int32), pane, np.full(2, 10 * S), np.full(2, 5), np.array([1.5, 2.5]), np.full(2, 3.0),
        np.array([1.0, 2.0]), np.array([2.0, 3.0]), np.ones(2), np.ones(2), pane, pane + 9 * S,
        np.zeros(3, np.int64), np.empty(0, np.int32), np.empty(0, np.int64),
    )  # fmt: skip
    quality = np.where(np.arange(2 * N) % 50 == 0, 65, np.where(np.arange(2 * N) % 31 == 0, 1, 0)).astype(np.uint8)
    return Batch(
        0, (KEY, ("south", "pump-1")), METRICS, np.zeros(1, np.int32), np.full(1, 7, np.uint64), one * seq, one * start,
        one * start, np.zeros(1, np.uint8), one, np.array([0, 2 * N]), np.repeat(np.arange(2, dtype=np.int32), N),
        np.tile(at, 2), np.round(rng.normal(20, 3, 2 * N), 3), quality, np.array([0, 2]), np.zeros((1, 4), np.int64),
        np.zeros(1, np.int32), start, summaries=panes,
        gaps=((0, Gap(7, 90, 91, GapReason.SPOOL_FULL, -1, start)),),
        anomalies=((0, Anomaly("flow", start, "level", "warning", True, 1.0, 2.0, 1.0, 0.0, 3.0)),),
    )  # fmt: skip


def windows() -> PointTable:
    n = 20
    words = {"site": "north", "device": "pump-1", "metric": "flow", "window": "10s"}
    tags = {name: tag_column([word] * n) for name, word in words.items()}
    fields: dict[str, Any] = {name: np.arange(n) / 3 for name in ("mean", "min", "max", "std", "p50", "p95")}
    fields |= {name: np.arange(n) for name in ("count", "late", "revision")}
    fields["p99"] = np.where(np.arange(n) % 2 == 0, np.nan, 1.0)
    return PointTable("window", T0_US + np.arange(n) * 10 * S, tags, fields)


def events() -> PointTable:
    words = {"site": "north", "device": "pump-1", "component": "bearing"}
    tags = {name: tag_column([word]) for name, word in words.items()}
    return PointTable("health", np.array([T0_US]), tags, {"health": np.array([83.0])})


ACCOUNT = DeviceAccount("north", "pump-1", 7, 3, (), 3, 3, 0, 0, 0, 0, 3 * 2 * N, 9, 0, 0, 0, 2)


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[StoreReader, InfluxReader]]:
    folder = tmp_path_factory.mktemp("stores")
    with Influx1(folder / "influx") as server:
        server.make("raw", "windows", "events")
        options = InfluxOptions(InfluxAddress(server.url))
        stores = SqliteStore(folder / "a.db"), InfluxStore(options, Books(folder / "b.db"), ManualClock())
        for store in stores:
            for seq in (1, 2, 3):
                accounts = (replace(ACCOUNT, contiguous=seq),)
                positions = {("log", "headwater.readings", 0): seq}
                store.write(StoreWrite((batch(seq),), (windows(), events()), accounts, (), positions))
        made = StoreReader(folder / "a.db"), InfluxReader(folder / "b.db", options)
        yield made
        for part in (*made, *stores):
            part.close()


def same(one: dict[str, Any], other: dict[str, Any], *, but: tuple[str, ...] = ()) -> None:
    assert one.keys() == other.keys()
    for name in one.keys() - set(but):
        if isinstance(one[name], np.ndarray):
            assert one[name].dtype == other[name].dtype, name
            np.testing.assert_allclose(other[name], one[name], rtol=1e-12, err_msg=name)
        else:
            assert one[name] == other[name]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("points", [1, 7, 500, 20_000])
@pytest.mark.parametrize(("start_us", "end_us"), [(T0_US, T0_US + 2_000 * S), (T0_US + 700 * S + 3, T0_US + 901 * S)])
def test_a_chart_is_the_same(readers: Any, metric: str, points: int, start_us: int, end_us: int) -> None:
    answers = [reader.series(*KEY, metric, start_us, end_us, points) for reader in readers]
    assert len(answers[0]["time_us"])
    same(*answers)


def test_a_chart_of_panes_counts_their_readings(readers: Any) -> None:
    span = (T0_US - 3_600 * S, T0_US - 3_000 * S)
    answers = [reader.series(*KEY, "flow", *span, 60) for reader in readers]
    assert answers[0]["count"].tolist() == [5] * 6
    same(*answers)


@pytest.mark.parametrize("limit", [0, 1, 100, 10_000])
def test_raw_readings_are_the_same_and_bad_ones_are_among_them(readers: Any, limit: int) -> None:
    answers = [reader.raw(*KEY, "flow", T0_US + 5, T0_US + 5_000 * S, limit) for reader in readers]
    same(*answers)
    assert len(answers[0]["value"]) == min(limit, 3 * N)
    assert limit < 100 or (answers[1]["quality"] >= 64).any()


def test_windows_are_the_same(readers: Any) -> None:
    answers = [reader.windows(*KEY, "flow", "10s", T0_US, T0_US + 100 * S) for reader in readers]
    assert len(answers[0]["time_us"]) == 10
    same(*answers)


@pytest.mark.parametrize(
    "names", [("north", "pump-9", "flow"), ("north", "pump-1", "nothing"), ("x' OR 1=1", '"', "\\")]
)
def test_what_is_not_there_is_empty(readers: Any, names: tuple[str, str, str]) -> None:
    for question in ("series", "raw"):
        same(*(getattr(reader, question)(*names, T0_US, T0_US + S, 10) for reader in readers))
    same(*(reader.windows(*names, "10s", T0_US, T0_US + S) for reader in readers))
    same(*(reader.series(*KEY, "flow", T0_US, T0_US, 10) for reader in readers))


def test_the_books_answer_everything_else_as_the_store_does(readers: Any) -> None:
    one, other = readers
    page: Reader = other  # mypy holds the protocol.
    assert list(page.devices()) == one.devices()
    for question in ("accounts", "account_total", "newest_us", "positions", "version"):
        assert getattr(other, question)() == getattr(one, question)(), question
    assert other.gaps(10) == one.gaps(10) != []
    assert other.health() == one.health() != []
    assert other.changed(0) == one.changed(0)
    counts = one.counts(), other.counts()
    assert {**counts[0], "size_bytes": 0} == {**counts[1], "size_bytes": 0}
    assert other.frames_doubled() == 0


def test_what_changed_names_the_newest_reading_of_each_series(readers: Any) -> None:
    one, other = (reader.changes(2) for reader in readers)
    assert {name: one[name] for name in one.keys() - {"readings", "windows"}} == {
        name: other[name] for name in other.keys() - {"readings", "windows"}
    }
    newest = {
        (row["device"], row["metric"]): [row[name][-1] for name in ("time_us", "value", "quality")]
        for row in one["readings"]
    }
    told = {
        (row["device"], row["metric"]): [row[name][0] for name in ("time_us", "value", "quality")]
        for row in other["readings"]
    }
    assert newest == told
    assert len(told) == len(METRICS)
    assert readers[1].changes(other["version"])["readings"] == []
    assert readers[1].changes(99)["reset"]


def test_a_server_that_is_away_is_a_lost_connection(tmp_path: Path) -> None:
    Books(tmp_path / "b.db").close()
    reader = InfluxReader(tmp_path / "b.db", InfluxOptions(InfluxAddress("http://127.0.0.1:1")))
    with pytest.raises(ConnectError):
        reader.raw(*KEY, "flow", 0, 1, 1)
    assert reader.devices() == []
    reader.close()
