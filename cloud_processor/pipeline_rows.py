"""Operator: what the shard carried, as rows of the measurement `pipeline`, once per interval of the shard's time."""

from collections.abc import Sequence

import numpy as np

from cloud_processor.event_rows import event_table
from headwater.arrivals import NEVER_US, Arrivals, Progress
from headwater.points import PointTable
from headwater.snapshot import pack, unpack

_VERSION = 1
_SUMS = ("messages", "readings", "bytes", "dead_letters", "late")


class PipelineRows:
    """Counts per interval; only what the data says, so that a replay gives the same rows."""

    name = "pipeline_rows"

    def __init__(self, shard: int, *, every_us: int) -> None:
        self._instance = f"shard-{shard}"
        self._every_us = every_us
        self._sums = dict.fromkeys(_SUMS, 0)
        self._reported_us = NEVER_US

    def process(self, arrivals: Arrivals) -> list[PointTable]:
        """Adds up."""
        batch = arrivals.batch
        late = 0 if arrivals.is_late is None else int(np.count_nonzero(arrivals.is_late))
        found = (len(batch), batch.reading_count, int(batch.payload_bytes.sum()), len(batch.dead_letters), late)
        for name, value in zip(_SUMS, found, strict=True):
            self._sums[name] += value
        return []

    def advance(self, progress: Progress, tables: Sequence[PointTable]) -> list[PointTable]:
        """Returns a row when an interval is over."""
        del tables
        if self._reported_us == NEVER_US:
            self._reported_us = progress.now_us
        if progress.now_us - self._reported_us < self._every_us:
            return []
        self._reported_us = progress.now_us
        active = ~progress.is_silent & (progress.watermark_us != NEVER_US)
        delay = float("nan")
        if active.any():
            delay = (progress.now_us - float(np.median(progress.watermark_us[active]))) / 1e6
        fields = {name: [value] for name, value in self._sums.items()}
        self._sums = dict.fromkeys(_SUMS, 0)
        return event_table(
            "pipeline", [progress.now_us], [("processor", self._instance)], {**fields, "watermark_delay_s": [delay]}
        )

    def snapshot(self) -> bytes:
        """The sums."""
        return pack(_VERSION, {"sums": self._sums, "reported_us": self._reported_us})

    def restore(self, data: bytes) -> None:
        """Goes on from the sums."""
        state = unpack(data, _VERSION)
        self._sums, self._reported_us = state["sums"], state["reported_us"]
