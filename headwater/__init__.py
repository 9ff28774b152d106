"""Headwater carries sensor readings from devices to dashboards and maintenance decisions, every one accounted for.

The names below are the public ones; they are imported when first used, so that a device loads only what it needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headwater.batch import Batch
    from headwater.codec import decode_frame, encode_frame
    from headwater.codec_batch import Arrival, decode_batch
    from headwater.frame import Anomaly, Block, Frame, Summaries
    from headwater.metric import Metric
    from headwater.task import Operator, Task

__version__ = "0.1.0"

__all__ = [
    "Anomaly",
    "Arrival",
    "Batch",
    "Block",
    "Frame",
    "Metric",
    "Operator",
    "Summaries",
    "Task",
    "decode_batch",
    "decode_frame",
    "encode_frame",
]

_HOMES = {
    "Anomaly": "frame",
    "Arrival": "codec_batch",
    "Batch": "batch",
    "Block": "frame",
    "Frame": "frame",
    "Metric": "metric",
    "Operator": "task",
    "Summaries": "frame",
    "Task": "task",
    "decode_batch": "codec_batch",
    "decode_frame": "codec",
    "encode_frame": "codec",
}


def __getattr__(name: str) -> Any:
    """Imports a public name from its module."""
    if name not in _HOMES:
        raise AttributeError(f"module 'headwater' has no attribute {name!r}")
    return getattr(import_module(f"headwater.{_HOMES[name]}"), name)
