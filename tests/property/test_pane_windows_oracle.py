"""Windows against brute force: every reading of every series put into its windows one by one."""

from collections import defaultdict

import numpy as np
import pytest
from shard_logs import T0_US, S, Sent, device_frames, random_log, records, stored

from headwater.pane_windows import PaneWindows
from headwater.sketch import RELATIVE_ERROR
from headwater.task import Task, TaskLimits
from headwater.window import AlignedWindower, parse_windower

LABELS = ("10s", "1m", "1m/10s", "7s/3s", "cumulative:1m/20s")
HOUR = 3600 * S


def readings_of(sent: list[Sent]) -> dict:
    """{(device, metric): usable (time, value)}, each frame once."""
    found, seen = defaultdict(list), set()
    for one in sent:
        frame = one.frame
        if (frame.device, frame.seq) in seen:
            continue
        seen.add((frame.device, frame.seq))
        for block in frame.blocks:
            quality = np.zeros(block.value.shape) if block.quality is None else block.quality
            for row, metric in enumerate(block.metrics):
                for at in range(len(block.time_us)):
                    if quality[row, at] < 64:
                        found[frame.device, metric].append((int(block.time_us[at]), float(block.value[row, at])))
    return found


def brute_force(sent: list[Sent], label: str) -> dict:
    """{(device, metric, row time): values} from the definition of each kind of window."""
    found = defaultdict(list)
    size, _, step = label.removeprefix("cumulative:").partition("/")
    size_us, step_us = (parse_windower(part).size_us if part else 0 for part in (size, step))
    for (device, metric), readings in readings_of(sent).items():
        for time, value in readings:
            if label.startswith("cumulative"):
                start = time // size_us * size_us
                for end in range(start + step_us, start + size_us + 1, step_us):
                    if time < end:
                        found[device, metric, end - step_us].append(value)
                continue
            step = step_us or size_us
            first = (time - size_us) // step * step
            for start in range(first, time + 1, step):
                if start <= time < start + size_us:
                    found[device, metric, start].append(value)
    return found


def windows_of(sent: list[Sent], rng: np.random.Generator, labels: tuple[str, ...], frames_max: int) -> dict:
    operator = PaneWindows([parse_windower(label) for label in labels], allowed_lateness_us=HOUR)
    store = stored(Task(0, [operator], TaskLimits(allowed_lateness_us=HOUR)), records(rng, sent, frames_max))
    return store.points["window"]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("labels", [*((label,) for label in LABELS), LABELS])
def test_windows_are_those_of_brute_force(seed: int, labels: tuple[str, ...]) -> None:
    rng = np.random.default_rng(seed)
    sent = random_log(rng)
    found = windows_of(sent, rng, labels, 12)
    for label in labels:
        # Cumulative windows are reported at every step from the first reading on, with or without new ones.
        expected = brute_force(sent, label)
        mine = {(key[1], key[2], key[4]): row for key, row in found.items() if key[3] == label and key[2] != "power"}
        assert mine.keys() == expected.keys()
        for key, values in expected.items():
            row, all_of_it = mine[key], np.sort(values)
            assert row["count"] == len(values)
            assert (row["min"], row["max"]) == (all_of_it[0], all_of_it[-1])
            assert row["mean"] == pytest.approx(all_of_it.mean(), rel=1e-12)
            assert row["std"] == pytest.approx(all_of_it.std(), rel=1e-9, abs=1e-12)
            for name, q in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
                exact = np.quantile(all_of_it, q, method="inverted_cdf")
                assert row[name] == pytest.approx(exact, rel=RELATIVE_ERROR)


def test_summaries_from_the_edge_enter_windows_like_readings() -> None:
    rng = np.random.default_rng(5)
    sent = random_log(rng)
    found = windows_of(sent, rng, ("10s", "1m"), 12)
    counts, seen = defaultdict(int), set()
    for one in sent:
        panes, key = one.frame.summaries, (one.frame.device, one.frame.seq)
        if key in seen:
            continue
        seen.add(key)
        for row in range(len(panes)):
            for label, width in (("10s", 10 * S), ("1m", 60 * S)):
                counts[one.frame.device, label, int(panes.start_us[row]) // width * width] += int(panes.count[row])
    mine = {(key[1], key[3], key[4]): row["count"] for key, row in found.items() if key[2] == "power"}
    assert mine == dict(counts)
    assert all("p95" in row for key, row in found.items() if key[2] == "power")


def test_a_summary_wider_than_a_window_enters_only_windows_that_hold_it() -> None:
    rng = np.random.default_rng(6)
    sent = device_frames(rng, "pump-1", 12, 9)
    found = windows_of(sent, rng, ("5s", "1m"), 3)
    assert {key[3] for key in found if key[2] == "power"} == {"1m"}


def test_a_late_reading_revises_its_window_and_a_device_with_a_backlog_is_not_late() -> None:
    rng = np.random.default_rng(8)
    sent = device_frames(rng, "pump-1", 40, 9)
    backlog = [*sent[:10], *sent[30:], *sent[10:30]]
    ordered = windows_of(sent, rng, ("10s",), 4)
    found = windows_of(backlog, rng, ("10s",), 4)
    assert {key: row["count"] for key, row in found.items()} == {key: row["count"] for key, row in ordered.items()}
    assert sum(row["late"] for row in found.values()) == 0
    straggler = Sent(sent[3].frame, sent[-1].received_us)
    revised = windows_of([*sent[:3], *sent[4:], straggler], rng, ("10s",), 4)
    assert {key: row["count"] for key, row in revised.items()} == {key: row["count"] for key, row in ordered.items()}


def test_windows_of_silent_devices_close_by_the_heartbeat() -> None:
    rng = np.random.default_rng(9)
    sent = device_frames(rng, "pump-1", 3, 9)
    operator = PaneWindows([parse_windower("1h")], allowed_lateness_us=HOUR)
    task = Task(0, [operator])
    batches = records(rng, sent, 3)
    results = [task.step(batch, at) for at, batch in enumerate(batches)]
    assert not any(result.tables for result in results[:-1])
    assert results[-1].tables[0].time_us.min() >= T0_US // HOUR * HOUR


def test_every_aligned_windower_knows_the_windows_of_a_pane() -> None:
    for label in LABELS:
        windower = parse_windower(label)
        pane = windower.pane_us
        for start in range(0, 3 * windower.size_us, pane):
            ends = windower.ends(start, start + pane)
            assert all(windower.start_us(end) <= start and start + pane <= end for end in ends), label
            assert len({windower.time_us(end) for end in ends}) == len(ends) > 0
            assert isinstance(windower.size_us, int)
            assert AlignedWindower is not None
