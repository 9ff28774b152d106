"""One log, many ways through it: kill and restore anywhere, other records, other orders, duplicates."""

import math

import numpy as np
import pytest
from shard_logs import batch_of, fingerprint, heartbeat, random_log, records, stored

from cloud_processor.settings import ProcessorSettings
from cloud_processor.topology import build_task
from headwater.task import Task

WINDOWS = ("10s", "1m", "1m/10s", "cumulative:1m/20s", "session:7s", "count:20", "global:30s")
SETTINGS = ProcessorSettings(windows=WINDOWS, allowed_lateness="1h", health_baseline=10)
HASTY = SETTINGS.model_copy(update={"allowed_lateness_us": 20_000_000, "max_offline_us": 60_000_000})


def task() -> Task:
    return build_task(SETTINGS, 0)


@pytest.mark.parametrize("seed", range(4))
def test_a_kill_and_restore_at_any_record_gives_the_same_rows_bit_for_bit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    batches = records(rng, random_log(rng), 9)
    settings = HASTY if seed % 2 else SETTINGS
    whole = build_task(settings, 0)
    expected, states = [], [whole.snapshot()]
    for offset, batch in enumerate(batches):
        expected.append(fingerprint(whole, whole.step(batch, offset)))
        states.append(whole.snapshot())
    for at in range(len(batches)):
        restored = build_task(settings, 0)
        restored.restore(states[at])
        assert restored.snapshot() == states[at]
        # One record on, the state is that of the run without a kill: so all records after it are the same too.
        assert fingerprint(restored, restored.step(batches[at], at)) == expected[at]
        assert restored.snapshot() == states[at + 1]


@pytest.mark.parametrize("seed", range(4))
def test_the_same_frames_in_other_records_and_twice_give_the_same_windows(seed: int) -> None:
    rng = np.random.default_rng(100 + seed)
    sent = random_log(rng)
    one = stored(task(), records(rng, sent, 3))
    other = stored(task(), records(rng, sent, 40))
    twice = stored(task(), [*records(rng, sent, 20)[:-2], *records(rng, sent, 20)])
    for store in (other, twice):
        assert store.frames == one.frames
        assert_same_windows(store.points["window"], one.points["window"])


@pytest.mark.parametrize("seed", range(4))
def test_another_order_of_arrival_within_the_lateness_gives_the_same_windows(seed: int) -> None:
    rng = np.random.default_rng(200 + seed)
    sent = random_log(rng)
    shuffled = [sent[i] for i in rng.permutation(len(sent))]
    one, other = stored(task(), records(rng, sent, 9)), stored(task(), records(rng, shuffled, 9))
    assert one.frames.keys() == other.frames.keys()
    final = {key: row for key, row in one.points["window"].items() if row["count"] and not key[3].startswith("count")}
    again = {key: row for key, row in other.points["window"].items() if row["count"] and not key[3].startswith("count")}
    assert_same_windows(again, final, but=("late",))


def test_all_that_came_is_accounted_for() -> None:
    rng = np.random.default_rng(7)
    sent = random_log(rng, devices=6)
    store = stored(task(), records(rng, sent, 9))
    frames = {(one.frame.device, one.frame.seq): one.frame for one in sent}
    for account in store.accounts.values():
        mine = [frame for (device, _), frame in frames.items() if device == account.device]
        assert account.assigned == account.stored == account.contiguous == len(mine)
        assert (account.in_flight, account.unknown, account.ranges) == (0, 0, ())
        assert account.duplicates == sum(one.frame.device == account.device for one in sent) - len(mine)
        assert account.readings_stored == sum(frame.reading_count for frame in mine)
        assert account.acquired == account.readings_stored + account.suppressed + account.aggregated + account.dropped


def test_a_heartbeat_alone_gives_nothing() -> None:
    shard = task()
    result = shard.step(heartbeat(1_700_000_000_000_000), 0)
    assert (result.tables, len(result.telemetry), result.position) == ((), 0, 1)
    assert not batch_of([]).reading_count


def assert_same_windows(found: dict, expected: dict, but: tuple[str, ...] = ()) -> None:
    assert found.keys() == expected.keys()
    for key, row in expected.items():
        for name, value in row.items():
            if name in ("revision", *but):
                continue
            mine = found[key][name]
            scale = max(abs(row["min"]), abs(row["max"]), 1.0) if name in ("mean", "std") else abs(value)
            assert math.isclose(mine, value, rel_tol=1e-12, abs_tol=1e-12 * scale), (key, name)
