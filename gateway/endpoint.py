"""The MQTT listener: sockets and TLS around sessions, who may come in, and when to stop reading.

socket ─▶ Connection.data_received ─▶ Session.feed ─▶ Broker ─▶ on_input (the bridge)
socket ◀─ Connection.flush ◀───────── Session.take_output
"""

import asyncio
import hashlib
import logging
import os
import ssl
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mqtt5

from gateway.broker import Broker
from gateway.identity import ANONYMOUS, Identity, Users, certificate_identity
from gateway.intake import Intake
from gateway.retained import RetainedMessages
from gateway.sender import Sender
from gateway.session import Code, Phase, Session, SessionLimits
from gateway.settings import GatewaySettings
from headwater.errors import SettingsError
from headwater.ports import Clock

CLAIMS_WAITING_MAX = 200
KNOWN_PASSWORDS_MAX = 10_000
ANNOUNCED_MAX = 100_000
READ_MAX_BYTES = 256 * 1024
_CONNACK = mqtt5.ConnAckReasonCode
_log = logging.getLogger(__name__)


class Connection(asyncio.BufferedProtocol):
    """One socket and its session."""

    def __init__(self, endpoint: "Endpoint") -> None:
        self._endpoint = endpoint
        self._is_paused = False
        self.transport: asyncio.Transport | None = None
        self.session: Session | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Makes the session, or drops the socket when there are too many."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.session = self._endpoint.opened(self, transport)
        if self.session is None:
            transport.abort()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 — asyncio's signature; the hint is only one.
        """Lends the buffer that all connections share: what is in it is handled before the next one reads."""
        return self._endpoint.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Hands bytes to the session."""
        if self.session is not None:
            self.session.feed(self._endpoint.buffer[:nbytes], self._endpoint.now_us())
            self._endpoint.after(self.session)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tells the session that it is over."""
        if exc is not None:
            _log.debug("a connection broke: %s", exc)
        if self.session is not None:
            self._endpoint.lost(self.session)

    def flush(self, write_max_bytes: int) -> None:
        """Sends what the session has to say, closes after its end, and decides whether to read on."""
        session, transport = self.session, self.transport
        if session is None or transport is None or transport.is_closing():
            return
        if session.has_output:
            transport.write(session.take_output())
            if transport.get_write_buffer_size() > write_max_bytes:
                self._endpoint.cut_off(session)
                transport.abort()
                return
        if session.phase is Phase.CLOSED:
            transport.close()
            return
        pause = session.is_stalled or session.phase is Phase.CHECKING or self._endpoint.is_full
        if pause != self._is_paused:
            self._is_paused = pause
            (transport.pause_reading if pause else transport.resume_reading)()


class Endpoint:
    """Listens; owns the connections and the checking of identities.

    Attributes:
        buffer: what sockets are read into.
        is_full: the bridge sets it while too much waits for the log; sockets are then not read.
        refused: connections dropped because there were too many.
    """

    def __init__(self, settings: GatewaySettings, broker: Broker, clock: Clock, on_input: Callable[[], None]) -> None:
        self._settings = settings
        self._broker = broker
        self._clock = clock
        self._on_input = on_input
        self._limits = SessionLimits(
            receive_max=settings.receive_max,
            packet_max_bytes=settings.packet_max_bytes,
            keepalive_max_us=settings.keepalive_max_us,
            deliveries_max=settings.deliveries_max,
            rate_max_messages=settings.rate_max_messages,
            rate_max_bytes=settings.rate_max_bytes,
        )
        self._connections: dict[Session, Connection] = {}
        self._checks: set[asyncio.Task[None]] = set()
        self._checker = ThreadPoolExecutor(1, "headwater-passwords")
        self._known: dict[bytes, Identity] = {}
        self._secret = os.urandom(32)
        self.buffer = memoryview(bytearray(READ_MAX_BYTES))
        self._server: asyncio.Server | None = None
        self._port = settings.port
        self._users: Users | None = None
        self._ticked_us = clock.monotonic_us()
        self.is_full = False
        self.refused = 0

    def now_us(self) -> int:
        """The gateway's time of receipt."""
        return self._clock.now_us()

    @property
    def intake(self) -> Intake:
        """The broker of all sessions."""
        return self._broker

    @property
    def retained(self) -> RetainedMessages:
        """What is kept for subscribers."""
        return self._broker.retained

    @property
    def where(self) -> str:
        """The address, for people."""
        return f"{self._settings.host}:{self._port}"

    @property
    def room(self) -> int:
        """Subscribers are served from memory: as many messages as there are."""
        return ANNOUNCED_MAX

    def counters(self) -> dict[str, int]:
        """Numbers about connections."""
        return {"connections": self._broker.connections, "refused_connections": self.refused}

    async def start(self) -> int:
        """Opens the listener and returns its port.

        Raises:
            SettingsError: a file is missing or wrong, or the address can't be had.
        """
        settings = self._settings
        self._users = _users(settings)
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: Connection(self), settings.host, settings.port, ssl=_tls(settings), backlog=512
            )
        except OSError as error:
            raise SettingsError(f"gateway: can't listen on {settings.host}:{settings.port}: {error}") from error
        self._port = int(self._server.sockets[0].getsockname()[1])
        return self._port

    async def run(self) -> bool:
        """Nothing: connections come by themselves, and nobody takes a listener's place."""
        return False

    async def close(self) -> None:
        """Stops listening and ends every connection, telling MQTT 5 clients why."""
        if self._server is not None:
            self._server.close()
        for task in self._checks:
            task.cancel()
        for session in list(self._connections):
            session.disconnect(Code.SERVER_SHUTTING_DOWN, "shutdown", self.now_us())
        self.flush(self._connections)
        self._checker.shutdown(wait=False, cancel_futures=True)

    def opened(self, connection: Connection, transport: asyncio.Transport) -> Session | None:
        """Makes the session of a new socket; None if there is no room."""
        if len(self._connections) >= self._settings.connections_max:
            self.refused += 1
            return None
        session = Session(self._broker, self._limits, self.now_us(), str(transport.get_extra_info("peername")))
        if self._settings.tls_client_ca:
            session.certificate = _certificate_of(transport)
        self._connections[session] = connection
        return session

    def lost(self, session: Session) -> None:
        """A socket is gone."""
        del self._connections[session]
        session.lost(self.now_us())
        if not session.client_id:
            self._broker.counters[f"refused_{session.why}"] += 1
        self.after(session)

    def cut_off(self, session: Session) -> None:
        """A client does not read what it is sent."""
        session.disconnect(Code.QUOTA_EXCEEDED, "slow", self.now_us())

    def after(self, session: Session) -> None:
        """Does what follows from input: checks claims, sends output, tells the bridge."""
        broker = self._broker
        if broker.claims:
            claims, broker.claims = broker.claims, []
            for claimant, packet in claims:
                self._check(claimant, packet)
                # What came in one piece with CONNECT waits in the session.
                claimant.feed(b"", self.now_us())
        if broker.touched:
            touched, broker.touched = broker.touched, set()
            touched.discard(session)
            self.flush(touched)
        connection = self._connections.get(session)
        if connection is not None:
            connection.flush(self._settings.write_max_bytes)
        if broker.inbound or broker.notes:
            self._on_input()

    def flush(self, sessions: "set[Session] | dict[Session, Connection]") -> None:
        """Sends the output of some sessions."""
        for session in list(sessions):
            connection = self._connections.get(session)
            if connection is not None:
                connection.flush(self._settings.write_max_bytes)

    def settled(self, sender: Sender) -> None:
        """Sends PUBACKs, and reads on what waited for room in flight."""
        assert isinstance(sender, Session)
        session = sender
        if session.is_stalled:
            session.feed(b"", self.now_us())
        self.after(session)

    def announce(self, messages: Iterable[tuple[str, bytes]], *, retain: bool = True) -> None:
        """Publishes messages of the gateway itself."""
        for where, payload in messages:
            self._broker.announce(where, payload, retain=retain)
        touched, self._broker.touched = self._broker.touched, set()
        self.flush(touched)

    def resume(self) -> None:
        """Looks at every connection again, after `is_full` changed."""
        self.flush(self._connections)

    def tick(self) -> None:
        """Once a second: keepalives, connections that never said CONNECT, delayed wills."""
        now_us, monotonic_us = self.now_us(), self._clock.monotonic_us()
        elapsed_us, self._ticked_us = monotonic_us - self._ticked_us, monotonic_us
        self._broker.tick(now_us)
        for session in list(self._connections):
            # While sockets are not read, silence is ours.
            session.check_time(0 if self.is_full else elapsed_us, now_us, self._settings.connect_timeout_us)
            if session.phase is Phase.CLOSED:
                self.after(session)
        broker = self._broker
        if broker.touched:
            touched, broker.touched = broker.touched, set()
            self.flush(touched)
        if broker.notes:
            self._on_input()

    def _check(self, session: Session, packet: mqtt5.ConnectPacket) -> None:
        """Finds out who a client is: at once where that is cheap, else in the password thread."""
        broker, settings = self._broker, self._settings
        if session.certificate is not None:
            broker.admit(session, packet, session.certificate, self.now_us())
            return
        if self._users is None or packet.username is None:
            if settings.anonymous:
                broker.admit(session, packet, ANONYMOUS, self.now_us())
            else:
                broker.turn_away(session, _CONNACK.NOT_AUTHORIZED, "anonymous")
            return
        password = packet.password or b""
        known = self._known.get(self._fingerprint(packet.username, password))
        if known is not None:
            broker.admit(session, packet, known, self.now_us())
        elif len(self._checks) >= CLAIMS_WAITING_MAX:
            broker.turn_away(session, _CONNACK.SERVER_BUSY, "busy")
        else:
            task = asyncio.get_running_loop().create_task(self._check_password(session, packet, password))
            self._checks.add(task)
            task.add_done_callback(self._checks.discard)

    async def _check_password(self, session: Session, packet: mqtt5.ConnectPacket, password: bytes) -> None:
        assert self._users is not None
        assert packet.username is not None
        loop = asyncio.get_running_loop()
        identity = await loop.run_in_executor(self._checker, self._users.identify, packet.username, password)
        if session.phase is not Phase.CHECKING:
            return
        if identity is None:
            self._broker.turn_away(session, _CONNACK.BAD_USER_NAME_OR_PASSWORD, "password")
        else:
            if len(self._known) >= KNOWN_PASSWORDS_MAX:
                self._known.clear()
            self._known[self._fingerprint(packet.username, password)] = identity
            self._broker.admit(session, packet, identity, self.now_us())
            session.feed(b"", self.now_us())
        self.after(session)

    def _fingerprint(self, name: str, password: bytes) -> bytes:
        """Names a user and password that were right before, without keeping the password."""
        return hashlib.blake2b(name.encode() + b"\0" + password, key=self._secret, digest_size=32).digest()


def _users(settings: GatewaySettings) -> Users | None:
    if not settings.users:
        return None
    try:
        return Users(Path(settings.users).read_text(encoding="utf-8"), settings.users)
    except OSError as error:
        raise SettingsError(f"gateway.users: {error}") from error


def _tls(settings: GatewaySettings) -> ssl.SSLContext | None:
    if not settings.tls_certificate:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.tls_certificate, settings.tls_key)
        if settings.tls_client_ca:
            context.load_verify_locations(settings.tls_client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except OSError as error:
        raise SettingsError(f"gateway.tls_certificate, tls_key or tls_client_ca: {error}") from error
    return context


def _certificate_of(transport: asyncio.Transport) -> Identity:
    """The identity in a verified client certificate; one that names no device may do nothing."""
    certificate = transport.get_extra_info("peercert") or {}
    for part in certificate.get("subject", ()):
        for key, value in part:
            if key == "commonName":
                return certificate_identity(value) or Identity(value)
    return Identity("unnamed certificate")
