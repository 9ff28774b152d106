import numpy as np
import pytest

from edge_agent.quality import REGRESS_STREAK_MAX, QualityCheck
from headwater.frame import Block
from headwater.metric import Metric
from headwater.quality import MISSING, Quality

START_US = 1_700_000_000_000_000


def block(values, seconds=None, quality=None, names=("m",)):
    value = np.atleast_2d(np.array(values, float))
    seconds = range(value.shape[1]) if seconds is None else seconds
    times = np.array([START_US + round(s * 1_000_000) for s in seconds], np.int64)
    return Block(names, times, value, None if quality is None else np.atleast_2d(np.array(quality, np.uint8)))


def codes(checked):
    if checked.block.quality is None:
        return [0] * len(checked.block.time_us)
    return checked.block.quality[0].tolist()


def test_good_readings_pass_as_the_same_block():
    given = block([1, 2, 3])
    checked = QualityCheck([Metric("m", lo=0, hi=9)]).check(given)
    assert checked.block is given
    assert checked.events == []
    assert checked.dropped == {}


def test_readings_that_are_not_finite_are_taken_out_and_counted():
    checked = QualityCheck([Metric("m")]).check(block([1, np.nan, np.inf, -np.inf, 2]))
    assert checked.block.value.tolist() == [[1, 2]]
    assert checked.dropped == {"not_finite": 3}


def test_a_cell_without_a_finite_number_becomes_missing_where_others_have_one():
    checked = QualityCheck().check(block([[1, np.nan], [3, 4]], names=("a", "b")))
    assert checked.block.quality.tolist() == [[0, MISSING], [0, 0]]
    assert checked.dropped == {"not_finite": 1}


def test_a_cell_that_was_never_a_reading_is_not_counted():
    checked = QualityCheck().check(block([1, np.nan, 2], quality=[0, MISSING, 0]))
    assert checked.block.reading_count == 2
    assert checked.dropped == {}


def test_repeated_and_regressing_times_are_taken_out_and_counted():
    check = QualityCheck([Metric("m")])
    check.check(block([1, 2], [10, 11]))
    checked = check.check(block([3, 4, 5], [9, 11, 12]))
    assert checked.block.value.tolist() == [[5]]
    assert checked.dropped == {"clock_regress": 1, "duplicate_time": 1}
    assert [(event.detector, event.is_onset) for event in checked.events] == [("clock", True)]


def test_a_clock_that_stays_behind_is_believed_again():
    check = QualityCheck([Metric("m")])
    check.check(block([1], [1_000_000]))
    seen = [check.check(block([i], [i])) for i in range(REGRESS_STREAK_MAX + 3)]
    assert sum(checked.dropped.get("clock_regress", 0) for checked in seen) == REGRESS_STREAK_MAX
    first = seen[REGRESS_STREAK_MAX]
    assert codes(first) == [Quality.UNCERTAIN_CLOCK]
    assert codes(seen[-1]) == [0]
    assert sum(len(checked.events) for checked in seen) == 1, "one clock, one event"


def test_readings_outside_the_limits_are_bad_and_an_event_begins_and_clears():
    checked = QualityCheck([Metric("m", lo=0, hi=10)]).check(block([5, 11, -1] + [5] * 12))
    assert codes(checked)[:4] == [0, Quality.BAD_RANGE, Quality.BAD_RANGE, 0]
    assert [(event.detector, event.is_onset) for event in checked.events] == [("range", True), ("range", False)]
    assert checked.events[0].message


def test_a_change_that_is_too_fast_is_uncertain():
    checked = QualityCheck([Metric("m", rate_max=2.0)]).check(block([0, 1, 9, 10], [0, 1, 2, 3]))
    assert codes(checked) == [0, 0, Quality.UNCERTAIN_RATE, 0]


def test_a_rate_is_judged_by_the_time_that_passed():
    checked = QualityCheck([Metric("m", rate_max=2.0, every_us=10_000_000)]).check(block([0, 15], [0, 10]))
    assert codes(checked) == [0, 0]


def test_the_first_reading_after_a_gap_is_uncertain():
    checked = QualityCheck([Metric("m", every_us=1_000_000)]).check(block([1, 2, 3, 4], [0, 1, 60, 61]))
    assert codes(checked) == [0, 0, Quality.UNCERTAIN_GAP, 0]


def test_the_interval_is_learnt_where_none_is_declared():
    checked = QualityCheck([Metric("m")]).check(block(range(70), range(70)))
    assert codes(checked) == [0] * 70
    check = QualityCheck([Metric("m")])
    check.check(block(range(70), range(70)))
    assert codes(check.check(block([1, 2], [100, 101]))) == [Quality.UNCERTAIN_GAP, 0]


def noisy(n=3_000, seed=1, digits=2):
    return np.random.default_rng(seed).normal(20, 1, n).round(digits)


def test_a_sensor_that_sticks_becomes_uncertain_then_bad_and_recovers():
    value = noisy()
    value[1_000:1_200] = value[1_000]
    checked = QualityCheck([Metric("m")]).check(block(value))
    found = codes(checked)
    assert set(found[:1_000]) == {0}
    assert found[1_020] == Quality.UNCERTAIN_STUCK
    assert found[1_199] == Quality.BAD_STUCK
    assert set(found[1_201:]) == {0}
    onset, clear = (event for event in checked.events if event.detector == "stuck")
    assert onset.is_onset
    assert onset.time_us - START_US < 1_020_000_000
    assert not clear.is_onset


def test_a_sensor_of_coarse_steps_may_repeat_itself_longer():
    value = noisy(digits=0)
    value[1_000:1_012] = value[1_000]
    assert set(codes(QualityCheck([Metric("m")]).check(block(value)))) == {0}


def test_states_and_resting_sensors_may_stay_where_they_are():
    value = noisy()
    value[1_000:2_000] = 0.0
    assert set(codes(QualityCheck([Metric("m")]).check(block(value)))) == {0}
    steady = np.repeat([1.0, 2.0], 1_500)
    assert set(codes(QualityCheck([Metric("m", is_state=True)]).check(block(steady)))) == {0}


def test_a_long_run_that_comes_again_and_again_becomes_normal():
    value = noisy(20_000)
    for at in range(2_000, 20_000, 1_000):
        value[at : at + 40] = 21.5
    found = codes(QualityCheck([Metric("m")]).check(block(value)))
    assert any(found[2_000:5_000])
    assert not any(found[8_000:])


def test_a_worse_quality_of_the_source_is_kept():
    checked = QualityCheck([Metric("m", hi=5)]).check(block([1, 9], quality=[Quality.BAD_SENSOR, Quality.UNCERTAIN]))
    assert codes(checked) == [Quality.BAD_SENSOR, Quality.BAD_RANGE]


@pytest.mark.parametrize("seed", range(4))
def test_the_cut_into_blocks_changes_no_quality(seed):
    rng = np.random.default_rng(seed)
    n = 1_500
    value = rng.normal(0, 1, (3, n)).round(int(rng.integers(0, 3)))
    value[0, 600:700] = value[0, 600]
    value[1, rng.integers(0, n, 9)] = 99
    value[2, rng.integers(0, n, 9)] = np.nan
    quality = (rng.random((3, n)) < 0.1).astype(np.uint8) * MISSING
    seconds = np.cumsum(rng.choice([1, 1, 1, 1, 30], n))
    metrics = [Metric(name, lo=-9, hi=9, rate_max=3, every_us=1_000_000) for name in "abc"]

    def run(cuts):
        check, parts, events, at = QualityCheck(metrics), {}, [], 0
        for cut in [*cuts, n]:
            if cut > at:
                part = slice(at, cut)
                given = block(value[:, part], seconds[part], quality[:, part], ("a", "b", "c"))
                checked = check.check(given)
                code = checked.block.quality
                for k, time_us in enumerate(checked.block.time_us.tolist()):
                    parts[time_us] = [0] * 3 if code is None else code[:, k].tolist()
                events += checked.events
            at = cut
        return parts, events

    assert run([]) == run(range(1, n)) == run(sorted(rng.integers(0, n, 20).tolist()))


def test_metrics_that_nobody_described_are_checked_with_the_defaults():
    check = QualityCheck()
    check.check(block([1], names=("a",)))
    check.admit([Metric("b", hi=1)])
    assert codes(check.check(block([5], names=("b",)))) == [Quality.BAD_RANGE]
