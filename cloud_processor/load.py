"""The processor's own counters: sums, and latencies of the newest frames."""

from dataclasses import asdict
from typing import Any

import numpy as np

from headwater.batch import Batch
from headwater.frame import Int64
from headwater.task import StepCounters

LATENCIES_MAX = 8192
LIVE_US = 10_000_000  # A frame whose newest reading was older when it was made held only the past.


class Load:
    """What one run of the process has done; wall-clock figures stay here and never become rows.

    Attributes:
        records: log records whose rows are in the store.
        records_skipped: records that the log had trimmed before they were read.
        errors: times a peer was away.
        checkpoints, checkpoint_bytes: how many were saved, and the size of the newest.
        saved_us: monotonic time of the newest checkpoint.
        made_us: the gateway's time of the newest batch that was stepped.
    """

    def __init__(self, started_us: int) -> None:
        self.records = 0
        self.records_skipped = 0
        self.errors = 0
        self.checkpoints = 0
        self.checkpoint_bytes = 0
        self.saved_us = started_us
        self.made_us = 0
        self._sums = asdict(StepCounters())
        self._lag_us = 0
        self._from_event = np.empty(0, np.int64)
        self._from_receipt = np.empty(0, np.int64)

    def add(self, counters: StepCounters) -> None:
        """Adds the counters of one record."""
        for name, value in asdict(counters).items():
            self._sums[name] += value

    def stored(self, batch: Batch, now_us: int) -> tuple[Int64, Int64]:
        """Notes when frames became durable in the store; what a frame held of the past says nothing of latency.

        Returns the latencies in µs of its live frames from their newest reading on, and of all from their receipt on.
        """
        from_event, from_receipt = np.empty(0, np.int64), now_us - batch.received_us
        filled = np.flatnonzero(np.diff(batch.reading_start))
        if len(filled):
            newest_us = np.maximum.reduceat(batch.time_us, batch.reading_start[filled])
            is_live = batch.created_us[filled] - newest_us <= LIVE_US
            from_event = now_us - newest_us[is_live]
            self._from_event = np.concatenate([self._from_event, from_event])[-LATENCIES_MAX:]
        self._from_receipt = np.concatenate([self._from_receipt, from_receipt])[-LATENCIES_MAX:]
        self._lag_us = now_us - batch.made_us
        return from_event, from_receipt

    def counters(self) -> dict[str, Any]:
        """Sums and percentiles, plain numbers."""
        return {
            **self._sums,
            "records": self.records,
            "records_skipped": self.records_skipped,
            "errors": self.errors,
            "checkpoints": self.checkpoints,
            "checkpoint_bytes": self.checkpoint_bytes,
            "lag_s": self._lag_us / 1e6,
            **_percentiles("event_to_stored", self._from_event),
            **_percentiles("received_to_stored", self._from_receipt),
        }


def _percentiles(name: str, values: Any) -> dict[str, float]:
    if not len(values):
        return {}
    found = np.percentile(values, [50, 95, 99]) / 1e3
    return {f"{name}_p{q}_ms": round(float(value), 3) for q, value in zip((50, 95, 99), found, strict=True)}
