"""Packs reduced readings, summaries and anomalies into drafts of frames.

A draft is a frame without a seq: the spool gives it one when it stores it. Readings of one time axis share a block,
and a draft keeps to the limits of a frame (contracts §4).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from headwater.frame import Anomaly, Block, Gap, Ledger, Summaries
from headwater.quality import MISSING
from headwater.reasons import ClockQuality
from headwater.summary_rows import take_summaries

# 8 bytes of value, 1 of quality and at worst 8 of time: such a frame is below 256 KiB whatever it holds.
CELLS_MAX = 14_000
SUMMARIES_MAX = 1_000
ANOMALIES_MAX = 256


class Lane(IntEnum):
    """The order in which the spool sends."""

    URGENT = 0
    NORMAL = 1


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """What a frame will hold; `gaps` are declarations taken over from a frame that was given up."""

    created_us: int
    clock: ClockQuality
    lane: Lane
    blocks: tuple[Block, ...] = ()
    summaries: Summaries = field(default_factory=Summaries.empty)
    anomalies: tuple[Anomaly, ...] = ()
    gaps: tuple[Gap, ...] = ()
    ledger: Ledger = field(default_factory=Ledger)

    @property
    def reading_count(self) -> int:
        """Readings in all blocks."""
        return sum(block.reading_count for block in self.blocks)


def joined(blocks: Iterable[Block]) -> list[Block]:
    """Joins blocks of the same metrics along time, then columns of the same time axis; O(cells).

    Readings stay what they are, and each block's times ascend strictly. A waveform is left as it is.

    >>> one = Block(("a",), np.array([1, 2]), np.array([[1.0, 2.0]]))
    >>> two = Block(("a",), np.array([3]), np.array([[3.0]]))
    >>> other = Block(("b",), np.array([1, 2, 3]), np.array([[7.0, 8.0, 9.0]]))
    >>> [(block.metrics, block.time_us.tolist()) for block in joined([one, other, two])]
    [(('a', 'b'), [1, 2, 3])]
    """
    runs: dict[tuple[object, ...], list[Block]] = {}
    finished: list[list[Block]] = []
    for block in blocks:
        if not len(block.time_us):
            continue
        if block.rate_hz is not None:
            finished.append([block])
            continue
        key = (block.metrics, block.reductions)
        run = runs.get(key)
        if run is not None and run[-1].time_us[-1] < block.time_us[0]:
            run.append(block)
            continue
        if run is not None:
            finished.append(run)
        runs[key] = [block]
    finished.extend(runs.values())
    return _by_time_axis([_along_time(run) for run in finished])


def _along_time(run: Sequence[Block]) -> Block:
    first = run[0]
    if len(run) == 1:
        return first
    quality = None
    if any(block.quality is not None for block in run):
        quality = np.concatenate([_quality_of(block) for block in run], axis=1)
    return Block(
        first.metrics,
        np.concatenate([block.time_us for block in run]),
        np.concatenate([block.value for block in run], axis=1),
        quality,
        first.reductions,
    )


def _quality_of(block: Block) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    return np.zeros(block.value.shape, np.uint8) if block.quality is None else block.quality


def _by_time_axis(blocks: Sequence[Block]) -> list[Block]:
    groups: dict[tuple[object, ...], list[Block]] = {}
    for block in blocks:
        groups.setdefault((block.rate_hz, block.time_us.tobytes()), []).append(block)
    found: list[Block] = []
    for group in groups.values():
        if len(group) == 1 or len({name for block in group for name in block.metrics}) < sum(
            len(block.metrics) for block in group
        ):
            found.extend(group)
            continue
        reductions: tuple[str, ...] = ()
        if any(block.reductions for block in group):
            reductions = tuple(name for block in group for name in (block.reductions or ("raw",) * len(block.metrics)))
        quality = None
        if any(block.quality is not None for block in group):
            quality = np.concatenate([_quality_of(block) for block in group])
        found.append(
            Block(
                tuple(name for block in group for name in block.metrics),
                group[0].time_us,
                np.concatenate([block.value for block in group]),
                quality,
                reductions,
                group[0].rate_hz,
            )
        )
    return found


def sliced(block: Block, start: int, stop: int) -> Block:
    """Returns the samples `[start, stop)` of a block; a waveform keeps its rate only if its start stays."""
    return Block(
        block.metrics,
        block.time_us[start:stop],
        np.ascontiguousarray(block.value[:, start:stop]),
        None if block.quality is None else np.ascontiguousarray(block.quality[:, start:stop]),
        block.reductions,
        block.rate_hz if start == 0 else None,
    )


def columns(block: Block, rows: Sequence[int]) -> Block | None:
    """Returns some metrics of a block without the samples that none of them has; None if nothing is left."""
    if not rows:
        return None
    if len(rows) == len(block.metrics):
        return block
    at = list(rows)
    value, time_us = block.value[at], block.time_us
    quality = None if block.quality is None else block.quality[at]
    rate_hz = block.rate_hz
    if quality is not None:
        present = quality != MISSING
        held = present.any(axis=0)
        if not held.all():
            time_us, value, quality, rate_hz = time_us[held], value[:, held], quality[:, held], None
        if not quality.any():
            quality = None
    if not len(time_us):
        return None
    reductions = tuple([block.reductions[row] for row in at]) if block.reductions else ()
    return Block(tuple([block.metrics[row] for row in at]), time_us, value, quality, reductions, rate_hz)


def portions(blocks: Iterable[Block]) -> list[tuple[Block, ...]]:
    """Divides blocks over frames so that none holds more than CELLS_MAX cells; in order.

    >>> wide = Block(("a",), np.arange(20_000), np.zeros((1, 20_000)))
    >>> [sum(block.value.size for block in portion) for portion in portions([wide])]
    [14000, 6000]
    """
    found: list[tuple[Block, ...]] = []
    current: list[Block] = []
    room = CELLS_MAX
    for block in blocks:
        start = 0
        while start < len(block.time_us):
            fitting = room // len(block.metrics)
            if not fitting and current:
                found.append(tuple(current))
                current, room = [], CELLS_MAX
                continue
            stop = min(len(block.time_us), start + max(1, fitting))
            part = block if (start, stop) == (0, len(block.time_us)) else sliced(block, start, stop)
            current.append(part)
            room = max(0, room - part.value.size)
            start = stop
    if current:
        found.append(tuple(current))
    return found


def summary_portions(summaries: Summaries) -> list[Summaries]:
    """Divides summaries over frames, at most SUMMARIES_MAX each."""
    if len(summaries) <= SUMMARIES_MAX:
        return [summaries] if len(summaries) else []
    rows = np.arange(len(summaries))
    return [take_summaries(summaries, rows[at : at + SUMMARIES_MAX]) for at in range(0, len(rows), SUMMARIES_MAX)]


def drafts(
    *,
    created_us: int,
    clock: ClockQuality,
    lane: Lane,
    blocks: Sequence[Block],
    summaries: Summaries,
    anomalies: Sequence[Anomaly],
    ledger: Ledger,
) -> list[Draft]:
    """Makes as few drafts as the limits allow.

    Each draft's own ledger balances: `acquired` is its readings plus what it says was suppressed, aggregated and
    dropped; the first one carries those three. Anomalies stand in the first drafts.
    """
    readings = portions(joined(blocks))
    panes = summary_portions(summaries)
    events = [tuple(anomalies[at : at + ANOMALIES_MAX]) for at in range(0, len(anomalies), ANOMALIES_MAX)]
    extra = ledger.suppressed + ledger.aggregated + sum(ledger.dropped.values())
    count = max(len(readings), len(panes), len(events), 1 if extra else 0)
    found = []
    for at in range(count):
        held = readings[at] if at < len(readings) else ()
        acquired = sum(block.reading_count for block in held)
        found.append(
            Draft(
                created_us,
                clock,
                lane,
                held,
                panes[at] if at < len(panes) else Summaries.empty(),
                events[at] if at < len(events) else (),
                (),
                Ledger(acquired + extra, ledger.suppressed, ledger.aggregated, ledger.dropped)
                if at == 0
                else Ledger(acquired),
            )
        )
    return found
