"""Golden cases of the edge: a CSV of readings and what the chain quality → detect → reduce makes of it.

Each folder of `edge_chain` holds `metrics.json`, `readings.csv` and the expected `events.csv` and `kept.csv`. To add a
case, write the first two and run `HEADWATER_GOLDEN=write pytest tests/golden/test_edge_chain.py`, then read the result.
"""

import csv
import io
import json
import os
from pathlib import Path

import pytest

from edge_agent.quality import QualityCheck
from edge_agent.reduce import Reducer
from edge_agent.sources.csv_file import CsvSource
from headwater.detectors.bank import DetectorBank
from headwater.metric import Metric
from headwater.testing import ManualClock

CASES = sorted(path for path in (Path(__file__).parent / "edge_chain").iterdir() if path.is_dir())


def run(case):
    described = [Metric(**entry) for entry in json.loads((case / "metrics.json").read_text())]
    clock = ManualClock()
    source = CsvSource({"path": str(case / "readings.csv"), "speed": 0, "rebase": False}, clock)
    source.open()
    check, bank, reducer = QualityCheck(described), DetectorBank(described), Reducer(described)
    events, kept = [["second", "metric", "detector", "begins"]], [["second", "metric", "value", "quality"]]
    start_us = None

    def keep(blocks):
        for block in blocks:
            for i, name in enumerate(block.metrics):
                for k, time_us in enumerate(block.time_us.tolist()):
                    code = 0 if block.quality is None else int(block.quality[i, k])
                    if code != 255:
                        kept.append([(time_us - start_us) // 1_000_000, name, f"{block.value[i, k]:.10g}", code])

    while not source.is_exhausted:
        for block in source.read(clock.now_us()):
            start_us = int(block.time_us[0]) if start_us is None else start_us
            checked = check.check(block)
            for event in checked.events + bank.process(checked.block):
                events.append([(event.time_us - start_us) // 1_000_000, event.metric, event.detector, event.is_onset])
            keep(reducer.push(checked.block).blocks)
    keep(reducer.flush(0).blocks)
    return {"events.csv": events, "kept.csv": [kept[0], *sorted(kept[1:], key=lambda row: (row[1], row[0]))]}


def as_text(rows):
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_chain_gives_what_it_gave(case):
    for name, rows in run(case).items():
        if os.environ.get("HEADWATER_GOLDEN") == "write":
            (case / name).write_text(as_text(rows))
        assert (case / name).read_text() == as_text(rows), f"{case.name}/{name}"
