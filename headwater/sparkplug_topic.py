"""Sparkplug B's MQTT topics, the names that its ids get here, and the STATE message (specification 3.0, chapters 4 and 5).

    spBv1.0/{group}/{NBIRTH|NDATA|NDEATH|NCMD}/{node}             → site, device
    spBv1.0/{group}/{DBIRTH|DDATA|DDEATH|DCMD}/{node}/{device}    → site, node--device
    spBv1.0/STATE/{host}

A Sparkplug id is any text; a name here is not (`headwater.names`). So an id is put into lower case, and every character
that a name can't hold becomes `_`. Two ids can meet in one name: whoever keeps names must notice.
"""

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from headwater.errors import DecodeError
from headwater.names import is_metric, is_name
from headwater.reasons import DeadLetterReason

NAMESPACE = "spBv1.0"
DEVICE_MARK = "--"
ID_CHARS_MAX = 128
STATE_BYTES_MAX = 1024
REBIRTH_METRIC = "Node Control/Rebirth"
BDSEQ_METRIC = "bdSeq"
_NOT_IN_NAMES = re.compile(r"[^a-z0-9_-]")
_NOT_IN_METRICS = re.compile(r"[^A-Za-z0-9_./:-]")


class Verb(StrEnum):
    """What a message is, by its word in the topic."""

    NBIRTH = "NBIRTH"
    NDATA = "NDATA"
    NDEATH = "NDEATH"
    NCMD = "NCMD"
    DBIRTH = "DBIRTH"
    DDATA = "DDATA"
    DDEATH = "DDEATH"
    DCMD = "DCMD"
    STATE = "STATE"

    @property
    def is_of_device(self) -> bool:
        """Whether the topic names a device of the node."""
        return self.value[0] == "D"

    @property
    def is_command(self) -> bool:
        """Whether it goes to the node."""
        return self in {Verb.NCMD, Verb.DCMD}


_NODE_VERBS = frozenset(verb.value for verb in Verb if verb is not Verb.STATE)


@dataclass(frozen=True, slots=True)
class SparkplugTopic:
    """A Sparkplug topic taken apart; ids as they are written. For STATE `node` is the host's id and `group` is ""."""

    verb: Verb
    group: str
    node: str
    device: str = ""

    @property
    def site(self) -> str:
        """The site's name, "" if the group's id can't be one."""
        return name_of(self.group)

    @property
    def node_name(self) -> str:
        """The name of the node as a device, "" if its id can't be one."""
        return name_of(self.node)

    @property
    def device_name(self) -> str:
        """The name of whom the message is about, "" if the ids can't make one."""
        if not self.device:
            return self.node_name
        node, device = self.node_name, name_of(self.device)
        name = f"{node}{DEVICE_MARK}{device}"
        return name if node and device and is_name(name) else ""

    def __str__(self) -> str:
        if self.verb is Verb.STATE:
            return f"{NAMESPACE}/{self.verb}/{self.node}"
        return "/".join((NAMESPACE, self.group, self.verb, self.node, *([self.device] if self.device else [])))


def name_of(sparkplug_id: str) -> str:
    """Returns the name that a group, node or device id gets, "" if it can't get one.

    >>> name_of("Plant A"), name_of("pump-1"), name_of("_ü")
    ('plant_a', 'pump-1', '')
    """
    name = _NOT_IN_NAMES.sub("_", sparkplug_id.lower()).lstrip("_-")
    return name if is_name(name) else ""


def metric_of(name: str) -> str:
    """Returns the metric that a Sparkplug metric's name becomes, "" if it can't be one.

    >>> metric_of("Motor/Speed (rpm)"), metric_of("°")
    ('Motor/Speed__rpm_', '')
    """
    metric = _NOT_IN_METRICS.sub("_", name).lstrip("_./:-")
    return metric if is_metric(metric) else ""


def is_control(name: str) -> bool:
    """Tells whether a metric steers the protocol instead of measuring anything.

    >>> is_control("bdSeq"), is_control("Node Control/Rebirth"), is_control("Speed")
    (True, True, False)
    """
    return name == BDSEQ_METRIC or name.startswith(("Node Control/", "Device Control/"))


def is_sparkplug(mqtt_topic: str) -> bool:
    """Tells whether a topic, or a topic filter, is in Sparkplug's namespace."""
    return mqtt_topic.startswith(f"{NAMESPACE}/")


def parse_sparkplug_topic(mqtt_topic: str) -> SparkplugTopic | None:
    """Takes a topic apart; None if it is not one of Sparkplug B.

    >>> parse_sparkplug_topic("spBv1.0/Plant A/DDATA/Press 1/Motor").device_name
    'press_1--motor'
    >>> parse_sparkplug_topic("spBv1.0/a/NDATA/b/c") is None
    True
    """
    levels = mqtt_topic.split("/")
    # Wildcards can't come in a PUBLISH, but in a will.
    if levels[0] != NAMESPACE or not {"+", "#", "\0"}.isdisjoint(mqtt_topic):
        return None
    if any(not 0 < len(level) <= ID_CHARS_MAX for level in levels):
        return None
    if len(levels) == 3 and levels[1] == Verb.STATE:
        return SparkplugTopic(Verb.STATE, "", levels[2])
    if len(levels) not in {4, 5} or levels[2] not in _NODE_VERBS or levels[1] == Verb.STATE:
        return None
    verb = Verb(levels[2])
    if verb.is_of_device != (len(levels) == 5):
        return None
    return SparkplugTopic(verb, levels[1], *levels[3:])


def state_topic(host: str) -> str:
    """Returns the topic on which a host application says that it is there."""
    return f"{NAMESPACE}/{Verb.STATE}/{host}"


@dataclass(frozen=True, slots=True)
class HostState:
    """What a host application says of itself; the will carries the time of the birth that goes with it."""

    online: bool
    time_ms: int

    def to_json(self) -> bytes:
        """Encodes for the STATE topic.

        >>> HostState(online=True, time_ms=5).to_json()
        b'{"online":true,"timestamp":5}'
        """
        return json.dumps({"online": self.online, "timestamp": self.time_ms}, separators=(",", ":")).encode()


def parse_state(payload: bytes) -> HostState:
    """Decodes a STATE message.

    Raises:
        DecodeError: TOO_LARGE, PARSE or SCHEMA.
    """
    if len(payload) > STATE_BYTES_MAX:
        raise DecodeError(DeadLetterReason.TOO_LARGE, f"STATE of {len(payload)} bytes")
    try:
        data: Any = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise DecodeError(DeadLetterReason.PARSE, f"STATE: {str(error)[:200]}") from error
    if (
        not isinstance(data, dict)
        or type(data.get("online")) is not bool
        or type(data.get("timestamp")) is not int
        or not 0 <= data["timestamp"] < 1 << 63
    ):
        raise DecodeError(DeadLetterReason.SCHEMA, 'STATE is {"online": true or false, "timestamp": milliseconds}')
    return HostState(data["online"], data["timestamp"])
