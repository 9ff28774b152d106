"""The way to a broker: socket, TLS and reconnects around subscriptions.

socket ─▶ Wire.buffer_updated ─▶ Subscription.feed ─▶ Intake ─▶ on_input (the bridge)
socket ◀─ Wire.flush ◀────────── Subscription.take_output ◀─ settle, publish

    connect ─▶ … lost ─▶ wait (full jitter) ─▶ look at the claim ─▶ ours: connect again, another's: end

Whoever connects with our client id takes the session over: then this gateway ends and does not fight for it.
"""

import asyncio
import contextlib
import logging
import random
import secrets
import ssl
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Generic, Protocol, TypeVar

from gateway.claim import Look
from gateway.intake import Intake
from gateway.sender import Sender
from gateway.session import Code
from gateway.settings import GatewaySettings
from gateway.stage import Stage
from gateway.subscription import Subscription, Terms
from headwater.io.mqtt_broker import Broker, parse_broker, read_secret, tls_context
from headwater.ports import Clock

READ_MAX_BYTES = 256 * 1024
# Announcements wait while so much is unsent; one is a few hundred bytes.
ANNOUNCE_UNTIL_BYTES = 1024 * 1024
ANNOUNCED_BYTES = 512
# A connection that held so long was a good one: the next failure starts the delays anew.
STEADY_US = 60_000_000
GOODBYE_S = 2.0
CLAIM_WAIT_S = 0.25
_log = logging.getLogger(__name__)


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


_Client = TypeVar("_Client", bound=Client)


class Wire(asyncio.BufferedProtocol, Generic[_Client]):
    """One socket and its connection's state machine.

    Attributes:
        is_leaving: we said goodbye and wait for the broker to hang up.
        over: set when the socket is gone.
    """

    def __init__(self, subscriber: "Subscriber", client: _Client) -> None:
        self._subscriber = subscriber
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
        return self._subscriber.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Hands bytes to the state machine."""
        subscriber = self._subscriber
        self.client.feed(subscriber.buffer[:nbytes], subscriber.now_us())
        subscriber.after(self.client)
        self.flush(subscriber.write_max_bytes)

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
        if self._subscriber.is_full != self._is_paused:
            self._is_paused = self._subscriber.is_full
            (transport.pause_reading if self._is_paused else transport.resume_reading)()


class Subscriber:
    """Keeps a session at a broker; an `Inlet` of the gateway.

    Args:
        settings: the table `[gateway]` with `mqtt` set.
        intake: where messages go.
        clock: of receipt.
        on_input: called after messages came.
        on_open: called when a connection is ready; False if the broker had no session of ours.

    Attributes:
        buffer: what sockets are read into.
        write_max_bytes: unsent bytes after which a connection is given up.
        is_full: the bridge sets it while too much waits for the log; the socket is then not read.
    """

    retained = None

    def __init__(
        self,
        settings: GatewaySettings,
        intake: Intake,
        clock: Clock,
        on_input: Callable[[], None],
        on_open: Callable[[bool], None],
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._on_input = on_input
        self._on_open = on_open
        self._wire: Wire[Subscription] | None = None
        self._opened: Subscription | None = None
        self._opened_us = self._begun_us = 0
        self._failures = 0
        self._terms: Terms | None = None
        self._tls: ssl.SSLContext | None = None
        self._host, self._port = "", 0
        self._ticked_us = clock.monotonic_us()
        self._counters: Counter[str] = Counter()
        self._claim = secrets.token_hex(8).encode()
        self.intake = intake
        self.write_max_bytes = settings.write_max_bytes
        self.buffer = memoryview(bytearray(READ_MAX_BYTES))
        self.is_full = False

    def now_us(self) -> int:
        """The gateway's time of receipt."""
        return self._clock.now_us()

    @property
    def where(self) -> str:
        """The broker's URL."""
        return self._settings.mqtt

    async def start(self) -> int:
        """Reads the files that the settings name; returns the broker's port. `run` connects.

        Raises:
            SettingsError: the URL or a file is wrong.
        """
        settings = self._settings
        scheme, self._host, self._port = parse_broker(settings.mqtt)
        self._terms = Terms(
            client_id=settings.mqtt_client_id,
            sites=settings.sites,
            username=settings.mqtt_username,
            password=read_secret(settings.mqtt_password_file),
            session_expiry_us=settings.mqtt_session_expiry_us,
            keepalive_us=settings.mqtt_keepalive_us,
            receive_max=settings.receive_max,
            packet_max_bytes=settings.packet_max_bytes,
            letter_max_bytes=settings.dead_letter_max_bytes,
            claim=self._claim,
            sparkplug=settings.sparkplug,
        )
        if scheme == "mqtts":
            self._tls = tls_context(
                Broker(
                    settings.mqtt,
                    ca_file=settings.mqtt_ca_file,
                    cert_file=settings.mqtt_cert_file,
                    key_file=settings.mqtt_key_file,
                )
            )
        return self._port

    async def run(self) -> bool:
        """Connects, again and again; returns True when the session is another gateway's."""
        assert self._terms is not None
        while True:
            if self._opened is not None:
                look = await self._look(self._terms)
                if look.claim is None:
                    await self._pause(look.why)
                    continue
                if look.claim not in {b"", self._claim}:
                    return self._give_way()
            self._begun_us = self.now_us()
            self._wire = wire = await self._dial(
                Subscription(self.intake, self._terms, self, self._state(online=False))
            )
            await wire.over.wait()
            if wire.client.is_taken_over:
                return self._give_way()
            if wire.client is self._opened and self._clock.monotonic_us() - self._opened_us >= STEADY_US:
                self._failures = 0
            await self._pause(wire.client.why)

    def _state(self, *, online: bool) -> tuple[str, bytes] | None:
        """What Sparkplug nodes are told about their host: one time stamp for a connection's birth and its will."""
        sparkplug = self.intake.sparkplug
        return None if sparkplug is None else sparkplug.state(self._begun_us, online=online)

    def _give_way(self) -> bool:
        _log.error(
            "another gateway connected to %s as %r and has the session now: this one ends",
            self.where,
            self._settings.mqtt_client_id,
        )
        self._counters["taken_over"] += 1
        return True

    async def _pause(self, why: str) -> None:
        """Waits before the next attempt: full jitter, and long enough for another gateway to make its claim."""
        was_open = self._wire is not None and self._wire.client is self._opened
        self._counters["connections_lost" if was_open else "connect_failures"] += 1
        self._wire = None
        settings = self._settings
        ceiling_us = min(settings.reconnect_max_us, settings.reconnect_min_us << min(self._failures, 20))
        self._failures += 1
        delay_s = max(random.random() * ceiling_us / 1e6, CLAIM_WAIT_S)  # noqa: S311 — jitter is no secret.
        _log.warning("%s: %s; next try in %.1f s", self.where, why, delay_s)
        await asyncio.sleep(delay_s)

    async def _look(self, terms: Terms) -> Look:
        """Asks the broker whose the session is."""
        wire = await self._dial(Look(terms.client_id, terms.username, terms.password))
        try:
            await asyncio.wait_for(wire.over.wait(), self._settings.connect_timeout_us / 1e6)
        except TimeoutError:
            wire.client.lost("the broker does not answer")
            if wire.transport is not None:
                wire.transport.abort()
        return wire.client

    async def _dial(self, client: _Client) -> Wire[_Client]:
        """Makes a connection; one that fails comes back as one that is over."""
        wire = Wire(self, client)
        try:
            async with asyncio.timeout(self._settings.connect_timeout_us / 1e6):
                await asyncio.get_running_loop().create_connection(
                    lambda: wire,
                    self._host,
                    self._port,
                    ssl=self._tls,
                    server_hostname=self._host if self._tls else None,
                )
        except TimeoutError:
            client.lost("no connection in time")
            wire.over.set()
        except (OSError, UnicodeError) as error:
            # No such host, nobody listens, a certificate that is not trusted, a name that can't be one.
            client.lost(str(error))
            wire.over.set()
        return wire

    async def close(self) -> None:
        """Says goodbye; the broker keeps the session and what comes meanwhile.

        It is the broker that hangs up then: it has read all PUBACKs, which a socket closed by us might cut off.
        """
        wire = self._wire
        if wire is None or wire.transport is None or wire.over.is_set():
            return
        wire.is_leaving = True
        wire.client.disconnect(Code.NORMAL_DISCONNECTION, "closed by us", self.now_us())
        wire.flush(self.write_max_bytes)
        with contextlib.suppress(TimeoutError):  # A broker that does not hang up is left all the same.
            await asyncio.wait_for(wire.over.wait(), GOODBYE_S)
        wire.transport.abort()

    def after(self, client: Client) -> None:
        """Does what follows from input: tells the bridge."""
        if isinstance(client, Subscription) and client.is_subscribed and client is not self._opened:
            self._open(client)
        if self.intake.inbound or self.intake.notes:
            self._on_input()

    def _open(self, subscription: Subscription) -> None:
        is_first, self._opened = self._opened is None, subscription
        self._opened_us = self._clock.monotonic_us()
        self._counters["connects"] += 1
        if subscription.is_resumed:
            _log.info("%s: connected; the broker kept the session", self.where)
        elif is_first:
            _log.info("%s: connected; the broker had no session of %r", self.where, subscription.client_id)
        else:
            self._counters["sessions_lost"] += 1
            _log.error(
                "%s: the broker lost our session and what waited in it: subscribed again, and devices are asked to "
                "send again what is not durable; what foreign devices sent meanwhile is gone",
                self.where,
            )
        if (
            subscription.expiry_s is not None
            and subscription.expiry_s * 1_000_000 < self._settings.mqtt_session_expiry_us
        ):
            _log.warning("%s: the broker keeps the session for %d s only", self.where, subscription.expiry_s)
        if subscription.refused:
            _log.warning("%s: the broker does not grant %s", self.where, ", ".join(subscription.refused))
        state = self._state(online=True)
        if state is not None:
            self.announce([state])
        self._on_open(subscription.is_resumed is True)

    def settled(self, sender: Sender) -> None:
        """Sends PUBACKs, if they are of the present connection."""
        wire = self._wire
        if wire is not None and wire.client is sender:
            wire.flush(self.write_max_bytes)

    def resume(self) -> None:
        """Looks at the socket again, after `is_full` changed."""
        if self._wire is not None:
            self._wire.flush(self.write_max_bytes)

    def tick(self) -> None:
        """Once a second: pings, and connections that fell silent."""
        monotonic_us = self._clock.monotonic_us()
        elapsed_us, self._ticked_us = monotonic_us - self._ticked_us, monotonic_us
        wire = self._wire
        if wire is not None and wire.transport is not None:
            timeout_us = self._settings.connect_timeout_us
            wire.client.check_time(elapsed_us, self.now_us(), timeout_us, is_read=not self.is_full)
            wire.flush(self.write_max_bytes)

    @property
    def room(self) -> int:
        """How many announcements can be sent now."""
        wire = self._wire
        if wire is None or wire.client.stage is not Stage.OPEN:
            return 0
        return max(ANNOUNCE_UNTIL_BYTES - wire.unsent_bytes, 0) // ANNOUNCED_BYTES

    def announce(self, messages: Iterable[tuple[str, bytes]], *, retain: bool = True) -> None:
        """Publishes messages of the gateway itself, QoS 0; while there is no connection, they are said for nothing."""
        wire = self._wire
        if wire is None or wire.client.stage is not Stage.OPEN:
            return
        for where, payload in messages:
            wire.client.publish(where, payload, retain=retain)
        wire.flush(self.write_max_bytes)

    def counters(self) -> dict[str, int]:
        """Numbers about connections."""
        wire = self._wire
        is_open = wire is not None and wire.client is self._opened and wire.client.stage is Stage.OPEN
        names = ("connects", "connect_failures", "connections_lost", "sessions_lost", "taken_over")
        return {"connections": int(is_open), **{name: self._counters[name] for name in names}}
