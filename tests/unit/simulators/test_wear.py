import itertools

import numpy as np
import pytest

from simulators.wear import DAMAGE_AT_ONSET, STEP_S, Component, LifeLine, damage_between

BEARING = Component("bearing", 200.0)


def line(device="pump-001", age=0.5, speed=1_000.0):
    return LifeLine(1, device, BEARING, 1_000_000, age, speed)


def test_the_life_at_the_start_has_used_up_its_share():
    (life,) = line(age=0.25).between(1_000_000, 1_000_001)
    assert life.index == 0
    assert (1_000_000 - life.begin_s) / (life.failure_s - life.begin_s) == pytest.approx(0.25, abs=1e-4)


def test_lives_are_the_same_from_wherever_they_are_asked():
    far = 1_000_000 + 3_000_000
    cold = line().between(far, far + 10)
    warm = line()
    for at in range(1_000_000, far, 50_000):
        warm.between(at, at + 1)
    assert warm.between(far, far + 10) == cold
    assert cold[0].index > 50


def test_thousands_of_lives_are_no_burden():
    lives = line(speed=1e6).between(1_000_000, 2_000_000)
    assert len(lives) > 5_000
    assert all(a.repaired_s == b.begin_s for a, b in itertools.pairwise(lives))


def test_time_before_the_first_life_is_sound():
    (life,) = line().between(0, 10)
    assert life.damage(0) == 0.0


def test_damage_has_two_stages_and_ends_at_one():
    (life,) = line().between(1_000_000, 1_000_001)
    assert life.damage(life.onset_s) == pytest.approx(DAMAGE_AT_ONSET)
    half = (life.onset_s + life.failure_s) // 2
    assert life.damage(half) < 0.5
    assert life.damage(life.failure_s - 1) == pytest.approx(1.0, abs=1e-3)
    assert life.damage(life.repaired_s - 1) == 1.0


def test_damage_between_follows_the_lives_across_a_repair():
    lives = line(speed=20_000.0).between(1_000_000, 1_020_000)
    damage = damage_between(lives, 1_000_000 + STEP_S, 1_020_000 - STEP_S)
    assert damage.min() >= 0.0
    assert damage.max() == 1.0
    knots = np.arange(1_000_000 // STEP_S + 2, 1_020_000 // STEP_S - 2) * STEP_S
    for at in knots[::50]:
        life = next(life for life in lives if at < life.repaired_s)
        assert damage[at - 1_000_000 - STEP_S] == pytest.approx(life.damage(int(at)))


def test_lives_differ_from_unit_to_unit_and_spread_as_weibull_says():
    spans = []
    for n in range(800):
        (life,) = line(f"pump-{n}", age=0.0, speed=1.0).between(1_000_000, 1_000_001)
        spans.append((life.failure_s - life.begin_s) / 86_400)
    median = 200.0 * np.log(2) ** (1 / 2.5)
    assert np.median(spans) == pytest.approx(median, rel=0.06)
    assert len({round(span, 3) for span in spans}) > 790
