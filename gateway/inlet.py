"""What the bridge needs of the side where messages come in: the gateway's own endpoint, or a subscription at a broker."""

from collections.abc import Iterable
from typing import Protocol

from gateway.intake import Intake
from gateway.retained import RetainedMessages
from gateway.sender import Sender


class Inlet(Protocol):
    """Brings messages to an intake and carries acknowledgements back; `on_input` of its maker is told of what came.

    Attributes:
        is_full: the bridge sets it while too much waits for the log; sockets are then not read.
    """

    is_full: bool

    @property
    def intake(self) -> Intake:
        """Where messages are sorted."""

    @property
    def retained(self) -> RetainedMessages | None:
        """What is kept for subscribers; None where a broker keeps it."""

    @property
    def where(self) -> str:
        """The address, for people."""

    async def start(self) -> int:
        """Begins, and returns the port.

        Raises:
            SettingsError: the settings can't be followed.
        """

    async def run(self) -> bool:
        """Does what is to be done besides; returns True if another gateway has taken this one's place."""

    async def close(self) -> None:
        """Says goodbye and ends all connections."""

    def resume(self) -> None:
        """Looks at the sockets again, after `is_full` changed."""

    def settled(self, sender: Sender) -> None:
        """Sends the PUBACKs that a sender wrote."""

    def tick(self) -> None:
        """Once a second: keepalives and what else waits for time."""

    @property
    def room(self) -> int:
        """How many messages of the gateway itself can be sent now; 0 while there is nobody to take them."""

    def announce(self, messages: Iterable[tuple[str, bytes]], *, retain: bool = True) -> None:
        """Publishes messages of the gateway itself, such as durable acks: (MQTT topic, payload), QoS 0."""

    def counters(self) -> dict[str, int]:
        """Numbers about connections."""
