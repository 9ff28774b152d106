"""Answers of the SQLite store's reader against brute force over what was written."""

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import store_writes
from store_writes import EPOCHS, T0_US

from headwater.batch import Batch
from headwater.frame import Summaries
from headwater.io import store_sqlite_series
from headwater.io.store_sqlite import CHANGES_MAX, SqliteStore
from headwater.io.store_sqlite_query import StoreReader
from headwater.io.store_sqlite_sql import connect
from headwater.points import DeviceAccount, PointTable, StoreWrite, tag_column

S = 1_000_000
KEY = ("north", "pump-1", "flow")


class Pair:
    def __init__(self, path: Path) -> None:
        self.store = SqliteStore(path)
        self.reader = StoreReader(path)
        self.batches: list[Batch] = []

    def write(self, *batches: Batch, **more: Any) -> None:
        self.batches += batches
        self.store.write(StoreWrite(batches, **more))

    def rows(self, site: str, device: str, metric: str, *, usable: bool = False) -> list[tuple[int, float, int]]:
        """All readings of a series, by brute force."""
        found = set()
        for batch in self.batches:
            which = batch.devices.index((site, device))
            mine = (batch.device[batch.frame_of_reading] == which) & (batch.metric == batch.metrics.index(metric))
            if usable:
                mine &= batch.quality < 64
            frames = batch.frame_of_reading[mine].tolist()
            columns = (batch.time_us[mine], batch.value[mine], batch.quality[mine])
            found |= set(zip(frames, [id(batch)] * len(frames), *(column.tolist() for column in columns), strict=True))
        return sorted(row[2:] for row in found)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    pair = Pair(tmp_path / "store.db")
    yield pair
    pair.reader.close()
    pair.store.close()


def regular(seconds: int, start_s: int = 0, seq: int = 1, per: int = 10) -> Batch:
    """Flow of pump-1 at 1 Hz, `per` readings a frame, sine with two decimals."""
    k = seconds // per
    time_us = T0_US + (start_s + np.arange(k * per)) * S
    value = np.round(50 + 10 * np.sin(np.arange(start_s, start_s + k * per) / 50), 2)
    ints = np.arange(k)
    return Batch(
        0, store_writes.DEVICES, store_writes.METRICS, np.zeros(k, np.int32), np.full(k, EPOCHS[0], np.uint64),
        seq + ints, time_us[per - 1 :: per], time_us[per - 1 :: per], np.zeros(k, np.uint8), np.ones(k, np.int64),
        np.arange(k + 1) * per, np.zeros(k * per, np.int32), time_us, value, np.zeros(k * per, np.uint8),
        np.zeros(k + 1, np.int64), np.zeros((k, 4), np.int64), np.zeros(k, np.int32), T0_US,
    )  # fmt: skip


def windows(count: int, width_s: int, tag: str) -> PointTable:
    tags = {
        name: tag_column([word] * count)
        for name, word in zip(("site", "device", "metric", "window"), (*KEY, tag), strict=True)
    }
    numbers = np.arange(count, dtype=float)
    fields = {"mean": numbers, "min": numbers - 1, "max": numbers + 1, "count": np.full(count, width_s)}
    return PointTable("window", T0_US + np.arange(count) * width_s * S, tags, fields)


@pytest.mark.parametrize("seed", range(4))
def test_raw_returns_the_oldest_readings_of_any_interval(
    pair: Pair, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_sqlite_series, "SLICE_FRAMES", 7)
    rng, seqs = np.random.default_rng(seed), {}
    for _ in range(12):
        batch = store_writes.batch(rng, seqs, 20)
        native = np.where(batch.epoch == 0, EPOCHS[0], batch.epoch).astype(np.uint64)
        pair.write(replace(batch, epoch=native, seq=np.arange(len(batch)) + 1000 * len(pair.batches)))
    everything = pair.rows(*KEY)
    times = [row[0] for row in everything]
    for _ in range(40):
        lo, hi = sorted(int(time_us) for time_us in rng.choice(times, 2))
        hi += int(rng.integers(0, 2))
        limit = int(rng.integers(1, 60))
        found = pair.reader.raw(*KEY, lo, hi, limit)
        expected = [row for row in everything if lo <= row[0] < hi][:limit]
        assert found["time_us"].tolist() == [row[0] for row in expected]
        inside = [row for row in everything if lo <= row[0] < hi]
        rows = zip(*(column.tolist() for column in found.values()), strict=True)
        assert all(row in inside for row in rows)


def test_raw_keeps_bad_readings_and_the_chart_leaves_them_out(pair: Pair) -> None:
    batch = regular(100)
    quality = np.where(np.arange(100) % 10 == 0, 65, 0).astype(np.uint8)
    value = np.where(quality == 65, -999.0, batch.value)
    pair.write(replace(batch, quality=quality, value=value))
    raw = pair.reader.raw(*KEY, 0, 1 << 62, 1000)
    assert (raw["quality"].tolist(), raw["value"].min()) == (quality.tolist(), -999.0)
    chart = pair.reader.series(*KEY, T0_US, T0_US + 100 * S, 10)
    assert (chart["count"].tolist(), chart["min"].min() > 0) == ([9] * 10, True)


@pytest.mark.parametrize("seed", range(4))
def test_a_chart_of_readings_is_the_brute_force_over_buckets(pair: Pair, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pair.write(regular(2_000))
    rows = pair.rows(*KEY, usable=True)
    for _ in range(10):
        start = T0_US + int(rng.integers(-100, 1_500)) * S + int(rng.integers(0, S))
        end = start + int(rng.integers(1, 2_000)) * S
        points = int(rng.integers(1, 300))
        chart = pair.reader.series(*KEY, start, end, points)
        width = -(-(end - start) // points)
        buckets: dict[int, list[float]] = {}
        for at, value, _ in rows:
            if start <= at < end:
                buckets.setdefault(start + (at - start) // width * width, []).append(value)
        assert chart["source"] == "readings"
        assert len(buckets) <= points
        assert chart["time_us"].tolist() == sorted(buckets)
        assert chart["count"].tolist() == [len(buckets[at]) for at in sorted(buckets)]
        assert chart["min"].tolist() == [min(buckets[at]) for at in sorted(buckets)]
        assert chart["max"].tolist() == [max(buckets[at]) for at in sorted(buckets)]
        assert chart["mean"] == pytest.approx([np.mean(buckets[at]) for at in sorted(buckets)], rel=1e-12)


def test_a_long_chart_is_made_of_the_widest_windows_that_fit(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_sqlite_series, "CHART_FRAMES_MAX", 50)
    pair.write(regular(1_200), tables=(windows(120, 10, "10s"), windows(20, 60, "1m"), windows(9, 7, "5m/10s")))
    end = T0_US + 1_200 * S
    fine = pair.reader.series(*KEY, T0_US, end, 100)
    assert (fine["source"], fine["count"].sum()) == ("window 10s", 1_200)
    coarse = pair.reader.series(*KEY, T0_US, end, 10)
    assert (coarse["source"], coarse["count"].tolist()) == ("window 1m", [120] * 10)
    assert coarse["mean"].tolist() == [0.5 + 2 * at for at in range(10)]
    assert coarse["min"].tolist() == [2.0 * at - 1 for at in range(10)]
    short = pair.reader.series(*KEY, T0_US, T0_US + 100 * S, 10)
    assert short["source"] == "readings"


def test_a_long_chart_without_windows_is_still_made_of_readings(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_sqlite_series, "CHART_FRAMES_MAX", 50)
    pair.write(regular(1_200))
    chart = pair.reader.series(*KEY, T0_US, T0_US + 1_200 * S, 10)
    assert (chart["source"], chart["count"].tolist(), chart["truncated"]) == ("readings", [120] * 10, False)


def test_a_chart_that_would_read_too_much_says_so(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, number in (("CHART_FRAMES_MAX", 50), ("FRAMES_MAX", 60), ("SLICE_FRAMES", 30)):
        monkeypatch.setattr(store_sqlite_series, name, number)
    pair.write(regular(1_200))
    chart = pair.reader.series(*KEY, T0_US, T0_US + 1_200 * S, 10)
    assert (chart["count"].tolist(), chart["truncated"]) == ([120] * 5, True)


def test_a_chart_shows_summaries_where_the_edge_sent_no_readings(pair: Pair) -> None:
    batch = replace(regular(20), reading_start=np.zeros(3, np.int64), metric=np.empty(0, np.int32))
    empty = {"time_us": np.empty(0, np.int64), "value": np.empty(0), "quality": np.empty(0, np.uint8)}
    start = T0_US + np.array([0, 10]) * S
    floats = [np.array([0.0, 1.0]) + at for at in (3.5, 1, 3, 5, 4, 4.25)]  # mean, m2, min, max, first, last
    panes = Summaries(
        ("flow",), np.zeros(2, np.int32), start, np.full(2, 10 * S), np.array([10, 20]), *floats, start, start + 1,
        np.zeros(3, np.int64), np.empty(0, np.int32), np.empty(0, np.int64),
    )  # fmt: skip
    pair.store.write(StoreWrite((replace(batch, **empty, summaries=panes, summary_start=np.arange(3)),)))
    chart = pair.reader.series(*KEY, T0_US, T0_US + 20 * S, 2)
    found = {name: chart[name].tolist() for name in ("count", "mean", "min", "max")}
    assert found == {"count": [10, 20], "mean": [3.5, 4.5], "min": [3.0, 4.0], "max": [5.0, 6.0]}
    assert pair.reader.device("north", "pump-1")["metrics"]["flow"]["value"] == 5.25


def test_windows_come_ascending_with_nan_for_what_was_not_told(pair: Pair) -> None:
    pair.write(tables=(windows(30, 10, "10s"),))
    columns = pair.reader.windows(*KEY, "10s", T0_US + 50 * S, T0_US + 80 * S)
    assert columns["time_us"].tolist() == [T0_US + at * S for at in (50, 60, 70)]
    assert columns["mean"].tolist() == [5.0, 6.0, 7.0]
    assert np.isnan(columns["p99"]).all()
    assert columns["revision"].tolist() == [0, 0, 0]
    assert len(pair.reader.windows(*KEY, "1h", 0, 1 << 62)["time_us"]) == 0


def test_unknown_names_get_empty_answers(pair: Pair) -> None:
    assert pair.reader.devices() == []
    assert pair.reader.device("a", "b") is None
    assert len(pair.reader.raw("a", "b", "c", 0, 1, 1)["value"]) == 0
    assert len(pair.reader.series("a", "b", "c", 0, 1, 1)["mean"]) == 0
    assert len(pair.reader.windows("a", "b", "c", "10s", 0, 1)["mean"]) == 0
    assert pair.reader.newest_us() == 0
    assert pair.reader.counts()["devices"] == 0


def points(measurement: str, times_s: list[int], fields: dict[str, Any], **tags: str) -> PointTable:
    n = len(times_s)
    columns = {name: tag_column([word] * n) for name, word in tags.items()}
    return PointTable(
        measurement, T0_US + np.array(times_s) * S, columns, {name: np.array(column) for name, column in fields.items()}
    )


def test_the_twin_gathers_newest_fields_health_anomalies_and_values(pair: Pair) -> None:
    here = {"site": "north", "device": "pump-1"}
    pair.write(
        regular(100),
        tables=(
            points("device", [1, 2], {"online": [True, False], "buffered": [3, 4], "lat": [50.5, 47.5]}, **here),
            points("device", [0], {"firmware": np.array(["1.2"], object), "lon": [8.25]}, **here),
            points("health", [1, 50], {"health": [0.9, 0.7]}, **here, component="bearing"),
            points("health", [40], {"health": [0.8]}, **here, component="seal"),
            points(
                "anomaly", [10, 20], {"score": [1.0, 2.0]}, **here, metric="flow", detector="level", severity="info"
            ),
            points("anomaly", [-9_999], {"score": [1.0]}, **here, metric="flow", detector="level", severity="info"),
        ),
    )
    row = pair.reader.device("north", "pump-1")
    assert row is not None
    last = T0_US + 99 * S
    wanted = {
        "site": "north", "device": "pump-1", "last_us": last, "online": False, "buffered": 4, "firmware": "1.2",
        "agent": "1.2", "lat": 47.5, "lon": None, "health": 0.7, "anomalies": 2,
    }  # fmt: skip
    assert {name: row[name] for name in wanted} == wanted
    assert row["metrics"]["flow"] == {"last_us": last, "value": pair.batches[0].value[-1], "quality": 0}
    assert [other["device"] for other in pair.reader.devices()] == ["pump-1", "pump-2", "pump-1"]
    assert pair.reader.newest_us() == last
    assert [row["component"] for row in pair.reader.health()] == ["bearing", "seal"]
    assert pair.reader.health("south") == []
    assert [row["health"] for row in pair.reader.health_history("north", "pump-1", 0, 1 << 62)] == [0.7, 0.8, 0.9]


def test_anomalies_are_found_by_interval_and_tags_newest_first(pair: Pair) -> None:
    text = np.array(["a", "b", "c"], object)
    for device in ("pump-1", "pump-2"):
        for severity in ("info", "critical"):
            pair.write(
                tables=(
                    points(
                        "anomaly", [1, 2, 3], {"score": [1.0, 2.0, 3.0], "message": text},
                        site="north", device=device, metric="flow", detector="level", severity=severity,
                    ),
                )
            )  # fmt: skip
    ask = pair.reader.anomalies
    assert len(ask(0, 1 << 62, 100)) == 12
    assert [row["message"] for row in ask(T0_US, T0_US + 3 * S, 100, device="pump-2", severity="info")] == ["b", "a"]
    assert len(ask(0, 1 << 62, 5, site="north")) == 5
    assert ask(0, 1 << 62, 5, metric="none") == []
    (row,) = ask(T0_US + S, T0_US + S + 1, 1)
    assert (row["time_us"], row["metric"], row["detector"], row["score"]) == (T0_US + S, "flow", "level", 1.0)


def test_accounts_add_up(pair: Pair) -> None:
    accounts = tuple(
        DeviceAccount("north", f"d{at}", EPOCHS[1], 9, ((11, 12),), 12, 8, 2, 1, 1, 0, 80, 100, 10, 5, 5, at)
        for at in range(3)
    )
    pair.write(accounts=accounts)
    rows = pair.reader.accounts()
    assert [DeviceAccount(**{**row, "ranges": tuple(row["ranges"])}) for row in rows] == list(accounts)
    total = pair.reader.account_total()
    places = ("stored", "dead_lettered", "gap", "in_flight", "unknown")
    assert total["assigned"] == 36 == sum(total[place] for place in places)
    assert pair.reader.counts()["readings"] == 240


def test_changes_tell_everything_once_in_order(pair: Pair) -> None:
    rng, seqs = np.random.default_rng(1), {}
    since, collected = 0, []
    for turn in range(30):
        pair.write(store_writes.batch(rng, seqs, 5), tables=(windows(turn + 1, 10, "10s"),))
        if turn % 4 == 0:
            while (answer := pair.reader.changes(since, 40))["version"] > since:
                since = answer["version"]
                assert not answer["reset"]
                assert answer["windows"] == [{"site": "north", "device": "pump-1", "from_us": T0_US}]
                collected += answer["readings"]
    found: dict[tuple, list] = {}
    for part in collected:
        key = (part["site"], part["device"], part["metric"])
        found.setdefault(key, []).extend(part["time_us"].tolist())
    told = pair.batches[:since]
    pair.batches = told
    for site, device in store_writes.DEVICES:
        for metric in store_writes.METRICS:
            expected = [row[0] for row in pair.rows(site, device, metric)]
            assert sorted(found.get((site, device, metric), [])) == expected


def test_changes_tell_events_and_an_idle_store_tells_nothing(pair: Pair) -> None:
    here = {"site": "north", "device": "pump-1"}
    pair.write(tables=(points("alert", [1], {"value": [4.0]}, **here, rule="hot", severity="critical"),))
    answer = pair.reader.changes(0)
    assert [(row["rule"], row["value"]) for row in answer["alert"]] == [("hot", 4.0)]
    again = pair.reader.changes(answer["version"])
    assert (again["version"], again["alert"], again["readings"], again["reset"]) == (1, [], [], False)


def test_changes_that_are_too_old_or_of_another_store_ask_for_a_fresh_start(pair: Pair) -> None:
    for _ in range(3):
        pair.write()
    pair.store._connection.execute("DELETE FROM change WHERE version = 1")
    assert pair.reader.changes(0)["reset"]
    assert pair.reader.changes(99)["reset"]
    assert pair.reader.changes(99)["version"] == 3
    assert not pair.reader.changes(1)["reset"]


def test_the_list_of_changes_stays_short(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headwater.io.store_sqlite.CHANGES_MAX", 64)
    for _ in range(200):
        pair.write()
    assert CHANGES_MAX > 64
    assert pair.store._connection.execute("SELECT count(*) FROM change").fetchone()[0] <= 128


def test_readers_in_other_threads_see_whole_writes_only_and_miss_none(pair: Pair) -> None:
    """Each write holds 10 readings and an account that says how many there are: a snapshot must agree with itself."""
    batches = [regular(10, start_s=10 * at, seq=at + 1) for at in range(80)]
    ended = threading.Event()

    def follow() -> tuple[int, bool]:
        since, seen, agreed = 0, 0, True
        while True:
            is_last = ended.is_set()
            answer = pair.reader.changes(since)
            agreed &= not answer["reset"]
            since = answer["version"]
            seen += sum(len(part["time_us"]) for part in answer["readings"])
            agreed &= seen == 10 * since
            if is_last and since == len(batches):
                return seen, agreed

    with ThreadPoolExecutor(3) as threads:
        followers = [threads.submit(follow) for _ in range(3)]
        for at, batch in enumerate(batches):
            account = DeviceAccount(
                *KEY[:2], EPOCHS[0], at + 1, (), at + 1, at + 1, 0, 0, 0, 0, 10 * at + 10, 0, 0, 0, 0, 0
            )
            pair.write(batch, accounts=(account,))
        ended.set()
        assert [follower.result() for follower in followers] == [(800, True)] * 3
    assert pair.reader.counts()["readings"] == 800


def test_sql_over_single_readings_finds_them_all(pair: Pair, tmp_path: Path) -> None:
    rng, seqs = np.random.default_rng(2), {}
    for _ in range(5):
        batch = store_writes.batch(rng, seqs)
        pair.write(replace(batch, epoch=np.full(6, EPOCHS[1], np.uint64), seq=np.arange(6) + 10 * len(pair.batches)))
    connection = connect(tmp_path / "store.db")
    sql = "SELECT time_us, value, quality FROM telemetry WHERE site = ? AND device = ? AND metric = ? ORDER BY time_us"
    found = connection.execute(sql, KEY).fetchall()
    expected = pair.rows(*KEY)
    assert [(row[0], row[2]) for row in found] == [(row[0], row[2]) for row in expected]
    assert sorted(row[1] for row in found) == pytest.approx(sorted(row[1] for row in expected), rel=1e-14)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("DELETE FROM frame")
    connection.close()
