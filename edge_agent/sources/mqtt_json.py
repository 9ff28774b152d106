"""JSON messages of a broker nearby as readings: Zigbee2MQTT, Tasmota, Shelly and what speaks like them.

`zigbee2mqtt/kitchen {"temperature": 21.4, "occupancy": true}` becomes the metrics `kitchen/temperature` and
`kitchen/occupancy` at the time of arrival, or at the time that `time_key` names.
"""

import json
from collections.abc import Callable, Iterator
from select import select
from typing import Any, Self

import numpy as np
from pydantic import Field, model_validator

from edge_agent.sources.options import metric_name, read_options
from headwater.errors import ConnectError
from headwater.frame import Block
from headwater.instant import foreign_time_us
from headwater.io.mqtt_broker import Broker, parse_broker
from headwater.io.mqtt_paho import PahoLink
from headwater.metric import Metric
from headwater.mqtt_link import LinkDown, LinkMessage, LinkUp, MqttLink
from headwater.ports import Clock
from headwater.settings import Table

STATES = {"on": 1.0, "off": 0.0, "true": 1.0, "false": 0.0, "open": 1.0, "closed": 0.0, "online": 1.0, "offline": 0.0}
DEPTH_MAX = 4
POLLS_MAX = 4_096


class MqttOptions(Table):
    """Options of the source `mqtt`."""

    url: str = Field("mqtt://127.0.0.1:1883", description="the broker: mqtt://host:port or mqtts://host:port")
    topics: list[str] = Field(["zigbee2mqtt/+"], min_length=1, description="MQTT topic filters to subscribe to")
    prefix: str = Field("zigbee2mqtt/", description="left out of the metrics' names where a topic begins with it")
    time_key: str = Field("", description="key of the message that holds its time; empty: time of arrival")
    client_id: str = Field("headwater-source", description="how the source is known to the broker; unique")
    username: str = Field("", description="user of the broker; empty: none")
    password_file: str = Field("", description="file with the password")
    ca_file: str = Field("", description="file with the authorities to trust (mqtts)")
    metrics_max: int = Field(1_000, ge=1, description="metrics to learn; readings of further ones are counted only")
    payload_bytes_max: int = Field(65_536, ge=16, description="larger messages are counted only")
    reduction: str = Field("raw", description="how numbers are reduced")

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        parse_broker(self.url)
        return self


class MqttSource:
    """Implements `headwater.ports.Source` by subscribing to a broker.

    Args:
        options: see `MqttOptions`.
        clock: time of arrival.
        link: makes a connection; for tests.
    """

    def __init__(self, options: dict[str, Any], clock: Clock, link: Callable[[], MqttLink] | None = None) -> None:
        self._options = chosen = read_options(MqttOptions, options, "mqtt")
        self._clock = clock
        broker = Broker(chosen.url, chosen.username, chosen.password_file, chosen.ca_file)
        self._make = link or (lambda: PahoLink(broker, chosen.client_id))
        self._link: MqttLink | None = None
        self._metrics: dict[str, Metric] = {}
        self._last_us: dict[str, int] = {}
        self.rubbish = 0
        self.beyond_limits = 0

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What has come so far."""
        return tuple(self._metrics.values())

    @property
    def is_exhausted(self) -> bool:
        """Never."""
        return False

    def open(self) -> None:
        """Begins to connect; `read` finishes it."""
        self.close()
        self._link = self._make()
        self._link.start()

    def read(self, now_us: int) -> list[Block]:
        """Returns what has arrived.

        Raises:
            ConnectError: the broker can't be reached or has gone.
        """
        link = self._link
        if link is None:
            raise ConnectError("source mqtt: the connection is closed")
        blocks: list[Block] = []
        for _ in range(POLLS_MAX):
            readable, writable = _ready(link)
            link.on_ready(readable=readable, writable=writable)
            events = link.events()
            for event in events:
                if isinstance(event, LinkUp):
                    link.subscribe(tuple(self._options.topics))
                elif isinstance(event, LinkDown):
                    self.close()
                    raise ConnectError(f"source mqtt: {event.reason}")
                elif isinstance(event, LinkMessage):
                    blocks += self._readings(event, now_us)
            if not events and not readable:
                break
        return blocks

    def close(self) -> None:
        """Says goodbye to the broker."""
        if self._link is not None:
            self._link.close()
            self._link = None

    def _readings(self, message: LinkMessage, now_us: int) -> list[Block]:
        if len(message.payload) > self._options.payload_bytes_max:
            self.beyond_limits += 1
            return []
        try:
            document = json.loads(message.payload)
        except (ValueError, RecursionError):
            self.rubbish += 1
            return []
        time_us = now_us
        if self._options.time_key and isinstance(document, dict):
            stamp = document.pop(self._options.time_key, None)
            is_number = isinstance(stamp, int | float) and not isinstance(stamp, bool)
            try:
                time_us = (foreign_time_us(float(stamp)) if is_number else None) or now_us
            except (ValueError, OverflowError):
                self.rubbish += 1
        topic = message.mqtt_topic.removeprefix(self._options.prefix)
        values: dict[str, float] = {}
        for path, value, is_state in _numbers(document, (topic,), 0):
            name = metric_name(*path)
            if name not in self._metrics:
                if len(self._metrics) >= self._options.metrics_max:
                    self.beyond_limits += 1
                    continue
                reduction = "deadband:0" if is_state else self._options.reduction
                self._metrics[name] = Metric(name, is_state=is_state, reduction=reduction)
            values[name] = value
        if not values:
            return []
        # Two messages of one metric between two reads must not share a time.
        time_us = max(time_us, *(self._last_us.get(name, 0) + 1 for name in values)) if time_us == now_us else time_us
        self._last_us.update(dict.fromkeys(values, time_us))
        column = np.array([[number] for number in values.values()], np.float64)
        return [Block(tuple(values), np.array([time_us], np.int64), column)]


def _numbers(document: object, path: tuple[str, ...], depth: int) -> Iterator[tuple[tuple[str, ...], float, bool]]:
    """Walks a JSON value; yields (path, number, is a state) of what can be measured."""
    if isinstance(document, dict) and depth < DEPTH_MAX:
        for key, value in document.items():
            yield from _numbers(value, (*path, str(key)), depth + 1)
    elif isinstance(document, bool):
        yield path, float(document), True
    elif isinstance(document, int | float):
        try:
            yield path, float(document), False
        except OverflowError:
            return
    elif isinstance(document, str) and document.lower() in STATES:
        yield path, STATES[document.lower()], True


def _ready(link: MqttLink) -> tuple[bool, bool]:
    """Tells what the socket is ready for, without waiting."""
    socket = link.fileno()
    if socket < 0:
        return False, False
    wants = [socket] if link.wants_write else []
    readable, writable, _ = select([socket], wants, [], 0)
    return bool(readable), bool(writable)
