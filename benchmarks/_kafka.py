"""A Kafka of one node for benchmarks, by the script that starts it for everyone."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from headwater.errors import SettingsError

SCRIPTS = Path(__file__).parents[1] / "scripts"


def script() -> ModuleType:
    """The module scripts/kafka.py."""
    if str(SCRIPTS) not in sys.path:
        sys.path.insert(0, str(SCRIPTS))
    import kafka  # type: ignore[import-not-found]  # noqa: PLC0415 — found only now.

    return kafka  # type: ignore[no-any-return]


def lacking() -> str:
    """Says why no Kafka can be started here, "" if one can."""
    return str(script().lacking())


@contextlib.contextmanager
def running(folder: Path) -> Iterator[str]:
    """Runs a node over a folder; gives its URL, kafka://127.0.0.1:PORT.

    Raises:
        SettingsError: what it needs is not installed.
    """
    if reason := lacking():
        raise SettingsError(f"no Kafka to measure on: {reason}")
    cluster = script().Cluster(folder / "kafka", is_tied=True)
    cluster.start()
    try:
        yield str(cluster.url)
    finally:
        cluster.stop()
