"""Windows: which intervals of event time are reported for a series; all half-open `[start, end)`, all deterministic.

| text | windower | aligned to the epoch |
|---|---|---|
| `1m` | Tumbling: every reading is in one window | yes |
| `1m/10s` | Sliding: a window of 1 m every 10 s | yes |
| `cumulative:1h/1m` | Cumulative: from the hour's start, reported every minute | yes |
| `global:1m` | Global: from the first reading on, reported every minute | yes |
| `session:30s` | Session: readings less than 30 s apart | no |
| `count:100` | Count: every 100 readings in order of event time | no |

Aligned windows are made of shared panes (`headwater.pane_windows`); the others, and any `Windower` of a user, of the
readings themselves (`headwater.series_windows`).
"""

from dataclasses import dataclass
from math import gcd
from typing import Protocol

import numpy as np

from headwater.errors import SettingsError
from headwater.frame import Int64
from headwater.instant import format_duration, parse_duration_us


class AlignedWindower(Protocol):
    """Windows whose bounds are multiples of one pane since 1970; one end belongs to one window."""

    @property
    def label(self) -> str:
        """The tag `window` of its rows."""

    @property
    def pane_us(self) -> int:
        """Width of the widest pane that all its windows are made of."""

    @property
    def size_us(self) -> int:
        """Width of its widest window."""

    def start_us(self, end_us: int) -> int:
        """Where the window that ends at `end_us` begins."""

    def time_us(self, end_us: int) -> int:
        """The time of the row of that window, unique per window: its start where that is unique."""

    def ends(self, start_us: int, end_us: int) -> range:
        """Ends of all windows that hold the interval `[start_us, end_us)`."""


class Windower(Protocol):
    """Windows that a user writes; readings of one series at a time, ascending in time."""

    @property
    def label(self) -> str:
        """The tag `window` of its rows; unique among the windows of a task."""

    @property
    def merges(self) -> bool:
        """True if windows of a series that touch or overlap are one window (sessions)."""

    @property
    def size_us(self) -> int:
        """Width of the widest window before merging."""

    def assign(self, time_us: Int64) -> tuple[Int64, Int64, Int64]:
        """Returns int64 (m,) thrice: which reading is in which window, and the windows' starts and ends."""


@dataclass(frozen=True, slots=True)
class Tumbling:
    """Windows side by side.

    >>> Tumbling(60_000_000).label
    '1m'
    """

    size_us: int

    @property
    def label(self) -> str:
        """Its width."""
        return format_duration(self.size_us)

    @property
    def pane_us(self) -> int:
        """A window is a pane."""
        return self.size_us

    def start_us(self, end_us: int) -> int:
        """One width before."""
        return end_us - self.size_us

    def time_us(self, end_us: int) -> int:
        """The start."""
        return end_us - self.size_us

    def ends(self, start_us: int, end_us: int) -> range:
        """The end of the only one."""
        last = start_us - start_us % self.size_us + self.size_us
        return range(last, last + 1 if end_us <= last else last, self.size_us)


@dataclass(frozen=True, slots=True)
class Sliding:
    """Windows of one size that begin every so often and overlap.

    >>> Sliding(60_000_000, 10_000_000).label
    '1m/10s'
    """

    size_us: int
    every_us: int

    @property
    def label(self) -> str:
        """Its width and its step."""
        return f"{format_duration(self.size_us)}/{format_duration(self.every_us)}"

    @property
    def pane_us(self) -> int:
        """The greatest common divisor of width and step."""
        return gcd(self.size_us, self.every_us)

    def start_us(self, end_us: int) -> int:
        """One width before."""
        return end_us - self.size_us

    def time_us(self, end_us: int) -> int:
        """The start."""
        return end_us - self.size_us

    def ends(self, start_us: int, end_us: int) -> range:
        """From the window that begins first and still reaches `end_us` to the one that begins last."""
        first = -(-(end_us - self.size_us) // self.every_us) * self.every_us
        return range(first + self.size_us, start_us - start_us % self.every_us + self.size_us + 1, self.every_us)


@dataclass(frozen=True, slots=True)
class Cumulative:
    """Windows that grow from a fixed start, step by step, until `size_us` is full.

    >>> Cumulative(3_600_000_000, 60_000_000).start_us(3_720_000_000)
    3600000000
    """

    size_us: int
    step_us: int

    @property
    def label(self) -> str:
        """Its full width and its step."""
        return f"cumulative:{format_duration(self.size_us)}/{format_duration(self.step_us)}"

    @property
    def pane_us(self) -> int:
        """One step."""
        return self.step_us

    def start_us(self, end_us: int) -> int:
        """The last multiple of the full width before the end."""
        return end_us - 1 - (end_us - 1) % self.size_us

    def time_us(self, end_us: int) -> int:
        """The start of its last step, because all windows of one round begin together."""
        return end_us - self.step_us

    def ends(self, start_us: int, end_us: int) -> range:
        """From the first step that reaches `end_us` to the end of the round."""
        first = -(-end_us // self.step_us) * self.step_us
        return range(first, start_us - start_us % self.size_us + self.size_us + 1, self.step_us)


@dataclass(frozen=True, slots=True)
class Session:
    """Readings of a series less than `gap_us` apart; a late reading may join two sessions."""

    gap_us: int

    @property
    def label(self) -> str:
        """Its gap."""
        return f"session:{format_duration(self.gap_us)}"

    @property
    def merges(self) -> bool:
        """Sessions that overlap are one."""
        return True

    @property
    def size_us(self) -> int:
        """A session of one reading."""
        return self.gap_us

    def assign(self, time_us: Int64) -> tuple[Int64, Int64, Int64]:
        """Each reading opens `[t, t + gap)`."""
        return np.arange(len(time_us), dtype=np.int64), time_us, time_us + self.gap_us


@dataclass(frozen=True, slots=True)
class Count:
    """Every `size` readings of a series in order of event time; closed by the watermark, final."""

    size: int

    @property
    def label(self) -> str:
        """Its size."""
        return f"count:{self.size}"


@dataclass(frozen=True, slots=True)
class Global:
    """All readings of a series since the first, reported every `step_us` of event time in which some came."""

    step_us: int

    @property
    def label(self) -> str:
        """Its step."""
        return f"global:{format_duration(self.step_us)}"


def parse_windower(text: str) -> AlignedWindower | Session | Count | Global:
    """Reads a windower as settings write it; see the table above.

    >>> parse_windower("1m/10s")
    Sliding(size_us=60000000, every_us=10000000)

    Raises:
        SettingsError: the text is no window, or its step does not fit its size.
    """
    kind, colon, rest = text.partition(":")
    size, slash, step = (rest if colon else kind).partition("/")
    if kind == "count" and size.isdecimal() and int(size) > 0 and not slash:
        return Count(int(size))
    if kind == "session" and not slash:
        return Session(_positive(size, text))
    if kind == "global" and not slash:
        return Global(_positive(size, text))
    if not colon and not slash:
        return Tumbling(_positive(size, text))
    if slash and (not colon or kind == "cumulative"):
        size_us, step_us = _positive(size, text), _positive(step, text)
        if colon and size_us % step_us == 0:
            return Cumulative(size_us, step_us)
        if not colon and step_us <= size_us:
            return Sliding(size_us, step_us)
        raise SettingsError(f"window {text!r}: {step} must divide {size}" if colon else f"window {text!r} leaves holes")
    raise SettingsError(
        f"{text!r} is not a window: write 1m, 1m/10s, cumulative:1h/1m, session:30s, count:100, global:1m"
    )


def _positive(text: str, whole: str) -> int:
    duration_us = parse_duration_us(text)
    if duration_us <= 0:
        raise SettingsError(f"window {whole!r} has no width")
    return duration_us
