"""A fleet's MQTT connection and the devices that share it."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from headwater import __version__
from headwater.ack import parse_ack
from headwater.errors import ConnectError, DecodeError
from headwater.io.mqtt5_client import FAILURE_MIN, Mqtt5Connection, Mqtt5Options, connect
from headwater.names import MQTT_PREFIX, mqtt_topic, parse_mqtt_topic
from headwater.status import Status
from simulators.fleet_device import FleetDevice, Waiting
from simulators.fleet_report import Tally

BACKOFF_MIN_S, BACKOFF_MAX_S = 0.2, 10.0
SUBSCRIPTIONS_MAX = 32
_log = logging.getLogger(__name__)


def now_us() -> int:
    """Monotonic time."""
    return time.monotonic_ns() // 1_000


@dataclass(frozen=True, slots=True, eq=False)
class Uplink:
    """What all connections of a fleet share.

    Attributes:
        host, port, username, password: of the gateway.
        name: of the fleet, part of the client ids.
        gate: how many connect at once.
        tally: what they count.
        on_durable: told of frames whose durable ack came.
        on_change: told that a connection is up.
    """

    host: str
    port: int
    username: str
    password: str
    name: str
    gate: asyncio.Semaphore
    tally: Tally
    on_durable: Callable[[list[Waiting]], None]
    on_change: Callable[[], None]


class FleetLine:
    """One MQTT connection and the devices that share it; connects again whenever it breaks."""

    def __init__(self, uplink: Uplink, number: int, devices: list[FleetDevice]) -> None:
        self._uplink = uplink
        self._devices = {(one.machine.site, one.machine.device): one for one in devices}
        self._client_id = f"fleet-{uplink.name}-{number}"
        self._random = Random(self._client_id)  # noqa: S311  Spreads reconnects; no secret.
        self._unsent: asyncio.Queue[tuple[FleetDevice, int]] = asyncio.Queue()
        self.connection: Mqtt5Connection | None = None

    def offer(self, device: FleetDevice, seq: int) -> None:
        """Queues a frame for sending; the queue is bounded because `waiting` is."""
        self._unsent.put_nowait((device, seq))

    async def run(self) -> None:
        """Keeps the connection up until cancelled."""
        backoff_s = BACKOFF_MIN_S
        while True:
            try:
                async with self._uplink.gate:
                    self.connection = await self._connect()
                self._uplink.on_change()
                backoff_s = BACKOFF_MIN_S
                await self._send()
            except ConnectError as error:
                _log.info("%s: %s", self._client_id, error)
            self.connection = None
            self._uplink.tally.reconnects += 1
            await asyncio.sleep(self._random.uniform(0.0, backoff_s))
            backoff_s = min(2.0 * backoff_s, BACKOFF_MAX_S)

    async def _connect(self) -> Mqtt5Connection:
        uplink = self._uplink
        will_topic, will = "", b""
        if len(self._devices) == 1:
            (((site, device), one),) = self._devices.items()
            will_topic, will = mqtt_topic(site, device, "status"), Status(online=False, epoch=one.epoch).to_json()
        options = Mqtt5Options(
            self._client_id, uplink.username, uplink.password, will_mqtt_topic=will_topic, will_payload=will
        )
        connection = await connect(
            uplink.host, uplink.port, options, on_message=self._on_message, on_puback=self._on_puback
        )
        topics = [mqtt_topic(site, device, "ack") for site, device in self._devices]
        if len(topics) > SUBSCRIPTIONS_MAX:
            topics = [f"{MQTT_PREFIX}/+/+/ack"]
        await connection.subscribe(topics)
        for one in self._devices.values():
            await connection.publish(
                mqtt_topic(one.machine.site, one.machine.device, "status"), self._status(one).to_json(), retain=True
            )
        # What the old connection carried may be lost; what was queued is among the waiting.
        while not self._unsent.empty():
            self._unsent.get_nowait()
        for one in self._devices.values():
            for seq in one.waiting:
                self._unsent.put_nowait((one, seq))
        return connection

    def _status(self, device: FleetDevice) -> Status:
        metrics = {
            metric.name: {"unit": metric.unit, "lo": metric.lo, "hi": metric.hi, "reduction": "raw"}
            for metric in device.machine.metrics
        }
        agent = f"headwater-simulate/{__version__}"
        location = device.machine.location
        return Status(True, device.epoch, device.seq, len(device.waiting), agent, metrics, location)

    async def _send(self) -> None:
        connection = self.connection
        assert connection is not None
        closed = asyncio.ensure_future(asyncio.shield(connection.closed))
        try:
            while connection.is_open:
                queued = asyncio.ensure_future(self._unsent.get())
                await asyncio.wait((queued, closed), return_when=asyncio.FIRST_COMPLETED)
                if not queued.done():
                    queued.cancel()
                    break
                device, seq = queued.result()
                one = device.waiting.get(seq)
                if one is not None:
                    await self._publish(connection, device, one)
            raise ConnectError(f"MQTT: {connection.closed.result()}")
        finally:
            closed.cancel()
            connection.abort()

    async def _publish(self, connection: Mqtt5Connection, device: FleetDevice, one: Waiting) -> None:
        await connection.publish(device.mqtt_topic, one.payload)
        self._uplink.tally.resent += one.sends > 0
        one.sent_us, one.sends = now_us(), one.sends + 1

    def _on_puback(self, _packet_id: int, reason_code: int) -> None:
        self._uplink.tally.refused += reason_code >= FAILURE_MIN

    def _on_message(self, topic: str, payload: bytes) -> None:
        place = parse_mqtt_topic(topic)
        if place is None or (place.site, place.device) not in self._devices or not payload:
            return
        try:
            ack = parse_ack(payload)
        except DecodeError:
            self._uplink.tally.bad_acks += 1
            return
        device = self._devices[place.site, place.device]
        durable, again = device.acknowledge(ack, now_us())
        self._uplink.on_durable(durable)
        for seq in again:
            self.offer(device, seq)

    def resend(self, now_us: int) -> None:
        """Queues again what waited too long for its durable ack."""
        if self.connection is None or not self._unsent.empty():
            return
        for device in self._devices.values():
            for seq in device.overdue(now_us):
                self.offer(device, seq)
