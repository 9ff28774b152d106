"""A task leaves bad and too late readings out of windows, notes them, and loses none."""

import numpy as np
import pytest

from headwater.batch_build import batch_from_frames
from headwater.errors import CorruptStateError
from headwater.frame import Block, Frame
from headwater.pane_windows import PaneWindows
from headwater.reasons import ClockQuality
from headwater.task import StepResult, Task, TaskLimits
from headwater.window import parse_windower

S = 1_000_000
T0 = 1_700_000_000 * S


def task(lateness_s: int = 60) -> Task:
    operator = PaneWindows([parse_windower("10s")], allowed_lateness_us=lateness_s * S)
    return Task(3, [operator], TaskLimits(allowed_lateness_us=lateness_s * S))


def step(
    shard: Task, seq: int, seconds: list[int], values: list[float], quality: list[int] | None = None
) -> StepResult:
    time = T0 + np.array(seconds) * S
    codes = None if quality is None else np.array([quality], np.uint8)
    block = Block(("flow",), time, np.array([values]), codes)
    frame = Frame("north", "pump-1", 9, seq, int(time[-1]), ClockQuality.SYNCED, blocks=(block,))
    received = T0 + 900 * S
    return shard.step(batch_from_frames([(frame, received, 50)], shard=3, made_us=received + seq), seq - 1)


def rows(result: StepResult) -> list[tuple[int, float, int, int, int]]:
    return [
        (int(time - T0) // S, float(table.fields["mean"][i]), *(int(table.fields[name][i]) for name in ("count", "late", "revision")))
        for table in result.tables
        for i, time in enumerate(table.time_us)
    ]  # fmt: skip


def test_a_window_closes_when_the_watermark_passes_its_end_and_late_readings_revise_it() -> None:
    shard = task()
    assert rows(step(shard, 1, [1, 9, 14], [1.0, 3.0, 7.0])) == []
    assert rows(step(shard, 2, [16], [7.0])) == [(0, 2.0, 2, 0, 0)]
    revised = step(shard, 3, [5], [8.0])
    assert rows(revised) == [(0, 4.0, 3, 1, 1)]
    assert revised.counters.readings_late == 1


def test_a_reading_beyond_the_allowed_lateness_is_stored_noted_and_in_no_window() -> None:
    shard = task()
    step(shard, 1, [1, 100], [1.0, 1.0])
    result = step(shard, 2, [2, 34, 101], [5.0, 5.0, 5.0])
    assert result.counters.readings_too_late == 2
    assert result.telemetry.reading_count == 3
    (note,) = result.dead_letters
    assert (note.reason, note.stage, note.readings, note.seq) == ("late", "processor", 2, 0)
    assert "2 readings" in note.detail
    assert rows(result) == []


def test_bad_readings_are_stored_but_not_aggregated() -> None:
    shard = task()
    result = step(shard, 1, [1, 2, 3, 30], [1.0, 1e9, 3.0, 4.0], [0, 65, 1, 0])
    assert (result.counters.readings, result.counters.readings_bad) == (4, 1)
    assert rows(result) == [(0, 2.0, 2, 0, 0)]


def test_values_that_overflow_leave_fields_out_and_crash_nothing() -> None:
    shard = task()
    (table,) = step(shard, 1, [1, 2, 30], [1.7e308, 1.7e308, 0.0]).tables
    assert np.isnan(table.fields["mean"][0])
    assert table.fields["max"][0] == 1.7e308
    assert table.fields["count"][0] == 2


def test_a_snapshot_of_another_shard_or_a_damaged_one_is_refused() -> None:
    data = task().snapshot()
    with pytest.raises(CorruptStateError, match="checksum"):
        task().restore(data[:-1] + b"x")
    with pytest.raises(AssertionError, match="shard 3"):
        Task(4, []).restore(data)


def test_windows_that_changed_in_the_settings_begin_anew() -> None:
    shard = task()
    step(shard, 1, [1, 14], [1.0, 7.0])
    other = Task(3, [PaneWindows([parse_windower("20s")], allowed_lateness_us=60 * S)], shard.limits)
    other.restore(shard.snapshot())
    assert rows(step(other, 1, [1], [1.0])) == []
    assert rows(step(other, 2, [2, 60], [9.0, 1.0])) == [(0, 9.0, 1, 1, 0)]


def test_two_operators_may_not_share_a_name() -> None:
    operator = PaneWindows([parse_windower("10s")], allowed_lateness_us=S)
    with pytest.raises(AssertionError, match="one name"):
        Task(0, [operator, operator])
