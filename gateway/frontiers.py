"""Which frames are in the log, per device and epoch: for durable acks of level "backbone"."""

from collections.abc import Iterable

from headwater.batch import Batch
from headwater.frontier import Frontier
from headwater.ports import FrontierRow


class FrontierBook:
    """Follows batches that have been appended.

    Numbers below a frame's `oldest_seq` are acknowledged already or declared as gaps, so the mark starts there.
    """

    def __init__(self) -> None:
        self._frontiers: dict[tuple[str, str, int], Frontier] = {}

    def note(self, batches: Iterable[Batch]) -> list[FrontierRow]:
        """Adds the frames of batches, and dead letters with an identity; returns the rows that changed."""
        changed: dict[tuple[str, str, int], Frontier] = {}
        for batch in batches:
            columns = (batch.device.tolist(), batch.epoch.tolist(), batch.seq.tolist(), batch.oldest_seq.tolist())
            for at, epoch, seq, oldest_seq in zip(*columns, strict=True):
                if seq:
                    key = (*batch.devices[at], epoch)
                    changed[key] = self._add(key, seq, oldest_seq)
            for letter in batch.dead_letters:
                if letter.seq:
                    key = (letter.site, letter.device, letter.epoch)
                    changed[key] = self._add(key, letter.seq, 1)
        return [FrontierRow(*key, frontier.contiguous, tuple(frontier.ranges)) for key, frontier in changed.items()]

    def _add(self, key: tuple[str, str, int], seq: int, oldest_seq: int) -> Frontier:
        frontier = self._frontiers.setdefault(key, Frontier())
        if oldest_seq - 1 > frontier.contiguous:
            frontier.add_range(1, oldest_seq - 1)
        if not frontier.is_full or seq in frontier or seq == frontier.contiguous + 1:
            frontier.add(seq)
        return frontier
