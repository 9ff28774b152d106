"""A frame made of what a foreign device sent: readings gathered in any order become blocks.

A foreign frame has epoch 0 and seq 0: there is nothing to deduplicate it by but its content.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from headwater.frame import Block, Frame, Ledger
from headwater.instant import TIME_MAX_US, TIME_MIN_US, US_PER_S
from headwater.reasons import ClockQuality

FUTURE_MAX_US = 300 * US_PER_S

Readings = dict[str, dict[int, float]]
Qualities = dict[tuple[str, int], int]


@dataclass(frozen=True, slots=True)
class ForeignFrame:
    """A frame; `has_own_time` is False where any reading took its time from the arrival."""

    frame: Frame
    has_own_time: bool


def is_in_time(time_us: int, received_us: int) -> bool:
    """Tells whether an event time is believable: from the year 2000 to five minutes after receipt.

    >>> is_in_time(0, 1_700_000_000_000_000), is_in_time(1_700_000_000_000_000, 1_700_000_000_000_000)
    (False, True)
    """
    return TIME_MIN_US <= time_us < min(TIME_MAX_US, received_us + FUTURE_MAX_US)


def make_frame(
    site: str, device: str, readings: Readings, received_us: int, qualities: Mapping[tuple[str, int], int] | None = None
) -> Frame:
    """Makes a frame of readings, {metric: {time_us: value}}; `qualities` names those that are not good.

    >>> make_frame("north", "pump", {"a": {5: 1.0}, "b": {5: 2.0}}, 9).blocks[0].metrics
    ('a', 'b')
    """
    return Frame(
        site,
        device,
        epoch=0,
        seq=0,
        created_us=received_us,
        clock=ClockQuality.UNSYNCED,
        oldest_seq=0,
        blocks=_blocks(readings, qualities or {}),
        ledger=Ledger(acquired=sum(len(series) for series in readings.values())),
    )


def _blocks(readings: Readings, qualities: Mapping[tuple[str, int], int]) -> tuple[Block, ...]:
    """Metrics with the same times share a block; each ascends in time."""
    groups: dict[tuple[int, ...], list[str]] = {}
    for metric, series in readings.items():
        groups.setdefault(tuple(sorted(series)), []).append(metric)
    return tuple(
        Block(
            tuple(metrics),
            np.array(times, np.int64),
            np.array([[readings[metric][time_us] for time_us in times] for metric in metrics], np.float64),
            np.array([[qualities.get((metric, at), 0) for at in times] for metric in metrics], np.uint8)
            if qualities
            else None,
        )
        for times, metrics in groups.items()
    )
