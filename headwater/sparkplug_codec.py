"""Sparkplug B payloads to data and back (specification 3.0, chapter 6), bounded before anything is believed.

A value is read by its data type: numbers and booleans as numbers, text as text, everything else as None, which says that
it is there and of a kind that is not kept.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from headwater.errors import DecodeError
from headwater.reasons import DeadLetterReason
from headwater.sparkplug_schema import DataType, PayloadMessage, PropertySetMessage, ProtobufError

SIZE_MAX_BYTES = 512 * 1024
METRICS_MAX = 16_384
NAME_BYTES_MAX = 512
PROPERTIES_BYTES_MAX = 16 * 1024
PROPERTIES_MAX = 64
UNIT_CHARS_MAX = 32
COMPRESSED_UUID = b"SPBV1.0_COMPRESSED"

_BITS = {
    DataType.INT8: 8,
    DataType.INT16: 16,
    DataType.INT32: 32,
    DataType.INT64: 64,
    DataType.UINT8: 8,
    DataType.UINT16: 16,
    DataType.UINT32: 32,
    DataType.UINT64: 64,
}
QUALITY_BAD, QUALITY_GOOD, QUALITY_STALE = 0, 192, 500
_SIGNED = frozenset({DataType.INT8, DataType.INT16, DataType.INT32, DataType.INT64})
_NUMBERS = frozenset({*_BITS, DataType.FLOAT, DataType.DOUBLE, DataType.BOOLEAN})
_TEXTS = frozenset({DataType.STRING, DataType.TEXT, DataType.UUID})
_FIELDS = frozenset({"int_value", "long_value", "float_value", "double_value", "boolean_value"})


@dataclass(frozen=True, slots=True)
class SparkplugMetric:
    """One metric of a payload.

    Attributes:
        name: "" where only the alias is given.
        alias: None where none is given.
        time_ms: since 1970, None where absent.
        datatype: UNKNOWN where absent or of a number nobody knows.
        raw: the value as protobuf holds it; None for a null or for a kind that is not kept.
        field: which alternative held it, "" where none did.
        is_historical, is_null: as flagged; a metric without any value counts as null.
        unit: the property engUnit, "" where there is none.
        quality: the property Quality, None where there is none: 192 good, 0 bad, 500 stale.
    """

    name: str
    alias: int | None = None
    time_ms: int | None = None
    datatype: DataType = DataType.UNKNOWN
    raw: float | str | None = None
    field: str = ""
    is_historical: bool = False
    is_null: bool = False
    unit: str = ""
    quality: int | None = None


@dataclass(frozen=True, slots=True)
class SparkplugPayload:
    """A payload.

    Attributes:
        time_ms, seq: None where absent.
        metrics: in order.
        frame, status: extensions of Headwater's own agents: the native frame that the metrics were made of, and the
            status message that goes with a birth; b"" from everybody else.
    """

    time_ms: int | None
    seq: int | None
    metrics: tuple[SparkplugMetric, ...] = ()
    frame: bytes = b""
    status: bytes = b""


def is_number(datatype: DataType) -> bool:
    """Tells whether values of this type become readings."""
    return datatype in _NUMBERS


def is_text(datatype: DataType) -> bool:
    """Tells whether values of this type are text."""
    return datatype in _TEXTS


def number_of(metric: SparkplugMetric, datatype: DataType) -> float:
    """Returns a metric's value as a number, by its data type; negative integers are two's complement on the wire.

    >>> number_of(SparkplugMetric("a", raw=0xFFFF_FFFE, field="int_value"), DataType.INT16)
    -2.0

    Raises:
        DecodeError: SCHEMA where the value is not of that type, or beyond its range.
    """
    raw, field = metric.raw, metric.field
    if datatype is DataType.BOOLEAN:
        if field == "boolean_value" and raw is not None:
            return float(raw)
    elif datatype in {DataType.FLOAT, DataType.DOUBLE}:
        if field in {"float_value", "double_value"} and raw is not None:
            return float(raw)
    elif datatype in _BITS and field in {"int_value", "long_value"}:
        assert isinstance(raw, int)
        return float(_integer(raw, _BITS[datatype], is_signed=datatype in _SIGNED, is_long=field == "long_value"))
    raise DecodeError(DeadLetterReason.SCHEMA, f"{field or 'no value'} where {datatype.name} is declared")


def _integer(raw: int, bits: int, *, is_signed: bool, is_long: bool) -> int:
    """Reads an integer; a negative one may be written in its own width or in that of the field."""
    if not is_signed:
        if raw >> bits:
            raise DecodeError(DeadLetterReason.SCHEMA, f"{raw} has more than {bits} bits")
        return raw
    for width in {bits, 32, 64 if is_long else 32}:
        if width >= bits and raw < 1 << width:
            value = raw - (1 << width) if raw >> (width - 1) else raw
            if -(1 << (bits - 1)) <= value < 1 << (bits - 1):
                return value
    raise DecodeError(DeadLetterReason.SCHEMA, f"{raw} has more than {bits} bits")


def decode_payload(data: bytes) -> SparkplugPayload:
    """Reads a payload.

    >>> metric = SparkplugMetric("temp", 1, 5, DataType.DOUBLE, 21.5, "double_value")
    >>> decode_payload(encode_payload(SparkplugPayload(7, 0, (metric,)))).metrics == (metric,)
    True

    Raises:
        DecodeError: TOO_LARGE, PARSE, VERSION (compressed), LIMIT or SCHEMA.
    """
    if len(data) > SIZE_MAX_BYTES:
        raise DecodeError(
            DeadLetterReason.TOO_LARGE, f"Sparkplug payload of {len(data)} bytes; at most {SIZE_MAX_BYTES}"
        )
    try:
        message: Any = PayloadMessage.FromString(data)
    except ProtobufError as error:
        raise DecodeError(DeadLetterReason.PARSE, "not a Sparkplug B payload") from error
    if message.uuid == COMPRESSED_UUID:
        raise DecodeError(DeadLetterReason.VERSION, "a compressed Sparkplug payload; send it plain")
    if len(message.metrics) > METRICS_MAX:
        raise DecodeError(DeadLetterReason.LIMIT, f"{len(message.metrics)} metrics; at most {METRICS_MAX} in a payload")
    seq = message.seq if message.HasField("seq") else None
    if seq is not None and seq > 255:
        raise DecodeError(DeadLetterReason.SCHEMA, f"seq {seq} is not within 0 to 255")
    return SparkplugPayload(
        message.timestamp if message.HasField("timestamp") else None,
        seq,
        tuple(_read_metric(metric) for metric in message.metrics),
        message.frame,
        message.status,
    )


def _read_metric(metric: Any) -> SparkplugMetric:
    field = metric.WhichOneof("value") or ""
    raw: float | str | None = None
    if field in _FIELDS:
        raw = getattr(metric, field)
    elif field == "string_value":
        raw = ""  # That there is text is enough: it is counted, not kept.
    try:
        datatype = DataType(metric.datatype)
    except ValueError:
        datatype = DataType.UNKNOWN
    return SparkplugMetric(
        _text(metric.name, NAME_BYTES_MAX, "a metric's name"),
        metric.alias if metric.HasField("alias") else None,
        metric.timestamp if metric.HasField("timestamp") else None,
        datatype,
        raw,
        field,
        metric.is_historical,
        metric.is_null or not field,
        *(_properties(metric.properties) if metric.HasField("properties") else ()),
    )


def _text(data: bytes, size_max_bytes: int, what: str) -> str:
    if len(data) > size_max_bytes:
        raise DecodeError(DeadLetterReason.LIMIT, f"{what} of {len(data)} bytes; at most {size_max_bytes}")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise DecodeError(DeadLetterReason.PARSE, f"{what} is not UTF-8") from error


def _properties(data: bytes) -> tuple[str, int | None]:
    """The properties engUnit and Quality of a property set; one that is too large tells none."""
    unit, quality = "", None
    if len(data) > PROPERTIES_BYTES_MAX:
        return unit, quality
    try:
        message: Any = PropertySetMessage.FromString(data)
    except ProtobufError as error:
        raise DecodeError(DeadLetterReason.PARSE, "the properties of a metric are no property set") from error
    if len(message.keys) != len(message.values):
        raise DecodeError(DeadLetterReason.SCHEMA, "a property set with unequal numbers of keys and values")
    for key, value in zip(message.keys[:PROPERTIES_MAX], message.values[:PROPERTIES_MAX], strict=True):
        field = value.WhichOneof("value")
        if key == b"engUnit" and field == "string_value":
            text = _text(value.string_value, NAME_BYTES_MAX, "engUnit")
            unit = text if len(text) <= UNIT_CHARS_MAX and text.isprintable() else ""
        elif key == b"Quality" and field in {"int_value", "long_value"}:
            quality = int(getattr(value, field))
    return unit, quality


def encode_payload(payload: SparkplugPayload) -> bytes:
    """Writes a payload; what is None, UNKNOWN or "" is left out.

    >>> encode_payload(SparkplugPayload(None, 3)).hex()
    '1803'
    """
    message: Any = PayloadMessage()
    if payload.time_ms is not None:
        message.timestamp = payload.time_ms
    if payload.seq is not None:
        message.seq = payload.seq
    _write_metrics(message.metrics, payload.metrics)
    if payload.frame:
        message.frame = payload.frame
    if payload.status:
        message.status = payload.status
    return bytes(message.SerializeToString())


def _write_metrics(target: Any, metrics: Iterable[SparkplugMetric]) -> None:
    for metric in metrics:
        written = target.add()
        if metric.name:
            written.name = metric.name.encode()
        if metric.alias is not None:
            written.alias = metric.alias
        if metric.time_ms is not None:
            written.timestamp = metric.time_ms
        if metric.datatype is not DataType.UNKNOWN:
            written.datatype = metric.datatype
        if metric.is_historical:
            written.is_historical = True
        if metric.is_null:
            written.is_null = True
        elif metric.field:
            # A kind that is not kept is written as empty bytes.
            value = metric.raw.encode() if isinstance(metric.raw, str) else metric.raw
            setattr(written, metric.field, b"" if value is None else value)
        if metric.unit or metric.quality is not None:
            written.properties = _property_set(metric)


def _property_set(metric: SparkplugMetric) -> bytes:
    properties: Any = PropertySetMessage()
    if metric.unit:
        properties.keys.append(b"engUnit")
        properties.values.add(type=DataType.STRING, string_value=metric.unit.encode())
    if metric.quality is not None:
        properties.keys.append(b"Quality")
        properties.values.add(type=DataType.INT32, int_value=metric.quality)
    return bytes(properties.SerializeToString())
