"""InfluxQL's answers over a few points, each as a real InfluxDB 1.6 gave it for the same points."""

import re
from typing import Any

import pytest
from plain_points import LINES, PlainPoints

from dashboards.influxql.engine import Engine
from dashboards.influxql.points import Budget

RANGE = "time >= 10s and time < 50s"


def engine(points: PlainPoints | None = None, **bounds: Any) -> Engine:
    maxima = {"points_max": 10_000, "values_max": 10_000, "series_max": 100, "is_over": lambda: False, **bounds}
    return Engine(points or PlainPoints(), "t", lambda: Budget(**maxima))


def ask(query: str, **bounds: Any) -> Any:
    (result,) = engine(**bounds).answer(query, database="t", epoch="s", now_ns=100 * 10**9)["results"]
    return result.get("error") or [
        (series.get("tags"), series["columns"], series["values"]) for series in result.get("series", [])
    ]


def rows(query: str) -> Any:
    ((_, _, values),) = ask(query)
    return values


@pytest.mark.parametrize(
    ("query", "columns", "values"),
    [
        ("select v from m", ["time", "v"], [[10, 1], [15, 10], [20, 2], [20, 20], [30, 3.5], [42, -4]]),
        ("select w, a from m", ["time", "w", "a"], [[25, 5, "y"]]),
        ("select v + w from m", ["time", "v_w"], [[10, None], [15, None], [20, None], [20, None], [25, None], [30, None], [42, None]]),
        ("select n / 2, n + 1 from m", ["time", "n", "n_1"], [[10, 0.5, 2], [20, 1, 3], [20, 2.5, 6], [30, 3.5, 8]]),
        ("select v / 0 from m limit 1", ["time", "v"], [[10, 0]]),
        ("select mean(v) from m", ["time", "mean"], [[0, pytest.approx(5.416666666666667)]]),
        ("select mean(v) * 2, max(n) - min(n) from m", ["time", "mean", "max_min"], [[0, pytest.approx(10.833333333333334), 6]]),
        ("select max(v) from m", ["time", "max"], [[20, 20]]),
        ("select max(v), a from m", ["time", "max", "a"], [[20, 20, "y"]]),
        ("select max(v), min(v) from m", ["time", "max", "min"], [[0, 20, -4]]),
        ("select last(*) from m", ["time", "last_n", "last_o", "last_s", "last_v", "last_w"], [[0, 7, False, "two", -4, 5]]),
        ("select mean(*) from m", ["time", "mean_n", "mean_v", "mean_w"], [[0, 3.75, pytest.approx(5.41666666), 5]]),
        ("select mean(/v|n/) from m", ["time", "mean_n", "mean_v"], [[0, 3.75, pytest.approx(5.41666666)]]),
        ("select spread(v), stddev(v), median(v), mode(v), percentile(v, 50) from m", ["time", "spread", "stddev", "median", "mode", "percentile"], [[0, 24, pytest.approx(8.452317236513704), 2.75, -4, 2]]),
        ("select percentile(v, 50) from m", ["time", "percentile"], [[20, 2]]),
        ("select distinct(v) from m", ["time", "distinct"], [[0, 1], [0, 10], [0, 2], [0, 20], [0, 3.5], [0, -4]]),
        ("select count(distinct(s)) from m", ["time", "count"], [[0, 2]]),
        ("select derivative(v) from m", ["time", "derivative"], [[15, pytest.approx(1.8)], [20, pytest.approx(-1.6)], [30, pytest.approx(0.15)], [42, pytest.approx(-0.625)]]),
        ("select non_negative_difference(v) from m", ["time", "non_negative_difference"], [[15, 9], [30, 1.5]]),
        ("select cumulative_sum(v) from m", ["time", "cumulative_sum"], [[10, 1], [15, 11], [20, 13], [20, 33], [30, 36.5], [42, 32.5]]),
        ("select moving_average(v, 2) from m", ["time", "moving_average"], [[15, 5.5], [20, 6], [20, 11], [30, 11.75], [42, -0.25]]),
        ("select elapsed(v, 1s) from m", ["time", "elapsed"], [[15, 5], [20, 5], [20, 0], [30, 10], [42, 12]]),
        ("select top(v, 2) from m", ["time", "top"], [[15, 10], [20, 20]]),
        ("select bottom(v, a, 2) from m", ["time", "bottom", "a"], [[10, 1, "x"], [42, -4, "y"]]),
        ("select v from m order by time desc limit 2", ["time", "v"], [[42, -4], [30, 3.5]]),
        (f"select mean(v) from m where {RANGE} group by time(10s)", ["time", "mean"], [[10, 5.5], [20, 11], [30, 3.5], [40, -4]]),
        (f"select mean(v) from m where {RANGE} group by time(10s) order by time desc", ["time", "mean"], [[40, -4], [30, 3.5], [20, 11], [10, 5.5]]),
        (f"select mean(v) from m where {RANGE} group by time(10s) limit 2 offset 1", ["time", "mean"], [[20, 11], [30, 3.5]]),
        (f"select derivative(mean(v), 10s) from m where {RANGE} group by time(10s)", ["time", "derivative"], [[20, 5.5], [30, -7.5], [40, -7.5]]),
        (f"select difference(mean(v)) from m where {RANGE} group by time(10s) fill(0)", ["time", "difference"], [[10, 5.5], [20, 5.5], [30, -7.5], [40, -7.5]]),
        (f"select percentile(v, 99), a from m where {RANGE} group by time(10s)", ["time", "percentile", "a"], [[10, 10, "y"], [20, 20, "y"], [30, 3.5, "x"], [40, -4, "y"]]),
        ("select sum(x) from (select max(v) as x from m group by a)", ["time", "sum"], [[0, 23.5]]),
        ("select v, nothing from m limit 1", ["time", "v", "nothing"], [[10, 1, None]]),
        ("select v::integer, n::float from m limit 2", ["time", "v", "n"], [[10, 1, 1], [15, 10, None]]),
        ("select time as t, v from m limit 1", ["t", "v"], [[10, 1]]),
        ("select v from m where a = 'x' or v > 5", ["time", "v"], [[10, 1], [15, 10], [20, 2], [20, 20], [30, 3.5]]),
        ("select v from m where a =~ /x|y/ and b !~ /p/", ["time", "v"], [[20, 20], [42, -4]]),
        ("select v from m where c = ''", ["time", "v"], [[10, 1], [15, 10], [20, 2], [20, 20], [30, 3.5], [42, -4]]),
        ("select v from m where n > 1.5", ["time", "v"], [[20, 2], [20, 20], [30, 3.5]]),
        ("select v from m where s = 'one'", ["time", "v"], [[10, 1]]),
        ("select v from m where o = true", ["time", "v"], [[10, 1]]),
        ("select v from m where s + 1 > 0 or nothing * 2 = 4 or v = 10", ["time", "v"], [[15, 10]]),
        ("select s from m", ["time", "s"], [[10, "one"], [30, "two"]]),
    ],
)  # fmt: skip
def test_a_select_of_one_group(query: str, columns: list[str], values: list[list[Any]]) -> None:
    assert ask(query) == [(None, columns, values)]


@pytest.mark.parametrize(
    ("fill", "x", "y"),
    [
        ("", [[10, 1], [20, 2], [30, 3.5], [40, None]], [[10, 10], [20, 20], [30, None], [40, -4]]),
        ("fill(none)", [[10, 1], [20, 2], [30, 3.5]], [[10, 10], [20, 20], [40, -4]]),
        ("fill(previous)", [[10, 1], [20, 2], [30, 3.5], [40, 3.5]], [[10, 10], [20, 20], [30, 20], [40, -4]]),
        ("fill(linear)", [[10, 1], [20, 2], [30, 3.5], [40, None]], [[10, 10], [20, 20], [30, 8], [40, -4]]),
        ("fill(7)", [[10, 1], [20, 2], [30, 3.5], [40, 7]], [[10, 10], [20, 20], [30, 7], [40, -4]]),
    ],
)  # fmt: skip
def test_empty_windows_are_filled(fill: str, x: list[Any], y: list[Any]) -> None:
    found = ask(f"select mean(v) from m where {RANGE} group by time(10s), a {fill}")
    assert found == [({"a": "x"}, ["time", "mean"], x), ({"a": "y"}, ["time", "mean"], y)]


def test_a_line_between_whole_numbers_is_counted_in_windows() -> None:
    points = PlainPoints("m,a=x n=0i 1790001660\nm,a=x n=5i 1790001760")
    query = "select last(n) from m where time >= 1790001660s and time < 1790001770s group by time(10s) fill(linear)"
    (result,) = engine(points).answer(query, database="t", epoch="s", now_ns=0)["results"]
    assert [value for _, value in result["series"][0]["values"]] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5]


def test_a_field_of_another_measurement_is_no_empty_tag_of_this_one() -> None:
    found = engine().answer("select v from m, k where w !~ /x/ or v = 1", database="t", epoch="s", now_ns=0)
    assert [(one["name"], one["values"]) for one in found["results"][0]["series"]] == [
        ("k", [[20, 1.0]]),
        ("m", [[10, 1.0]]),
    ]


def test_count_fills_with_zero_and_a_group_without_points_stays_away() -> None:
    found = ask(f"select count(v) from m where {RANGE} group by time(10s), a")
    assert [values for _, _, values in found] == [
        [[10, 1], [20, 1], [30, 1], [40, 0]],
        [[10, 1], [20, 1], [30, 0], [40, 1]],
    ]
    assert ask("select count(v) from m where time >= 100s and time < 150s group by time(10s)") == []


def test_groups_are_sorted_and_turned_with_the_time() -> None:
    assert [tags for tags, _, _ in ask("select v from m group by *")] == [
        {"a": "x", "b": "p"}, {"a": "y", "b": "p"}, {"a": "y", "b": "q"},
    ]  # fmt: skip
    assert [tags for tags, _, _ in ask("select v from m group by a order by time desc")] == [{"a": "y"}, {"a": "x"}]
    assert [tags for tags, _, _ in ask("select v from m group by a slimit 1 soffset 1")] == [{"a": "y"}]
    assert [tags for tags, _, _ in ask("select v from m group by /^a/, nothing limit 1")] == [
        {"a": "x", "nothing": ""}, {"a": "y", "nothing": ""},
    ]  # fmt: skip


def test_local_midnight_begins_a_day() -> None:
    noon = 1_767_265_200  # 2026-01-01 12:00 in Berlin
    points = PlainPoints(f"m,a=x v=1 {noon}\nm,a=x v=2 {noon + 86_400}")
    query = (
        f"select sum(v) from m where time >= {noon}s and time <= {noon + 86_400}s group by time(1d) tz('Europe/Berlin')"
    )
    (result,) = engine(points).answer(query, database="t", epoch="", now_ns=0)["results"]
    assert result["series"][0]["values"] == [["2026-01-01T00:00:00+01:00", 1.0], ["2026-01-02T00:00:00+01:00", 2.0]]


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("SELECT foo(v) FROM m", "undefined function foo()"),
        ("SELECT mean(v, n) FROM m", "invalid number of arguments for mean, expected 1, got 2"),
        ("SELECT v, mean(v) FROM m", "mixing aggregate and non-aggregate queries is not supported"),
        ("SELECT max(v), min(v), a FROM m", "mixing multiple selector functions with tags or fields is not supported"),
        ("SELECT mean(v) FROM m GROUP BY time", "time() is a function and expects at least one argument"),
        ("SELECT mean(v) FROM m GROUP BY time(1)", "time dimension must have duration argument"),
        ("SELECT mean(v) FROM m GROUP BY foo(1s)", "only time() calls allowed in dimensions"),
        ("SELECT v FROM m GROUP BY time(1s)", "GROUP BY requires at least one aggregate function"),
        ("SELECT v FROM m fill(none)", "fill(none) must be used with a function"),
        ("SELECT 1 + 1 FROM m", "field must contain at least one variable"),
        ("SELECT time FROM m", "at least 1 non-time field must be queried"),
        ("SELECT v FROM m WHERE time > 'abc'", "invalid operation: time and *influxql.StringLiteral are not compatible"),
        ("SELECT v FROM m WHERE time > '2020-13-01'", "invalid timestamp string"),
        ("SELECT v FROM m WHERE time != 5", "invalid time comparison operator: !="),
        ("SELECT v FROM m WHERE mean(v) > 1", "invalid function call in condition: mean(v)"),
        ("SELECT v FROM m WHERE 5", "invalid condition expression: 5"),
        ("SELECT derivative(mean(v)) FROM m", "derivative aggregate requires a GROUP BY interval"),
        ("SELECT derivative(v, 5) FROM m", "second argument to derivative must be a duration, got *influxql.IntegerLiteral"),
        ("SELECT derivative(v, -5s) FROM m", "duration argument must be positive, got -5s"),
        ("SELECT moving_average(v, 1) FROM m", "moving_average window must be greater than 1, got 1"),
        ("SELECT distinct(v), mean(v) FROM m", "aggregate function distinct() cannot be combined with other functions or fields"),
        ("SELECT top(v, 0) FROM m", "limit (0) in top function must be at least 1"),
        ("SELECT mean(mean(v)) FROM m", "expected field argument in mean()"),
        ("SELECT * + 1 FROM m", "unable to use wildcard in a binary expression"),
        ("SELECT mean(*) + 1 FROM m", "unsupported expression with wildcard: mean()"),
        ("SELECT mean(s) FROM m", "unsupported mean iterator type: *query.stringInterruptIterator"),
        ("SELECT v FROM nodb..m", "database not found: nodb"),
        ("SELECT v FROM t.norp.m", "retention policy not found: norp"),
        ("SHOW RETENTION POLICIES ON nodb", "database not found: nodb"),
        ("SELECT v FROM m WHERE (time > 5) = v", "invalid time expression: time > 5 = v"),
        ("SELECT v FROM m WHERE v = 1 OR mean(v) = 1", "invalid function call in condition: mean(v)"),
        ("SELECT v FROM m WHERE time > 5 OR v > 1", "cannot use OR with time: put the time range outside of the OR, with AND"),
    ],
)  # fmt: skip
def test_a_statement_that_cant_be_answered_says_why(query: str, error: str) -> None:
    assert ask(query) == error


def test_the_bounds_are_those_of_a_request_and_not_of_each_statement() -> None:
    for bounds in ({"points_max": 8}, {"values_max": 15}):
        found = engine(**bounds).answer("select v from m; select v from m", database="t", epoch="s", now_ns=0)
        assert ["error" in result for result in found["results"]] == [False, True]


def test_one_bad_statement_spoils_only_itself() -> None:
    found = engine().answer("select foo(v) from m; select v from m limit 1", database="t", epoch="s", now_ns=0)
    assert [sorted(result) for result in found["results"]] == [["error", "statement_id"], ["series", "statement_id"]]
    assert (
        engine().answer("select v from m", database="", epoch="", now_ns=0)["results"][0]["error"]
        == "database name required"
    )


@pytest.mark.parametrize(
    ("query", "bounds", "error"),
    [
        ("select v from m", {"points_max": 3}, r"max-select-point limit exceeed: \(6/3\)"),
        ("select v from m", {"values_max": 5}, "max-select-buckets limit exceeded"),
        ("select mean(v) from m where time > 0 group by time(1ns)", {}, "max-select-buckets limit exceeded"),
        ("select mean(v) from m group by time(1ms)", {}, "max-select-buckets limit exceeded"),
        ("select mean(v) from m where time > -9000000000000000000 group by time(1s), *", {}, "max-select-buckets"),
        ("select v from m", {"series_max": 1}, r"max-select-series limit exceeded: \(2/1\)"),
        ("show series", {"series_max": 3}, "max-select-series limit exceeded"),
        ("select v from m", {"is_over": lambda: True}, "query interrupted"),
        ("show tag values with key = a", {"is_over": lambda: True}, "query interrupted"),
    ],
)
def test_a_bound_that_is_hit_is_an_error_and_never_half_an_answer(
    query: str, bounds: dict[str, Any], error: str
) -> None:
    found = ask(query, **bounds)
    assert isinstance(found, str), found
    assert re.search(error, found), found


@pytest.mark.parametrize(
    ("query", "values"),
    [
        ("show databases", [["t"]]),
        ("show measurements", [["k"], ["m"]]),
        ("show measurements with measurement =~ /k/", [["k"]]),
        ("show measurements where a = 'x'", [["m"]]),
        ("show tag keys from m", [["a"], ["b"]]),
        ("show tag values from m with key = a", [["a", "x"], ["a", "y"]]),
        ("show tag values from m with key in (a, b) where a = 'x'", [["a", "x"], ["b", "p"]]),
        ("show tag values from m with key =~ /./ limit 2 offset 1", [["a", "y"], ["b", "p"]]),
        ("show field keys from m", [["n", "integer"], ["o", "boolean"], ["s", "string"], ["v", "float"], ["w", "float"]]),
        ("show series from m where a = 'y'", [["m,a=y,b=p"], ["m,a=y,b=q"]]),
        ("show retention policies", [["autogen", "0s", "168h0m0s", 1, True]]),
    ],
)  # fmt: skip
def test_show(query: str, values: list[list[Any]]) -> None:
    assert rows(query) == values


def test_tags_are_sorted_out_before_any_point_is_read() -> None:
    points = PlainPoints(LINES)
    found = engine(points).answer("select v from m where a = 'nowhere'", database="t", epoch="s", now_ns=0)
    assert found == {"results": [{"statement_id": 0}]}
    assert points.reads == 0
