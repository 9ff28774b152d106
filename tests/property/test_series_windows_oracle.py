"""Sessions, counts, the global window and a user's windower against their definitions."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import pytest
from shard_logs import S, Sent, device_frames, random_log, records, stored
from test_pane_windows_oracle import readings_of

from headwater.frame import Int64
from headwater.series_windows import SeriesWindows
from headwater.task import Task, TaskLimits
from headwater.window import Count, Global, Session, Windower

HOUR = 3600 * S


@dataclass(frozen=True)
class Shift:
    """A user's windower: three shifts of a very short day, and the day itself, which overlaps them."""

    label: str = "shift"
    merges: bool = False
    size_us: int = 90 * S

    def assign(self, time_us: Int64) -> tuple[Int64, Int64, Int64]:
        n = np.arange(len(time_us))
        shift, day = time_us // (30 * S) * 30 * S, time_us // (90 * S) * 90 * S
        # The day begins a microsecond before its first shift: a row's time must be unique per window.
        starts, ends = np.concatenate([shift, day - 1]), np.concatenate([shift + 30 * S, day + 90 * S])
        return np.concatenate([n, n]), starts, ends


def windows_of(
    sent: list[Sent], rng: np.random.Generator, windower: Windower | Count | Global, frames_max: int
) -> dict:
    operator = SeriesWindows(windower, allowed_lateness_us=HOUR)
    task = Task(0, [operator], TaskLimits(allowed_lateness_us=HOUR))
    return stored(task, records(rng, sent, frames_max)).points["window"]


def sessions(readings: list[tuple[int, float]], gap_us: int) -> dict[int, list[float]]:
    found: dict[int, list[float]] = {}
    start = last = None
    for time, value in sorted(readings):
        if last is None or time - last >= gap_us:
            start = time
            found[start] = []
        found[start].append(value)
        last = time
    return found


@pytest.mark.parametrize("seed", range(4))
def test_sessions_are_those_of_brute_force_in_any_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sent = random_log(rng)
    sent = [sent[i] for i in rng.permutation(len(sent))] if seed % 2 else sent
    found = {key: row for key, row in windows_of(sent, rng, Session(5 * S), 9).items() if row["count"]}
    expected = {
        (device, metric, start): values
        for (device, metric), readings in readings_of(sent).items()
        for start, values in sessions(readings, 5 * S).items()
    }
    assert {(key[1], key[2], key[4]) for key in found} == expected.keys()
    for key, row in found.items():
        values = np.array(expected[key[1], key[2], key[4]])
        assert (row["count"], row["min"], row["max"]) == (len(values), values.min(), values.max())
        assert row["mean"] == pytest.approx(values.mean(), rel=1e-12)
        assert row["std"] == pytest.approx(values.std(), rel=1e-9, abs=1e-12)


def test_a_late_reading_joins_two_sessions_and_takes_the_second_back() -> None:
    rng = np.random.default_rng(3)
    sent = device_frames(rng, "pump-1", 30, 9)
    early, late = [*sent[:10], *sent[11:]], sent[10]
    whole = windows_of(sent, rng, Session(9 * S), 2)
    joined = windows_of([*early, Sent(late.frame, sent[-1].received_us)], rng, Session(9 * S), 2)
    counts = {key: row["count"] for key, row in joined.items() if row["count"]}
    assert counts == {key: row["count"] for key, row in whole.items() if row["count"]}
    assert all(row["revision"] > 0 for row in joined.values() if not row["count"])


def test_count_windows_hold_their_number_in_order_of_event_time() -> None:
    rng = np.random.default_rng(4)
    sent = device_frames(rng, "pump-1", 30, 9)
    found = windows_of(sent, rng, Count(7), 3)
    for (_, metric), readings in readings_of(sent).items():
        rows = [row for key, row in sorted(found.items(), key=lambda item: item[0][4]) if key[2] == metric]
        ordered = [value for _, value in sorted(readings)]
        assert len(rows) == len(ordered) // 7
        for at, row in enumerate(rows):
            assert row["count"] == 7
            assert row["min"] == min(ordered[7 * at : 7 * at + 7])


def test_the_global_window_holds_all_up_to_each_step() -> None:
    rng = np.random.default_rng(5)
    sent = random_log(rng)
    found = windows_of(sent, rng, Global(30 * S), 9)
    assert found
    for key, row in found.items():
        end = key[4] + 30 * S
        values = [value for time, value in readings_of(sent)[key[1], key[2]] if time < end]
        assert (row["count"], row["max"]) == (len(values), max(values))


def test_a_windower_of_a_user_is_enough() -> None:
    rng = np.random.default_rng(6)
    sent = random_log(rng)
    found = windows_of(sent, rng, Shift(), 9)
    expected: dict = defaultdict(int)
    for (device, metric), readings in readings_of(sent).items():
        for time, _ in readings:
            expected[device, metric, time // (30 * S) * 30 * S] += 1
            expected[device, metric, time // (90 * S) * 90 * S - 1] += 1
    assert {(key[1], key[2], key[4]): row["count"] for key, row in found.items()} == expected
