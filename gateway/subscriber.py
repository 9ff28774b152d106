"""The way to a broker: socket, TLS and reconnects around subscriptions.

socket ─▶ Wire ─▶ Subscription.feed ─▶ Intake ─▶ on_input (the bridge)
socket ◀─ Wire ◀─ Subscription.take_output ◀─ settle, publish

    survey of announcements ─▶ connect ─▶ … lost ─▶ wait (full jitter) ─▶ look at the claim ─▶ ours: connect again,
                                                                                             another's: end

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
from typing import TypeVar

from gateway.claim import Look
from gateway.connection import READ_MAX_BYTES, Client, Wire
from gateway.glance import Glance
from gateway.intake import Intake
from gateway.sender import Sender
from gateway.session import Code
from gateway.settings import GatewaySettings
from gateway.stage import Stage
from gateway.subscription import Subscription
from gateway.survey import Survey
from gateway.terms import Terms
from headwater.io.mqtt_broker import Broker, parse_broker, read_secret, tls_context
from headwater.ports import Clock

# Announcements wait while so much is unsent; one is a few hundred bytes.
ANNOUNCE_UNTIL_BYTES = 1024 * 1024
ANNOUNCED_BYTES = 512
# A connection that held so long was a good one: the next failure starts the delays anew.
STEADY_US = 60_000_000
GOODBYE_S = 2.0
CLAIM_WAIT_S = 0.25
# A broker that does not show its announcements is subscribed at all the same, after so many tries.
SURVEYS_MAX = 3
REFUSED_NAMED_MAX = 5
_Client = TypeVar("_Client", bound=Client)
_Glance = TypeVar("_Glance", bound=Glance)
_log = logging.getLogger(__name__)


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
        self._surveys = 0
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
        if settings.home_assistant_devices and not settings.admits_announced:
            _log.warning(
                "devices that announce themselves are of the site %r, which is not among this gateway's",
                settings.home_assistant_site,
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
                terms = self._terms
                look = await self._glance(Look(terms.client_id, terms.username, terms.password))
                if look.claim is None:
                    await self._pause(look.why)
                    continue
                if look.claim not in {b"", self._claim}:
                    return self._give_way()
            self._begun_us = self.now_us()
            subscription = Subscription(self.intake, self._terms, self, self._state(online=False))
            if self.intake.announced is not None and self._surveys < SURVEYS_MAX:
                survey = await self._glance(Survey(self.intake, self._terms, subscription))
                if not self._is_surveyed(survey):
                    await self._pause(survey.why)
                    continue
            self._wire = wire = await self._dial(subscription)
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

    def _is_surveyed(self, survey: Survey) -> bool:
        """Tells whether to connect now: announcements are known, once for the life of the process, or can't be."""
        if survey.is_seen:
            self._surveys = SURVEYS_MAX
            _log.info("%s: the broker retains %d announcements of devices", self.where, survey.count)
            return True
        # As long as nobody is there at all, nothing is decided.
        self._surveys += survey.is_answered
        if self._surveys < SURVEYS_MAX:
            return False
        _log.warning(
            "%s: what devices announced could not be read first, and what waits of them may become dead letters: %s",
            self.where,
            survey.why,
        )
        return True

    async def _glance(self, glance: _Glance) -> _Glance:
        """Asks the broker what it retains."""
        wire = await self._dial(glance)
        try:
            await asyncio.wait_for(wire.over.wait(), self._settings.connect_timeout_us / 1e6)
        except TimeoutError:
            glance.lost("the broker does not answer")
        finally:
            if wire.transport is not None:
                wire.transport.abort()
        return glance

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
        if isinstance(client, Subscription) and client.refused:
            self._warn_refused(client)
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
        state = self._state(online=True)
        if state is not None:
            self.announce([state])
        self._on_open(subscription.is_resumed is True)

    def _warn_refused(self, subscription: Subscription) -> None:
        refused = subscription.refused
        self._counters["filters_refused"] += len(refused)
        more = f" and {len(refused) - REFUSED_NAMED_MAX} more" if len(refused) > REFUSED_NAMED_MAX else ""
        named = ", ".join(map(repr, refused[:REFUSED_NAMED_MAX]))
        _log.warning("%s: the broker does not grant QoS 1 for %s%s", self.where, named, more)
        refused.clear()

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
        names = ("connects", "connect_failures", "connections_lost", "sessions_lost", "taken_over", "filters_refused")
        return {"connections": int(is_open), **{name: self._counters[name] for name in names}}
