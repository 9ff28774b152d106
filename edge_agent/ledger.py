"""The device's account of readings: every sample that a source delivered has exactly one fate (contracts §1).

    acquired = sent in frames + suppressed + aggregated + dropped

A reading enters the account when its fate is settled. A suppressed sample that is young enough to be sent after all
around an anomaly is not: so no figure ever has to be taken back.
"""

from collections import Counter
from collections.abc import Mapping

from headwater.frame import Ledger
from headwater.reasons import DropReason


class Account:
    """Gathers fates between two frames.

    >>> account = Account()
    >>> account.suppress(5)
    >>> account.close(revocable=2).suppressed, account.close(revocable=0).suppressed
    (3, 2)
    >>> account.is_open
    False
    """

    def __init__(self) -> None:
        self._suppressed = 0
        self._declared = 0
        self._aggregated = 0
        self._dropped: Counter[str] = Counter()

    def suppress(self, readings: int) -> None:
        """Counts readings that were left out; negative for those that are sent after all."""
        self._suppressed += readings

    def aggregate(self, readings: int) -> None:
        """Counts readings that summaries stand for."""
        self._aggregated += readings

    def drop(self, counts: Mapping[str, int]) -> None:
        """Counts readings that are given up, by DropReason."""
        self._dropped.update({reason: count for reason, count in counts.items() if count})

    def refuse(self, readings: int, ledger: Ledger) -> None:
        """Takes back what a frame said that was not accepted; its readings are given up."""
        self._suppressed += ledger.suppressed
        self.drop(ledger.dropped)
        self.drop({DropReason.SPOOL_REFUSED.value: readings + ledger.aggregated})

    @property
    def dropped(self) -> int:
        """Readings given up since the last frame."""
        return sum(self._dropped.values())

    @property
    def is_open(self) -> bool:
        """True while some fate has not been told by a frame yet."""
        return bool(self._suppressed != self._declared or self._aggregated or self.dropped)

    def close(self, revocable: int) -> Ledger:
        """Returns what is settled since the last call; `revocable` suppressed readings may still be sent.

        The ledger's `acquired` counts only what it says itself; whoever makes the frame adds the readings in it.
        """
        suppressed = max(0, self._suppressed - self._declared - revocable)
        self._declared += suppressed
        dropped = dict(sorted(self._dropped.items()))
        aggregated = self._aggregated
        self._aggregated = 0
        self._dropped = Counter()
        return Ledger(suppressed + aggregated + sum(dropped.values()), suppressed, aggregated, dropped)
