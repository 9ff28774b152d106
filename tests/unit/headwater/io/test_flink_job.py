"""What goes to Flink, and from which state a job goes on; without a Flink."""

import io
import json
import os
import sys
import urllib.error
import urllib.request
from email.message import Message
from pathlib import Path

import pytest

from headwater.errors import HeadwaterError, RejectedError, SettingsError
from headwater.io.flink_environment import FLINK, FlinkEnvironment
from headwater.io.flink_job import newest_state, zip_packages
from headwater.io.flink_rest import FlinkRest, NotReadyError

SOURCES = Path(__file__).parents[4] / "cloud_processor" / "flink"


def state(folder: Path, name: str, at_s: int) -> str:
    path = folder / name / "_metadata"
    path.parent.mkdir(parents=True)
    path.touch()
    os.utime(path, (at_s, at_s))
    return path.parent.as_uri()


def test_the_newest_complete_state_is_gone_on_from(tmp_path: Path) -> None:
    folder = tmp_path / "with space"
    assert newest_state(folder.as_uri()) == ""
    state(folder, "0a/chk-9", 100)
    savepoint = state(folder, "savepoint-0a-1", 300)
    state(folder, "0b/chk-1", 200)
    (folder / "0c" / "chk-2").mkdir(parents=True)
    assert newest_state(folder.as_uri()) == savepoint
    newest = state(folder, "0d/chk-1", 400)
    assert newest_state(folder.as_uri()) == newest


def test_states_elsewhere_are_not_looked_for() -> None:
    assert newest_state("s3://bucket/checkpoints") == newest_state("") == ""


def test_the_same_sources_give_the_same_zip_and_it_can_be_imported(tmp_path: Path) -> None:
    package = tmp_path / "in" / "some_package"
    (package / "below").mkdir(parents=True)
    for path in (package, package / "below"):
        (path / "__init__.py").write_text("")
    (package / "below" / "one.py").write_text("ANSWER = 42\n")
    (package / "secret.toml").write_text("")
    for name in ("a.zip", "b.zip"):
        zip_packages([package], tmp_path / name)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    sys.path.insert(0, str(tmp_path / "a.zip"))
    try:
        from some_package.below.one import ANSWER  # type: ignore[import-not-found]  # noqa: PLC0415
    finally:
        sys.path.pop(0)
    assert ANSWER == 42


def test_an_environment_that_is_not_there_is_told_with_its_remedy(tmp_path: Path) -> None:
    environment = FlinkEnvironment(tmp_path / "none")
    if "java" not in environment.lacking(SOURCES):
        with pytest.raises(SettingsError, match="headwater flink install"):
            environment.check(SOURCES)


def test_an_environment_of_another_version_or_with_another_jar_is_told(tmp_path: Path) -> None:
    environment = FlinkEnvironment(tmp_path)
    if "java" in environment.lacking(SOURCES):
        pytest.skip("no java: that is told first")
    environment.python.parent.mkdir()
    environment.python.touch()
    jars = tmp_path / "lib" / "python3.11" / "site-packages" / "pyflink" / "lib"
    jars.mkdir(parents=True)
    (jars / "flink-dist-2.2.0.jar").touch()
    assert f"holds Flink 2.2.0, this needs {FLINK}" in environment.lacking(SOURCES)
    (jars / "flink-dist-2.2.0.jar").rename(jars / f"flink-dist-{FLINK}.jar")
    assert "is missing" in environment.lacking(SOURCES)
    environment.connector.touch()
    assert "is not that of this version" in environment.lacking(SOURCES)
    environment.own_jar.touch()
    (tmp_path / "headwater-flink.sha256").write_text("another")
    assert "is not that of this version" in environment.lacking(SOURCES)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8081", "flink://", "127.0.0.1", "flink:8081"])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="flink://host:8081"):
        FlinkRest(url)


def test_the_port_of_the_url_is_that_of_flink_where_none_is_told() -> None:
    assert FlinkRest("flink://jobs.example").address == "jobs.example:8081"
    assert json.dumps(FlinkRest("flink://127.0.0.1:1").address) == '"127.0.0.1:1"'


INITIALIZING = b"UnavailableDispatcherOperationException: why: the JobManager is initializing"


@pytest.mark.parametrize(
    ("code", "body", "kind"),
    [
        (503, b"why", NotReadyError),
        (500, INITIALIZING, NotReadyError),
        (500, b"why", RejectedError),
        (404, b"why", RejectedError),
    ],
)
def test_a_cluster_that_elects_its_leader_or_begins_a_job_is_not_ready_and_a_refusal_is_one(
    monkeypatch: pytest.MonkeyPatch, code: int, body: bytes, kind: type[HeadwaterError]
) -> None:
    def answer(request: urllib.request.Request, **_: float) -> None:
        raise urllib.error.HTTPError(request.full_url, code, "", Message(), io.BytesIO(body))

    monkeypatch.setattr(urllib.request, "urlopen", answer)
    with pytest.raises(kind, match="why"):
        FlinkRest("flink://127.0.0.1:8081").overview()
