"""How far the device's clock can be trusted, and whether it was set while the agent ran."""

from headwater.instant import TIME_MIN_US, US_PER_S
from headwater.reasons import ClockQuality

HOLDOVER_MAX_US = 24 * 3_600 * US_PER_S
SETTLING_US = 60 * US_PER_S


class ClockWatch:
    """Follows the wall clock against the monotonic one.

    Quality is SYNCED while the system says so, HOLDOVER for a day after it last did, CORRECTED for a minute after
    the wall clock was set by more than `step_max_us`, else UNSYNCED (also before 2000: a board without a clock).

    >>> watch = ClockWatch(step_max_us=2_000_000)
    >>> watch.observe(1_700_000_000_000_000, 0, is_synced=False)
    0
    >>> watch.quality
    <ClockQuality.UNSYNCED: 0>
    >>> watch.observe(1_700_000_100_000_000, 1_000_000, is_synced=True)
    99000000
    >>> watch.quality
    <ClockQuality.CORRECTED: 2>
    """

    def __init__(self, step_max_us: int) -> None:
        self._step_max_us = step_max_us
        self._offset_us: int | None = None
        self._stepped_us: int | None = None
        self._synced_us: int | None = None
        self.quality = ClockQuality.UNSYNCED
        self.steps = 0

    def observe(self, now_us: int, monotonic_us: int, *, is_synced: bool | None) -> int:
        """Takes a look at both clocks; returns by how much the wall clock was set since the last look, 0 if it was not.

        `is_synced` is None where the system can't tell.
        """
        offset_us = now_us - monotonic_us
        step_us = 0 if self._offset_us is None else offset_us - self._offset_us
        if abs(step_us) > self._step_max_us:
            self.steps += 1
            self._stepped_us = monotonic_us
        else:
            step_us = 0
        self._offset_us = offset_us
        if is_synced:
            self._synced_us = monotonic_us
        self.quality = self._judged(now_us, monotonic_us)
        return step_us

    def _judged(self, now_us: int, monotonic_us: int) -> ClockQuality:
        if now_us < TIME_MIN_US:
            return ClockQuality.UNSYNCED
        if self._stepped_us is not None and monotonic_us - self._stepped_us < SETTLING_US:
            return ClockQuality.CORRECTED
        if self._synced_us is None or monotonic_us - self._synced_us > HOLDOVER_MAX_US:
            return ClockQuality.UNSYNCED
        return ClockQuality.SYNCED if self._synced_us == monotonic_us else ClockQuality.HOLDOVER
