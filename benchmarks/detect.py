"""How well the edge finds faults: recall and delay per fault type, and false alarms per device-week at 1 Hz.

The simulator's truth is read only here, after the fact. Recall comes from runs full of faults, false alarms from runs
without any (set points, stops, weather and demand go on).
"""

import argparse
import json
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from edge_agent.quality import QualityCheck
from headwater.detectors.bank import DetectorBank
from headwater.frame import Anomaly
from headwater.instant import US_PER_S
from simulators.faults import Fault
from simulators.plant import Machine, Plant

START_US = 1_760_000_400_000_000
DAY_S = 86_400
PIECE_S = 1_000
WARMUP_S = 3 * 3_600
AFTER_S = 60  # An alarm so long after a fault's end still found it.
GRACE_S = 600  # An alarm so long after a fault's end is an echo: neither right nor false.


def alarms(plant: Plant, machine: Machine, start_s: int, stop_s: int) -> Iterator[Anomaly]:
    """Runs the edge's chain over one machine; yields onsets."""
    check, bank = QualityCheck(machine.metrics), DetectorBank(machine.metrics)
    for lo in range(start_s, stop_s, PIECE_S):
        for block in plant.readings(machine, lo * US_PER_S, min(lo + PIECE_S, stop_s) * US_PER_S):
            checked = check.check(block)
            for anomaly in checked.events + bank.process(checked.block):
                if anomaly.is_onset:
                    yield anomaly


def credit(anomaly: Anomaly, at: float, faults: Sequence[Fault], first: dict[str, tuple[float, bool]]) -> bool:
    """Tells whether a fault explains an alarm, and notes in `first` when each fault was found, and on its own metric."""
    explained = False
    for fault in faults:
        # While a clock is wrong, so are the stamps of its alarms.
        slack = abs(fault.severity) + 1 if fault.kind == "clock_jump" else 0
        if not fault.start_s - slack <= at < fault.stop_s + GRACE_S:
            continue
        explained = True
        own = not fault.metric or fault.metric == anomaly.metric
        before = first.get(fault.id)
        if at < fault.stop_s + AFTER_S + slack and (before is None or (own and not before[1])):
            first[fault.id] = (max(1.0, at - fault.start_s + 1), own)
    return explained


class Tally:
    """Counts what was found and what was not."""

    def __init__(self) -> None:
        self.faults: Counter[str] = Counter()
        self.found: Counter[str] = Counter()
        self.elsewhere: Counter[str] = Counter()
        self.delays: defaultdict[str, list[float]] = defaultdict(list)
        self.false: Counter[str] = Counter()
        self.missed: list[Fault] = []
        self.false_at: list[tuple[str, Anomaly]] = []
        self.seconds = 0

    def machine(self, plant: Plant, machine: Machine, start_s: int, stop_s: int) -> None:
        every = plant.faults(machine, start_s, stop_s)
        faults = [fault for fault in every if fault.start_s >= start_s + WARMUP_S and fault.stop_s + GRACE_S <= stop_s]
        first: dict[str, tuple[float, bool]] = {}
        for anomaly in alarms(plant, machine, start_s, stop_s):
            at = (anomaly.time_us - machine.phase_us) / US_PER_S
            if at >= start_s + WARMUP_S and not credit(anomaly, at, every, first):
                self.false[anomaly.detector] += 1
                self.false_at.append((machine.device, anomaly))
        for fault in faults:
            self.faults[fault.kind] += 1
            delay, own = first.get(fault.id, (0.0, False))
            if own:
                self.found[fault.kind] += 1
                self.delays[fault.kind].append(delay)
            else:
                self.elsewhere[fault.kind] += fault.id in first
                self.missed.append(fault)
        self.seconds += stop_s - start_s - WARMUP_S


def run(
    *, quick: bool = False, seeds: Sequence[int] = (11, 12, 13), devices: int = 8, verbose: bool = False
) -> dict[str, Any]:
    """Returns recall and delay by fault type and false alarms per device-week."""
    seeds = seeds[:1] if quick else seeds
    days = 0.5 if quick else 1.0
    start_s = START_US // US_PER_S
    found, calm = Tally(), Tally()
    began = time.process_time()
    for seed in seeds:
        busy = Plant(seed, devices, start_us=START_US, faults_per_day=12.0, wear_speed=0.01)
        idle = Plant(seed + 1_000, devices, start_us=START_US, faults_per_day=0.0, wear_speed=0.01)
        for machine in busy.machines:
            found.machine(busy, machine, start_s, start_s + int(days * DAY_S))
        for machine in idle.machines:
            calm.machine(idle, machine, start_s, start_s + int(2 * days * DAY_S))
    weeks = calm.seconds / (7 * DAY_S)
    figures = {
        "device_weeks_without_faults": round(weeks, 2),
        "false_alarms_per_device_week": round(calm.false.total() / weeks, 2),
        "false_alarms_by_detector": dict(calm.false),
        "false_alarms_per_device_week_between_faults": round(found.false.total() / (found.seconds / 7 / DAY_S), 2),
        "recall": {kind: round(found.found[kind] / n, 3) for kind, n in sorted(found.faults.items())},
        "seen_on_another_metric_only": dict(found.elsewhere),
        "faults": dict(sorted(found.faults.items())),
        "median_delay_samples": {kind: statistics.median(d) for kind, d in sorted(found.delays.items())},
        "recall_mean": round(statistics.mean(found.found[k] / n for k, n in found.faults.items()), 3),
        "cpu_s": round(time.process_time() - began, 1),
    }
    if verbose:
        for fault in found.missed:
            print("missed", fault.device, fault.metric, fault.kind, fault.stop_s - fault.start_s, fault.severity)
        for device, anomaly in calm.false_at + found.false_at:
            since = (anomaly.time_us // US_PER_S - start_s) / 3600
            print("false", device, anomaly.metric, anomaly.detector, round(since, 3), round(anomaly.score, 2))
    return {"figures": figures, "ratios": {"recall_to_goal": round(figures["recall_mean"] / 0.92, 3)}}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12, 13])
    chosen = parser.parse_args()
    print(json.dumps(run(quick=chosen.quick, seeds=chosen.seeds, verbose=chosen.verbose), indent=1))
