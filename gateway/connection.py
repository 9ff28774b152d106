"""One connection to a broker: a socket around the state machine that speaks on it.

socket ─▶ Wire.buffer_updated ─▶ Client.feed ─▶ Owner.after
socket ◀─ Wire.flush ◀────────── Client.take_output
"""

import asyncio
from typing import Generic, Protocol, TypeVar

from gateway.stage import Stage

READ_MAX_BYTES = 256 * 1024


class Client(Protocol):
    """What a socket needs of a connection's state machine."""

    stage: Stage
    why: str

    def feed(self, data: memoryview, now_us: int) -> None:
        """Takes bytes from the broker."""

    def lost(self, why: str) -> None:
        """The transport is gone."""

    @property
    def has_output(self) -> bool:
        """True when there are bytes to send."""

    def take_output(self) -> bytes:
        """Hands over the bytes to send."""


class Owner(Protocol):
    """What a socket needs of whoever opened it.

    Attributes:
        buffer: where all its sockets read into.
        write_max_bytes: unsent bytes after which a broker that does not read is left.
        is_full: sockets are not read now.
    """

    buffer: memoryview
    write_max_bytes: int
    is_full: bool

    def now_us(self) -> int:
        """The time of receipt."""

    def after(self, client: Client) -> None:
        """Does what follows from input."""


_Client = TypeVar("_Client", bound=Client)


class Wire(asyncio.BufferedProtocol, Generic[_Client]):
    """One socket and its connection's state machine.

    Attributes:
        is_leaving: we said goodbye and wait for the broker to hang up.
        over: set when the socket is gone.
    """

    def __init__(self, owner: "Owner", client: _Client) -> None:
        self._owner = owner
        self._is_paused = False
        self.is_leaving = False
        self.client = client
        self.transport: asyncio.Transport | None = None
        self.over = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Says CONNECT."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.flush()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 — asyncio's signature; the hint is only one.
        """Lends the buffer that all connections share: what is in it is handled before the next read."""
        return self._owner.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Hands bytes to the state machine."""
        owner = self._owner
        self.client.feed(owner.buffer[:nbytes], owner.now_us())
        owner.after(self.client)
        self.flush(owner.write_max_bytes)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tells the state machine that it is over."""
        self.client.lost(str(exc) if exc is not None else "the broker closed the connection")
        self.over.set()

    @property
    def unsent_bytes(self) -> int:
        """What the socket has not taken yet."""
        return self.transport.get_write_buffer_size() if self.transport is not None else 0

    def flush(self, write_max_bytes: int = READ_MAX_BYTES) -> None:
        """Sends what there is to say, closes after the end, and decides whether to read on."""
        client, transport = self.client, self.transport
        if transport is None or transport.is_closing():
            return
        if client.has_output:
            transport.write(client.take_output())
            if self.unsent_bytes > write_max_bytes:
                client.lost("the broker does not read what it is sent")
                transport.abort()
                return
        if client.stage is Stage.CLOSED:
            if not self.is_leaving:
                transport.close()
            return
        if self._owner.is_full != self._is_paused:
            self._is_paused = self._owner.is_full
            (transport.pause_reading if self._is_paused else transport.resume_reading)()
