"""Gates against a plant that is too easy (Wu and Keogh, "Current Time Series Anomaly Detection Benchmarks are Flawed")."""

import numpy as np
import pytest

from headwater.instant import US_PER_S
from simulators.plant import Plant
from simulators.truth import truth_of

START_US = 1_700_000_000_000_000
DAY_US = 86_400 * US_PER_S


@pytest.fixture(scope="module")
def plant():
    return Plant(7, 60, start_us=START_US, has_vibration=False)


@pytest.fixture(scope="module")
def faults(plant):
    return [e for e in truth_of(plant, START_US, START_US + DAY_US).episodes if not e.is_benign]


def rule_scores(rule, value):
    """float64 (m, n): how much a one-line rule is alarmed; missing readings keep the value before."""
    filled = np.where(np.isnan(value), np.nanmedian(value, axis=1, keepdims=True), value)
    if rule == "diff":
        return np.abs(np.diff(filled, axis=1, prepend=filled[:, :1]))
    if rule == "level":
        return np.abs(filled - np.median(filled, axis=1, keepdims=True))
    sums = np.cumsum(np.pad(filled, ((0, 0), (1, 0))), axis=1)
    squares = np.cumsum(np.pad(filled**2, ((0, 0), (1, 0))), axis=1)
    width = 30
    mean = (sums[:, width:] - sums[:, :-width]) / width
    moving = np.sqrt(np.maximum((squares[:, width:] - squares[:, :-width]) / width - mean**2, 0.0))
    return np.pad(moving, ((0, 0), (width - 1, 0)))


@pytest.mark.parametrize("rule", ["diff", "level", "moving_std"])
def test_a_one_line_rule_solves_at_most_three_of_ten_episodes(plant, faults, rule):
    """The rule gets the best threshold of each channel in hindsight, and may be wrong once a day."""
    solved = set()
    for machine in plant.machines:
        mine = [e for e in faults if e.device == machine.device]
        if not mine:
            continue
        blocks = plant.process_values(machine, START_US, START_US + DAY_US)
        time_us = np.concatenate([block.time_us for block in blocks])
        scores = rule_scores(rule, np.concatenate([block.value for block in blocks], axis=1))
        windows = [(time_us >= e.start_us - US_PER_S) & (time_us < e.end_us + US_PER_S) for e in mine]
        outside = ~np.any(windows, axis=0)
        limit = np.sort(scores[:, outside], axis=1)[:, -2]
        for episode, window in zip(mine, windows, strict=True):
            rows = [i for i, name in enumerate(blocks[0].metrics) if episode.metric in ("", name)]
            if (scores[rows][:, window] > limit[rows, None]).any():
                solved.add(episode.id)
    trivial = {e.id for e in faults if e.kind in ("dropout", "clock_jump")}
    assert len(faults) > 30
    assert len(solved | trivial) <= 0.4 * len(faults)
    assert len(solved) <= 0.3 * len(faults)


def test_faults_begin_at_any_time_of_the_day(faults):
    place = np.sort([(e.start_us - START_US) / DAY_US for e in faults])
    place = place[(place >= 0.0) & (place < 1.0)]
    n = len(place)
    distance = np.max(np.abs(place - (np.arange(n) + 0.5) / n)) + 0.5 / n
    assert distance < 1.36 / np.sqrt(n), "Kolmogorov and Smirnov at 5 %"


def test_less_than_a_hundredth_of_the_time_is_faulty(plant, faults):
    share = sum(e.end_us - e.start_us for e in faults) / (DAY_US * plant.devices)
    assert 0.0 < share <= 0.01
