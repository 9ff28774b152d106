"""The metrics of one Sparkplug message as readings; every one of them ends as a reading, left out or refused."""

from collections import Counter
from dataclasses import dataclass, field
from math import isfinite

from gateway.foreign_frame import Qualities, Readings, is_in_time
from gateway.sparkplug_table import Definition, NodeTable
from headwater.errors import DecodeError
from headwater.quality import Quality
from headwater.reasons import DeadLetterReason, LeftOutReason
from headwater.sparkplug_codec import (
    QUALITY_BAD,
    QUALITY_STALE,
    SparkplugMetric,
    SparkplugPayload,
    is_number,
    is_text,
    number_of,
)
from headwater.sparkplug_schema import DataType
from headwater.sparkplug_topic import is_control

US_PER_MS = 1_000
# The largest time in milliseconds that is still an int64 of microseconds.
_TIME_MAX_MS = (1 << 63) // US_PER_MS - 1


@dataclass(slots=True)
class Values:
    """What became of the metrics of one message: `count` = readings + left out + refused.

    Attributes:
        readings, qualities: what is admitted, {metric: {time_us: value}}, and where it is not good.
        left_out: how many by reason.
        refused: how many by reason, and the first detail of each.
        count: metrics in the message.
        historical: readings among them that are flagged as such.
        has_own_time: no reading took its time from the arrival.
        undeclared: metrics that said themselves what they are, but no birth did.
        is_birth: the message is a birth.
    """

    readings: Readings = field(default_factory=dict)
    qualities: Qualities = field(default_factory=dict)
    left_out: Counter[LeftOutReason] = field(default_factory=Counter)
    refused: dict[DeadLetterReason, tuple[int, str]] = field(default_factory=dict)
    count: int = 0
    historical: int = 0
    has_own_time: bool = True
    undeclared: int = 0
    is_birth: bool = False

    def refuse(self, reason: DeadLetterReason, detail: str, metrics: int = 1) -> None:
        """Counts metrics as refused; the first detail of a reason stays."""
        number, first = self.refused.get(reason, (0, detail))
        self.refused[reason] = number + metrics, first

    @property
    def reading_count(self) -> int:
        """Readings that are admitted."""
        return sum(len(series) for series in self.readings.values())


def all_refused(payload: SparkplugPayload, reason: DeadLetterReason, detail: str) -> Values:
    """What becomes of a message that is refused as a whole."""
    values = Values(count=len(payload.metrics))
    values.refuse(reason, detail, len(payload.metrics))
    return values


def all_left_out(payload: SparkplugPayload, reason: LeftOutReason) -> Values:
    """What becomes of a message whose metrics say nothing new."""
    return Values(count=len(payload.metrics), left_out=Counter({reason: len(payload.metrics)}))


def read_values(
    table: NodeTable,
    device: str,
    payload: SparkplugPayload,
    received_us: int,
    *,
    in_doubt: bool = False,
    is_birth: bool = False,
) -> Values:
    """Resolves and checks every metric of a message of a device, and notes the newest readings in the table.

    With `in_doubt` (a message before this one is missing) what an alias stands for may have changed: such readings are
    of quality UNCERTAIN_GAP.
    """
    values = Values(count=len(payload.metrics), is_birth=is_birth)
    for metric in payload.metrics:
        if is_control(metric.name):
            values.left_out[LeftOutReason.CONTROL] += 1
            continue
        definition = _definition(table, device, metric, values)
        if definition is None:
            who = repr(metric.name[:140]) if metric.name else f"alias {metric.alias}"
            values.refuse(DeadLetterReason.ALIAS, f"no birth says what {who} is")
        elif is_control(definition.name):
            values.left_out[LeftOutReason.CONTROL] += 1
        elif (why := _left_out(metric, definition)) is not None:
            values.left_out[why] += 1
        else:
            doubted = in_doubt and not metric.name
            _read(metric, definition, payload.time_ms, received_us, values, doubted=doubted)
    return values


def _definition(table: NodeTable, device: str, metric: SparkplugMetric, values: Values) -> Definition | None:
    definition = table.find(device, metric)
    tells_itself = bool(metric.name) and metric.datatype is not DataType.UNKNOWN
    if definition is not None and (table.is_born(device) or tells_itself):
        return definition
    if not tells_itself:
        return None
    values.undeclared += 1
    return table.add(device, metric)


def _quality(told: int | None, *, doubted: bool) -> Quality:
    """The property Quality as a quality here: 0 is bad, 500 (stale) is uncertain, anything else is good."""
    if told == QUALITY_BAD:
        return Quality.BAD
    if told == QUALITY_STALE:
        return Quality.UNCERTAIN
    return Quality.UNCERTAIN_GAP if doubted else Quality.GOOD


def _left_out(metric: SparkplugMetric, definition: Definition) -> LeftOutReason | None:
    if is_text(definition.datatype):
        return LeftOutReason.TEXT
    if not is_number(definition.datatype):
        return LeftOutReason.KIND
    if not definition.metric:
        return LeftOutReason.NAME
    return LeftOutReason.NULL if metric.is_null else None


def _read(
    metric: SparkplugMetric,
    definition: Definition,
    payload_ms: int | None,
    received_us: int,
    values: Values,
    *,
    doubted: bool,
) -> None:
    called, time_ms = definition.metric, metric.time_ms if metric.time_ms is not None else payload_ms
    if metric.datatype not in {DataType.UNKNOWN, definition.datatype}:
        detail = f"{called!r} is {metric.datatype.name} here and {definition.datatype.name} in its birth"
        values.refuse(DeadLetterReason.SCHEMA, detail)
        return
    try:
        value = number_of(metric, definition.datatype)
    except DecodeError as error:
        values.refuse(error.reason, f"{called!r}: {error.detail}")
        return
    time_us = received_us if time_ms is None else min(time_ms, _TIME_MAX_MS) * US_PER_MS
    if not isfinite(value):
        values.refuse(DeadLetterReason.NOT_FINITE, f"{called!r} is not finite")
        return
    if not is_in_time(time_us, received_us):
        values.refuse(DeadLetterReason.TIME_RANGE, f"{called!r}: {time_us} µs lies before 2000 or in the future")
        return
    series = values.readings.get(called, {})
    known = (definition.time_us, definition.value), definition.born_as
    if values.is_birth:
        definition.born_as = time_us, value
    if (time_us, value) in known or series.get(time_us) == value:
        values.left_out[LeftOutReason.REPEAT] += 1
        return
    if time_us in series:
        values.refuse(DeadLetterReason.SCHEMA, f"{called!r} comes twice at one time")
        return
    values.readings.setdefault(called, series)[time_us] = value
    values.historical += metric.is_historical
    values.has_own_time &= time_ms is not None
    if (quality := _quality(metric.quality, doubted=doubted)) is not Quality.GOOD:
        values.qualities[called, time_us] = quality
    if time_us >= definition.time_us:
        definition.time_us, definition.value = time_us, value
