"""The job on a real Flink, undisturbed: the short one of these tests, which runs with all others."""

import pytest
from flink_world import World, content

pytestmark = pytest.mark.integration


def test_a_recorded_log_gives_the_rows_of_the_embedded_runner(world: World) -> None:
    world.record(devices=3, frames=20)
    world.submit(parallelism=2)
    world.wait_all()
    assert content(world.store) == world.embedded()
    assert world.status()["restarts"] == 0
