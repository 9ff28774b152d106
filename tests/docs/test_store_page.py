"""The store's page says how to read the file, and that is how it reads."""

import re
import sys
from pathlib import Path

import numpy as np

from headwater.io.store_sqlite import SqliteStore
from headwater.io.store_sqlite_query import StoreReader
from headwater.points import StoreWrite

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "contract"))

import store_writes  # noqa: E402 — the tests of stores share their random writes.


def test_the_script_of_the_page_reads_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = SqliteStore(path)
    rng, seqs = np.random.default_rng(1), {}
    for _ in range(20):
        store.write(StoreWrite((store_writes.batch(rng, seqs),)))
    store.close()
    (script,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "store.md").read_text(), re.DOTALL)
    scope: dict = {}
    exec(compile(script, "docs/store.md", "exec"), scope)
    found: dict[str, list] = {}
    for metric, axis, value in scope["read"](path, "north", "pump-2"):
        found.setdefault(metric, []).append((axis, value))
    assert set(found) == set(store_writes.METRICS)
    reader = StoreReader(path)
    for metric, parts in found.items():
        time_us, value = (np.concatenate(column) for column in zip(*parts, strict=True))
        expected = reader.raw("north", "pump-2", metric, 0, 1 << 62, 1_000_000)
        pairs = zip(time_us.tolist(), value.view(np.int64).tolist(), strict=True)
        wanted = zip(expected["time_us"].tolist(), expected["value"].view(np.int64).tolist(), strict=True)
        assert sorted(pairs) == sorted(wanted)
    reader.close()
