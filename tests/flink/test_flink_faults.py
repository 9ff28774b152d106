"""The job on a real Flink, and SIGKILL to its parts: the same rows, bit for bit, as the embedded runner's."""

import os
import signal

import pytest
from flink_world import PARTITIONS, SETTINGS, World, content, wait_until

from headwater import log_topics
from headwater.results_arrow import results_from_arrow

RARELY_MS = 3_000  # Between checkpoints: long enough to kill within.

pytestmark = [pytest.mark.flink, pytest.mark.integration]


@pytest.mark.crash
@pytest.mark.parametrize("mode", ["process", "thread"])
def test_a_killed_worker_costs_no_row_and_doubles_none(world: World, mode: str) -> None:
    """In process mode the worker is a process; in thread mode it lives in the TaskManager, which is what is killed."""
    first, *others = parts = world.parts(3, devices=8, frames=120, per_record=2)
    world.log.append(first)
    world.submit(mode=mode, checkpoint_every_ms=RARELY_MS)
    for part in others:
        world.append_while_uncommitted(part)
        before = world.status()["failures"]
        victims = world.cluster.workers() if mode == "process" else world.cluster.pids("taskmanager")
        assert victims
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
        if mode == "thread":
            world.cluster.add_task_manager()
        wait_until(lambda before=before: world.status()["failures"] > before, "the job fails")
        world.wait_running()
    world.wait_all()
    assert content(world.store) == world.embedded()
    assert world.results() > sum(map(len, parts)), "nothing was written twice: the kills proved nothing"


@pytest.mark.crash
def test_a_killed_task_manager_costs_no_row_and_doubles_none(world: World) -> None:
    first, other = world.parts(2, devices=8, frames=120, per_record=2)
    world.log.append(first)
    world.submit(parallelism=2, checkpoint_every_ms=RARELY_MS)
    world.append_while_uncommitted(other)
    (victim,) = world.cluster.pids("taskmanager")
    os.kill(victim, signal.SIGKILL)
    world.cluster.add_task_manager()
    wait_until(lambda: world.status()["failures"] > 0, "the job fails")
    world.wait_all()
    assert content(world.store) == world.embedded()
    assert world.results() > len(first) + len(other), "nothing was written twice: the kill proved nothing"


def test_a_savepoint_goes_on_with_two_tasks_and_with_one_again(world: World) -> None:
    first, *others = parts = world.parts(3, devices=8, frames=120, per_record=2)
    world.log.append(first)
    world.submit(checkpoint_every_ms=RARELY_MS)
    state = ""
    for parallelism, part in zip((2, 1), others, strict=True):
        world.append_while_uncommitted(part)
        state = world.cluster.rest.stop(world.job)
        world.submit(parallelism=parallelism, restore=state, checkpoint_every_ms=RARELY_MS)
    world.wait_all()
    assert state.startswith("file:")
    assert content(world.store) == world.embedded()
    # A savepoint and its offsets are of one moment, so nothing was written twice.
    assert world.results() == sum(map(len, parts))


def test_results_are_in_the_partition_of_their_shard_in_order(world: World) -> None:
    world.record(devices=2, frames=10)
    world.submit(parallelism=2)
    world.wait_all()
    for shard in range(PARTITIONS):
        found = [results_from_arrow(r.value) for r in world.reader.read(log_topics.RESULTS, shard, 0, 1000)]
        positions = [results.position for results in found]
        assert positions == list(range(1, len(positions) + 1))
    assert SETTINGS.partitions == PARTITIONS
