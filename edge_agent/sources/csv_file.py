"""Replays a time-stamped CSV file, as fast as it was recorded, faster, or all at once."""

import csv
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from pydantic import Field

from edge_agent.sources.options import metric_name, read_options
from headwater.errors import SettingsError
from headwater.frame import Block
from headwater.instant import US_PER_S, foreign_time_us
from headwater.metric import Metric
from headwater.ports import Clock
from headwater.quality import MISSING, Quality
from headwater.settings import DurationUs, Table

DELIMITERS = ",;\t|"
SNIFFED_BYTES = 16_384
LINE_BYTES_MAX = 65_536
COLUMNS_MAX = 512
_PATTERNS = ("%d.%m.%Y %H:%M:%S", "%m/%d/%Y %H:%M:%S", "%Y/%m/%d %H:%M:%S", "%d.%m.%Y %H:%M", "%m/%d/%Y %H:%M")


class CsvOptions(Table):
    """Options of the source `csv`."""

    path: str = Field("", description="the file")
    time_column: str = Field("", description="name of the column of times; empty: the first that holds times")
    exclude: list[str] = Field(["anomaly", "changepoint"], description="columns that are labels, not readings")
    delimiter: str = Field("", description="what separates columns; empty: found out")
    speed: float = Field(1.0, ge=0.0, description="how many seconds of the file pass in a second; 0: all at once")
    rebase: bool = Field(True, description="shift times so that the file begins when it is opened")
    repeat: bool = Field(False, description="begin again at the end, times going on")
    block_samples_max: int = Field(1_024, ge=1, le=65_536, description="rows delivered at a time")
    reduction: str = Field("raw", description="how all metrics are reduced")
    every_us: DurationUs = Field(0, ge=0, description="declared sampling interval; 0: unknown")


class CsvSource:
    """Implements `headwater.ports.Source` for one file.

    Times may be ISO 8601, `YYYY-mm-dd HH:MM:SS` and its usual variants (UTC unless they say otherwise), or numbers since
    the epoch. A line without a readable time is counted in `rubbish` and skipped; a cell that is no number is no
    reading, counted in `unreadable` unless it is empty.
    """

    def __init__(self, options: dict[str, Any], clock: Clock) -> None:
        self._options = read_options(CsvOptions, options, "csv")
        if not self._options.path:
            raise SettingsError("source csv: option 'path' is missing: write path = \"readings.csv\"")
        self._clock = clock
        self._file: TextIO | None = None
        self._rows: Iterator[list[str]] = iter(())
        self._metrics: tuple[Metric, ...] = ()
        self._columns: list[int] = []
        self._time_at = 0
        self._ahead: tuple[int, list[float]] | None = None
        self._shift_us = 0
        self._origin_us = 0  # Time of the first row as it is delivered.
        self._opened_us = 0
        self._newest_us = 0
        self._is_over = False
        self.rubbish = 0
        self.unreadable = 0

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """One per column of numbers; known after `open`."""
        return self._metrics

    @property
    def is_exhausted(self) -> bool:
        """True after the last row."""
        return self._is_over

    def open(self) -> None:
        """Reads the header.

        Raises:
            SettingsError: the file can't be read or has no column of times.
        """
        self.close()
        try:
            self._start()
        except SettingsError:
            self.close()
            raise
        names = [self._header[at] for at in self._columns]
        self._metrics = tuple(
            Metric(name, every_us=self._options.every_us, reduction=self._options.reduction) for name in names
        )
        self._opened_us = self._clock.monotonic_us()
        self._ahead = self._next()
        if self._ahead is not None:
            first_us = self._ahead[0]
            self._shift_us = self._clock.now_us() - first_us if self._options.rebase else 0
            self._origin_us = first_us + self._shift_us

    def read(self, now_us: int) -> list[Block]:
        """Returns the rows that are due, at most `block_samples_max`."""
        del now_us  # The pace is that of the monotonic clock: steps of the wall clock don't disturb a replay.
        elapsed_us = self._clock.monotonic_us() - self._opened_us
        due_us = self._origin_us + int(elapsed_us * self._options.speed)
        times: list[int] = []
        rows: list[list[float]] = []
        while self._ahead is not None and len(times) < self._options.block_samples_max:
            time_us = self._ahead[0] + self._shift_us
            if self._options.speed > 0 and time_us > due_us:
                break
            if times and time_us <= times[-1]:
                break  # A block's times ascend; the agent's quality check judges what runs back.
            times.append(time_us)
            rows.append(self._ahead[1])
            self._newest_us = time_us
            self._ahead = self._next()
            if self._ahead is None and self._options.repeat:
                self._again()
        self._is_over = self._ahead is None
        if self._is_over:
            self.close()
        if not times:
            return []
        value = np.ascontiguousarray(np.array(rows, np.float64).T)
        quality = np.where(np.isfinite(value), np.uint8(Quality.GOOD), np.uint8(MISSING))
        names = tuple(metric.name for metric in self._metrics)
        return [Block(names, np.array(times, np.int64), value, quality if quality.any() else None)]

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _start(self) -> None:
        """Opens the file, finds the delimiter and takes the header apart."""
        path = Path(self._options.path)
        try:
            self._file = path.open(encoding="utf-8-sig", errors="replace", newline="")
            head = self._file.read(SNIFFED_BYTES)
            self._file.seek(0)
        except OSError as error:
            raise SettingsError(f"source csv: {path}: {error.strerror}: name a file that can be read") from error
        delimiter = self._options.delimiter or _delimiter(head)
        self._rows = _rows(self._file, delimiter)
        sample = [
            row for _, row in zip(range(20), _rows(iter(head.splitlines(keepends=True)), delimiter), strict=False)
        ]
        if not sample:
            raise SettingsError(f"source csv: {path} is empty")
        header = sample[0]
        if any(_time_us(cell) is not None for cell in header):
            header = [f"column_{i}" for i in range(len(header))]
        else:
            next(self._rows)
        self._time_at = self._find_time(path, header, sample)
        self._header = _unique([metric_name(name.strip() or f"column_{i}") for i, name in enumerate(header)])
        excluded = {name.lower() for name in self._options.exclude}
        self._columns = [
            i
            for i, name in enumerate(header[:COLUMNS_MAX])
            if i != self._time_at and name.strip().lower() not in excluded
        ]
        if not self._columns:
            raise SettingsError(f"source csv: {path} has no column of readings beside {header[self._time_at]!r}")

    def _find_time(self, path: Path, header: list[str], sample: list[list[str]]) -> int:
        wanted = self._options.time_column
        if wanted:
            if wanted not in header:
                raise SettingsError(f"source csv: {path} has no column {wanted!r}; it has {', '.join(header)[:200]}")
            return header.index(wanted)
        times = [sum(_time_us(row[at]) is not None for row in sample if len(row) > at) for at in range(len(header))]
        if max(times) > 0:
            return times.index(max(times))
        raise SettingsError(f"source csv: {path} has no column of times; name one with time_column")

    def _next(self) -> tuple[int, list[float]] | None:
        """Returns (time, values) of the next readable line; None at the end."""
        for row in self._rows:
            time_us = _time_us(row[self._time_at]) if len(row) > self._time_at else None
            if time_us is None:
                self.rubbish += bool(row)
                continue
            return time_us, [self._number(row[at]) if at < len(row) else float("nan") for at in self._columns]
        return None

    def _number(self, cell: str) -> float:
        text = cell.strip()
        try:
            return float(text)
        except ValueError:
            self.unreadable += bool(text)
            return float("nan")

    def _again(self) -> None:
        """Begins the file again, one interval after its end."""
        self.close()
        self._start()
        self._ahead = self._next()
        if self._ahead is not None:
            self._shift_us = self._newest_us + max(self._options.every_us, US_PER_S) - self._ahead[0]


def _rows(lines: Iterator[str] | TextIO, delimiter: str) -> Iterator[list[str]]:
    """Reads lines as rows; a NUL or an endless line is an empty row, not a crash."""
    for line in lines:
        if not line.strip():
            continue
        if len(line) > LINE_BYTES_MAX or "\0" in line:
            yield [""]
            continue
        try:
            yield from csv.reader([line], delimiter=delimiter)
        except csv.Error:
            yield [""]


def _delimiter(head: str) -> str:
    """Returns the delimiter that splits the first lines into the most columns, the same number in most of them."""
    lines = [line for line in head.splitlines() if line.strip()][:20]

    def agreement(delimiter: str) -> tuple[int, int]:
        counts = [line.count(delimiter) for line in lines]
        usual = max(set(counts), key=counts.count, default=0)
        return (counts.count(usual) if usual else 0, usual)

    return max(DELIMITERS, key=agreement)


def _unique(names: list[str]) -> list[str]:
    """Numbers repeated names: metrics of a block are unique."""
    seen: dict[str, int] = {}
    out = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        out.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return out


def _time_us(text: str) -> int | None:
    """Reads one time stamp; None if it is none.

    >>> _time_us("2020-02-08 13:30:47"), _time_us("1581168647"), _time_us("0.2")
    (1581168647000000, 1581168647000000, None)
    """
    text = text.strip()
    with suppress(ValueError, OverflowError):  # What is no number may still be a date.
        return foreign_time_us(float(text))
    moment: datetime | None = None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        for pattern in _PATTERNS:
            try:
                moment = datetime.strptime(text, pattern).replace(tzinfo=UTC)
                break
            except ValueError:
                continue
    if moment is None or not 2000 <= moment.year < 2100:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * US_PER_S + since.microseconds
