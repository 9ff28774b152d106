"""The job on a real Flink, and SIGKILL to its parts: the same rows, bit for bit, as the embedded runner's."""

import os
import signal

import pytest
from flink_world import PARTITIONS, SETTINGS, World, content, wait_until

from headwater import log_topics
from headwater.results_arrow import results_from_arrow

pytestmark = [pytest.mark.flink, pytest.mark.integration]


def test_a_recorded_log_gives_the_rows_of_the_embedded_runner(world: World) -> None:
    world.record(devices=3, frames=20)
    world.submit(parallelism=2)
    world.wait_all()
    assert content(world.store) == world.embedded()
    assert world.status()["restarts"] == 0


@pytest.mark.crash
@pytest.mark.parametrize("mode", ["process", "thread"])
def test_a_killed_worker_costs_no_row_and_doubles_none(world: World, mode: str) -> None:
    """In process mode the worker is a process; in thread mode it lives in the TaskManager, which is what is killed."""
    count = world.record(devices=8, frames=120, per_record=2)
    world.submit(mode=mode)
    for share in (0.2, 0.5):
        wait_until(lambda share=share: world.results() > share * count and world.status()["checkpoints"] > 1, "results")
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
    assert world.results() > count, "nothing was written twice: the kills came too late to prove anything"


@pytest.mark.crash
def test_a_killed_task_manager_costs_no_row_and_doubles_none(world: World) -> None:
    count = world.record(devices=8, frames=120, per_record=2)
    world.submit(parallelism=2)
    wait_until(lambda: world.results() > 0.3 * count and world.status()["checkpoints"] > 1, "results and a checkpoint")
    (victim,) = world.cluster.pids("taskmanager")
    os.kill(victim, signal.SIGKILL)
    world.cluster.add_task_manager()
    wait_until(lambda: world.status()["failures"] > 0, "the job fails")
    world.wait_all()
    assert content(world.store) == world.embedded()


def test_a_savepoint_goes_on_with_two_tasks_and_with_one_again(world: World) -> None:
    count = world.record(devices=8, frames=120, per_record=2)
    world.submit()
    state = ""
    for parallelism, share in ((2, 0.2), (1, 0.5)):
        wait_until(lambda share=share: world.results() > share * count, "results")
        state = world.cluster.rest.stop(world.job)
        world.submit(parallelism=parallelism, restore=state)
    world.wait_all()
    assert state.startswith("file:")
    assert content(world.store) == world.embedded()
    # A savepoint and its offsets are of one moment, so nothing was written twice.
    assert world.results() == count


def test_results_are_in_the_partition_of_their_shard_in_order(world: World) -> None:
    world.record(devices=2, frames=10)
    world.submit(parallelism=2)
    world.wait_all()
    for shard in range(PARTITIONS):
        found = [results_from_arrow(r.value) for r in world.reader.read(log_topics.RESULTS, shard, 0, 1000)]
        positions = [results.position for results in found]
        assert positions == list(range(1, len(positions) + 1))
    assert SETTINGS.partitions == PARTITIONS
