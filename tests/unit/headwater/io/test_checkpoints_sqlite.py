"""Checkpoints survive, are replaced together, and damage is told."""

from pathlib import Path

import pytest

from headwater.errors import ConnectError, CorruptStateError
from headwater.io.checkpoints_sqlite import SqliteCheckpoints


def test_what_was_saved_last_is_loaded_by_the_next_process(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "state.db"
    first = SqliteCheckpoints(path)
    assert first.load() == {}
    first.save({0: b"a", 1: b"b"})
    first.save({1: b"c" * 100_000})
    first.close()
    second = SqliteCheckpoints(path)
    assert second.load() == {0: b"a", 1: b"c" * 100_000}
    second.close()


def test_a_damaged_file_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(b"this was never a database, whatever its name says" * 100)
    with pytest.raises(CorruptStateError, match="move the file away"):
        SqliteCheckpoints(path)


def test_a_value_that_changed_on_disk_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    checkpoints = SqliteCheckpoints(path)
    checkpoints.save({0: b"a" * 5000})
    checkpoints.close()
    path.write_bytes(path.read_bytes().replace(b"a" * 50, b"b" * 50, 1))
    again = SqliteCheckpoints(path)
    with pytest.raises(CorruptStateError, match="shard 0"):
        again.load()
    again.close()


def test_a_folder_that_is_a_file_is_an_error_to_retry(tmp_path: Path) -> None:
    (tmp_path / "state.db").mkdir()
    with pytest.raises(ConnectError):
        SqliteCheckpoints(tmp_path / "state.db")


def test_what_is_forgotten_is_gone_for_the_next_process_too(tmp_path: Path) -> None:
    checkpoints = SqliteCheckpoints(tmp_path / "state.db")
    checkpoints.save({0: b"a"})
    checkpoints.forget()
    assert checkpoints.load() == {}
    checkpoints.close()
