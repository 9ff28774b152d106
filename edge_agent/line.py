"""What the error-bounded reducers share: a metric's readings in, the ones to send out, and the account of the rest.

The recursions carry one metric from reading to reading. A loop over plain floats costs 0.2–0.7 µs a reading on an x86
core, numpy over the columns of all metrics, step by step, five to thirty times that; only whole segments of many
metrics at once are cheaper still (`edge_agent.sweep`). Here alone Python runs per reading.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from headwater.quality import BAD_MIN, MISSING

NEVER = -(1 << 62)
NOTHING: tuple["Point", ...] = ()


class Point(NamedTuple):
    """One reading to send; `is_burst` if it is kept because it lies around an anomaly."""

    time_us: int
    value: float
    quality: int
    is_burst: bool


class Line(ABC):
    """One metric: takes its readings in order, decides which are sent.

    Attributes:
        epsilon: the promise, |reconstructed − raw| ≤ ε at every reading.
        error_max: largest error so far, worked out against the raw readings.
        seen, kept, suppressed: readings that came, that are sent, that are left out; the others are pending.
    """

    def __init__(self, epsilon: float, gap_max_us: int) -> None:
        self.epsilon = epsilon
        self.error_max = 0.0
        self.seen = self.kept = self.suppressed = 0
        self._gap_max_us = gap_max_us
        self._quality = 0

    @property
    def pending(self) -> int:
        """Readings that are neither sent nor left out yet."""
        return self.seen - self.kept - self.suppressed

    @property
    def is_good(self) -> bool:
        """True while the quality of the newest reading was good."""
        return self._quality == 0

    @abstractmethod
    def step(self, time_us: int, value: float) -> "Sequence[Point]":
        """Takes one good reading; returns what is to send now."""

    @abstractmethod
    def _run(self, times_us: Sequence[int], values: Sequence[float]) -> list[Point]:
        """Takes readings of one quality; returns what is to send now."""

    @abstractmethod
    def _exact(self, time_us: int, value: float) -> list[Point]:
        """Takes a reading that is sent as it is; returns what has to be sent before it."""

    @abstractmethod
    def _finish(self) -> list[Point]:
        """Returns what is held back and forgets where the line was."""

    def push(
        self,
        times_us: Sequence[int],
        values: Sequence[float],
        qualities: Sequence[int] | None = None,
        bursts: Sequence[bool] | None = None,
    ) -> list[Point]:
        """Takes readings in ascending time; MISSING ones are none.

        A reading is sent as it is where its quality is bad or another than before, and where `bursts` says so.
        """
        if qualities is None and bursts is None and self._quality == 0:
            self.seen += len(times_us)
            points = self._run(times_us, values)
        else:
            n = len(times_us)
            points = self._push_mixed(times_us, values, qualities or [0] * n, bursts or [False] * n)
        self.kept += len(points)
        return points

    def flush(self) -> list[Point]:
        """Returns what is held back; the next reading is sent as it is."""
        points = self._finish()
        self.kept += len(points)
        return points

    def _push_mixed(
        self, times_us: Sequence[int], values: Sequence[float], qualities: Sequence[int], bursts: Sequence[bool]
    ) -> list[Point]:
        kept: list[Point] = []
        ways: list[tuple[bool, int]] = []  # (is sent as it is, index) of each reading.
        for i, quality in enumerate(qualities):
            if quality != MISSING:
                ways.append((bursts[i] or quality >= BAD_MIN or quality != self._quality, i))
                self._quality = quality
        self.seen += len(ways)
        for is_exact, group in groupby(ways, key=lambda way: way[0]):
            at = [i for _, i in group]
            if is_exact:
                for i in at:
                    kept += self._exact(times_us[i], values[i])
                    kept.append(Point(times_us[i], values[i], qualities[i], bursts[i]))
                    self._line_quality = qualities[i]
            else:
                kept += self._run([times_us[i] for i in at], [values[i] for i in at])
        return kept

    _line_quality = 0  # Of the readings that the line stands for.
