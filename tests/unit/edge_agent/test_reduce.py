import numpy as np
import pytest

from edge_agent.reduce import Reducer
from edge_agent.reduction import parse_reduction
from headwater.errors import SettingsError
from headwater.frame import Block
from headwater.metric import Metric
from headwater.sketch import quantile_of_counts

START_US = 1_700_000_000_000_000


def block(values, names=("m",), start=0, quality=None, step_us=1_000_000):
    value = np.atleast_2d(np.array(values, float))
    times = START_US + (start + np.arange(value.shape[1])) * step_us
    return Block(names, times, value, None if quality is None else np.atleast_2d(np.array(quality, np.uint8)))


def test_raw_metrics_pass_as_the_same_block():
    given = block([1, 2, 3])
    assert Reducer([Metric("m")]).push(given).blocks == [given]


def test_a_metric_that_nobody_described_passes_raw():
    given = block([1, 2, 3], ("unknown",))
    assert Reducer([Metric("m", reduction="swing:1")]).push(given).blocks == [given]


def test_deadband_keeps_what_left_the_band_around_the_last_kept_reading():
    out = Reducer([Metric("m", reduction="deadband:0.5")]).push(block([0, 0.4, 0.5, 0.6, 0.9, 1.2]))
    assert out.blocks[0].value.tolist() == [[0, 0.6, 1.2]]
    assert out.blocks[0].reductions == ("deadband:0.5",)
    assert out.suppressed == 3


def test_swing_draws_a_straight_line_with_two_points():
    reducer = Reducer([Metric("m", reduction="swing:0.1")])
    first = reducer.push(block(np.arange(50) * 0.5))
    last = reducer.flush(0)
    assert first.blocks[0].value.tolist() == [[0.0]]
    assert last.blocks[0].value.tolist() == [[24.5]]
    assert first.suppressed + last.suppressed == 48


def test_swing_is_heard_of_at_least_every_minute():
    out = Reducer([Metric("m", reduction="swing:0.1")]).push(block(np.zeros(200)))
    assert np.diff(out.blocks[0].time_us).max() <= 60_000_000
    assert out.blocks[0].value.shape[1] == 4


def test_bad_readings_pass_as_they_are_and_split_the_line():
    reducer = Reducer([Metric("m", reduction="swing:0.1")])
    outs = [reducer.push(block([0, 0, 0, 99, 0, 0, 0], quality=[0, 0, 0, 65, 0, 0, 0])), reducer.flush(0)]
    points = [
        (int(t - START_US) // 10**6, v, 0 if b.quality is None else int(q))
        for out in outs
        for b in out.blocks
        for t, v, q in zip(b.time_us, b.value[0], b.quality[0] if b.quality is not None else b.value[0], strict=True)
    ]
    assert points == [(0, 0, 0), (2, 0, 0), (3, 99, 65), (4, 0, 0), (6, 0, 0)]


def test_around_an_anomaly_every_reading_stays_and_is_labelled():
    reducer = Reducer([Metric("a", reduction="swing:0.5"), Metric("b", reduction="summary:10s")])
    keep = [(START_US + 5_000_000, START_US + 8_000_000)]
    out = reducer.push(block(np.zeros((2, 20)), ("a", "b")), keep)
    bursts = [b for b in out.blocks if "burst" in b.reductions]
    assert sorted((name, b.value.shape[1]) for b in bursts for name in b.metrics) == [("a", 3), ("b", 3)]


def test_an_interval_to_keep_is_remembered_for_the_next_block():
    reducer = Reducer([Metric("m", reduction="deadband:9")])
    reducer.push(block([0, 0]), [(START_US, START_US + 4_000_000)])
    assert reducer.push(block([0, 0, 0, 0], start=2)).blocks[0].value.shape == (1, 2)


def test_panes_are_aligned_to_the_epoch_and_count_every_reading():
    reducer = Reducer([Metric("m", reduction="summary:10s")])
    out = reducer.push(block(np.arange(25.0), start=5))
    rest = reducer.flush(0)
    assert out.summaries.start_us.tolist() == [START_US, START_US + 10_000_000]
    assert out.summaries.count.tolist() == [5, 10]
    assert out.summaries.mean.tolist() == [2.0, 9.5]
    assert out.summaries.last.tolist() == [4.0, 14.0]
    assert (out.aggregated, rest.aggregated) == (15, 10)


def test_a_pane_that_ended_is_due_without_a_later_reading():
    reducer = Reducer([Metric("m", reduction="summary:10s")])
    reducer.push(block([1, 2, 3]))
    assert len(reducer.due(START_US + 9_999_999).summaries) == 0
    assert reducer.due(START_US + 10_000_000).aggregated == 3


def test_readings_of_bad_quality_stay_out_of_panes():
    reducer = Reducer([Metric("m", reduction="summary:10s")])
    out = reducer.push(block([1, 99, 3], quality=[0, 65, 2]))
    assert out.blocks[0].value.tolist() == [[99]]
    assert reducer.flush(0).summaries.max.tolist() == [3]


@pytest.mark.parametrize(
    "text", ["swing", "swing:0", "swing:-1", "deadband:x", "summary", "summary:0s", "sdt:1", "raw:1"]
)
def test_a_reduction_that_makes_no_sense_is_refused_with_advice(text):
    with pytest.raises(SettingsError, match=r"write|duration"):
        parse_reduction(text)


def test_panes_agree_with_numpy_on_every_prefix():
    rng = np.random.default_rng(3)
    value = rng.normal(1e6, 1e-3, (2, 400))
    quality = (rng.random((2, 400)) < 0.2).astype(np.uint8) * 255
    metrics = [Metric("a", reduction="summary:7s"), Metric("b", reduction="summary:30s")]
    reducer = Reducer(metrics)
    rows = []
    for at in range(0, 400, 11):
        part = slice(at, at + 11)
        outs = reducer.push(block(value[:, part], ("a", "b"), at, quality[:, part])).summaries
        rows += [(outs, i) for i in range(len(outs))]
    last = reducer.flush(0).summaries
    rows += [(last, i) for i in range(len(last))]
    times = START_US + np.arange(400) * 1_000_000
    seen = 0
    for s, i in rows:
        row = ("a", "b").index(s.metrics[s.metric[i]])
        inside = (times >= s.start_us[i]) & (times < s.start_us[i] + s.width_us[i]) & (quality[row] == 0)
        x = value[row][inside]
        seen += len(x)
        assert s.count[i] == len(x)
        assert s.mean[i] == pytest.approx(x.mean(), rel=1e-12)
        assert s.m2[i] == pytest.approx(((x - x.mean()) ** 2).sum(), rel=1e-3, abs=1e-12)
        assert (s.min[i], s.max[i], s.first[i], s.last[i]) == (x.min(), x.max(), x[0], x[-1])
        assert (s.first_us[i], s.last_us[i]) == (times[inside][0], times[inside][-1])
    assert seen == (quality == 0).sum()


def test_panes_carry_a_quantile_sketch_where_one_was_asked_for():
    value = np.random.default_rng(1).lognormal(0, 1, (2, 100))
    metrics = [Metric("a", reduction="summary:50s:sketch"), Metric("b", reduction="summary:50s")]
    reducer = Reducer(metrics)
    outs = [reducer.push(block(value[:, at : at + 7], ("a", "b"), at)).summaries for at in range(0, 100, 7)]
    outs.append(reducer.flush(0).summaries)
    found = 0
    for summaries in outs:
        for row in range(len(summaries)):
            own = slice(summaries.sketch_start[row], summaries.sketch_start[row + 1])
            key, count = summaries.sketch_key[own], summaries.sketch_count[own]
            if summaries.metrics[summaries.metric[row]] == "b":
                assert len(key) == 0
                continue
            found += 1
            at = int(summaries.start_us[row] - START_US) // 1_000_000
            inside = np.sort(value[0, max(0, at) : at + 50])
            assert count.sum() == summaries.count[row] == len(inside)
            assert (np.diff(key) > 0).all()
            assert quantile_of_counts(key, count, 0.5) == pytest.approx(inside[(len(inside) - 1) // 2], rel=0.02)
    assert found == 2
