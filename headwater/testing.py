"""Doubles for tests and experiments: full peers of the real adapters, without IO."""


class ManualClock:
    """A clock that moves only when told.

    >>> clock = ManualClock(1_000_000)
    >>> clock.advance(500)
    >>> clock.now_us(), clock.monotonic_us()
    (1000500, 500)
    """

    def __init__(self, now_us: int = 1_700_000_000_000_000) -> None:
        self._now_us = now_us
        self._monotonic_us = 0

    def now_us(self) -> int:
        """Wall-clock time."""
        return self._now_us

    def monotonic_us(self) -> int:
        """Time since the clock was made."""
        return self._monotonic_us

    def advance(self, duration_us: int) -> None:
        """Lets time pass."""
        assert duration_us >= 0
        self._now_us += duration_us
        self._monotonic_us += duration_us

    def step_wall(self, by_us: int) -> None:
        """Sets the wall clock forward or back, as NTP does, without time passing."""
        self._now_us += by_us
