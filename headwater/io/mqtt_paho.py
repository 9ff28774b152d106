"""A connection to an MQTT 5 broker by paho-mqtt, driven by the caller's own loop.

paho's queue is not used as one: the caller publishes only what the receive maximum allows, so that a message handed
over is on its way. Name look-up, TCP and TLS handshake run in a short-lived thread, because they block; everything else
happens in `on_ready`. A link serves one connection: what was in flight when it broke belongs to the caller.
"""

import ssl
import threading
from typing import Any, Final

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from headwater.errors import ConnectError
from headwater.io.mqtt_broker import Broker, parse_broker, read_secret, tls_context
from headwater.mqtt_link import LinkDown, LinkEvent, LinkMessage, LinkPuback, LinkUp, Will

RECEIVE_MAXIMUM_DEFAULT: Final = 65_535
INCOMING_BYTES_MAX: Final = 64 * 1024


class PahoLink:
    """Implements `headwater.mqtt_link.MqttLink`.

    Raises:
        SettingsError: the address, a certificate or the password file can't be read.
    """

    def __init__(self, broker: Broker, client_id: str, will: Will | None = None) -> None:
        self._broker = broker
        scheme, self._host, self._port = parse_broker(broker.url)
        self._events: list[LinkEvent] = []
        self._is_over = False
        self._thread: threading.Thread | None = None
        self._connecting = False
        self._gate = threading.Lock()  # Between the connecting thread and whoever drops the link meanwhile.
        self._client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
        )
        client = self._client
        client.connect_timeout = broker.connect_timeout_s
        client.max_inflight_messages_set(0)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        if will is not None:
            client.will_set(will.mqtt_topic, will.payload, qos=1, retain=will.retain)
        if broker.username:
            client.username_pw_set(broker.username, read_secret(broker.password_file))
        if scheme == "mqtts":
            client.tls_set_context(tls_context(broker))

    # ── what the caller does ───────────────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """Begins to connect."""
        self._connecting = True
        self._thread = threading.Thread(target=self._connect, name=f"connect-{self._host}", daemon=True)
        self._thread.start()

    def _connect(self) -> None:
        properties: Any = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.MaximumPacketSize = INCOMING_BYTES_MAX
        try:
            self._client.connect(
                self._host, self._port, self._broker.keepalive_s, clean_start=True, properties=properties
            )
        except (OSError, ValueError) as error:
            # socket.gaierror, TimeoutError and ssl.SSLError are OSErrors; ssl.CertificateError is a ValueError too.
            self._end(f"{self._host}:{self._port}: {error}")
        with self._gate:
            self._connecting = False
            if self._is_over:
                self._release()

    def events(self) -> list[LinkEvent]:
        """Returns what happened since the last call."""
        taken = self._events[:]
        del self._events[: len(taken)]
        return taken

    def subscribe(self, mqtt_topics: tuple[str, ...]) -> None:
        """Asks for messages, QoS 1."""
        if self._client.subscribe([(mqtt_topic, 1) for mqtt_topic in mqtt_topics])[0] != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise ConnectError(f"{self._host}: the connection is gone")

    def publish(self, mqtt_topic: str, payload: bytes, *, retain: bool = False, qos: int = 1) -> int:
        """Sends and returns the message's number."""
        info = self._client.publish(mqtt_topic, payload, qos=qos, retain=retain)
        if info.rc not in (MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_AGAIN):
            raise ConnectError(f"{self._host}: {info.rc.name}")
        return info.mid

    def close(self) -> None:
        """Says goodbye as far as that is possible and releases the socket."""
        if not self._connecting and not self._is_over:
            self._client.disconnect()
            self._client.loop_write()
        self.drop()

    def drop(self) -> None:
        """Breaks the connection without a goodbye."""
        with self._gate:
            self._is_over = True
            if not self._connecting:
                self._release()

    def _release(self) -> None:
        socket: Any = self._client.socket()
        if socket is not None:
            socket.close()

    def fileno(self) -> int:
        """The socket to wait for, -1 if there is none now."""
        socket: Any = None if self._connecting or self._is_over else self._client.socket()
        return -1 if socket is None else int(socket.fileno())

    @property
    def wants_write(self) -> bool:
        """True when bytes wait for the socket to take them."""
        return bool(self._client.want_write())

    def on_ready(self, *, readable: bool, writable: bool) -> None:
        """Moves bytes and keeps the connection alive."""
        if self._connecting or self._is_over:
            return
        if readable:
            self._client.loop_read()
            # What TLS has deciphered already makes no socket readable.
            while isinstance(socket := self._client.socket(), ssl.SSLSocket) and socket.pending():
                self._client.loop_read()
        if writable or self._client.want_write():
            self._client.loop_write()
        self._client.loop_misc()

    # ── what paho tells ────────────────────────────────────────────────────────────────────────────────────────

    def _end(self, reason: str) -> None:
        if not self._is_over:
            self._is_over = True
            self._events.append(LinkDown(reason))

    def _on_connect(self, _client: Client, _data: object, _flags: object, code: ReasonCode, properties: Any) -> None:
        if code.is_failure:
            self._end(f"refused: {code}")
            return
        self._events.append(LinkUp(getattr(properties, "ReceiveMaximum", RECEIVE_MAXIMUM_DEFAULT)))

    def _on_disconnect(self, _client: Client, _data: object, _flags: object, code: ReasonCode, _props: object) -> None:
        self._end(str(code))

    def _on_publish(self, _client: Client, _data: object, mid: int, code: ReasonCode, _props: object) -> None:
        self._events.append(LinkPuback(mid, code.value))

    def _on_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        self._events.append(LinkMessage(message.topic, bytes(message.payload)))
