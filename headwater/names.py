"""Names of sites, devices and metrics, the MQTT topics made of them, and the shard of a device.

Names are checked wherever they enter the system (contracts §2). No name ever builds a file path, an SQL
statement or a query string.
"""

import re
import zlib
from dataclasses import dataclass

from headwater.errors import InvalidNameError

MQTT_PREFIX = "hw/1"
LEAVES = frozenset({"frame", "json", "status", "ack", "state", "config", "command"})

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_METRIC = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./:-]{0,127}")


def is_name(text: str) -> bool:
    """Tells whether `text` may name a site or a device.

    >>> is_name("pump-07"), is_name("Pump 07")
    (True, False)
    """
    return _NAME.fullmatch(text) is not None


def is_metric(text: str) -> bool:
    """Tells whether `text` may name a metric.

    >>> is_metric("flow/discharge_m3h"), is_metric("_flow")
    (True, False)
    """
    return _METRIC.fullmatch(text) is not None


def check_name(text: str, what: str) -> str:
    """Returns `text` if it may name a site or a device; `what` is named in the error.

    Raises:
        InvalidNameError: it may not.
    """
    if not is_name(text):
        raise InvalidNameError(f"{what} {text[:80]!r} must match {_NAME.pattern}")
    return text


def check_metric(text: str) -> str:
    """Returns `text` if it may name a metric.

    Raises:
        InvalidNameError: it may not.
    """
    if not is_metric(text):
        raise InvalidNameError(f"metric {text[:140]!r} must match {_METRIC.pattern}")
    return text


@dataclass(frozen=True, slots=True)
class DeviceTopic:
    """An MQTT topic of ours, taken apart: `hw/1/{site}/{device}/{leaf}`."""

    site: str
    device: str
    leaf: str


def mqtt_topic(site: str, device: str, leaf: str) -> str:
    """Builds the MQTT topic of one device for one purpose.

    >>> mqtt_topic("north", "pump-1", "frame")
    'hw/1/north/pump-1/frame'
    """
    assert leaf in LEAVES
    return f"{MQTT_PREFIX}/{site}/{device}/{leaf}"


def parse_mqtt_topic(mqtt_topic: str) -> DeviceTopic | None:
    """Takes an MQTT topic apart; None if it is not one of ours.

    >>> parse_mqtt_topic("hw/1/north/pump-1/frame")
    DeviceTopic(site='north', device='pump-1', leaf='frame')
    >>> parse_mqtt_topic("hw/1/north/../frame") is None
    True
    """
    parts = mqtt_topic.split("/")
    if len(parts) != 5 or parts[0] != "hw" or parts[1] != "1" or parts[4] not in LEAVES:
        return None
    if not is_name(parts[2]) or not is_name(parts[3]):
        return None
    return DeviceTopic(parts[2], parts[3], parts[4])


def shard_of(site: str, device: str, partitions: int) -> int:
    """Returns the shard, and so the partition, that holds everything of a device (contracts §6).

    >>> shard_of("north", "pump-1", 12)
    9
    """
    return zlib.crc32(f"{site}/{device}".encode()) % partitions
