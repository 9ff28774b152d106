"""SIGKILL while the store writes: what a write returned from is there, and every write is there whole or not at all."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

CONTRACT = Path(__file__).parents[1] / "contract"
sys.path.insert(0, str(CONTRACT))

import store_writes  # noqa: E402 — the tests of stores share their random writes.

from headwater.io.store_memory import MemoryStore  # noqa: E402
from headwater.io.store_sqlite import SqliteStore  # noqa: E402

WRITER = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from test_store_kill import writes
from headwater.io.store_sqlite import SqliteStore
store = SqliteStore(Path(sys.argv[2]))
for number, write in enumerate(writes()):
    if number >= int(sys.argv[3]):
        store.write(write)
        print(number, flush=True)
        if number % 7 == 0:
            store.retain(0)
"""
WRITES = 70


def writes():
    rng, seqs = np.random.default_rng(11), {}
    for _ in range(WRITES):
        yield store_writes.write(rng, seqs)


@pytest.mark.crash
def test_a_killed_writer_leaves_whole_writes_only_and_a_replay_completes_them(tmp_path: Path) -> None:
    chance = random.Random(5)
    path = tmp_path / "store.db"
    done = -1
    kills = 0
    while done < WRITES - 1:
        begin = max(0, done - 3)  # A processor replays from its last checkpoint, so some writes come again.
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(Path(__file__).parent), str(path), str(begin)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )
        assert process.stdout is not None
        told = begin - 1
        for line in process.stdout:
            told = int(line)
            if kills < 4 and told > done + 4:
                time.sleep(chance.random() * 0.01)
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
        rest = process.stdout.read().split()
        process.wait()
        process.stdout.close()
        assert told >= begin, "the writer wrote nothing"
        done = max(done, told, *(int(word) for word in rest if word.isdigit()))
        check(path, done)
    assert kills == 4
    twin = MemoryStore()
    for write in writes():
        twin.write(write)
    whole = store_writes.contents_memory(twin)
    found = store_writes.contents_sqlite(path)
    assert found["frames"] == whole["frames"]
    assert found["letters"] == whole["letters"]
    assert found["positions"] == whole["positions"]


def check(path: Path, done: int) -> None:
    """The store opens undamaged and holds the frames of the first `done + 1` writes, or of one more, whole."""
    store = SqliteStore(path)
    assert store.set_aside is None
    store.close()
    found = store_writes.contents_sqlite(path)["frames"]
    twin = MemoryStore()
    for number, write in enumerate(writes()):
        if number > done + 1:
            break
        if number == done + 1 and len(found) == len(twin.frames):
            break
        twin.write(write)
    assert found == store_writes.contents_memory(twin)["frames"]
