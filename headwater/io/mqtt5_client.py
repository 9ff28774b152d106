"""A small MQTT 5 client over asyncio and the `mqtt5` codec, for tools that drive thousands of connections.

A `Mqtt5Connection` lives for one TCP connection; who wants to reconnect makes a new one (packet ids don't outlive it).

    publish ─▶ window (server's Receive Maximum) ─▶ socket ─▶ … ─▶ PUBACK ─▶ on_puback, window opens
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import mqtt5

from headwater.errors import ConnectError, RejectedError

PACKET_ID_MAX = 65_535
FAILURE_MIN = 0x80


@dataclass(frozen=True, slots=True)
class Mqtt5Options:
    """How to connect.

    Attributes:
        client_id: unique at the broker.
        username, password: "" for none.
        keep_alive_s: a PINGREQ goes out at this interval; without answer until the next, the connection is given up.
        will_mqtt_topic, will_payload: retained message for when the connection breaks; "" for none.
        timeout_s: for the connection and CONNACK together.
        receive_max: messages that the server may have unacknowledged towards us.
    """

    client_id: str
    username: str = ""
    password: str = ""
    keep_alive_s: int = 60
    will_mqtt_topic: str = ""
    will_payload: bytes = b""
    timeout_s: float = 20.0
    receive_max: int = 1_000


OnMessage = Callable[[str, bytes], None]
OnPuback = Callable[[int, int], None]


def _ignore_message(_mqtt_topic: str, _payload: bytes) -> None:
    """Takes a message that nobody asked for."""


def _ignore_puback(_packet_id: int, _reason_code: int) -> None:
    """Takes an acknowledgement that nobody waits for."""


class Mqtt5Connection(asyncio.Protocol):
    """One connection; made by `connect`. Call it from its event loop only.

    Attributes:
        receive_max: QoS 1 messages that may be unacknowledged, as the server said.
        in_flight: how many are.
        closed: done when the connection is over; its result says why.
    """

    def __init__(self, options: Mqtt5Options, on_message: OnMessage, on_puback: OnPuback) -> None:
        self._options = options
        self._on_message = on_message
        self._on_puback = on_puback
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._connack: asyncio.Future[mqtt5.ConnAckPacket] = self._loop.create_future()
        self.closed: asyncio.Future[str] = self._loop.create_future()
        self._in_flight: set[int] = set()
        self._subscriptions: dict[int, asyncio.Future[list[int]]] = {}
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._packet_id = 0
        self._is_paused = False
        self._awaits_pong = False
        self._ping: asyncio.TimerHandle | None = None
        self.receive_max = PACKET_ID_MAX

    @property
    def in_flight(self) -> int:
        """QoS 1 messages without PUBACK."""
        return len(self._in_flight)

    @property
    def is_open(self) -> bool:
        """False once the connection is over."""
        return not self.closed.done()

    @property
    def has_room(self) -> bool:
        """True if `publish` would not wait."""
        return not self._is_paused and len(self._in_flight) < self.receive_max

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Says CONNECT."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        options = self._options
        will = None
        if options.will_mqtt_topic:
            will = mqtt5.Will(
                options.will_mqtt_topic, payload=options.will_payload, qos=mqtt5.QoS.AT_LEAST_ONCE, retain=True
            )
        packet = mqtt5.ConnectPacket(
            options.client_id,
            username=options.username or None,
            password=options.password.encode() if options.password else None,
            clean_start=True,
            will=will,
            keep_alive=options.keep_alive_s,
            receive_max=options.receive_max,
        )
        transport.write(packet.write())

    def data_received(self, data: bytes) -> None:
        """Takes bytes apart into packets."""
        self._buffer += data
        view, used = memoryview(self._buffer), 0
        try:
            with contextlib.suppress(IndexError):  # The rest of the packet has not arrived.
                while used < len(view):
                    packet, size = mqtt5.read(view[used:])
                    used += size
                    self._handle(packet)
        except ValueError as error:
            self._end(f"the server sent what is not MQTT 5: {error}")
        finally:
            view.release()
        del self._buffer[:used]

    def pause_writing(self) -> None:
        """The socket is full: publish waits."""
        self._is_paused = True

    def resume_writing(self) -> None:
        """The socket takes bytes again."""
        self._is_paused = False
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends everything that waits."""
        self._end(str(exc) if exc is not None else "the server closed the connection")

    def _handle(self, packet: mqtt5.Packet) -> None:
        match packet:
            case mqtt5.PubAckPacket():
                self._in_flight.discard(packet.packet_id)
                self._on_puback(packet.packet_id, int(packet.reason_code))
                self._wake()
            case mqtt5.PublishPacket():
                if packet.qos == mqtt5.QoS.AT_LEAST_ONCE and packet.packet_id is not None:
                    self._write(mqtt5.PubAckPacket(packet.packet_id).write())
                self._on_message(packet.topic, packet.payload)
            case mqtt5.ConnAckPacket():
                if not self._connack.done():
                    self._connack.set_result(packet)
            case mqtt5.SubAckPacket():
                waiting = self._subscriptions.pop(packet.packet_id, None)
                if waiting is not None and not waiting.done():
                    waiting.set_result([int(code) for code in packet.reason_codes])
            case mqtt5.PingRespPacket():
                self._awaits_pong = False
            case mqtt5.DisconnectPacket():
                self._end(f"the server said DISCONNECT: {packet.reason_code.name}")
            case _:
                self._end(f"the server sent an unexpected {type(packet).__name__}")

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self.closed.done():
            self._transport.write(data)

    def _wake(self) -> None:
        while self._waiters and self.has_room:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _end(self, reason: str) -> None:
        if self.closed.done():
            return
        self.closed.set_result(reason)
        if self._ping is not None:
            self._ping.cancel()
        if self._transport is not None:
            self._transport.abort()
        waiting: list[asyncio.Future[Any]] = [self._connack, *self._subscriptions.values(), *self._waiters]
        for future in waiting:
            future.cancel()
        self._waiters.clear()
        self._subscriptions.clear()

    # What callers call.

    async def handshake(self) -> None:
        """Waits for CONNACK; `connect` does it."""
        try:
            connack = await self._connack
        except asyncio.CancelledError:
            if self.closed.done():
                raise ConnectError(f"MQTT: {self.closed.result()}") from None
            raise
        if connack.reason_code != mqtt5.ConnAckReasonCode.SUCCESS:
            name = connack.reason_code.name
            self._end(name)
            raise RejectedError(f"MQTT: the server refused the connection: {name}", reason=name.lower())
        self.receive_max = connack.receive_max
        every_s = self._options.keep_alive_s if connack.server_keep_alive is None else connack.server_keep_alive
        if every_s > 0:
            self._schedule_ping(every_s * 0.8)

    def _schedule_ping(self, every_s: float) -> None:
        def beat() -> None:
            if self._awaits_pong:
                self._end("the server did not answer PINGREQ")
                return
            self._awaits_pong = True
            self._write(mqtt5.PingReqPacket().write())
            self._schedule_ping(every_s)

        self._ping = self._loop.call_later(every_s, beat)

    async def publish(self, mqtt_topic: str, payload: bytes, *, retain: bool = False) -> int:
        """Sends with QoS 1 as soon as the window has room and returns the packet id; PUBACK comes to `on_puback`.

        Raises:
            ConnectError: the connection is over.
        """
        while not self.has_room and not self.closed.done():
            waiter = self._loop.create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if not self.closed.done():
                    self._wake()
                    raise
        if self.closed.done():
            raise ConnectError(f"MQTT: {self.closed.result()}")
        packet_id = self._next_packet_id()
        self._in_flight.add(packet_id)
        packet = mqtt5.PublishPacket(
            mqtt_topic, payload, qos=mqtt5.QoS.AT_LEAST_ONCE, retain=retain, packet_id=packet_id
        )
        self._write(packet.write())
        self._wake()
        return packet_id

    def _next_packet_id(self) -> int:
        while True:
            self._packet_id = self._packet_id % PACKET_ID_MAX + 1
            if self._packet_id not in self._in_flight and self._packet_id not in self._subscriptions:
                return self._packet_id

    async def subscribe(self, mqtt_topics: Sequence[str]) -> None:
        """Subscribes with QoS 1 and waits for the answer.

        Raises:
            ConnectError: the connection is over.
            RejectedError: the server refused one of them.
        """
        if self.closed.done():
            raise ConnectError(f"MQTT: {self.closed.result()}")
        packet_id = self._next_packet_id()
        answer = self._subscriptions[packet_id] = self._loop.create_future()
        filters = [mqtt5.TopicFilter(topic, max_qos=mqtt5.QoS.AT_LEAST_ONCE) for topic in mqtt_topics]
        self._write(mqtt5.SubscribePacket(packet_id, filters).write())
        try:
            codes = await answer
        except asyncio.CancelledError:
            if self.closed.done():
                raise ConnectError(f"MQTT: {self.closed.result()}") from None
            raise
        refused = [topic for topic, code in zip(mqtt_topics, codes, strict=False) if code >= FAILURE_MIN]
        if refused:
            raise RejectedError(f"MQTT: the server refused to subscribe {refused[0]!r}", reason="subscribe")

    def abort(self) -> None:
        """Cuts the connection without a word: the server sends the will."""
        self._end("aborted by us")

    async def disconnect(self) -> None:
        """Says goodbye (the will is not sent) and closes."""
        if self.closed.done() or self._transport is None:
            return
        self._transport.write(mqtt5.DisconnectPacket().write())
        self._transport.close()
        with contextlib.suppress(TimeoutError):  # A peer that doesn't close is left alone: the goodbye is said.
            await asyncio.wait_for(asyncio.shield(self.closed), 1.0)
        self._end("closed by us")


async def connect(
    host: str,
    port: int,
    options: Mqtt5Options,
    *,
    on_message: OnMessage = _ignore_message,
    on_puback: OnPuback = _ignore_puback,
) -> Mqtt5Connection:
    """Connects and waits until the server has accepted.

    Raises:
        ConnectError: the server can't be reached or didn't answer in time.
        RejectedError: it said no.
    """
    loop = asyncio.get_running_loop()
    connection: Mqtt5Connection | None = None
    is_accepted = False
    try:
        async with asyncio.timeout(options.timeout_s):
            _, connection = await loop.create_connection(
                lambda: Mqtt5Connection(options, on_message, on_puback), host, port
            )
            await connection.handshake()
        is_accepted = True
    except TimeoutError:
        raise ConnectError(f"MQTT: {host}:{port} did not accept within {options.timeout_s:g} s") from None
    except OSError as error:
        raise ConnectError(f"MQTT: {host}:{port}: {error}") from error
    finally:
        if connection is not None and not is_accepted:
            connection.abort()
    return connection
