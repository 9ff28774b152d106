"""What is kept of a job that was submitted, and what is made of it."""

from pathlib import Path

import pytest

from headwater.cli.flink_record import forget_job, job_of, keep_job
from headwater.cli.shared import table_classes
from headwater.errors import SettingsError
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
    assert job_of(folder) is None
    monkeypatch.chdir(tmp_path)
    keep_job(folder, tables)
    assert (folder / "submitted.json").stat().st_mode & 0o077 == 0
    monkeypatch.chdir("/")
    found = job_of(folder)
    assert found is not None
    assert found.keys() == tables.keys()
    assert found["processor"] == tables["processor"]
    assert found["gateway"] == tables["gateway"]
    assert found["pipeline"] == tables["pipeline"].model_copy(update={"data": str(tmp_path / "data")})
    assert found["kafka"] == tables["kafka"].model_copy(update={"ca_file": f"{tmp_path}/tls/ca.pem"})
    assert found["flink"] == tables["flink"].model_copy(update={"environment": f"{tmp_path}/.venv-flink"})
    forget_job(folder)
    forget_job(folder)
    assert job_of(folder) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"pipeline": {"was": 1}}', '{"pipeline": 3}'])
def test_a_record_that_is_not_readable_says_what_to_do(tmp_path: Path, text: str) -> None:
    (tmp_path / "submitted.json").write_text(text)
    with pytest.raises(SettingsError, match="remove it, then headwater flink submit"):
        job_of(tmp_path)
