"""A recorded hour of one pump, and the rows it gave when the case was looked over by a person.

To look anew after a wanted change: run this file as a program and read the difference.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from cloud_processor.settings import ProcessorSettings
from cloud_processor.topology import build_task
from headwater.batch import DeviceStatus
from headwater.batch_build import batch_from_frames
from headwater.frame import Anomaly, Block, Frame, Gap
from headwater.reasons import ClockQuality, GapReason, Severity

CASE = Path(__file__).parent / "processor_pump"


def frame_of(told: dict[str, Any]) -> Frame:
    blocks = tuple(
        Block(tuple(block["metrics"]), np.array(block["time_us"]), np.array(block["value"], np.float64))
        for block in told["blocks"]
    )
    anomalies = tuple(Anomaly(**{**a, "severity": Severity(a["severity"])}) for a in told.get("anomalies", ()))
    gaps = tuple(Gap(**{**gap, "reason": GapReason(gap["reason"])}) for gap in told.get("gaps", ()))
    return Frame(
        "north", "pump-1", 9, told["seq"], told["created_us"], ClockQuality.SYNCED, told["oldest_seq"], blocks,
        anomalies=anomalies, gaps=gaps,
    )  # fmt: skip


def rows() -> list[dict[str, Any]]:
    """All rows of the case, in the order in which they were given."""
    task = build_task(ProcessorSettings(windows=("1m", "5m/1m"), out_of_orderness="2s", allowed_lateness="10m"), 0)
    found = []
    for offset, record in enumerate(json.loads((CASE / "records.json").read_text())):
        frames = [(frame_of(told), told["created_us"] + 400_000, 100) for told in record["frames"]]
        batch = batch_from_frames(frames, shard=0, made_us=record["made_us"])
        statuses = tuple(DeviceStatus(**status) for status in record.get("statuses", ()))
        object.__setattr__(batch, "statuses", statuses)
        for table in task.step(batch, offset).tables:
            tags = [column.strings() for column in table.tags.values()]
            for row, time_us in enumerate(table.time_us.tolist()):
                fields = {
                    name: column[row]
                    for name, column in zip(table.fields, map(_plain, table.fields.values()), strict=True)
                }
                found.append(
                    {
                        "record": offset,
                        "measurement": table.measurement,
                        "tags": "/".join(tag[row] for tag in tags),
                        "time_us": time_us,
                        **{name: value for name, value in fields.items() if value == value},
                    }
                )
    return found


def _plain(column: np.ndarray) -> list[Any]:
    return column.tolist()


def test_the_recorded_hour_gives_the_rows_that_were_looked_over() -> None:
    expected = [json.loads(line) for line in (CASE / "rows.jsonl").read_text().splitlines()]
    found = rows()
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.keys() == theirs.keys(), theirs
        for name, value in theirs.items():
            same = math.isclose(mine[name], value, rel_tol=1e-12) if isinstance(value, float) else mine[name] == value
            assert same, (theirs, name, mine[name])


if __name__ == "__main__":
    (CASE / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()))
