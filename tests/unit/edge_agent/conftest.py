"""What tests of the agent as a Sparkplug node start from."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sparkplug_bench import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.spool.close()
