"""A store on an InfluxDB, its books and a clock that tests move."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from headwater.batch import Batch, DeadLetter
from headwater.io.store_influx import InfluxStore
from headwater.io.store_influx_options import InfluxAddress, InfluxOptions
from headwater.io.store_sqlite_books import Books
from headwater.io.store_sqlite_query import StoreReader
from headwater.points import StoreWrite
from headwater.testing import ManualClock

T0_US = 1_700_000_000_000_000


def batch(n: int = 16, start_us: int = T0_US) -> Batch:
    """One frame with n readings of one metric, their values 0, 1, 2 …"""
    at, one = start_us + np.arange(n) * 1_000_000, np.ones(1, np.int64)
    return Batch(
        0, (("north", "pump-1"),), ("flow",), np.zeros(1, np.int32), np.full(1, 7, np.uint64), one, one * T0_US,
        one * T0_US, np.zeros(1, np.uint8), one, np.array([0, n]), np.zeros(n, np.int32), at, np.arange(n) * 1.0,
        np.zeros(n, np.uint8), np.zeros(2, np.int64), np.zeros((1, 4), np.int64), np.zeros(1, np.int32), T0_US,
    )  # fmt: skip


class Rig:
    """A store over a server, and its books."""

    def __init__(self, url: str, folder: Path, **options: object) -> None:
        self.clock = ManualClock()
        self.options = replace(InfluxOptions(InfluxAddress(url)), **options)  # type: ignore[arg-type]
        self.store = InfluxStore(self.options, Books(folder / "store.db"), self.clock)
        self.reader = StoreReader(folder / "store.db")

    def letters(self) -> list[DeadLetter]:
        rows = self.reader.dead_letters(100_000)
        return sorted((DeadLetter(**row) for row in rows), key=lambda letter: letter.at_us)

    def is_stored(self, write: StoreWrite) -> bool:
        positions: dict[tuple[str, str, int], int] = self.reader.positions()
        return all(positions.get(place) == offset for place, offset in write.positions.items())


@contextmanager
def rig(url: str, folder: Path, **options: object) -> Iterator[Rig]:
    made = Rig(url, folder, **options)
    try:
        yield made
    finally:
        made.reader.close()
        made.store.close()


WRITE = StoreWrite((batch(),), positions={("log", "headwater.readings", 3): 9})
