"""JSON of foreign devices to frames (contracts §3): three plain shapes and SenML (RFC 8428), strictly.

    {"temperature": 21.5, "door": true}                                   time of arrival
    {"ts": 1700000000, "values": {"temperature": 21.5}}                   s, ms, µs or ns, told by magnitude
    [{"ts": …, "values": {…}}, …]                                         a list of either
    [{"bn": "urn:dev:1:", "bt": 1700000000, "n": "temp", "v": 21.5}, …]   SenML

A foreign frame has epoch 0 and seq 0: there is nothing to deduplicate it by but its content.
"""

import json
from collections import OrderedDict
from hashlib import blake2b
from math import isfinite
from typing import Any, NoReturn

from gateway.foreign_frame import ForeignFrame, Readings, is_in_time, make_frame
from headwater.errors import DecodeError
from headwater.instant import US_PER_S, foreign_time_us
from headwater.names import is_metric
from headwater.reasons import DeadLetterReason

SIZE_MAX_BYTES = 64 * 1024
READINGS_MAX = 8192
SENML_VERSION = 10
_SENML_NO_NUMBERS = frozenset({"vs", "vd", "s"})
_RELATIVE_MAX_S = 1 << 28


def read_json(payload: bytes, site: str, device: str, received_us: int) -> ForeignFrame:
    """Reads one JSON message.

    >>> read_json(b'{"temp": 21.5}', "north", "pump", 1_700_000_000_000_000).frame.blocks[0].metrics
    ('temp',)

    Raises:
        DecodeError: TOO_LARGE, PARSE, VERSION, SCHEMA, NAME, NOT_FINITE, TIME_RANGE or LIMIT.
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
    if isinstance(data, list) and any(_is_senml(item) for item in items):
        has_own_time = _read_senml(items, received_us, readings)
    else:
        told = [_read_plain(item, received_us, readings) for item in items]
        has_own_time = all(told)
    return ForeignFrame(make_frame(site, device, readings, received_us), has_own_time)


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
    if not is_in_time(time_us, received_us):
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


def _check_senml(record: Any) -> None:
    """RFC 8428, 4.4: a newer version is not to be used, nor is a key that ends in _ and says something unknown."""
    if not isinstance(record, dict) or not record.keys().isdisjoint(_SENML_NO_NUMBERS):
        _refuse("SenML with numbers only: v and vb, no vs, vd or s")
    if any(key.endswith("_") for key in record):
        _refuse("a SenML key that ends in _ must be understood, and none is")
    version = record.get("bver", SENML_VERSION)
    if type(version) is not int or version < 1:
        _refuse("bver is a positive integer")
    if version > SENML_VERSION:
        _refuse(f"SenML version {version}; this reads {SENML_VERSION}", DeadLetterReason.VERSION)


def _read_senml(records: list[Any], received_us: int, readings: Readings) -> bool:
    """Adds a SenML pack; returns whether every record told an absolute time."""
    if len(records) > READINGS_MAX:
        _refuse(f"more than {READINGS_MAX} records", DeadLetterReason.LIMIT)
    base_name, base_time, base_value, is_absolute = "", 0.0, 0.0, True
    for record in records:
        _check_senml(record)
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
