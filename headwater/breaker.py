"""When to leave a peer alone that fails again and again, so that a dead one costs next to nothing.

closed ──failures_max in a row──▶ open ──after a while──▶ one try ──good──▶ closed
                                   ▲                          │
                                   └───────twice as long──────┘
"""

from dataclasses import dataclass


@dataclass(slots=True)
class Breaker:
    """Counts failures in a row; time is an argument.

    Attributes:
        failures_max: so many failures in a row pass without a pause.
        pause_us: the first pause; doubled by each further failure.
        pause_max_us: the longest one.
        failures: in a row.
        until_us: no try before then.

    >>> breaker = Breaker(1, 1_000, 4_000)
    >>> for now_us in (0, 0, 1_000, 3_000, 7_000):
    ...     breaker.failed(now_us)
    >>> breaker.wait_us(7_500)
    3500
    """

    failures_max: int
    pause_us: int
    pause_max_us: int
    failures: int = 0
    until_us: int = 0

    def wait_us(self, now_us: int) -> int:
        """Returns how long to leave the peer alone; 0 to try now."""
        return max(self.until_us - now_us, 0)

    def failed(self, now_us: int, asked_us: int = 0) -> None:
        """Notes a failure; `asked_us` is how long the peer itself asked to be left alone."""
        self.failures += 1
        over = self.failures - self.failures_max - 1
        pause_us = 0 if over < 0 else min(self.pause_us << min(over, 40), self.pause_max_us)
        self.until_us = now_us + max(pause_us, asked_us)

    def succeeded(self) -> None:
        """Forgets the failures."""
        self.failures = self.until_us = 0
