"""The system's clock: the one place that reads the wall clock."""

import time


class SystemClock:
    """Reads CLOCK_REALTIME and CLOCK_BOOTTIME."""

    def now_us(self) -> int:
        """Wall-clock time, microseconds since the epoch, UTC."""
        return time.time_ns() // 1_000

    def monotonic_us(self) -> int:
        """Microseconds since boot, suspend included."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000
