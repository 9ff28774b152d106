"""Times and durations: int64 microseconds since the epoch, UTC; people write "5s" and read ISO 8601.

No function here reads a clock (`headwater.io.clock_system` does).
"""

import re
from datetime import UTC, datetime

from headwater.errors import SettingsError

US_PER_S = 1_000_000
TIME_MIN_US = 946_684_800_000_000  # 2000-01-01: an earlier event time is a clock that was never set.
TIME_MAX_US = 4_102_444_800_000_000  # 2100-01-01.

_UNITS_US = {"us": 1, "ms": 1_000, "s": US_PER_S, "m": 60 * US_PER_S, "h": 3_600 * US_PER_S, "d": 86_400 * US_PER_S}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(us|ms|s|m|h|d)\s*")


def parse_duration_us(text: str) -> int:
    """Reads a duration such as "5s", "200ms" or "1.5h" into microseconds.

    >>> parse_duration_us("200ms"), parse_duration_us("1.5h")
    (200000, 5400000000)

    Raises:
        SettingsError: the text is not a duration.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise SettingsError(f'{text!r} is not a duration: write a number and us, ms, s, m, h or d, such as "5s"')
    return round(float(match[1]) * _UNITS_US[match[2]])


def format_duration(duration_us: int) -> str:
    """Writes a duration in the largest unit that divides it.

    >>> format_duration(60_000_000), format_duration(1_500)
    ('1m', '1500us')
    """
    for unit in ("d", "h", "m", "s", "ms"):
        if duration_us and duration_us % _UNITS_US[unit] == 0:
            return f"{duration_us // _UNITS_US[unit]}{unit}"
    return f"{duration_us}us"


def format_utc(time_us: int) -> str:
    """Writes a time as ISO 8601 UTC with microseconds.

    >>> format_utc(1_700_000_000_000_000)
    '2023-11-14T22:13:20.000000Z'
    """
    return (
        datetime.fromtimestamp(time_us // US_PER_S, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{time_us % US_PER_S:06d}Z"
    )


def foreign_time_us(number: float) -> int | None:
    """Reads a foreign time stamp whose unit its magnitude tells (s, ms, µs or ns); None outside 2000–2100.

    The four ranges don't overlap between 2000 and 2100, so there is exactly one reading.

    >>> foreign_time_us(1_700_000_000), foreign_time_us(1_700_000_000_123), foreign_time_us(12)
    (1700000000000000, 1700000000123000, None)
    """
    if not 0 < number < 1e20:
        return None
    for scale, divisor in ((US_PER_S, 1), (1_000, 1), (1, 1), (1, 1_000)):
        value = round(number * scale) if divisor == 1 else round(number) // divisor
        if TIME_MIN_US <= value < TIME_MAX_US:
            return value
    return None
