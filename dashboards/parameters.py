"""Parameters of the page's API: each is read, bounded and refused in one sentence."""

import math
from collections.abc import Mapping
from typing import Any

from headwater.errors import HeadwaterError
from headwater.names import is_metric, is_name

NUMBER_LENGTH_MAX = 20


class BadRequestError(HeadwaterError):
    """A request breaks the API's bounds; carries the HTTP status."""

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def name_of(values: Mapping[str, Any], key: str) -> str:
    """Returns a site's or device's name.

    Raises:
        BadRequestError: it is missing or no name.
    """
    text = values.get(key, "")
    if not isinstance(text, str) or not is_name(text):
        raise BadRequestError(f"{key} must be a name of a-z, 0-9, _ and -")
    return text


def optional_name(values: Mapping[str, Any], key: str) -> str | None:
    """Returns a name, or None where none is given."""
    return name_of(values, key) if values.get(key) else None


def metric_of(values: Mapping[str, Any], key: str = "metric") -> str:
    """Returns a metric's name.

    Raises:
        BadRequestError: it is missing or no name.
    """
    text = values.get(key, "")
    if not isinstance(text, str) or not is_metric(text):
        raise BadRequestError(f"{key} must be the name of a metric")
    return text


def integer_of(values: Mapping[str, Any], key: str, default: int, lo: int, hi: int) -> int:
    """Returns an integer of `[lo, hi]`, `default` where none is given.

    >>> integer_of({"limit": "20"}, "limit", 100, 1, 1000)
    20

    Raises:
        BadRequestError: it is no integer or out of bounds.
    """
    text = values.get(key)
    if text is None or text == "":
        return default
    digits = str(text)
    if (
        len(digits) > NUMBER_LENGTH_MAX
        or not digits.removeprefix("-").isascii()
        or not digits.removeprefix("-").isdigit()
    ):
        raise BadRequestError(f"{key} must be an integer from {lo} to {hi}")
    number = int(digits)
    if not lo <= number <= hi:
        raise BadRequestError(f"{key} is {number}, but must be from {lo} to {hi}")
    return number


def number_of(values: Mapping[str, Any], key: str, default: float, lo: float, hi: float) -> float:
    """Returns a finite number of `[lo, hi]` from parsed JSON.

    Raises:
        BadRequestError: it is no number or out of bounds.
    """
    value = values.get(key, default)
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not math.isfinite(value)
        or not lo <= value <= hi
    ):
        raise BadRequestError(f"{key} must be a number from {lo} to {hi}")
    return float(value)


def range_of(values: Mapping[str, Any], now_us: int, default_us: int, range_max_us: int) -> tuple[int, int]:
    """Returns `[start_us, end_us)`: `default_us` up to now where none is given.

    Raises:
        BadRequestError: the range is empty or longer than `range_max_us`.
    """
    end_us = integer_of(values, "end_us", now_us, 0, 1 << 53)
    start_us = integer_of(values, "start_us", max(0, end_us - default_us), 0, 1 << 53)
    if start_us >= end_us:
        raise BadRequestError(f"start_us {start_us} must lie before end_us {end_us}")
    if end_us - start_us > range_max_us:
        raise BadRequestError(f"the range is {end_us - start_us} µs long, but must be at most {range_max_us}")
    return start_us, end_us
