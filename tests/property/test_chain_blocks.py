"""The edge's chain gives the same anomalies and the same points however its readings are cut into blocks."""

import numpy as np
import pytest

from edge_agent.quality import QualityCheck
from edge_agent.reduce import Reducer
from headwater.detectors.bank import DetectorBank
from headwater.frame import Block
from simulators.plant import Plant

START_US = 1_760_000_400_000_000
SECONDS = 7_000


def run(machine, blocks, cuts):
    check, bank, reducer = QualityCheck(machine.metrics), DetectorBank(machine.metrics), Reducer(machine.metrics)
    anomalies, points = [], []
    for whole in blocks:
        at = 0
        for cut in [*cuts(len(whole.time_us)), len(whole.time_us)]:
            if cut <= at:
                continue
            part = slice(at, cut)
            code = None if whole.quality is None else whole.quality[:, part]
            checked = check.check(
                Block(whole.metrics, whole.time_us[part], np.ascontiguousarray(whole.value[:, part]), code)
            )
            anomalies += [a for a in checked.events if a.detector != "clock"] + bank.process(checked.block)
            for block in reducer.push(checked.block).blocks:
                for i, name in enumerate(block.metrics):
                    points += [
                        (name, t, v) for t, v in zip(block.time_us.tolist(), block.value[i].tolist(), strict=True)
                    ]
            at = cut
    return sorted(map(repr, anomalies)), sorted(map(repr, points)), bank.snapshot()


@pytest.mark.parametrize("seed", [1, 2])
def test_the_cut_into_blocks_changes_nothing(seed):
    plant = Plant(seed, 8, start_us=START_US, faults_per_day=140, duty_slot_s=3_600, has_vibration=False)
    machine = next(m for m in plant.machines if plant.faults(m, START_US // 10**6, START_US // 10**6 + SECONDS))
    blocks = plant.process_values(machine, START_US, START_US + SECONDS * 1_000_000)
    rng = np.random.default_rng(seed)
    whole = run(machine, blocks, lambda n: [])
    assert whole[0], "a run without anomalies proves little"
    assert run(machine, blocks, lambda n: range(1, n)) == whole
    assert run(machine, blocks, lambda n: sorted(rng.integers(0, n, 40).tolist())) == whole
    assert run(machine, blocks, lambda n: range(100, n, 100)) == whole
