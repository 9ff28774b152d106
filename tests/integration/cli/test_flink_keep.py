"""What `headwater flink submit --keep` does where nothing has to be submitted, and commands that are told too little."""

import contextlib
import io
import threading
from pathlib import Path

import pytest
from flink_peer import FlinkPeer

from headwater.cli import main
from headwater.cli.flink_jobs import FlinkJobs
from headwater.cli.flink_keep import keep, look
from headwater.cli.flink_record import mark_stopped
from headwater.cli.shared import table_classes
from headwater.errors import ConnectError
from headwater.settings import load_settings

pytestmark = pytest.mark.integration

JOBS = {"jobs": [{"jid": "ab12", "name": "headwater", "state": "RUNNING", "start-time": 1000, "end-time": -1}]}


def jobs(folder: Path, url: str) -> FlinkJobs:
    flags = [f"pipeline.data={folder}", f"pipeline.processor={url}", "pipeline.log=kafka://127.0.0.1:9"]
    return FlinkJobs(load_settings(table_classes(), flags=flags))


def test_a_job_that_is_there_and_one_that_was_stopped_are_left_alone(tmp_path: Path) -> None:
    with FlinkPeer({"/jobs/overview": JOBS}) as flink:
        assert look(jobs(tmp_path, flink.url)) == f"job ab12 is on {flink.url}"
        flink.answers["/jobs/overview"] = {"jobs": []}
        mark_stopped(tmp_path / "flink")
        assert look(jobs(tmp_path, flink.url)) == "the job was stopped: headwater flink submit starts it again"


def test_a_cluster_that_is_away_is_waited_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with FlinkPeer({}) as flink:
        url = flink.url
    with pytest.raises(ConnectError):
        look(jobs(tmp_path, url))
    stop = threading.Event()
    keeper = threading.Thread(target=keep, args=(jobs(tmp_path, url), stop))
    keeper.start()
    said = ""
    while "no Flink at 127.0.0.1" not in said:
        said += capsys.readouterr().err
        assert keeper.is_alive()
    stop.set()
    keeper.join()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["jobmanager"], "set [pipeline] processor to flink://HOST:PORT"),
        (["taskmanager", "--set", "pipeline.processor=flink://a:8081"], "[flink] checkpoints"),
    ],
)
def test_a_node_that_is_told_too_little_says_what_is_missing(tmp_path: Path, arguments: list[str], words: str) -> None:
    err = io.StringIO()
    with contextlib.redirect_stderr(err):
        assert main(["flink", *arguments, "--data", str(tmp_path)]) == 78
    assert words in err.getvalue()


def test_flink_without_compose_is_refused(tmp_path: Path) -> None:
    err = io.StringIO()
    with contextlib.redirect_stderr(err):
        assert main(["init", str(tmp_path / "plant"), "--host", "hub.example", "--flink"]) == 78
    assert "--flink goes with --compose" in err.getvalue()
    assert not (tmp_path / "plant").exists()
