"""How long the same request is repeated to a peer that fails on it, before what is in the request is looked at."""

from dataclasses import dataclass


@dataclass(slots=True)
class Patience:
    """Counts failures of one request in a row; time is an argument.

    Attributes:
        failures_min: so many failures at least, and
        span_us: so long after the first of them, patience is at its end.
        failures: in a row.
        since_us: when the first of them was.

    >>> patience = Patience(2, 1_000)
    >>> for now_us in (0, 400, 1_000):
    ...     patience.failed(now_us)
    >>> patience.is_over(1_000), patience.is_over(999)
    (True, False)
    """

    failures_min: int
    span_us: int
    failures: int = 0
    since_us: int = 0

    def failed(self, now_us: int) -> None:
        """Notes a failure."""
        if not self.failures:
            self.since_us = now_us
        self.failures += 1

    def is_over(self, now_us: int) -> bool:
        """Tells whether it is time to look closer."""
        return self.failures >= self.failures_min and now_us - self.since_us >= self.span_us

    def restart(self) -> None:
        """Forgets the failures: something else happened."""
        self.failures = 0
