"""How often the simulated source samples: as the agent's setting says."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.agent import Agent
from edge_agent.registry import make_source
from edge_agent.settings import AgentSettings
from headwater.frame import Block
from headwater.instant import US_PER_S
from headwater.testing import ManualClock
from simulators.faults import Fault
from simulators.plant import Machine, Plant
from simulators.source import SimulatedSource

SECONDS = 240


def read(every_us: int, step_us: int, **options: Any) -> list[Block]:
    """Process values of four minutes, read every `step_us`."""
    clock = ManualClock()
    plant = Plant(2, 6, start_us=clock.now_us(), faults_per_day=0.0)
    source = SimulatedSource({"plant": plant, "index": 0, "sample_every_us": every_us} | options, clock)
    source.open()
    blocks = []
    for _ in range(SECONDS * US_PER_S // step_us):
        clock.advance(step_us)
        blocks += [block for block in source.read(clock.now_us()) if "flow_m3h" in block.metrics]
    return blocks


def joined(blocks: list[Block]) -> tuple[Any, Any]:
    return np.concatenate([block.time_us for block in blocks]), np.concatenate(
        [block.value for block in blocks], axis=1
    )


@pytest.mark.parametrize("every_us", [50_000, 250_000, 1_000_000, 1_500_000, 7_000_000, 120_000_000])
@pytest.mark.parametrize("step_us", [100_000, 5_000_000])
def test_it_samples_at_the_interval_it_is_told_however_it_is_read(every_us: int, step_us: int) -> None:
    time_us, value = joined(read(every_us, step_us))
    assert 0 <= len(time_us) - SECONDS * US_PER_S // every_us <= 1
    assert (np.diff(time_us) == every_us).all()
    per_second_us, per_second = joined(read(US_PER_S, 5_000_000))
    held = np.searchsorted(per_second_us, time_us, side="right") - 1
    known = held >= 0
    assert np.array_equal(value[:, known], per_second[:, held[known]]), "a sample is what the board said last"


def test_its_metrics_tell_the_interval_and_bursts_keep_their_minute() -> None:
    source = make_source("simulated", {"seed": 1}, ManualClock(), 200_000)
    every_us = {metric.name: metric.every_us for metric in source.metrics}
    assert (every_us["flow_m3h"], every_us["vibration_rms_mm_s"]) == (200_000, 60_000_000)
    own = make_source("simulated", {"seed": 1, "sample_every_us": 500_000}, ManualClock(), 200_000)
    assert own.metrics[0].every_us == 500_000, "an option of the user's wins"


def test_missing_values_and_clock_jumps_stay_where_they_are() -> None:
    class Live:
        def live(self, machine: Machine, start_us: int, end_us: int) -> list[Fault]:
            at_s = ManualClock().now_us() // US_PER_S
            return [
                Fault("a", machine.site, machine.device, "flow_m3h", "dropout", at_s + 100, at_s + 110, 1.0),
                Fault("b", machine.site, machine.device, "", "clock_jump", at_s + 200, at_s + 220, 3.0),
            ]

    blocks = read(250_000, 1_000_000, control=Live())
    time_us, value = joined(blocks)
    missing = np.isnan(value[blocks[0].metrics.index("flow_m3h")])
    assert np.count_nonzero(missing) == 4 * 10
    assert sorted(set(np.diff(time_us).tolist())) == [250_000 - 3_000_000, 250_000, 250_000 + 3_000_000]
    assert len(time_us) == 4 * SECONDS


def test_the_agents_setting_governs_it(tmp_path: Path) -> None:
    clock = ManualClock()
    settings = AgentSettings(source="simulated", sample_every="200ms", gateway="")
    source = make_source(settings.source, settings.options, clock, settings.sample_every_us)
    agent = Agent("north", "pump", source, settings, clock, tmp_path / "spool.db")
    for _ in range(101):
        agent.tick(clock.now_us())
        clock.advance(100_000)
    process_values = sum(metric.every_us == 200_000 for metric in source.metrics)
    assert agent.counters()["sampled"] == 50 * process_values
    agent.close()
