"""Runs that keep nothing: one frame, a dry run, a replayed file; and sources by name."""

import json
from pathlib import Path

import numpy as np
import pytest

from edge_agent.agent import dry_run, run_once
from edge_agent.clock import ClockWatch
from edge_agent.registry import make_source
from edge_agent.replay import replay_csv
from edge_agent.settings import AgentSettings, MetricSettings
from edge_agent.testing import ListSource
from headwater.errors import ConnectError, SettingsError
from headwater.frame import Block, Frame
from headwater.metric import Metric
from headwater.reasons import ClockQuality
from headwater.testing import ManualClock

START = 1_700_000_000_000_000
MINUTE = 60_000_000


def ticks(count: int) -> list[list[Block]]:
    return [[Block(("a",), np.array([START + n * 1_000_000]), np.array([[n / 2]]))] for n in range(count)]


def test_once_returns_one_frame_in_json_types() -> None:
    source = ListSource([Metric("a")], [[], *ticks(1)])
    shown = run_once(AgentSettings(site="north", device="pump", sample_every="1ms"), ManualClock(), source)
    assert json.loads(json.dumps(shown, allow_nan=False)) == shown
    assert shown["blocks"][0]["values"] == {"a": [0.0]}
    assert (shown["site"], shown["seq"]) == ("north", 1)
    assert not source.is_open


def test_once_says_when_nothing_comes() -> None:
    with pytest.raises(ConnectError, match="delivered nothing"):
        run_once(AgentSettings(sample_every="1ms"), ManualClock(), ListSource([Metric("a")], []))


def test_a_dry_run_shows_every_frame() -> None:
    frames: list[Frame] = []
    settings = AgentSettings(sample_every="1ms", flush_every="0s")
    dry_run(
        settings,
        ManualClock(),
        lambda frame, _: frames.append(frame),
        lambda: False,
        ListSource([Metric("a")], ticks(5)),
    )
    assert sum(frame.reading_count for frame in frames) == 5
    assert [frame.seq for frame in frames] == list(range(1, len(frames) + 1))


def test_a_replay_tells_frames_bytes_events_and_the_largest_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    value = np.round(20 + rng.normal(0, 0.05, 800), 2)
    value[700:720] += 5
    lines = [f"2024-05-01 {s // 3600:02d}:{s // 60 % 60:02d}:{s % 60:02d},{v},{v + 1:.2f}" for s, v in enumerate(value)]
    path = tmp_path / "data.csv"
    path.write_text("time,flow,level\n" + "\n".join(lines) + "\n")
    settings = AgentSettings(
        metrics={"flow": MetricSettings(reduction="swing:0.3"), "level": MetricSettings(reduction="deadband:0.3")}
    )
    report = replay_csv(path, settings)
    assert report.readings == 1_600
    assert report.readings == report.kept + report.suppressed + report.aggregated + report.dropped
    assert 0 < report.kept_ratio < 0.5
    assert report.bytes > 0
    assert report.bytes_per_reading == report.bytes / 1_600
    assert report.cpu_us_per_reading > 0
    assert {event.metric for event in report.events if event.is_onset} >= {"flow"}
    for metric in report.metrics.values():
        assert 0 < metric.error_max <= metric.epsilon * (1 + 1e-9)
    assert json.dumps(report.to_json(), allow_nan=False)


def test_an_unknown_source_is_refused_with_what_was_meant() -> None:
    with pytest.raises(SettingsError, match="did you mean 'host'"):
        make_source("hots", {}, ManualClock())
    assert make_source("host", {}, ManualClock()).metrics is not None


def test_the_clock_holds_over_for_a_day_and_is_never_trusted_before_2000() -> None:
    watch = ClockWatch(2_000_000)
    watch.observe(START, 0, is_synced=True)
    assert watch.quality is ClockQuality.SYNCED
    watch.observe(START + MINUTE, MINUTE, is_synced=False)
    assert watch.quality is ClockQuality.HOLDOVER
    day = 24 * 60 * MINUTE
    watch.observe(START + 2 * day, 2 * day, is_synced=None)
    assert watch.quality is ClockQuality.UNSYNCED
    watch.observe(1_000, 2 * day + MINUTE, is_synced=True)
    assert watch.quality is ClockQuality.UNSYNCED
    assert watch.steps == 1
