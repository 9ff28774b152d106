"""Health stays high on a sound machine in any regime, falls with wear, and remaining life meets the truth."""

from typing import Any

import numpy as np
import pytest

from cloud_processor.health import Health, HealthModel
from cloud_processor.health_trend import Trend, life_of
from headwater.arrivals import Arrivals, Progress
from headwater.points import PointTable, TagColumn
from headwater.series import Directory

S = 1_000_000
T0 = 1_700_000_000 * S
METRICS = ("running", "setpoint_flow_m3h", "bearing_temp_cel", "current_a")


class Machine:
    """Feeds a health operator with windows of one machine."""

    def __init__(self, seed: int = 1) -> None:
        self.rng = np.random.default_rng(seed)
        self.health = Health(HealthModel(report_every_us=10 * S))
        self.directory = Directory()
        self.directory.devices.id(("north", "pump-1"))
        for metric in METRICS:
            self.directory.metrics.id(metric)
        self.directory.series(np.zeros(4, np.int32), np.arange(4, dtype=np.int32))
        self.at = 0

    def window(self, *, wear: float = 0.0, running: float = 1.0) -> dict[str, tuple[float, ...]]:
        """One window; returns component → (health, rul_h, rul_lo, rul_hi)."""
        level = (60.0, 80.0, 100.0, 120.0)[self.at // 7 % 4]
        mean = [
            running,
            level,
            running * (20 + 0.3 * level + 32 * wear + self.rng.normal(0, 0.3)),
            running * (11 + 0.28 * level + 3 * wear + self.rng.normal(0, 0.25)),
        ]
        table = PointTable(
            "window",
            np.full(4, T0 + self.at * 10 * S),
            {
                "site": TagColumn(("north",), np.zeros(4, np.int32)),
                "device": TagColumn(("pump-1",), np.zeros(4, np.int32)),
                "metric": TagColumn(METRICS, np.arange(4, dtype=np.int32)),
                "window": TagColumn(("10s",), np.zeros(4, np.int32)),
            },
            {"mean": np.array(mean), "revision": np.zeros(4, np.int64)},
        )
        self.at += 1
        none = np.zeros(1, bool)
        clock = np.array([T0 + self.at * 10 * S])
        progress = Progress(self.directory, clock, clock, none, none, none, np.zeros(1, np.int64), int(clock[0]))
        found: dict[str, tuple[float, ...]] = {}
        for rows in self.health.advance(progress, [table]):
            names = ("health", "rul_h", "rul_lo", "rul_hi")
            columns = zip(*(rows.fields[name].tolist() for name in names), strict=True)
            found |= dict(zip(rows.tags["component"].strings(), columns, strict=True))
        return found

    def run(self, windows: int, **how: Any) -> dict[str, tuple[float, ...]]:
        found: dict[str, tuple[float, ...]] = {}
        for _ in range(windows):
            found = self.window(**how)
        return found


def test_a_sound_machine_stays_healthy_while_its_set_point_changes() -> None:
    machine = Machine()
    assert machine.run(60) == {}
    lowest, lives = 100.0, 0
    for _ in range(400):
        found = machine.window()
        lowest = min([lowest, *(row[0] for row in found.values())])
        lives += sum(np.isfinite(row[1]) for row in found.values())
    assert set(found) == {"bearing", "drive"}
    assert lowest > 95
    assert lives == 0


def test_wear_lowers_the_health_of_its_component_first() -> None:
    machine = Machine()
    machine.run(100)
    found = machine.run(60, wear=0.3)
    assert found["bearing"][0] < 60 < found["drive"][0]


def test_a_stop_is_no_damage_and_teaches_nothing() -> None:
    machine = Machine()
    machine.run(100)
    assert machine.run(30, running=0.0) == {}
    assert machine.run(5) == {}
    assert machine.run(10)["bearing"][0] > 95


@pytest.mark.parametrize("seed", range(5))
def test_remaining_life_meets_a_growing_damage(seed: int) -> None:
    machine = Machine(seed)
    machine.run(100)
    failed_at = None
    lives = []
    for step in range(400):
        wear = np.expm1(step / 100) / np.expm1(4.0)
        found = machine.window(wear=float(wear))
        if failed_at is None and machine.health._distance.max() >= machine.health._model.distance_failed:
            failed_at = step
        if "bearing" in found and np.isfinite(found["bearing"][1]) and failed_at is None:
            lives.append((step, *found["bearing"][1:]))
    assert failed_at is not None
    step, hours, low, high = lives[-20]
    truth_h = (failed_at - step) * 10 / 3600
    assert low < high
    assert abs(hours - truth_h) < 0.5 * truth_h + 0.02
    inside = [lo <= (failed_at - at) * 10 / 3600 <= hi for at, _, lo, hi in lives]
    assert np.mean(inside) > 0.85


def test_a_snapshot_goes_on_bit_for_bit() -> None:
    machine, other = Machine(), Machine()
    machine.run(120, wear=0.1)
    other.rng, other.at = machine.rng, machine.at
    other.health.restore(machine.health.snapshot())
    assert other.health.snapshot() == machine.health.snapshot()
    assert machine.health.process(None) == []  # type: ignore[arg-type]
    assert Arrivals is not None


def test_a_flat_or_falling_trend_has_no_end() -> None:
    trend = Trend()
    trend.grow(1)
    part = np.array([0])
    for at in range(50):
        trend.add(part, T0 + at * 10 * S, np.array([20.0 - 0.1 * at]))
    life = life_of(trend, part, 30.0, 24.0)
    assert np.isnan([life.hours[0], life.low[0], life.high[0], life.p_fail[0]]).all()
    assert life.model[0] == "steady"


def test_a_straight_trend_ends_where_the_line_meets_the_limit() -> None:
    trend = Trend()
    trend.grow(1)
    part = np.array([0])
    for at in range(60):
        trend.add(part, T0 + at * 60 * S, np.array([3.0 + 0.1 * at]))
    life = life_of(trend, part, 30.0, 24.0)
    assert life.model[0] == "linear"
    assert life.hours[0] == pytest.approx((30.0 - 8.9) / 0.1 / 60, rel=0.01)
    assert life.low[0] <= life.hours[0] <= life.high[0]
    assert life.p_fail[0] == pytest.approx(1.0)
