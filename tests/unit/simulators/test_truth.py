import pytest

from headwater.frame import Anomaly
from headwater.instant import US_PER_S
from headwater.reasons import Severity
from simulators.faults import Fault
from simulators.plant import Plant
from simulators.score import score_detections
from simulators.truth import BENIGN_KINDS, ComponentLife, Episode, Truth, from_lines, to_lines, truth_of

START_US = 1_700_000_000_000_000
DAY_US = 86_400 * US_PER_S


@pytest.fixture(scope="module")
def plant():
    return Plant(4, 12, start_us=START_US, faults_per_day=20.0, duty_slot_s=3_600, has_vibration=False)


def test_truth_survives_its_file(plant):
    truth = truth_of(plant, START_US, START_US + DAY_US // 4)
    assert truth.episodes
    assert truth.lives
    assert from_lines(to_lines(truth)) == truth


def test_a_file_without_interval_is_refused():
    with pytest.raises(ValueError, match="interval"):
        from_lines("")


def test_faults_are_not_benign_and_duty_is(plant):
    truth = truth_of(plant, START_US, START_US + DAY_US)
    kinds = {episode.kind for episode in truth.episodes if episode.is_benign}
    assert kinds == set(BENIGN_KINDS)
    assert all(episode.is_benign == (episode.kind in BENIGN_KINDS) for episode in truth.episodes)
    assert len([e for e in truth.episodes if e.kind == "stop"]) == pytest.approx(
        len([e for e in truth.episodes if e.kind == "start"]), abs=3
    )


def test_the_truth_of_a_part_is_the_part_of_the_truth(plant):
    whole = truth_of(plant, START_US, START_US + DAY_US)
    lo, hi = START_US + DAY_US // 3, START_US + DAY_US // 2
    part = truth_of(plant, lo, hi)
    assert part.episodes == tuple(e for e in whole.episodes if e.start_us < hi and e.end_us > lo)


def test_more_than_half_of_the_lives_are_censored_at_the_pace_of_life():
    plant = Plant(4, 60, start_us=START_US)
    truth = truth_of(plant, START_US, START_US + 7 * DAY_US)
    assert sum(life.failure_us > truth.end_us for life in truth.lives) >= len(truth.lives) / 2


def test_live_faults_are_in_the_truth(plant):
    machine = plant.machines[0]
    second = START_US // US_PER_S + 100
    live = Fault("live-1", machine.site, machine.device, "flow_m3h", "bias", second, second + 60, 8.0, "live")
    truth = truth_of(plant, START_US, START_US + 3_600 * US_PER_S, (live,))
    (found,) = [episode for episode in truth.episodes if episode.cause == "live"]
    assert (found.kind, found.severity, found.end_us - found.start_us) == ("bias", 8.0, 60 * US_PER_S)


def episode(name, metric, kind, start_s, end_s, severity=8.0, *, is_benign=False):
    return Episode(
        name,
        "north",
        "pump-1",
        metric,
        kind,
        START_US + start_s * US_PER_S,
        START_US + end_s * US_PER_S,
        severity,
        is_benign=is_benign,
        cause="schedule",
    )


def alarm(metric, at_s, *, is_onset=True):
    time_us = START_US + at_s * US_PER_S
    return "north", "pump-1", Anomaly(metric, time_us, "level", Severity.WARNING, is_onset, 2.0, 1.0, 0.0, -1.0, 1.0)


TRUTH = Truth(
    START_US,
    START_US + 3_600 * US_PER_S,
    (
        episode("a", "flow", "bias", 100, 200),
        episode("b", "flow", "spike", 1_000, 1_001),
        episode("c", "", "leak", 2_000, 2_300),
        episode("d", "setpoint", "setpoint_change", 3_000, 3_100, is_benign=True),
    ),
    (),
)


def test_an_alarm_in_time_and_in_the_right_metric_is_a_detection_with_its_delay():
    score = score_detections(TRUTH, [alarm("flow", 107), alarm("flow", 1_000), alarm("pressure", 2_050)])
    assert (score.injected, score.detected, score.false_alarms) == (3, 3, 0)
    assert score.recall == 1.0
    assert score.per_kind["bias"].delay_median_s == 7.0


def test_an_alarm_in_another_metric_is_a_false_one():
    score = score_detections(TRUTH, [alarm("pressure", 107)])
    assert (score.detected, score.false_alarms) == (0, 1)


def test_an_alarm_on_a_benign_event_is_a_false_one_and_told_apart():
    score = score_detections(TRUTH, [alarm("flow", 3_010)])
    assert (score.false_alarms, score.benign_alarms) == (1, 1)


def test_the_way_back_from_a_fault_is_neither_a_detection_nor_a_false_alarm():
    score = score_detections(TRUTH, [alarm("flow", 260)])
    assert (score.detected, score.false_alarms) == (0, 0)


def test_two_alarms_find_a_fault_once_and_clearings_do_not_count():
    score = score_detections(TRUTH, [alarm("flow", 107), alarm("flow", 150), alarm("flow", 3_500, is_onset=False)])
    assert (score.detected, score.false_alarms) == (1, 0)


def test_always_firing_finds_everything_and_pays_for_it():
    score = score_detections(TRUTH, [alarm("flow", at) for at in range(0, 3_600, 10)])
    assert score.detected == 3
    assert score.false_alarms > 200


def test_never_firing_finds_nothing():
    score = score_detections(TRUTH, [])
    assert (score.injected, score.detected, score.false_alarms, score.recall) == (3, 0, 0, 0.0)


def test_what_had_not_ended_when_watching_stopped_is_not_asked_for():
    score = score_detections(TRUTH, [], until_us=START_US + 500 * US_PER_S)
    assert score.injected == 1


def test_an_alarm_on_a_machine_about_to_fail_is_right():
    s = US_PER_S
    life = ComponentLife("north", "pump-1", "bearing", 0, START_US, START_US + 1_000 * s, START_US + 1_100 * s, 3.0)
    truth = Truth(START_US, START_US + 3_600 * s, (), (life,))
    score = score_detections(truth, [alarm("temperature", 900), alarm("temperature", 100)])
    assert (score.wear_alarms, score.false_alarms) == (1, 1)
    assert score.device_weeks == pytest.approx(3_600 / (7 * 86_400))
