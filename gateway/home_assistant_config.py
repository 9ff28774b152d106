"""What a device says of itself to Home Assistant: its discovery message, and the one form of template that is read.

    homeassistant/sensor/[<node>/]<object>/config    {"state_topic": …, "value_template": "{{ value_json.a.b }}", …}

Home Assistant, "MQTT discovery" and "MQTT sensor". Long and short keys are read; a template that does more than pick a
value is refused, because doing half of what it says would be a wrong value.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

from headwater.errors import DecodeError
from headwater.names import is_metric, is_name
from headwater.reasons import DeadLetterReason
from headwater.sparkplug_topic import metric_of, name_of

COMPONENT = "sensor"
SIZE_MAX_BYTES = 16 * 1024
VALUE_MAX_BYTES = 64 * 1024
TOPIC_CHARS_MAX = 256
# Brokers hang up on a subscription to a topic that is deeper than they like, or holds control characters.
TOPIC_LEVELS_MAX = 64
PATH_MAX = 8
UNIT_CHARS_MAX = 32
NUMBER_BYTES_MAX = 64
_TEMPLATE = re.compile(
    r"\{\{-?\s*(value|value_json((?:\.[A-Za-z_]\w*|\[\s*(?:'[^'\\]*'|\"[^\"\\]*\")\s*\])+))\s*-?\}\}"
)
_STEP = re.compile(r"\.(\w+)|\[\s*(?:'([^']*)'|\"([^\"]*)\")\s*\]")
_NUMBER = re.compile(rb"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")
_SHORT = {
    "state_topic": "stat_t",
    "value_template": "val_tpl",
    "unit_of_measurement": "unit_of_meas",
    "availability_topic": "avty_t",
    "payload_available": "pl_avail",
    "payload_not_available": "pl_not_avail",
}


@dataclass(frozen=True, slots=True)
class DiscoveryTopic:
    """A discovery topic taken apart; `node` is "" where there is none."""

    component: str
    node: str
    object_id: str


@dataclass(frozen=True, slots=True)
class Entity:
    """One sensor of a device.

    Attributes:
        device, metric: the names that node and object get here.
        state_topic: where its values come.
        path: keys from the JSON value down to the number; None for a message that is the number itself.
        unit: as told, "" where none.
        availability_topic, online, offline: where and how the device says that it is there, "" for nowhere.
    """

    device: str
    metric: str
    state_topic: str
    path: tuple[str, ...] | None
    unit: str = ""
    availability_topic: str = ""
    online: str = "online"
    offline: str = "offline"


def parse_discovery_topic(mqtt_topic: str, prefix: str) -> DiscoveryTopic | None:
    """Takes a discovery topic apart; None if it is not one.

    >>> parse_discovery_topic("homeassistant/sensor/porch/temp/config", "homeassistant")
    DiscoveryTopic(component='sensor', node='porch', object_id='temp')
    """
    start = f"{prefix}/"
    if not mqtt_topic.startswith(start) or not mqtt_topic.endswith("/config"):
        return None
    levels = mqtt_topic[len(start) :].split("/")[:-1]
    if len(levels) not in {2, 3} or not all(0 < len(level) <= 128 for level in levels):
        return None
    return DiscoveryTopic(levels[0], levels[1] if len(levels) == 3 else "", levels[-1])


def parse_template(text: str) -> tuple[str, ...] | None:
    """Reads a value template: None for `{{ value }}`, else the keys that `{{ value_json… }}` walks down.

    >>> parse_template("{{ value }}"), parse_template("{{ value_json.a['b c'] }}")
    (None, ('a', 'b c'))

    Raises:
        DecodeError: SCHEMA, it does more than that.
    """
    found = _TEMPLATE.fullmatch(text.strip())
    if found is None:
        detail = f"the template {text[:140]!r} does more than {{{{ value }}}} or {{{{ value_json.a['b'] }}}}"
        raise DecodeError(DeadLetterReason.SCHEMA, detail)
    if found[2] is None:
        return None
    path = tuple(next(part for part in step if part is not None) for step in map(_parts, _STEP.finditer(found[2])))
    if len(path) > PATH_MAX:
        raise DecodeError(DeadLetterReason.LIMIT, f"a template of more than {PATH_MAX} steps")
    return path


def _parts(found: re.Match[str]) -> tuple[str | None, ...]:
    return found.groups()


def parse_config(topic: DiscoveryTopic, payload: bytes) -> Entity:
    """Reads a discovery message of a sensor.

    Raises:
        DecodeError: TOO_LARGE, PARSE, SCHEMA, NAME or LIMIT.
    """
    if len(payload) > SIZE_MAX_BYTES:
        raise DecodeError(DeadLetterReason.TOO_LARGE, f"discovery message of {len(payload)} bytes")
    try:
        data: Any = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise DecodeError(DeadLetterReason.PARSE, f"discovery message: {str(error)[:200]}") from error
    if not isinstance(data, dict):
        raise DecodeError(DeadLetterReason.SCHEMA, "a discovery message is an object")
    device, metric = name_of(topic.node or topic.object_id), metric_of(topic.object_id)
    if not is_name(device) or not is_metric(metric):
        detail = f"{topic.node!r} and {topic.object_id!r} can't be a device and a metric here"
        raise DecodeError(DeadLetterReason.NAME, detail)
    state_topic = _topic(data, "state_topic")
    if not state_topic:
        raise DecodeError(DeadLetterReason.SCHEMA, "a sensor has a state_topic")
    unit = _text(data, "unit_of_measurement")
    return Entity(
        device,
        metric,
        state_topic,
        parse_template(_text(data, "value_template") or "{{ value }}"),
        unit if len(unit) <= UNIT_CHARS_MAX and unit.isprintable() else "",
        _topic(data, "availability_topic"),
        _text(data, "payload_available") or "online",
        _text(data, "payload_not_available") or "offline",
    )


def _text(data: dict[str, Any], key: str) -> str:
    value = data.get(key, data.get(_SHORT[key]))
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DecodeError(DeadLetterReason.SCHEMA, f"{key} is text")
    return value


def _topic(data: dict[str, Any], key: str) -> str:
    """A topic, with `~` at its beginning or end put in for the message's base topic."""
    topic, base = _text(data, key), data.get("~", "")
    if isinstance(base, str) and base:
        topic = base + topic[1:] if topic.startswith("~") else topic
        topic = topic[:-1] + base if topic.endswith("~") else topic
    if not _is_topic(topic):
        detail = f"{key} is a printable topic without wildcards of at most {TOPIC_CHARS_MAX} characters"
        raise DecodeError(DeadLetterReason.SCHEMA, detail)
    return topic


def _is_topic(text: str) -> bool:
    return (
        len(text) <= TOPIC_CHARS_MAX
        and text.count("/") < TOPIC_LEVELS_MAX
        and {"+", "#"}.isdisjoint(text)
        and text.isprintable()
    )


def state_topic_of(payload: bytes) -> str | None:
    """Reads where the values would come out of an announcement that was refused; None if it does not say.

    >>> state_topic_of(b'{"~": "porch", "stat_t": "~/temp"}'), state_topic_of(b"junk")
    ('porch/temp', None)
    """
    if len(payload) > SIZE_MAX_BYTES:
        return None
    try:
        data: Any = json.loads(payload)
        return _topic(data, "state_topic") or None if isinstance(data, dict) else None
    except (ValueError, RecursionError, DecodeError):
        return None


def value_of(path: tuple[str, ...] | None, payload: bytes, parsed: Any) -> float | None:
    """Picks an entity's number out of a message; None where there is text or nothing.

    Args:
        path: see `Entity`.
        payload: the message.
        parsed: it as JSON, None where it is none.

    >>> value_of(("a",), b"", {"a": 1.5}), value_of(None, b" 7 ", 7), value_of(None, b"unavailable", None)
    (1.5, 7.0, None)
    """
    found: Any = parsed
    if path is None:
        return float(payload) if len(payload) <= NUMBER_BYTES_MAX and _NUMBER.fullmatch(payload) else None
    for key in path:
        if not isinstance(found, dict) or key not in found:
            return None
        found = found[key]
    if isinstance(found, bool | int | float):
        try:
            return float(found)
        except OverflowError:
            return float("inf")
    if isinstance(found, str):
        # Home Assistant's templates make text of everything; many devices write their numbers as text.
        return value_of(None, found.encode(), None)
    return None
