"""CPU time of the edge's chain (quality, detectors, reduction) per reading, in blocks and tick by tick.

The peer is what an agent without any of it would do at the least: write each reading as one JSON text.
"""

import argparse
import json
import statistics
import time
from typing import Any

import numpy as np

from edge_agent.quality import QualityCheck
from edge_agent.reduce import Reducer
from headwater.detectors.bank import DetectorBank
from headwater.frame import Block
from simulators.plant import Machine, Plant

START_US = 1_760_000_400_000_000


def chain(machine: Machine, whole: Block, steps: int) -> dict[str, float]:
    """Returns µs of CPU per reading of each part, for blocks of so many steps."""
    blocks = [
        Block(whole.metrics, whole.time_us[at : at + steps], np.ascontiguousarray(whole.value[:, at : at + steps]))
        for at in range(0, len(whole.time_us), steps)
    ]
    check, bank, reducer = QualityCheck(machine.metrics), DetectorBank(machine.metrics), Reducer(machine.metrics)
    marks = [time.process_time()]
    judged = [check.check(block).block for block in blocks]
    marks.append(time.process_time())
    for block in judged:
        bank.process(block)
    marks.append(time.process_time())
    for block in judged:
        reducer.push(block)
    marks.append(time.process_time())
    per_reading = np.diff(marks) / whole.value.size * 1e6
    names = ("quality", "detect", "reduce")
    return {**dict(zip(names, per_reading.tolist(), strict=True)), "chain": float(per_reading.sum())}


def json_us(machine: Machine, whole: Block) -> float:
    """Returns µs of CPU to write a reading as JSON."""
    names, times, values = whole.metrics, whole.time_us.tolist(), whole.value.T.tolist()
    began = time.process_time()
    for time_us, row in zip(times, values, strict=True):
        for name, value in zip(names, row, strict=True):
            json.dumps({"device": machine.device, "metric": name, "ts": time_us, "value": value})
    return (time.process_time() - began) / whole.value.size * 1e6


def run(*, quick: bool = False) -> dict[str, Any]:
    """Returns µs per reading (medians of several runs) and ratios to the JSON of the same readings."""
    plant = Plant(3, 8, start_us=START_US, wear_speed=0.01, faults_per_day=0.0, has_vibration=False)
    machine = plant.machines[0]
    seconds = 2_000 if quick else 8_000
    (whole,) = plant.process_values(machine, START_US, START_US + seconds * 1_000_000)
    figures: dict[str, float] = {}
    ratios: dict[str, float] = {}
    rounds = 3 if quick else 5
    peer = statistics.median(json_us(machine, whole) for _ in range(rounds))
    figures["json_us_per_reading"] = round(peer, 3)
    for steps in (1, 10, 100, 1_000):
        results = [chain(machine, whole, steps) for _ in range(rounds)]
        for part in results[0]:
            middle = statistics.median(result[part] for result in results)
            figures[f"{part}_us_per_reading_in_blocks_of_{steps}"] = round(middle, 3)
        ratios[f"chain_to_json_in_blocks_of_{steps}"] = round(
            figures[f"chain_us_per_reading_in_blocks_of_{steps}"] / peer, 3
        )
    reducer = Reducer(machine.metrics)
    reducer.push(whole)
    audit = reducer.audit()
    figures["kept_share"] = round(sum(a[2] for a in audit.values()) / sum(a[3] for a in audit.values()), 4)
    figures["largest_error_over_epsilon"] = round(max(a[0] / a[1] for a in audit.values() if a[1]), 4)
    return {"figures": figures, "ratios": ratios}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    print(json.dumps(run(quick=parser.parse_args().quick), indent=1))
