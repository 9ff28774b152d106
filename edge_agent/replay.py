"""What the agent would make of a CSV file: frames, bytes, events, and how far the reduced readings are off."""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.chain import Chain, chain_limits
from edge_agent.outline import numbered
from edge_agent.pack import Draft, sliced
from edge_agent.reduction import parse_reduction
from edge_agent.registry import make_source
from edge_agent.settings import AgentSettings
from headwater.codec import decode_frame
from headwater.frame import Anomaly, Block, Float64, Int64
from headwater.instant import TIME_MAX_US, format_utc
from headwater.io.clock_system import SystemClock
from headwater.ports import Source
from headwater.quality import MISSING
from headwater.reasons import ClockQuality

Points = tuple[list[Int64], list[Float64]]


@dataclass(frozen=True, slots=True)
class MetricError:
    """How far one metric's readings are off after reduction.

    Attributes:
        reduction: as set.
        epsilon: promised, 0 for raw and summaries.
        error_max: largest |reconstructed − raw| over all raw samples; summaries have none (0).
        samples, kept: readings delivered and readings sent.
    """

    reduction: str
    epsilon: float
    error_max: float
    samples: int
    kept: int


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What a replay found.

    Attributes:
        frames, bytes: what would be published.
        readings: delivered by the file.
        kept, suppressed, aggregated, dropped: their fates.
        bytes_per_reading: bytes by delivered reading.
        cpu_us_per_reading: CPU time of quality, detection, reduction, packing and coding.
        kept_ratio: kept by delivered readings.
        events: onsets and clearings.
        metrics: see MetricError.
    """

    frames: int
    bytes: int
    readings: int
    kept: int
    suppressed: int
    aggregated: int
    dropped: int
    bytes_per_reading: float
    cpu_us_per_reading: float
    kept_ratio: float
    events: tuple[Anomaly, ...]
    metrics: dict[str, MetricError]

    def to_json(self) -> dict[str, Any]:
        """The report in JSON types."""
        events = [asdict(event) | {"time": format_utc(event.time_us)} for event in self.events]
        return asdict(self) | {"events": events}


def replay_csv(path: str | Path, settings: AgentSettings) -> ReplayReport:
    """Runs a file through the agent's chain as fast as it goes, frames closed by event time.

    Raises:
        SettingsError: the file's options are wrong.
        ConnectError: it can't be read.
    """
    own = settings.options if settings.source == "csv" else {}
    options = {**own, "path": str(path), "speed": 0.0, "rebase": False, "repeat": False}
    return replay_source(make_source("csv", options, SystemClock()), settings)


def replay_source(source: Source, settings: AgentSettings) -> ReplayReport:
    """Does the same with any source that ends; its times may be in the past."""
    source.open()
    try:
        raw: dict[str, Points] = {}
        sent: dict[str, Points] = {}
        events: list[Anomaly] = []
        frames = size_bytes = 0
        chain = Chain(settings.applied(source.metrics), chain_limits(settings))
        started_s = time.process_time()
        apart_s = 0.0
        for drafts in _drafts(source, settings, chain, raw):
            for frame, payload in numbered(drafts, settings.site, settings.device, frames + 1):
                frames += 1
                size_bytes += len(payload)
                events += frame.anomalies
                before_s = time.process_time()
                for block in decode_frame(payload).blocks:
                    _gather(block, sent)
                apart_s += time.process_time() - before_s
        cpu_s = time.process_time() - started_s - apart_s
    finally:
        source.close()
    counters = chain.counters
    readings = max(1, counters.acquired)
    return ReplayReport(
        frames,
        size_bytes,
        counters.acquired,
        counters.kept,
        counters.suppressed,
        counters.aggregated,
        counters.dropped,
        size_bytes / readings,
        cpu_s * 1e6 / readings,
        counters.kept / readings,
        tuple(events),
        {
            metric.name: _judged(metric.reduction, raw.get(metric.name), sent.get(metric.name))
            for metric in chain.metrics
        },
    )


def _drafts(source: Source, settings: AgentSettings, chain: Chain, raw: dict[str, Points]) -> Iterator[list[Draft]]:
    """Pushes the file slice by slice of `flush_every` and seals after each, as the agent does in real time."""
    every_us = max(1, settings.flush_every_us)
    newest_us = 0
    while not source.is_exhausted:
        for block in source.read(TIME_MAX_US):
            chain.describe(settings.applied(source.metrics))
            _gather(block, raw)
            cuts = np.flatnonzero(np.diff(block.time_us // every_us)) + 1
            for start, stop in zip([0, *cuts.tolist()], [*cuts.tolist(), len(block.time_us)], strict=True):
                part = sliced(block, start, stop)
                if len(part.time_us):
                    chain.push(part)
                    newest_us = max(newest_us, int(part.time_us[-1]))
                    yield chain.seal(newest_us, ClockQuality.SYNCED)
    yield chain.finish(newest_us, ClockQuality.SYNCED)


def _gather(block: Block, into: dict[str, Points]) -> None:
    for row, name in enumerate(block.metrics):
        value = block.value[row]
        there = np.isfinite(value) if block.quality is None else np.isfinite(value) & (block.quality[row] != MISSING)
        times, values = into.setdefault(name, ([], []))
        times.append(block.time_us[there])
        values.append(value[there])


def _judged(reduction: str, raw: Points | None, sent: Points | None) -> MetricError:
    """Rebuilds a metric from what was sent and compares it with every raw sample."""
    parsed = parse_reduction(reduction)
    if raw is None or sent is None:
        return MetricError(reduction, 0.0, 0.0, sum(map(len, raw[0])) if raw else 0, 0)
    time_us, value = np.concatenate(raw[0]), np.concatenate(raw[1])
    sent_us, sent_value = np.concatenate(sent[0]), np.concatenate(sent[1])
    order = np.argsort(sent_us, kind="stable")
    sent_us, sent_value = sent_us[order], sent_value[order]
    # Samples that run behind an earlier one or repeat its time were dropped, not reduced.
    ahead = np.ones(len(time_us), np.bool_)
    ahead[1:] = time_us[1:] > np.maximum.accumulate(time_us)[:-1]
    inside = ahead & (time_us >= sent_us[0]) & (time_us <= sent_us[-1]) if len(sent_us) else ~ahead
    error, epsilon = 0.0, 0.0
    if parsed.kind in ("swing", "deadband"):
        epsilon = parsed.epsilon
        if parsed.kind == "swing":
            rebuilt = np.interp(time_us[inside].astype(np.float64), sent_us.astype(np.float64), sent_value)
        else:
            rebuilt = sent_value[np.searchsorted(sent_us, time_us[inside], side="right") - 1]
        error = float(np.abs(rebuilt - value[inside]).max(initial=0.0))
    return MetricError(reduction, epsilon, error, len(time_us), len(sent_us))
