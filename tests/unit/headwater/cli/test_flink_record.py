"""What is kept of a job that was submitted, and what is made of it."""

from pathlib import Path

import pytest

from headwater.cli.flink_record import is_stopped, keep_job, last_job, lost_job, mark_stopped, stopping
from headwater.cli.shared import table_classes
from headwater.errors import ConnectError, SettingsError
from headwater.settings import load_settings

FLAGS = [
    "pipeline.log=kafka://a:9092", "kafka.security_protocol=ssl", "kafka.ca_file=tls/ca.pem", "flink.checkpoint_every=3s", "flink.parallelism=2",
    'processor.windows=["10s", "session:5s"]', 'flink.client={"x.y" = "z"}',
]  # fmt: skip


def test_a_job_comes_back_as_it_was_told_from_wherever_it_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = load_settings(table_classes(), flags=FLAGS)
    folder = tmp_path / "data" / "flink"
    folder.mkdir(parents=True)
    assert lost_job(folder) is None
    monkeypatch.chdir(tmp_path)
    keep_job(folder, tables, is_own=True)
    assert (folder / "submitted.json").stat().st_mode & 0o077 == 0
    monkeypatch.chdir("/")
    found = lost_job(folder)
    assert found is not None
    assert found.keys() == tables.keys()
    assert found["processor"] == tables["processor"]
    assert found["gateway"] == tables["gateway"]
    assert found["pipeline"] == tables["pipeline"].model_copy(update={"data": str(tmp_path / "data")})
    assert found["kafka"] == tables["kafka"].model_copy(update={"ca_file": f"{tmp_path}/tls/ca.pem"})
    assert found["flink"] == tables["flink"].model_copy(update={"environment": f"{tmp_path}/.venv-flink"})
    assert not is_stopped(folder)
    mark_stopped(folder)
    assert lost_job(folder) is None
    assert is_stopped(folder)


def test_a_job_on_another_cluster_is_not_submitted_here(tmp_path: Path) -> None:
    keep_job(tmp_path, load_settings(table_classes(), flags=FLAGS), is_own=False)
    assert lost_job(tmp_path) is None
    assert not is_stopped(tmp_path)
    found = last_job(tmp_path)
    assert found is not None
    assert found["processor"] == load_settings(table_classes(), flags=FLAGS)["processor"]


def test_a_job_that_could_not_be_stopped_is_not_taken_for_stopped(tmp_path: Path) -> None:
    keep_job(tmp_path, load_settings(table_classes(), flags=FLAGS), is_own=True)

    def stop() -> None:
        with stopping(tmp_path):
            assert is_stopped(tmp_path)
            raise ConnectError("the savepoint failed")

    with pytest.raises(ConnectError):
        stop()
    assert not is_stopped(tmp_path)
    assert lost_job(tmp_path) is not None
    with stopping(tmp_path):
        pass
    assert is_stopped(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"is_own": true}',
        '{"is_own": true, "tables": {"pipeline": {"was": 1}}}',
        '{"is_own": true, "tables": {"pipeline": 3}}',
    ],
)
def test_a_record_that_is_not_readable_says_what_to_do(tmp_path: Path, text: str) -> None:
    (tmp_path / "submitted.json").write_text(text)
    with pytest.raises(SettingsError, match="remove it, then headwater flink submit"):
        lost_job(tmp_path)
