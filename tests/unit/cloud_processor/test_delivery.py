"""Rows first, then state: what a host may lose at any moment is nothing."""

import pytest

from cloud_processor.delivery import Delivery
from cloud_processor.gathered import Gathered
from cloud_processor.host_rows import HostRows
from cloud_processor.load import Load
from headwater.errors import ConnectError
from headwater.points import StoreWrite
from headwater.testing import ManualClock

EVERY_US = 1_000


class Peers:
    """A store and checkpoints in one diary; each refuses what it is told to."""

    def __init__(self) -> None:
        self.diary: list[str] = []
        self.away: set[str] = set()

    def _do(self, what: str, peer: str) -> None:
        if peer in self.away:
            raise ConnectError(peer)
        self.diary.append(what)

    def write(self, write: StoreWrite) -> None:
        self._do(f"write {sum(write.positions.values())}", "store")

    def load(self) -> dict[int, bytes]:
        return {}

    def save(self, checkpoints: dict[int, bytes]) -> None:
        self._do(f"save {checkpoints[0].decode()}", "checkpoints")

    def close(self) -> None:
        """Nothing to close."""


class Bench:
    """A host that counts the records that it has read; a round reads two, and may lose the log after the first."""

    def __init__(self) -> None:
        self.peers, self.clock = Peers(), ManualClock()
        self.position, self.log_ends_after = 0, 2
        self.load = Load(self.clock.monotonic_us())
        rows = HostRows("test", "", every_us=0, started_us=0)
        ports = (self.peers, self.peers, self.clock)
        self.delivery = Delivery(*ports, rows, self.load, save_every_us=EVERY_US)

    def read(self, found: Gathered) -> None:
        for number in range(2):
            if number >= self.log_ends_after:
                raise ConnectError("log")
            self.position += 1
            found.records += 1
            found.positions["log", "readings", 0] = self.position

    def step(self) -> int:
        return self.delivery.step(self.read, lambda: {0: str(self.position).encode()})


def test_state_is_saved_behind_its_rows_and_not_more_often_than_asked() -> None:
    it = Bench()
    assert [it.step(), it.step()] == [2, 2]
    it.clock.advance(EVERY_US)
    it.step()
    it.step()
    assert it.peers.diary == ["write 2", "write 4", "write 6", "save 6", "write 8"]
    assert (it.load.records, it.load.checkpoints) == (8, 1)


def test_what_a_store_that_is_away_did_not_take_is_neither_read_again_nor_saved() -> None:
    it = Bench()
    it.clock.advance(EVERY_US)
    it.peers.away = {"store"}
    for _ in range(3):
        with pytest.raises(ConnectError, match="store"):
            it.step()
    with pytest.raises(ConnectError, match="store"):
        it.delivery.save(lambda: {0: b"never"})
    assert (it.peers.diary, it.position, it.delivery.waiting) == ([], 2, 2)
    it.peers.away = set()
    assert it.step() == 2
    assert it.peers.diary == ["write 2", "save 2"]
    assert it.delivery.waiting == 0


def test_what_was_read_before_the_log_went_away_is_written() -> None:
    it = Bench()
    it.log_ends_after = 1
    assert it.step() == 1
    assert it.peers.diary == ["write 1"]
    it.log_ends_after = 0
    with pytest.raises(ConnectError, match="log"):
        it.step()
    assert it.peers.diary == ["write 1"]


def test_a_checkpoint_that_failed_is_saved_the_next_time_and_without_news_none_is() -> None:
    it = Bench()
    it.clock.advance(EVERY_US)
    it.peers.away = {"checkpoints"}
    with pytest.raises(ConnectError, match="checkpoints"):
        it.step()
    assert it.delivery.is_dirty
    it.peers.away = set()
    it.delivery.save(lambda: {0: b"2"})
    it.delivery.save(lambda: {0: b"again"})
    assert it.peers.diary == ["write 2", "save 2"]
