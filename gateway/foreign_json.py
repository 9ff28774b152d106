"""JSON of foreign devices to frames (contracts §3): three plain shapes and SenML (RFC 8428), strictly.

    {"temperature": 21.5, "door": true}                                   time of arrival
    {"ts": 1700000000, "values": {"temperature": 21.5}}                   s, ms, µs or ns, told by magnitude
    [{"ts": …, "values": {…}}, …]                                         a list of either
    [{"bn": "urn:dev:1:", "bt": 1700000000, "n": "temp", "v": 21.5}, …]   SenML

A foreign frame has epoch 0 and seq 0: there is nothing to deduplicate it by but its content.
"""

import json
from collections import OrderedDict
from dataclasses import dataclass
from hashlib import blake2b
from math import isfinite
from typing import Any, NoReturn

import numpy as np

from headwater.errors import DecodeError
from headwater.frame import Block, Frame, Ledger
from headwater.instant import TIME_MAX_US, TIME_MIN_US, US_PER_S, foreign_time_us
from headwater.names import is_metric
from headwater.reasons import ClockQuality, DeadLetterReason

SIZE_MAX_BYTES = 64 * 1024
READINGS_MAX = 8192
FUTURE_MAX_US = 300 * US_PER_S
_SENML_KEYS = frozenset({"bn", "bt", "bu", "bv", "bs", "bver", "n", "u", "v", "vb", "t", "ut"})
_RELATIVE_MAX_S = 1 << 28

Readings = dict[str, dict[int, float]]


@dataclass(frozen=True, slots=True)
class ForeignFrame:
    """A frame made of JSON; `has_own_time` is False where any reading took its time from the arrival."""

    frame: Frame
    has_own_time: bool


def read_json(payload: bytes, site: str, device: str, received_us: int) -> ForeignFrame:
    """Reads one JSON message.

    >>> read_json(b'{"temp": 21.5}', "north", "pump", 1_700_000_000_000_000).frame.blocks[0].metrics
    ('temp',)

    Raises:
        DecodeError: TOO_LARGE, PARSE, SCHEMA, NAME, NOT_FINITE, TIME_RANGE or LIMIT.
    """
    if len(payload) > SIZE_MAX_BYTES:
        raise DecodeError(DeadLetterReason.TOO_LARGE, f"JSON of {len(payload)} bytes; at most {SIZE_MAX_BYTES}")
    try:
        data = json.loads(payload.decode("utf-8"), parse_constant=_refuse_constant, object_pairs_hook=_unique)
    except DecodeError:
        raise
    except (ValueError, RecursionError) as error:
        raise DecodeError(DeadLetterReason.PARSE, f"JSON: {str(error)[:200]}") from error
    readings: Readings = {}
    items = data if isinstance(data, list) else [data]
    if not items:
        _refuse("an empty list")
    if isinstance(data, list) and _is_senml(items[0]):
        has_own_time = _read_senml(items, received_us, readings)
    else:
        told = [_read_plain(item, received_us, readings) for item in items]
        has_own_time = all(told)
    count = sum(len(series) for series in readings.values())
    frame = Frame(
        site,
        device,
        epoch=0,
        seq=0,
        created_us=received_us,
        clock=ClockQuality.UNSYNCED,
        oldest_seq=0,
        blocks=_blocks(readings),
        ledger=Ledger(acquired=count),
    )
    return ForeignFrame(frame, has_own_time)


class RecentContent:
    """Remembers the content of messages for a while, to recognise the same one coming again.

    >>> recent = RecentContent(window_us=10, count_max=100)
    >>> recent.is_new("north", "pump", b"{}", 0), recent.is_new("north", "pump", b"{}", 5)
    (True, False)
    >>> recent.is_new("north", "pump", b"{}", 50)
    True
    """

    def __init__(self, window_us: int, count_max: int) -> None:
        self._window_us = window_us
        self._count_max = count_max
        self._seen: OrderedDict[bytes, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._seen)

    def is_new(self, site: str, device: str, payload: bytes, now_us: int) -> bool:
        """Tells whether this content did not come within the window, and remembers it."""
        key = blake2b(f"{site}/{device}\0".encode() + payload, digest_size=16).digest()
        seen = self._seen
        while seen and now_us - next(iter(seen.values())) > self._window_us:
            seen.popitem(last=False)
        if key in seen:
            return False
        seen[key] = now_us
        if len(seen) > self._count_max:
            seen.popitem(last=False)
        return True


def _refuse(detail: str, reason: DeadLetterReason = DeadLetterReason.SCHEMA) -> NoReturn:
    raise DecodeError(reason, f"JSON: {detail}")


def _refuse_constant(text: str) -> NoReturn:
    _refuse(f"{text} is not a number", DeadLetterReason.NOT_FINITE)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        _refuse("a key comes twice")
    return result


def _number(value: Any, what: str) -> float:
    if type(value) not in {int, float}:
        _refuse(f"{what} is {type(value).__name__}, not a number")
    try:
        number = float(value)
    except OverflowError:
        number = float("inf")
    if not isfinite(number):
        _refuse(f"{what} is not finite", DeadLetterReason.NOT_FINITE)
    return number


def _value(value: Any, metric: str) -> float:
    if type(value) is bool:
        return float(value)
    return _number(value, f"the value of {metric[:140]!r}")


def _add(readings: Readings, metric: str, time_us: int, value: float, received_us: int) -> None:
    if not is_metric(metric):
        _refuse(f"{metric[:140]!r} can't name a metric", DeadLetterReason.NAME)
    if not TIME_MIN_US <= time_us < min(TIME_MAX_US, received_us + FUTURE_MAX_US):
        _refuse(f"time {time_us} µs lies before 2000 or in the future", DeadLetterReason.TIME_RANGE)
    series = readings.setdefault(metric, {})
    if time_us in series:
        _refuse(f"{metric!r} comes twice at one time")
    series[time_us] = value


def _read_plain(item: Any, received_us: int, readings: Readings) -> bool:
    """Adds one object's readings; returns whether it told its time."""
    if not isinstance(item, dict) or not item:
        _refuse("not an object with metrics")
    time_us, values = received_us, item
    has_time = "ts" in item
    if has_time:
        if item.keys() != {"ts", "values"} or not isinstance(item["values"], dict) or not item["values"]:
            _refuse('with "ts" there is one other key, "values", an object')
        stamp = foreign_time_us(_number(item["ts"], "ts"))
        if stamp is None:
            _refuse(f"ts {item['ts']!r} is no time between 2000 and 2100", DeadLetterReason.TIME_RANGE)
        time_us, values = stamp, item["values"]
    if len(values) > READINGS_MAX:
        _refuse(f"more than {READINGS_MAX} readings", DeadLetterReason.LIMIT)
    for metric, value in values.items():
        _add(readings, metric, time_us, _value(value, metric), received_us)
    return has_time


def _is_senml(item: Any) -> bool:
    return isinstance(item, dict) and any(isinstance(item.get(key), str) for key in ("n", "bn"))


def _read_senml(records: list[Any], received_us: int, readings: Readings) -> bool:
    """Adds a SenML pack; returns whether every record told an absolute time."""
    if len(records) > READINGS_MAX:
        _refuse(f"more than {READINGS_MAX} records", DeadLetterReason.LIMIT)
    base_name, base_time, base_value, is_absolute = "", 0.0, 0.0, True
    for record in records:
        if not isinstance(record, dict) or not record.keys() <= _SENML_KEYS:
            _refuse("SenML with numbers only: v and vb, no vs, vd, s or unknown keys")
        names = record.get("bn", base_name), record.get("n", "")
        if not all(isinstance(name, str) for name in names):
            _refuse("a SenML name is text")
        base_name = names[0]
        base_time = _number(record.get("bt", base_time), "bt")
        base_value = _number(record.get("bv", base_value), "bv")
        if "v" not in record and "vb" not in record:
            if "n" in record:
                _refuse(f"SenML record {names[1][:64]!r} has no value")
            continue
        time_s = base_time + _number(record.get("t", 0), "t")
        # RFC 8428, 4.5.3: smaller numbers are relative to now.
        is_absolute &= time_s >= _RELATIVE_MAX_S
        time_us = round(time_s * US_PER_S) + (0 if time_s >= _RELATIVE_MAX_S else received_us)
        metric = "".join(names)
        if "vb" in record:
            if "v" in record or type(record["vb"]) is not bool:
                _refuse("vb is true or false, and alone")
            value = float(record["vb"])
        else:
            value = _number(base_value + _number(record["v"], "v"), "v")
        _add(readings, metric, time_us, value, received_us)
    if not readings:
        _refuse("SenML without values")
    return is_absolute


def _blocks(readings: Readings) -> tuple[Block, ...]:
    """Metrics with the same times share a block; each ascends in time."""
    groups: dict[tuple[int, ...], list[str]] = {}
    for metric, series in readings.items():
        groups.setdefault(tuple(sorted(series)), []).append(metric)
    return tuple(
        Block(
            tuple(metrics),
            np.array(times, np.int64),
            np.array([[readings[metric][time_us] for time_us in times] for metric in metrics], np.float64),
        )
        for times, metrics in groups.items()
    )
