"""An agent that is a Sparkplug node over a link in memory, for tests."""

from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.dial import sparkplug_edge
from edge_agent.pack import Draft, Lane
from edge_agent.settings import AgentSettings
from edge_agent.spool import Room, Spool
from edge_agent.traffic import UplinkLimits
from edge_agent.uplink import Uplink
from headwater.errors import ConnectError
from headwater.frame import Block
from headwater.mqtt_link import LinkEvent, LinkMessage, LinkPuback, LinkUp, Will
from headwater.reasons import ClockQuality
from headwater.sparkplug_codec import SparkplugMetric, SparkplugPayload, decode_payload, encode_payload
from headwater.status import Status
from headwater.testing import ManualClock

NOW = 1_700_000_000_000_000
LIMITS = UplinkLimits(in_flight_max=8, unacked_max=64, ack_timeout_us=10_000_000, reconnect_min_us=1_000)


class Wire:
    """A link to a broker that notes what is published; `answers` False holds PUBACKs back."""

    def __init__(self, will: Will, *, answers: bool) -> None:
        self.will = will
        self.answers = answers
        self.published: list[tuple[str, SparkplugPayload, int]] = []
        self.subscribed: list[str] = []
        self.waiting: list[LinkEvent] = []
        self.held: list[int] = []
        self.is_over = False
        self._mid = 0

    def start(self) -> None:
        self.waiting.append(LinkUp(100))

    def events(self) -> list[LinkEvent]:
        found, self.waiting = self.waiting, []
        return found

    def subscribe(self, mqtt_topics: tuple[str, ...]) -> None:
        self.subscribed += mqtt_topics

    def publish(self, mqtt_topic: str, payload: bytes, *, retain: bool = False, qos: int = 1) -> int:
        assert not retain
        if self.is_over:
            raise ConnectError("gone")
        self._mid += 1
        self.published.append((mqtt_topic, decode_payload(payload), qos))
        if qos == 0 or self.answers:
            self.waiting.append(LinkPuback(self._mid, 0))
        else:
            self.held.append(self._mid)
        return self._mid

    def close(self) -> None:
        self.is_over = True

    drop = close

    def fileno(self) -> int:
        return -1

    wants_write = False

    def on_ready(self, *, readable: bool, writable: bool) -> None:
        """Nothing to move."""


class Bench:
    """A spool, an uplink that speaks Sparkplug, and links in memory."""

    def __init__(self, folder: Path, *, answers: bool = True, room: Room | None = None, **settings: Any) -> None:
        self.settings = AgentSettings(site="plant", device="press-1", profile="sparkplug", **settings)
        self.spool = Spool(folder / "spool.db", site="plant", device="press-1", now_us=NOW, room=room)
        self.answers = answers
        self.links: list[Wire] = []
        self.time_us = 0
        self.metrics: dict[str, dict[str, Any]] = {"Speed": {"unit": "rpm"}}
        self.clock = ManualClock(NOW)
        self.edge = sparkplug_edge(self.settings, self._dial, self.spool, self.clock)
        self.uplink = Uplink(self.spool, self.edge.connect, self._status, lambda: 0.5, LIMITS)

    def _dial(self, will: Will) -> Wire:
        self.links.append(Wire(will, answers=self.answers))
        return self.links[-1]

    def _status(self, online: bool) -> Status:
        return Status(online, self.spool.epoch, self.spool.assigned, metrics=self.metrics)

    @property
    def wire(self) -> Wire:
        return self.links[-1]

    def store(self, *values: float, metric: str = "Speed") -> None:
        at_us = NOW + self.spool.assigned * 1_000
        self.spool.append(
            [
                Draft(
                    at_us,
                    ClockQuality.SYNCED,
                    Lane.NORMAL,
                    (Block((metric,), np.array([at_us + n * 1_000]), np.array([[v]])),),
                )
                for n, v in enumerate(values)
            ],
            NOW,
        )

    def step(self, times: int = 3) -> None:
        for _ in range(times):
            self.time_us += 300_000
            self.clock.advance(300_000)
            self.uplink.step(self.time_us, NOW + self.time_us)

    def said(self) -> list[tuple[str, list[tuple[int | None, float | str | None, bool]], int]]:
        """(verb, [(alias, value, historical)], qos) of everything on the newest link."""
        return [
            (topic.split("/")[2], [(m.alias, m.raw, m.is_historical) for m in told.metrics if m.alias], qos)
            for topic, told, qos in self.wire.published
        ]

    def command(self, *metrics: SparkplugMetric, verb: str = "NCMD") -> None:
        payload = encode_payload(SparkplugPayload(5, None, metrics))
        self.wire.waiting.append(LinkMessage(f"spBv1.0/plant/{verb}/press-1", payload))
