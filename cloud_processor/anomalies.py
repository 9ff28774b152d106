"""Operator: what the devices' detectors saw, as rows of the measurement `anomaly`.

A row is an onset. A clearing is no anomaly; it resolves the alert (`cloud_processor.alerts`).
"""

from collections.abc import Sequence

from cloud_processor.event_rows import event_table
from headwater.arrivals import Arrivals, Progress
from headwater.points import PointTable
from headwater.snapshot import pack, unpack


class AnomalyRows:
    """Passes anomalies on with all they say: score, value, expected band, message."""

    name = "anomalies"

    def process(self, arrivals: Arrivals) -> list[PointTable]:
        """Returns a row per onset."""
        batch = arrivals.batch
        onsets = [(row, anomaly) for row, anomaly in batch.anomalies if anomaly.is_onset]
        devices = [batch.devices[batch.device[row]] for row, _ in onsets]
        found = [anomaly for _, anomaly in onsets]
        return event_table(
            "anomaly",
            [anomaly.time_us for anomaly in found],
            [(*device, a.metric, a.detector, str(a.severity)) for device, a in zip(devices, found, strict=True)],
            {
                **{name: [getattr(a, name) for a in found] for name in ("score", "value", "expected", "lo", "hi")},
                "message": [anomaly.message for anomaly in found],
            },
        )

    def advance(self, progress: Progress, tables: Sequence[PointTable]) -> list[PointTable]:
        """Has nothing to add."""
        del progress, tables
        return []

    def snapshot(self) -> bytes:
        """No state."""
        return pack(1, {})

    def restore(self, data: bytes) -> None:
        """No state."""
        unpack(data, 1)
