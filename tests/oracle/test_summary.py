"""The summary algebra against numpy on every prefix, and its laws."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.frame import Summaries
from headwater.sketch import (
    RELATIVE_ERROR,
    bucket,
    count_buckets,
    quantile_of_counts,
    quantiles_of_rows,
    representative,
)
from headwater.summary import merge, merge_rows, summarize
from headwater.summary_rows import concat_summaries, take_summaries

EXACT = ("metric", "start_us", "width_us", "count", "min", "max", "first", "last", "first_us", "last_us")
relaxed = settings(deadline=None)
SKETCH = ("sketch_start", "sketch_key", "sketch_count")
finite = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e9, max_value=1e9)
readings = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 40), finite), max_size=40)


def panes_of(rows: list[tuple[int, int, float]], *, width_us: int = 10) -> Summaries:
    metric = np.array([row[0] for row in rows], np.int32)
    time_us = np.array([row[1] for row in rows], np.int64)
    value = np.array([row[2] for row in rows], np.float64)
    return summarize(("c", "a", "b"), metric, time_us, value, width_us=width_us, with_sketch=True)


def assert_same(a: Summaries, b: Summaries) -> None:
    assert a.metrics == b.metrics
    for name in (*EXACT, *SKETCH):
        assert getattr(a, name).tolist() == getattr(b, name).tolist(), name
    scale = np.maximum(np.abs(a.min), np.abs(a.max))
    assert np.all(np.abs(a.mean - b.mean) <= 1e-12 * np.maximum(scale, np.abs(a.mean)))
    assert np.all(np.abs(a.m2 - b.m2) <= 1e-12 * np.maximum(a.m2, a.count * scale * scale))


@relaxed
@given(readings, readings)
def test_merging_commutes(a: list[tuple[int, int, float]], b: list[tuple[int, int, float]]) -> None:
    assert_same(merge(panes_of(a), panes_of(b)), merge(panes_of(b), panes_of(a)))


@relaxed
@given(readings, readings, readings)
def test_merging_is_associative_and_equals_summarizing_all_at_once(
    a: list[tuple[int, int, float]], b: list[tuple[int, int, float]], c: list[tuple[int, int, float]]
) -> None:
    x, y, z = panes_of(a), panes_of(b), panes_of(c)
    left = merge(merge(x, y), z)
    assert_same(left, merge(x, merge(y, z)))
    assert_same(left, merge_rows(panes_of(a + b + c)))


@relaxed
@given(readings)
def test_empty_is_neutral_and_merging_alone_changes_nothing(rows: list[tuple[int, int, float]]) -> None:
    once = merge_rows(panes_of(rows))
    twice = merge(once, Summaries.empty())
    for name in (*EXACT, *SKETCH, "mean", "m2"):
        assert getattr(once, name).tolist() == getattr(twice, name).tolist()


@pytest.mark.parametrize("offset", [0.0, 1e9, -1e12])
def test_every_prefix_agrees_with_numpy(offset: float) -> None:
    random = np.random.default_rng(5)
    value = offset + random.normal(0, 1, 300)
    whole = Summaries.empty()
    for end in range(1, len(value) + 1):
        one = summarize(
            ("t",), np.zeros(1, np.int32), np.array([end]), value[end - 1 : end], width_us=1 << 40, with_sketch=True
        )
        whole = merge(whole, one)
        prefix = value[:end]
        assert whole.count[0] == end
        assert (whole.min[0], whole.max[0]) == (prefix.min(), prefix.max())
        assert (whole.first[0], whole.last[0]) == (prefix[0], prefix[-1])
        assert whole.mean[0] == pytest.approx(prefix.mean(), rel=1e-12)
        # Each merge rounds the mean by half a spacing of the offset; no more may come of it.
        assert whole.m2[0] == pytest.approx(exact_m2(prefix), rel=1e-12, abs=4 * end * np.spacing(abs(offset)))


def exact_m2(value: np.ndarray) -> float:
    exact = [Fraction(number) for number in value.tolist()]
    mean = sum(exact) / len(exact)
    return float(sum((number - mean) ** 2 for number in exact))


@pytest.mark.parametrize("offset", [0.0, 1e9])
def test_m2_of_a_block_is_exact_to_1e_12_whatever_the_offset(offset: float) -> None:
    value = offset + np.random.default_rng(6).normal(0, 1, 2000)
    panes = summarize(("t",), np.zeros(2000, np.int32), np.arange(2000), value, width_us=1 << 40)
    assert panes.m2[0] == pytest.approx(exact_m2(value), rel=1e-12)
    assert panes.mean[0] == pytest.approx(float(sum(map(Fraction, value.tolist())) / 2000), rel=1e-15)


def test_merging_panes_with_an_offset_keeps_m2_to_1e_12() -> None:
    value = 1e9 + np.random.default_rng(7).normal(0, 1, 4000)
    parts = [
        summarize(("t",), np.zeros(100, np.int32), np.arange(at, at + 100), value[at : at + 100], width_us=1 << 40)
        for at in range(0, 4000, 100)
    ]
    merged = merge_rows(concat_summaries(parts))
    scale = exact_m2(value) + 4000 * np.spacing(1e9) * 2
    assert merged.m2[0] == pytest.approx(exact_m2(value), abs=1e-12 * scale + 4000 * np.spacing(1e9))


def test_of_equal_times_the_smaller_value_is_first_and_the_larger_last() -> None:
    rows = [(0, 5, 2.0), (0, 5, 1.0), (0, 5, 3.0)]
    for order in ((0, 1, 2), (2, 1, 0), (1, 0, 2)):
        panes = merge_rows(concat_summaries([panes_of([rows[at]]) for at in order]))
        assert (panes.first[0], panes.last[0]) == (1.0, 3.0)


def test_huge_values_keep_every_field_finite() -> None:
    big = np.finfo(float).max
    panes = summarize(("t",), np.zeros(3, np.int32), np.arange(3), np.array([big, -big, big]), width_us=100)
    both = merge(panes, panes)
    for part in (panes, both):
        assert np.isfinite([part.mean[0], part.m2[0], part.min[0], part.max[0]]).all()
        assert part.min[0] <= part.mean[0] <= part.max[0]


def test_a_sketch_is_dropped_where_a_part_has_none() -> None:
    row = ("t",), np.zeros(1, np.int32), np.array([1]), np.array([1.0])
    merged = merge(summarize(*row, width_us=10, with_sketch=True), summarize(*row, width_us=10))
    assert merged.count.tolist() == [2]
    assert merged.sketch_start.tolist() == [0, 0]


def test_rows_can_be_picked_with_their_sketches() -> None:
    panes = panes_of([(0, 1, 1.0), (1, 1, 2.0), (2, 1, 3.0)])
    picked = take_summaries(panes, np.array([2, 0]))
    assert picked.mean.tolist() == [3.0, 1.0]
    assert representative(picked.sketch_key).tolist() == pytest.approx([3.0, 1.0], rel=RELATIVE_ERROR)


wild = st.floats(allow_nan=False, allow_infinity=False)


@relaxed
@given(st.lists(wild, min_size=1), st.floats(0, 1))
def test_a_quantile_is_within_the_promised_relative_error_of_numpy(values: list[float], q: float) -> None:
    value = np.array(values)
    start, key, count = count_buckets(np.zeros(len(value), np.int64), value, 1)
    found = quantile_of_counts(key, count, q)
    rank = min(max(int(np.ceil(len(value) * q)), 1), len(value))
    exact = float(np.sort(value)[rank - 1])
    assert start.tolist() == [0, len(key)]
    assert abs(found - exact) <= RELATIVE_ERROR * abs(exact) + np.finfo(float).tiny


@pytest.mark.parametrize("q", [0.01, 0.5, 0.95, 0.99])
def test_quantiles_agree_with_numpy_on_many_rows(q: float) -> None:
    random = np.random.default_rng(8)
    group = np.repeat(np.arange(20), random.integers(1, 200, 20))
    value = random.lognormal(3, 2, len(group))
    start, key, count = count_buckets(group, value, 21)
    found = quantiles_of_rows(start, key, count, (q, 0.5))
    for row in range(20):
        exact = np.quantile(value[group == row], q, method="inverted_cdf")
        assert found[row, 0] == pytest.approx(exact, rel=RELATIVE_ERROR)
    assert np.isnan(found[20]).all()


@relaxed
@given(st.lists(wild, min_size=2))
def test_keys_are_monotone_and_their_own_representatives_keys(values: list[float]) -> None:
    value = np.sort(np.array(values))
    key = bucket(value)
    assert (np.diff(key.astype(np.int64)) >= 0).all()
    assert bucket(representative(key)).tolist() == key.tolist()


def test_no_sketch_gives_no_quantile() -> None:
    none = np.empty(0, np.int32), np.empty(0, np.int64)
    assert np.isnan(quantile_of_counts(*none, 0.5))
