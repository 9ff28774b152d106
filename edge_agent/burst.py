"""Remembers the newest raw samples, so that those from before an anomaly can be sent after all.

A reading is sent once: what the reducer has sent already is left out. The promised error still holds with the burst
merged in: it reaches up to the block that brought the anomaly, from where the reducer sends raw itself, and where it
begins inside a line segment of a swing its first sample is put on that line (at most ε from the raw value), because a
raw sample there would bend the line for the samples before it:

    sent ●───────────────×──────● sent           × on the line, then • raw
          suppressed       • •
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headwater.frame import Block, Float64, Int64, UInt8
from headwater.quality import MISSING

BURST = "burst"


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """Samples of one metric, ascending in time."""

    time_us: Int64
    value: Float64
    quality: UInt8


class BurstRing:
    """Raw samples of reduced metrics of the last `before_us`, and what was sent of them.

    Args:
        reductions: reduction of every metric that is reduced within an error ("deadband:…", "swing:…").
        before_us: how far back a burst reaches.
        samples_max: bound on the samples held; the oldest blocks go first.
    """

    def __init__(self, reductions: dict[str, str], before_us: int, samples_max: int) -> None:
        self._reductions = reductions
        self._before_us = before_us
        self._samples_max = samples_max
        self._raw: deque[Block] = deque()
        self._sent: deque[Block] = deque()
        self._last_sent: dict[str, tuple[int, float]] = {}
        self.held = 0

    def remember(self, raw: Block, sent: Sequence[Block]) -> None:
        """Takes a block as it came, and what the reducer made of it; forgets what is too old."""
        if not self._before_us:
            return
        self._raw.append(raw)
        self.held += raw.reading_count
        self._sent.extend(sent)
        horizon_us = int(raw.time_us[-1]) - self._before_us
        while self._raw and (self._raw[0].time_us[-1] < horizon_us or self.held > self._samples_max):
            self.held -= self._raw.popleft().reading_count
        oldest_us = int(self._raw[0].time_us[0]) if self._raw else horizon_us
        while self._sent and self._sent[0].time_us[-1] < oldest_us:
            self._note(self._sent.popleft())

    def _note(self, block: Block) -> None:
        if block.quality is None:
            time_us = int(block.time_us[-1])
            self._last_sent.update(
                {n: (time_us, v) for n, v in zip(block.metrics, block.value[:, -1].tolist(), strict=True)}
            )
            return
        for row, name in enumerate(block.metrics):
            run = _run(block, row)
            if len(run.time_us):
                self._last_sent[name] = (int(run.time_us[-1]), float(run.value[-1]))

    def take(self, metrics: Sequence[str], start_us: int, end_us: int) -> list[Block]:
        """Returns what was not sent of `metrics` in `[start_us, end_us)`, which is sent from now on.

        `end_us` is the start of the newest block, which has been remembered before.
        """
        found = []
        for name in metrics:
            if name in self._reductions:
                found += self._of_metric(name, start_us, end_us)
        self._sent.extend(found)
        return found

    def _of_metric(self, name: str, start_us: int, end_us: int) -> list[Block]:
        raw = _gathered(self._raw, name)
        sent = _gathered(self._sent, name)
        wanted = (raw.time_us >= start_us) & (raw.time_us < end_us) & ~np.isin(raw.time_us, sent.time_us)
        at = np.flatnonzero(wanted)
        if not len(at):
            return []
        label = self._reductions[name]
        blocks = []
        if label.startswith("swing"):
            value = self._on_line(name, raw, sent, int(at[0]))
            if value is None:
                return []
            if value != raw.value[at[0]]:
                blocks.append(_block(name, raw, at[:1], label, value))
                at = at[1:]
        if len(at):
            blocks.append(_block(name, raw, at, BURST))
        return blocks

    def _on_line(self, name: str, raw: _Run, sent: _Run, at: int) -> float | None:
        """The value of the sent line at sample `at`, or its raw value if no sample lies under it; None if it is open."""
        time_us = int(raw.time_us[at])
        before = np.flatnonzero(sent.time_us < time_us)
        start = (
            (int(sent.time_us[before[-1]]), float(sent.value[before[-1]])) if len(before) else self._last_sent.get(name)
        )
        if start is None or (at and start[0] == raw.time_us[at - 1]):
            return float(raw.value[at])
        after = np.flatnonzero(sent.time_us > time_us)
        if not len(after):
            return None
        end_us, end = int(sent.time_us[after[0]]), float(sent.value[after[0]])
        return start[1] + (end - start[1]) * ((time_us - start[0]) / (end_us - start[0]))

    def clear(self) -> None:
        """Forgets everything: nothing held will be sent."""
        self._raw.clear()
        self._sent.clear()
        self._last_sent.clear()
        self.held = 0


def _run(block: Block, row: int) -> _Run:
    quality = np.zeros(len(block.time_us), np.uint8) if block.quality is None else block.quality[row]
    there = quality != MISSING
    if there.all():
        return _Run(block.time_us, block.value[row], quality)
    return _Run(block.time_us[there], block.value[row][there], quality[there])


def _gathered(blocks: deque[Block], name: str) -> _Run:
    runs = [_run(block, block.metrics.index(name)) for block in blocks if name in block.metrics]
    if not runs:
        return _Run(np.empty(0, np.int64), np.empty(0), np.empty(0, np.uint8))
    time_us = np.concatenate([run.time_us for run in runs])
    order = np.argsort(time_us, kind="stable")
    return _Run(
        time_us[order],
        np.concatenate([run.value for run in runs])[order],
        np.concatenate([run.quality for run in runs])[order],
    )


def _block(name: str, run: _Run, at: Int64, label: str, value: float | None = None) -> Block:
    values = run.value[at] if value is None else np.full(len(at), value)
    quality = run.quality[at]
    return Block((name,), run.time_us[at], values[None, :], quality[None, :] if quality.any() else None, (label,))
