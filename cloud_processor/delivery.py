"""The order in which every host of ours makes things durable: what it stepped into the store first, then its state.

read ─▶ Gathered ─▶ one write to the store ─▶ (every so often) one checkpoint
"""

from collections.abc import Callable

from cloud_processor.gathered import Gathered
from cloud_processor.host_rows import CHECKPOINTS, LOG, STORE, HostRows
from cloud_processor.load import Load
from headwater.errors import ConnectError
from headwater.points import StoreWrite
from headwater.ports import Checkpoints, Clock, Store

States = Callable[[], dict[int, bytes]]


class Delivery:
    """Holds what was stepped until it is in the store, and saves state only behind that; for one thread.

    Args:
        store, checkpoints: where rows and state go.
        clock: for the interval between checkpoints and for latencies.
        rows, load: what the host tells of itself; both are counted here.
        save_every_us: time between checkpoints.

    Attributes:
        is_dirty: the state is another than the one that was saved.
    """

    def __init__(
        self, store: Store, checkpoints: Checkpoints, clock: Clock, rows: HostRows, load: Load, *, save_every_us: int
    ) -> None:
        self._store, self._checkpoints, self._clock = store, checkpoints, clock
        self._rows, self._load = rows, load
        self._save_every_us = save_every_us
        self._pending: StoreWrite | None = None
        self._records = 0
        self.is_dirty = False

    @property
    def waiting(self) -> int:
        """Records that were stepped and are not yet in the store."""
        return 0 if self._pending is None else self._records

    def step(self, read: Callable[[Gathered], object], states: States) -> int:
        """Lets `read` gather what one write may hold, writes it, saves if it is time; returns how many records that were.

        `states` gives the state of every shard, packed.

        Raises:
            ConnectError: a peer is away; nothing is lost, call again.
        """
        if self._pending is None:
            self._gather(read)
        records = self._flush()
        if self.is_dirty and self._clock.monotonic_us() - self._load.saved_us >= self._save_every_us:
            self.save(states)
        return records

    def save(self, states: States) -> None:
        """Saves the state, after the rows that it stands for are in the store.

        Raises:
            ConnectError: a peer is away; call again.
        """
        self._flush()
        if not self.is_dirty:
            return
        packed = states()
        with self._rows.attempt(CHECKPOINTS):
            self._checkpoints.save(packed)
        self.is_dirty = False
        self._load.saved_us = self._clock.monotonic_us()
        self._load.checkpoints += 1
        self._load.checkpoint_bytes = sum(map(len, packed.values()))

    def _gather(self, read: Callable[[Gathered], object]) -> None:
        """Gathers a write: rows of the host about itself that wait, and what it reads."""
        found = Gathered(tables=self._rows.take())
        try:
            with self._rows.attempt(LOG):
                read(found)
        except ConnectError:
            # What was stepped before must reach the store: the host has moved on and won't step it again.
            if found.is_empty:
                raise
        if found.records:
            self.is_dirty = True
        if not found.is_empty:
            self._pending, self._records = found.write(), found.records

    def _flush(self) -> int:
        """Writes what waits; returns how many records that were."""
        if self._pending is None:
            return 0
        with self._rows.attempt(STORE):
            self._store.write(self._pending)
        now_us = self._clock.now_us()
        for batch in self._pending.telemetry:
            self._rows.stored(*self._load.stored(batch, now_us))
        self._pending = None
        self._load.records += self._records
        return self._records
