"""What the doctor says of a Flink cluster, state by state."""

from dataclasses import replace
from typing import Any

import pytest

from headwater.cli.doctor_flink import ClusterSeen, judge

STATUS: dict[str, Any] = {
    "job": "ab12", "state": "RUNNING", "running_s": 300.0, "tasks_running": 4, "tasks": 4, "restarts": 0,
    "checkpoints": 29, "checkpoints_failed": 0, "checkpoint_age_s": 4.0, "checkpoint_failure": "",
    "failures": 0, "failures_lately": 0, "failure": "",
}  # fmt: skip
WELL = ClusterSeen("flink://f:8081", True, "2.3.0", 1, 2, 1, "headwater", ("ab12",), status=STATUS)


def job(**changes: Any) -> ClusterSeen:
    return replace(WELL, status=STATUS | changes)


def test_a_job_that_runs_has_nothing_to_mend() -> None:
    assert judge(WELL, checkpoint_every_s=10) == ("", "")
    assert judge(job(restarts=7, failures=7, failures_lately=2, failure="x"), checkpoint_every_s=10) == ("", "")
    assert judge(job(checkpoint_age_s=None, running_s=59.0), checkpoint_every_s=1) == ("", "")


@pytest.mark.parametrize(
    ("seen", "words", "mend"),
    [
        (replace(WELL, version=""), "no Flink", "pipeline.processor"),
        (replace(WELL, version="1.20.1"), "runs Flink 1.20.1", "2.3.0"),
        (replace(WELL, task_managers=0, slots=0), "no TaskManager", "headwater flink cluster run"),
        (replace(WELL, task_managers=0, is_own=False), "no TaskManager", "start TaskManagers of that cluster"),
        (replace(WELL, jobs=()), "no job 'headwater'", "headwater flink submit"),
        (replace(WELL, jobs=(), ended=("FAILED", "it broke")), "the last one is FAILED: it broke", "submit"),
        (replace(WELL, jobs=("ab12", "cd34")), "2 jobs are called 'headwater' on flink://f:8081: ab12, cd34", "stop"),
        (job(state="RESTARTING", tasks_running=0, restarts=3, failure="why"), "0 of 4 tasks run; 3 restarts; why", "status"),
        (job(tasks_running=3), "RUNNING, 3 of 4 tasks run", "status"),
        (job(failures_lately=3, failure="why"), "failed 3 times in five minutes; why", "status"),
        (job(checkpoint_age_s=61.0), "newest checkpoint is 61 s old", "disk"),
        (job(checkpoint_age_s=None, running_s=61.0, checkpoint_failure="full"), "no checkpoint yet: full", "disk"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_what_to_do(seen: ClusterSeen, words: str, mend: str) -> None:
    found = judge(seen, checkpoint_every_s=10)
    assert words in found[0]
    assert mend in found[1]


def test_too_few_slots_are_told_as_that() -> None:
    failure = "org.apache.flink.runtime.jobmanager.scheduler.NoResourceAvailableException: Could not acquire"
    seen = replace(job(state="RESTARTING", tasks_running=0, failure=failure), slots_free=0)
    words, mend = judge(seen, checkpoint_every_s=10)
    assert "2 slots are not enough" in words
    assert "flink.parallelism" in mend


def test_a_checkpoint_may_be_as_old_as_the_settings_make_it() -> None:
    assert judge(job(checkpoint_age_s=500.0), checkpoint_every_s=100) == ("", "")
