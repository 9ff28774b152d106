"""Messages of Sparkplug nodes for tests."""

from collections.abc import Iterable
from typing import Any

from sessions import NOW_US

from gateway.sparkplug_node import Arrived
from headwater.sparkplug_codec import SparkplugMetric, SparkplugPayload, encode_payload
from headwater.sparkplug_schema import DataType
from headwater.sparkplug_topic import SparkplugTopic, Verb

NOW_MS = NOW_US // 1_000


def number(name: str, value: float, alias: int | None = None, **more: Any) -> SparkplugMetric:
    """A Double as a birth tells it."""
    fields = {"time_ms": NOW_MS, "datatype": DataType.DOUBLE} | more
    return SparkplugMetric(name, alias, raw=value, field="double_value", **fields)


def by_alias(alias: int, value: float, **more: Any) -> SparkplugMetric:
    """A value as data tells it: alias, time, value."""
    return number("", value, alias, datatype=DataType.UNKNOWN, **more)


def bdseq(value: int) -> SparkplugMetric:
    return SparkplugMetric("bdSeq", None, NOW_MS, DataType.INT64, value, "long_value")


def payload(seq: int | None, metrics: Iterable[SparkplugMetric] = (), time_ms: int | None = NOW_MS) -> SparkplugPayload:
    return SparkplugPayload(time_ms, seq, tuple(metrics))


def arrived(
    verb: Verb, told: SparkplugPayload, device: str = "", received_us: int = NOW_US, origin: Any = None
) -> Arrived[Any]:
    topic = SparkplugTopic(verb, "g", "n", device)
    return Arrived(topic, told, received_us, encode_payload(told) + str(topic).encode(), origin)
