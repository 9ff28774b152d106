"""Sparkplug B payloads: golden bytes written by hand from the specification, types, bounds."""

import math

import pytest

from headwater.errors import DecodeError
from headwater.reasons import DeadLetterReason
from headwater.sparkplug_codec import (
    METRICS_MAX,
    SparkplugMetric,
    SparkplugPayload,
    decode_payload,
    encode_payload,
    number_of,
)
from headwater.sparkplug_schema import DataType, PayloadMessage, PropertySetMessage

# Field by field: timestamp=1 (varint), metrics=2 (length), seq=3; in a metric name=1, alias=2, timestamp=3, datatype=4,
# is_historical=5, is_null=7, properties=9, int_value=10, long_value=11, float_value=12, double_value=13,
# boolean_value=14, string_value=15.


def metric(text: str) -> SparkplugMetric:
    """The one metric of a payload given as the hex text of that metric."""
    data = bytes.fromhex(text)
    return decode_payload(b"\x12" + bytes((len(data),)) + data).metrics[0]


@pytest.mark.parametrize(
    ("text", "datatype", "value"),
    [
        ("2001" + "50ff01", DataType.INT8, -1.0),  # Its own width.
        ("2001" + "50ffffffff0f", DataType.INT8, -1.0),  # The width of the field.
        ("2001" + "5080ffffff0f", DataType.INT8, -128.0),
        ("2002" + "50feff03", DataType.INT16, -2.0),
        ("2003" + "50ffffffff0f", DataType.INT32, -1.0),
        ("2003" + "50ffffffff07", DataType.INT32, 2147483647.0),
        ("2004" + "58ffffffffffffffffff01", DataType.INT64, -1.0),
        ("2005" + "50ff01", DataType.UINT8, 255.0),
        ("2007" + "50ffffffff0f", DataType.UINT32, 4294967295.0),
        ("2007" + "58ffffffff0f", DataType.UINT32, 4294967295.0),  # Some clients write it as a long.
        ("2008" + "58ffffffffffffffffff01", DataType.UINT64, 18446744073709551615.0),
        ("2009" + "650000a041", DataType.FLOAT, 20.0),
        ("200a" + "69000000000000f83f", DataType.DOUBLE, 1.5),
        ("200b" + "7001", DataType.BOOLEAN, 1.0),
        ("200b" + "7000", DataType.BOOLEAN, 0.0),
    ],
)
def test_numbers_are_read_by_their_type(text: str, datatype: DataType, value: float) -> None:
    got = metric(text)
    assert got.datatype is datatype
    assert number_of(got, datatype) == value


@pytest.mark.parametrize(
    "text",
    [
        "2001" + "508002",  # 256 as Int8
        "2005" + "508002",  # 256 as UInt8
        "2002" + "508080808001",
        "2009" + "5001",  # an integer as Float
        "2003" + "650000a041",  # a float as Int32
        "200b" + "5001",  # an integer as Boolean
        "200a" + "7a0131",  # text as Double
    ],
)
def test_a_value_that_is_not_of_its_type_is_refused(text: str) -> None:
    got = metric(text)
    with pytest.raises(DecodeError) as caught:
        number_of(got, got.datatype)
    assert caught.value.reason is DeadLetterReason.SCHEMA


def test_a_birth_written_by_hand_is_read() -> None:
    engine_unit = "0a07" + b"engUnit".hex() + "1207" + "080c" + "4203" + b"bar".hex()
    temp = "0a04" + b"temp".hex() + "1007" + "18e807" + "200a" + "4a12" + engine_unit + "69" + "000000000000f83f"
    label = "0a05" + b"label".hex() + "200c" + "7a01" + b"x".hex()
    nothing = "1008" + "2801" + "3801"
    body = "08e807" + "".join(f"12{len(part) // 2:02x}{part}" for part in (temp, label, nothing)) + "18ff01"
    got = decode_payload(bytes.fromhex(body))
    assert (got.time_ms, got.seq) == (1000, 255)
    assert got.metrics == (
        SparkplugMetric("temp", 7, 1000, DataType.DOUBLE, 1.5, "double_value", unit="bar"),
        SparkplugMetric("label", None, None, DataType.STRING, "", "string_value"),
        SparkplugMetric("", 8, is_historical=True, is_null=True),
    )
    assert encode_payload(SparkplugPayload(1000, 255, got.metrics[:1])) == bytes.fromhex(
        "08e807" + f"12{len(temp) // 2:02x}{temp}" + "18ff01"
    )


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x12\xff", DeadLetterReason.PARSE),
        (bytes(600_000), DeadLetterReason.TOO_LARGE),
        (b"\x12\x00" * (METRICS_MAX + 1), DeadLetterReason.LIMIT),
        (b"\x18\x80\x02", DeadLetterReason.SCHEMA),  # seq 256
        (b"\x22\x12SPBV1.0_COMPRESSED\x2a\x01x", DeadLetterReason.VERSION),
        (b"\x12\x04\x0a\x02\xff\xfe", DeadLetterReason.PARSE),  # a name that is not UTF-8
        (PayloadMessage(metrics=[{"name": b"n" * 513}]).SerializeToString(), DeadLetterReason.LIMIT),
        (PayloadMessage(metrics=[{"properties": b"\x0a\xff"}]).SerializeToString(), DeadLetterReason.PARSE),
        (PayloadMessage(metrics=[{"properties": b"\x0a\x01a"}]).SerializeToString(), DeadLetterReason.SCHEMA),
    ],
)
def test_bad_payloads_are_refused_with_their_reason(data: bytes, reason: DeadLetterReason) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_payload(data)
    assert caught.value.reason is reason


def test_an_enormous_property_set_tells_no_unit_and_costs_nothing() -> None:
    sets = PropertySetMessage(keys=[b"engUnit"], values=[{"string_value": b"x" * 100_000}]).SerializeToString()
    message = PayloadMessage(metrics=[{"name": b"a", "properties": sets, "double_value": math.pi}])
    assert decode_payload(message.SerializeToString()).metrics[0].unit == ""
