"""What every operator promises, held on every operator of the default topology and on each kind of window."""

from collections.abc import Callable

import numpy as np
import pytest
from shard_logs import S, fingerprint, heartbeat, random_log, records

from cloud_processor.settings import ProcessorSettings
from cloud_processor.topology import build_task
from headwater.errors import CorruptStateError
from headwater.pane_windows import PaneWindows
from headwater.series_windows import SeriesWindows
from headwater.task import Operator, Task
from headwater.window import Count, Global, Session, parse_windower

DEFAULTS = ProcessorSettings(health_baseline=10)
MAKERS: dict[str, Callable[[], Operator]] = {
    operator.name: (lambda at=at: build_task(DEFAULTS, 0).operators[at])  # type: ignore[misc]
    for at, operator in enumerate(build_task(DEFAULTS, 0).operators)
}
MAKERS |= {
    "sliding": lambda: PaneWindows([parse_windower("1m/10s")], allowed_lateness_us=60 * S),  # type: ignore[list-item]
    "session": lambda: SeriesWindows(Session(7 * S), allowed_lateness_us=60 * S),
    "count": lambda: SeriesWindows(Count(20), allowed_lateness_us=60 * S),
    "global": lambda: SeriesWindows(Global(30 * S), allowed_lateness_us=60 * S),
}

pytestmark = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())


def test_two_of_a_kind_give_the_same_rows(make: Callable[[], Operator]) -> None:
    rng = np.random.default_rng(1)
    batches = records(rng, random_log(rng), 9)
    one, other = Task(0, [make()]), Task(0, [make()])
    for offset, batch in enumerate(batches):
        assert fingerprint(one, one.step(batch, offset)) == fingerprint(other, other.step(batch, offset))
    assert one.snapshot() == other.snapshot()


def test_a_restored_one_is_the_one_that_was_saved(make: Callable[[], Operator]) -> None:
    rng = np.random.default_rng(2)
    batches = records(rng, random_log(rng), 9)
    one = Task(0, [make()])
    for offset, batch in enumerate(batches[:20]):
        one.step(batch, offset)
    other = Task(0, [make()])
    other.restore(one.snapshot())
    assert other.operators[0].snapshot() == one.operators[0].snapshot()
    for offset, batch in enumerate(batches[20:], 20):
        assert fingerprint(one, one.step(batch, offset)) == fingerprint(other, other.step(batch, offset))


def test_a_snapshot_does_not_change_what_follows(make: Callable[[], Operator]) -> None:
    rng = np.random.default_rng(3)
    batches = records(rng, random_log(rng), 9)
    one, watched = Task(0, [make()]), Task(0, [make()])
    for offset, batch in enumerate(batches):
        watched.snapshot()
        assert fingerprint(one, one.step(batch, offset)) == fingerprint(watched, watched.step(batch, offset))


def test_an_empty_shard_gives_no_rows_and_a_snapshot(make: Callable[[], Operator]) -> None:
    task = Task(0, [make()])
    assert task.step(heartbeat(1_700_000_000 * S), 0).tables == ()
    fresh = make()
    fresh.restore(task.operators[0].snapshot())
    assert fresh.snapshot() == task.operators[0].snapshot()


def test_a_damaged_snapshot_is_refused(make: Callable[[], Operator]) -> None:
    data = bytearray(make().snapshot())
    data[len(data) // 2] ^= 1
    with pytest.raises(CorruptStateError):
        make().restore(bytes(data))
