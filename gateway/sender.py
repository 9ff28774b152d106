"""Who brings messages and is owed acknowledgements: a client of the gateway's endpoint, or the broker it subscribes to."""

from typing import Protocol

from gateway.identity import Identity
from gateway.ledger import AckLedger
from gateway.session import Code, Route


class Sender(Protocol):
    """One connection that PUBLISHes come in on; `gateway.session.Session` is one.

    Attributes:
        client_id, identity: who it is, for rights and dead letters.
        ledger: which PUBACKs it is owed.
        routes: where each topic leads; the intake's memory about this connection.
    """

    client_id: str
    identity: Identity
    ledger: AckLedger
    routes: dict[bytes, Route]

    @property
    def origin(self) -> object:
        """Whom presence takes for the speaker: the connection itself, or the broker behind all its connections."""

    def settle(self, tickets: list[int]) -> None:
        """Writes the PUBACKs that may go out now that these messages are durable."""

    def disconnect(self, code: Code, why: str, now_us: int) -> None:
        """Ends the connection with a reason."""
