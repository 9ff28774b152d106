"""One MQTT connection as a state machine sees it: what to call, and what may happen.

`headwater.io.mqtt_paho` implements `MqttLink`; a link lives for one connection and is made anew for the next.
"""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class LinkUp:
    """The broker accepted the connection; `receive_maximum` bounds what may be published without PUBACK."""

    receive_maximum: int


@dataclass(frozen=True, slots=True)
class LinkDown:
    """The connection is over or could not be made; the link is of no further use."""

    reason: str


@dataclass(frozen=True, slots=True)
class LinkPuback:
    """The broker answered a publication; a `reason_code` of 0x80 and above, or 0x10 (nobody subscribed), is a failure."""

    mid: int
    reason_code: int


@dataclass(frozen=True, slots=True)
class LinkMessage:
    """A message of a subscription arrived."""

    mqtt_topic: str
    payload: bytes


LinkEvent = LinkUp | LinkDown | LinkPuback | LinkMessage


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes when the connection breaks."""

    mqtt_topic: str
    payload: bytes
    retain: bool = True


class MqttLink(Protocol):
    """A connection to a broker that never blocks its caller."""

    def start(self) -> None:
        """Begins to connect; `LinkUp` or `LinkDown` follows among the events."""

    def events(self) -> list[LinkEvent]:
        """Returns what happened since the last call, in order."""

    def subscribe(self, mqtt_topics: tuple[str, ...]) -> None:
        """Asks for messages, QoS 1."""

    def publish(self, mqtt_topic: str, payload: bytes, *, retain: bool = False, qos: int = 1) -> int:
        """Sends and returns the message's number; the caller keeps to the receive maximum.

        With QoS 0 the `LinkPuback` says only that the message has left.

        Raises:
            ConnectError: the connection is gone; a LinkDown follows.
        """

    def close(self) -> None:
        """Says goodbye (the will is not published) as far as that is possible and releases the socket."""

    def drop(self) -> None:
        """Breaks the connection without a goodbye, as a cut cable does; the broker publishes the will."""

    def fileno(self) -> int:
        """The socket to wait for, -1 if there is none now."""

    @property
    def wants_write(self) -> bool:
        """True when bytes wait for the socket to take them."""

    def on_ready(self, *, readable: bool, writable: bool) -> None:
        """Moves bytes; called by the host's loop when the socket is ready and at least once a second."""
