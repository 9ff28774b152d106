"""Sweeping over many metrics gives the points of one line after the other, bit for bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.line import NEVER
from edge_agent.sweep import METRICS_MIN, STEPS_MIN, is_worth_it, sweep
from edge_agent.swing import HELD_MAX, Swing

START_US = 1_700_000_000_000_000
EPSILONS = (0.3, 0.01, 7.0, 2e-9)
STEPS_US = (1, 1_000, 1_000_000, 70_000_000)


def signal(rng: np.random.Generator, kind: str, shape: tuple[int, int]) -> np.ndarray:
    value = np.cumsum(rng.normal(0, 0.02, shape), axis=1) + rng.normal(0, 0.05, shape)
    if kind == "coarse":
        return np.round(value, 1)
    if kind == "wild":
        value[rng.random(shape) < 0.05] = rng.choice((1e300, -1.7e308, 1e17, 0.0, -0.0, 1e-300))
    if kind == "constant":
        value[:] = np.round(value[:, :1], 1)
    if kind == "zeros":
        return rng.choice((0.0, -0.0), shape)
    return value


def state(line: Swing) -> tuple[object, ...]:
    told = (line.seen, line.kept, line.suppressed, line.error_max.hex(), line.held)
    return (*told, line.pivot.hex(), line.pivot_us, line.lower.hex(), line.upper.hex())


def compare(rng: np.random.Generator, metrics: int, kind: str, sizes: list[int]) -> list[Swing]:
    epsilons = rng.choice(EPSILONS, metrics).tolist()
    one_by_one, together = ([Swing(epsilon, 60_000_000) for epsilon in epsilons] for _ in range(2))
    steps = sum(sizes)
    value = signal(rng, kind, (metrics, steps))
    time_us = START_US + np.cumsum(rng.choice(STEPS_US, steps, p=(0.05, 0.4, 0.54, 0.01)))
    at = 0
    for size in sizes:
        part = slice(at, at + size)
        expected = [
            line.push(time_us[part].tolist(), row[part].tolist()) for line, row in zip(one_by_one, value, strict=True)
        ]
        swept = sweep(together, time_us[part], value[:, part])
        for i, points in enumerate(expected):
            mine = slice(int(swept.start[i]), int(swept.start[i + 1]))
            assert swept.time_us[mine].tolist() == [point.time_us for point in points]
            assert swept.value[mine].tobytes() == np.array([point.value for point in points]).tobytes()
        assert [state(line) for line in one_by_one] == [state(line) for line in together]
        at += size
    return together


@given(
    seed=st.integers(0, 1 << 30),
    metrics=st.integers(1, 20),
    kind=st.sampled_from(["noise", "coarse", "wild", "constant", "zeros"]),
    sizes=st.lists(st.integers(1, 300), min_size=1, max_size=5),
)
@settings(max_examples=40, deadline=None)
def test_points_account_and_state_are_those_of_one_line_after_the_other(
    seed: int, metrics: int, kind: str, sizes: list[int]
) -> None:
    compare(np.random.default_rng(seed), metrics, kind, sizes)


def test_a_segment_that_never_breaks_ends_after_the_most_readings_it_may_hold() -> None:
    line = Swing(0.3, 1 << 50)
    time_us = START_US + np.arange(HELD_MAX + 10)
    swept = sweep([line], time_us, np.ones((1, len(time_us))))
    assert swept.time_us.tolist() == [START_US, START_US + HELD_MAX]
    assert line.pivot_us > NEVER
    assert len(line.held[0]) == 9


@pytest.mark.parametrize("size", [1, 7, 400])
def test_one_reading_at_a_time_gives_the_same(size: int) -> None:
    rng = np.random.default_rng(6)
    value = signal(rng, "coarse", (1, 800))[0].tolist()
    pushed, stepped = Swing(0.1, 60_000_000), Swing(0.1, 60_000_000)
    times_us = (START_US + np.arange(800) * 1_000_000).tolist()
    expected = [
        point for at in range(0, 800, size) for point in pushed.push(times_us[at : at + size], value[at : at + size])
    ]
    found = [point for time_us, number in zip(times_us, value, strict=True) for point in stepped.step(time_us, number)]
    assert found == expected
    assert state(pushed) == state(stepped)


def test_few_metrics_or_short_blocks_stay_in_the_plain_loop() -> None:
    assert is_worth_it(METRICS_MIN, STEPS_MIN)
    assert not is_worth_it(METRICS_MIN - 1, 10_000)
    assert not is_worth_it(1_000, STEPS_MIN - 1)
