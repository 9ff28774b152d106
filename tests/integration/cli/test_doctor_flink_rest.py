"""`headwater doctor` before a REST interface of Flink that says what a test wants; the real one: tests/flink."""

import contextlib
import io
import json
import socket
from pathlib import Path
from typing import Any

import pytest
from flink_peer import FlinkPeer

from headwater.cli import main

pytestmark = pytest.mark.integration

OVERVIEW = {"taskmanagers": 1, "slots-total": 2, "slots-available": 1, "flink-version": "2.3.0"}
JOB = "0123456789abcdef0123456789abcdef"
KAFKA = ["--log", "kafka://127.0.0.1:9"]


def doctor(folder: Path, *arguments: str, hop: str = "flink") -> tuple[int, str, str]:
    """Exit code, stdout and stderr of one call."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(["doctor", "--json", "--data", str(folder), "--hop", hop, *arguments])
    return code, out.getvalue(), err.getvalue()


def finding(folder: Path, url: str, *arguments: str) -> dict[str, Any]:
    code, out, err = doctor(folder, "--processor", url, *KAFKA, *arguments)
    assert (code, err) == (1, "")
    (found,) = json.loads(out)["findings"]
    return dict(found)


def listed(state: str) -> dict[str, Any]:
    return {"jobs": [{"jid": JOB, "name": "headwater", "state": state, "start-time": 1000, "end-time": 5000}]}


def exceptions(*at_ms: int) -> dict[str, Any]:
    stack = "org.apache.flink.runtime.JobException: it failed\n\tat a.B\nCaused by: java.io.IOException: disk full\n\tat c.D"
    return {"exceptionHistory": {"entries": [{"timestamp": at, "stacktrace": stack} for at in at_ms]}}


def running(*, tasks: int = 2, failed_at: tuple[int, ...] = ()) -> dict[str, Any]:
    return {
        "/overview": OVERVIEW,
        "/jobs/overview": listed("RUNNING"),
        f"/jobs/{JOB}": {
            "state": "RUNNING", "now": 1_000_000, "start-time": 1000,
            "vertices": [{"parallelism": 2, "tasks": {"RUNNING": tasks}}],
        },
        f"/jobs/{JOB}/checkpoints": {
            "counts": {"completed": 3, "failed": 0},
            "latest": {"completed": {"latest_ack_timestamp": 995_000, "state_size": 9, "end_to_end_duration": 7}, "failed": None},
        },
        f"/jobs/{JOB}/metrics?get=numRestarts": [{"id": "numRestarts", "value": "4"}],
        f"/jobs/{JOB}/exceptions": exceptions(*failed_at),
    }  # fmt: skip


def test_nothing_at_the_address(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        found = finding(tmp_path, f"flink://127.0.0.1:{probe.getsockname()[1]}")
    assert "no Flink at 127.0.0.1" in found["what"]
    assert "headwater flink cluster run" in found["mend"]


@pytest.mark.parametrize("answer", [{"name": "another server"}, ["overview"], None])
def test_another_server_at_the_address(tmp_path: Path, answer: object) -> None:
    with FlinkPeer({"/overview": answer}) as flink:
        assert "is no Flink" in finding(tmp_path, flink.url)["what"]


def test_an_answer_that_is_no_json(tmp_path: Path) -> None:
    with FlinkPeer({"/overview": b"<html>"}) as flink:
        assert "no Flink at" in finding(tmp_path, flink.url)["what"]


def test_a_cluster_without_task_managers(tmp_path: Path) -> None:
    with FlinkPeer({"/overview": OVERVIEW | {"taskmanagers": 0}, "/jobs/overview": {"jobs": []}}) as flink:
        assert "has no TaskManager" in finding(tmp_path, flink.url)["what"]


def test_a_job_that_ended_tells_why(tmp_path: Path) -> None:
    answers = {"/overview": OVERVIEW, "/jobs/overview": listed("FAILED"), f"/jobs/{JOB}/exceptions": exceptions(4000)}
    with FlinkPeer(answers) as flink:
        found = finding(tmp_path, flink.url)
        assert "the last one is FAILED: java.io.IOException: disk full" in found["what"]
        assert "headwater flink submit" in found["mend"]
        assert "no job 'other' on" in finding(tmp_path, flink.url, "--set", "flink.name=other")["what"]


def test_a_job_whose_tasks_do_not_run_and_one_that_fails_again_and_again(tmp_path: Path) -> None:
    with FlinkPeer(running(tasks=1, failed_at=(990_000,))) as flink:
        what = finding(tmp_path, flink.url)["what"]
        assert "RUNNING, 1 of 2 tasks run; 4 restarts; java.io.IOException: disk full" in what
    with FlinkPeer(running(failed_at=(990_000, 980_000, 970_000, 1))) as flink:
        assert "failed 3 times in five minutes" in finding(tmp_path, flink.url)["what"]


def test_a_job_that_is_well_on_a_log_that_is_away(tmp_path: Path) -> None:
    with FlinkPeer(running(failed_at=(1,))) as flink:
        found = finding(tmp_path, flink.url)
    assert "kafka" in found["what"]
    assert "is the log up" in found["mend"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--processor", "spark://127.0.0.1:1"], "this version knows"),
        (["--processor", "flink://", *KAFKA], "write flink://host:8081"),
        (["--processor", "flink://127.0.0.1:8081"], "Flink reads Kafka"),
    ],
)
def test_wrong_settings_are_told_as_such(tmp_path: Path, arguments: list[str], words: str) -> None:
    code, _, err = doctor(tmp_path, *arguments)
    assert code == 78
    assert words in err
    assert "Traceback" not in err


def test_hops_of_flink_are_not_there_with_the_processor_of_ours(tmp_path: Path) -> None:
    for hop in ("flink", "sink"):
        assert json.loads(doctor(tmp_path, hop=hop)[1]) == {"ok": True, "findings": []}
