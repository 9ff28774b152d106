"""The book of a cluster's processes: who lives, who may be ended, and who may start anything."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from headwater.errors import ConnectError, CorruptStateError
from headwater.io.flink_book import FlinkBook


@pytest.fixture
def process() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that waits until it is killed."""
    command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as made:
        yield made
        made.kill()


def change(path: Path, **values: object) -> None:
    known = json.loads(path.read_text())
    known["processes"][0] |= {name: value for name, value in values.items() if name == "started"}
    path.write_text(json.dumps(known | {name: value for name, value in values.items() if name != "started"}))


def test_a_process_lives_until_it_is_killed_and_its_group_stays_its_own(
    tmp_path: Path, process: "subprocess.Popen[bytes]"
) -> None:
    book = FlinkBook(tmp_path / "cluster.json")
    book.begin(8081)
    assert book.start("taskmanager", lambda number: process.pid + number) == process.pid
    (entry,) = book.entries()
    assert (entry.role, entry.is_alive, entry.owns_group) == ("taskmanager", True, True)
    process.kill()
    process.wait()
    assert (entry.is_alive, entry.owns_group) == (False, True)
    book.remove(process.pid)
    assert book.entries() == []


def test_a_process_that_took_over_an_old_number_is_not_ours(tmp_path: Path, process: "subprocess.Popen[bytes]") -> None:
    path = tmp_path / "cluster.json"
    book = FlinkBook(path)
    book.begin(8081)
    book.start("taskmanager", lambda _number: process.pid)
    change(path, started=17)
    (entry,) = book.entries()
    assert (entry.is_alive, entry.owns_group) == (False, False)
    change(path, boot="before the machine was started anew")
    assert book.entries() == []


def test_a_book_that_is_closing_takes_nothing_new(tmp_path: Path) -> None:
    book = FlinkBook(tmp_path / "cluster.json")
    with pytest.raises(ConnectError, match="headwater flink cluster start"):
        _ = book.port
    assert book.is_closing
    book.begin(8081)
    assert (book.port, book.is_closing) == (8081, False)
    book.close()
    assert book.is_closing
    with pytest.raises(ConnectError, match="being stopped"):
        book.start("taskmanager", lambda _number: pytest.fail("it was started"))
    book.delete()
    assert not book.exists


def test_a_damaged_book_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "cluster.json"
    path.write_text("{")
    with pytest.raises(CorruptStateError, match=r"cluster\.json is damaged"):
        FlinkBook(path).entries()
