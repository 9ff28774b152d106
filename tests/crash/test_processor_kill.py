"""SIGKILL while the processor works on real files: the store ends as if nothing had happened."""

import os
import random
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

PROPERTY = Path(__file__).parents[1] / "property"
sys.path.insert(0, str(PROPERTY))

from shard_logs import random_log, records  # noqa: E402 — the tests of tasks share their random shards.

from headwater import log_topics  # noqa: E402
from headwater.batch_arrow import batch_to_arrow  # noqa: E402
from headwater.io.log_sqlite import SqliteLog  # noqa: E402
from headwater.ports import LogRecord  # noqa: E402

WORKER = """
import sys
import threading
from pathlib import Path
from cloud_processor.processor import Processor
from cloud_processor.settings import ProcessorSettings
from headwater.io.checkpoints_sqlite import SqliteCheckpoints
from headwater.io.clock_system import SystemClock
from headwater.io.log_sqlite import SqliteLogReader
from headwater.io.store_sqlite import SqliteStore
folder = Path(sys.argv[1])
settings = ProcessorSettings(partitions=1, records_max=2, checkpoint_every="30ms", health_baseline=10, allowed_lateness="1h")
store = SqliteStore(folder / "store.db")
checkpoints = SqliteCheckpoints(folder / "state.db")
processor = Processor(settings, SqliteLogReader(folder.parent / "log.db"), store, checkpoints, SystemClock(), "test")
print("ready", flush=True)
stop = threading.Event()
stop.set()
processor.run(stop)
print("done", flush=True)
"""


def work(folder: Path, kill_after_s: float | None) -> bool:
    """Runs a processor on the folder; True if it came to the end before the kill."""
    folder.mkdir(exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    if kill_after_s is not None:
        time.sleep(kill_after_s)
        process.kill()
    said = process.stdout.read()
    process.wait()
    process.stdout.close()
    return "done" in said


def content(folder: Path) -> dict[str, list[tuple]]:
    """All rows of the store but those that tell when and in which order it wrote."""
    connection = sqlite3.connect(folder / "store.db")
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    found = {}
    for table in tables:
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        kept = [name for name in columns if "version" not in name]
        if table not in ("meta", "sqlite_stat1", "change"):
            found[table] = sorted(connection.execute(f"SELECT {', '.join(kept)} FROM {table}").fetchall(), key=repr)
    connection.close()
    return found


@pytest.mark.crash
def test_killed_again_and_again_it_stores_the_same_rows_as_one_that_was_not(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    with SqliteLog(tmp_path / "log.db") as log:
        for batch in records(rng, random_log(rng, devices=5, frames=40), 3):
            log.append([LogRecord(log_topics.READINGS, 0, b"0", batch_to_arrow(batch), batch.made_us)])
    assert work(tmp_path / "whole", None)
    chance = random.Random(3)
    kills = 0
    for _ in range(12):
        if work(tmp_path / "killed", chance.uniform(0.01, 0.4)):
            break
        kills += 1
    assert kills >= 2
    assert work(tmp_path / "killed", None)
    expected, found = content(tmp_path / "whole"), content(tmp_path / "killed")
    assert found.keys() == expected.keys()
    assert sum(map(len, expected.values())) > 1000
    # Duplicates are counted from the log alone, so a replay counts them alike; nothing here may differ.
    for table, rows in expected.items():
        assert found[table] == rows, table
