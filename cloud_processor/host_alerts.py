"""Alerts of the processor about its own log; rows like those of any other rule."""

import numpy as np

from headwater.points import PointTable, tag_column
from headwater.ports import LogRecord
from headwater.reasons import Severity

SITE = "headwater"


def log_trimmed(instance: str, shard: int, position: int, record: LogRecord) -> PointTable:
    """Says that records were deleted from the log before they were read; the row's time is that of the next record."""
    lost = record.offset - position
    message = (
        f"shard {shard}: {lost} records from offset {position} on were trimmed unread; devices send what is missing"
    )
    return _alert(instance, f"log-trimmed:{shard}", max(record.timestamp_us, 0), float(lost), message)


def log_replaced(instance: str, now_us: int, old: str, new: str) -> PointTable:
    """Says that the log is another one than before."""
    return _alert(
        instance, "log-replaced", now_us, 1.0, f"log {old[:12]} was replaced by {new[:12]}: begun at its start"
    )


def _alert(instance: str, rule: str, time_us: int, value: float, message: str) -> PointTable:
    tags = {"site": SITE, "device": instance, "rule": rule, "severity": str(Severity.CRITICAL)}
    return PointTable(
        "alert",
        np.array([time_us], np.int64),
        {name: tag_column([tag]) for name, tag in tags.items()},
        {
            "state": np.array(["firing"], object),
            "value": np.array([value]),
            "message": np.array([message], object),
        },
    )
