"""Settings of the gateway: the table `[gateway]` of headwater.toml."""

import re
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from headwater.ack import AckLevel
from headwater.address import is_loopback
from headwater.log_topics import PARTITIONS_DEFAULT
from headwater.names import is_name
from headwater.settings import DurationUs, Table

_CLIENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_BROKER = re.compile(r"mqtts?://(\[[0-9a-fA-F:.]+\]|[^\s/@:\[\]]+)(:\d{1,5})?/?")


class GatewaySettings(Table):
    """How the gateway listens, whom it admits, how it batches and acknowledges."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(1883, ge=0, le=65_535, description="TCP port; 0 lets the system choose.")
    mqtt: str = Field(
        "",
        description="URL of an MQTT 5 broker to subscribe at, mqtt://host:port or mqtts://host:port; empty: devices "
        "connect to\nthe gateway itself. See docs/mqtt.md.",
    )
    mqtt_client_id: str = Field(
        "headwater-gateway", description="Names the session at the broker: one per gateway, the same after a restart."
    )
    sites: tuple[str, ...] = Field(
        (), description="At a broker: take these sites only, others being another gateway's; empty: all."
    )
    mqtt_username: str = Field("", description="User at the broker; empty: none.")
    mqtt_password_file: str = Field("", description="File with the password.")
    mqtt_ca_file: str = Field("", description="PEM file of authorities to trust (mqtts); empty: the system's.")
    mqtt_cert_file: str = Field("", description="PEM file with the gateway's certificate at the broker (mqtts).")
    mqtt_key_file: str = Field("", description="PEM file with the key of that certificate.")
    mqtt_session_expiry_us: DurationUs = Field(
        7 * 86_400_000_000, ge=1_000_000, description="How long the broker keeps our session while we are away."
    )
    mqtt_keepalive_us: DurationUs = Field(
        30_000_000, ge=2_000_000, description="The broker is pinged twice in this time."
    )
    reconnect_min_us: DurationUs = Field(500_000, ge=1_000, description="First reconnect delay; full jitter, doubles.")
    reconnect_max_us: DurationUs = Field(30_000_000, ge=1_000, description="Largest reconnect delay.")

    partitions: int = Field(PARTITIONS_DEFAULT, ge=1, le=4096, description="Shards of the log; never change it later.")
    ack_level: Literal["auto", "store", "backbone"] = Field(
        "auto",
        description='Durable acks say "in the store" or "in the log" (backbone: only with a replicated log). auto is backbone '
        "on a Kafka\nthat keeps an acknowledged record on two brokers at least, else store.",
    )

    tls_certificate: str = Field("", description="PEM file with the server's certificate chain; empty for plain TCP.")
    tls_key: str = Field("", description="PEM file with its private key.")
    tls_client_ca: str = Field("", description="PEM file of the CA that signs clients; set, every client needs one.")
    users: str = Field("", description="TOML file of users; see docs/security.md.")
    allow_anonymous: bool | None = Field(
        None, description="Admit clients without a name; by default only where listening on loopback without users."
    )
    insecure: bool = Field(False, description="Allow a listener that others can reach without TLS or without users.")

    receive_max: int = Field(2000, ge=1, le=65_535, description="QoS 1 messages a client may have unacknowledged.")
    packet_max_bytes: int = Field(
        524_288, ge=1024, description="Largest MQTT packet; a larger one ends the connection."
    )
    connections_max: int = Field(2000, ge=1, description="Connections at a time.")
    connect_timeout_us: DurationUs = Field(10_000_000, description="A connection must say CONNECT within this time.")
    keepalive_max_us: DurationUs = Field(600_000_000, description="Longest keepalive granted; none asked means this.")
    subscriptions_max: int = Field(64, ge=1, description="Subscriptions per client.")
    retained_max: int = Field(30_000, ge=1, description="Retained messages kept.")
    retained_max_bytes: int = Field(64 * 1024 * 1024, ge=1024, description="Bytes of retained messages kept.")
    deliveries_max: int = Field(1000, ge=1, description="Messages waiting for one slow subscriber.")
    write_max_bytes: int = Field(
        4 * 1024 * 1024, ge=65_536, description="Unsent bytes after which a client is cut off."
    )
    rate_max_messages: int = Field(20_000, ge=1, description="Messages per second of one connection, on average.")
    rate_max_bytes: int = Field(
        64 * 1024 * 1024, ge=1024, description="Bytes per second of one connection, on average."
    )
    dead_letters_max: int = Field(
        100, ge=1, description="Dead letters per second and device that keep their bytes; more are kept without."
    )

    batch_readings_max: int = Field(65_536, ge=1, description="Readings after which a batch closes.")
    batch_max_bytes: int = Field(1024 * 1024, ge=1024, description="Bytes of payload after which a batch closes.")
    batch_age_us: DurationUs = Field(100_000, description="Age at which a batch closes.")
    batch_quiet_us: DurationUs = Field(5_000, description="With nothing in flight, a batch closes after this silence.")
    commit_every_us: DurationUs = Field(20_000, description="Least time between the starts of two small commits.")
    compression: Literal["none", "lz4", "zstd"] = Field(
        "lz4",
        description="How large batches are packed for the log: lz4 writes about 4 bytes a reading and costs the least CPU "
        "on the way to\nthe disk, none writes about 22, zstd packs tighter for more CPU.",
    )
    queue_max_bytes: int = Field(
        64 * 1024 * 1024, ge=1024 * 1024, description="Bytes waiting for the log; beyond, sockets are not read."
    )

    heartbeat_us: DurationUs = Field(1_000_000, description="A shard without frames gets an empty batch this often.")
    ack_every_us: DurationUs = Field(200_000, description="Durable acks of one device come at most this often.")
    store_poll_us: DurationUs = Field(150_000, description="How often the store is asked what became durable.")
    missing_after_us: DurationUs = Field(2_000_000, description="A hole this old is asked for again.")
    retry_us: DurationUs = Field(500_000, description="Pause before an append that failed is tried again.")
    foreign_window_us: DurationUs = Field(600_000_000, description="The same JSON within this time is a duplicate.")
    foreign_window_max: int = Field(65_536, ge=1, description="JSON messages remembered for that.")
    dead_letter_max_bytes: int = Field(65_536, ge=1024, description="Bytes of a dead letter that are kept.")

    home_assistant: bool = Field(
        False, description="Tell Home Assistant of every metric by MQTT discovery; see docs/home-assistant.md."
    )
    home_assistant_devices: bool = Field(
        False, description="Admit devices that announce their sensors as Home Assistant's MQTT discovery asks."
    )
    home_assistant_prefix: str = Field(
        "homeassistant", min_length=1, max_length=64, description="First level of discovery topics."
    )
    home_assistant_every_us: DurationUs = Field(
        10_000_000, ge=1_000_000, description="A device's values are told at most this often."
    )
    home_assistant_forget_us: DurationUs = Field(
        7 * 86_400_000_000, ge=60_000_000, description="A device silent for so long is taken out of Home Assistant."
    )
    home_assistant_site: str = Field("home", description="Site of devices that announce themselves.")
    home_assistant_sensors_max: int = Field(2000, ge=1, description="Sensors that may be announced.")

    sparkplug: bool = Field(True, description="Admit Sparkplug B edge nodes (spBv1.0/…); see docs/sparkplug.md.")
    sparkplug_host: str = Field(
        "headwater", min_length=1, max_length=128, description="The gateway's id as a Sparkplug host application."
    )
    sparkplug_nodes_max: int = Field(1000, ge=1, description="Sparkplug edge nodes known at a time.")
    sparkplug_reorder_us: DurationUs = Field(
        2_000_000, ge=100_000, description="How long a Sparkplug message waits for one that is missing before it."
    )
    sparkplug_rebirth_every_us: DurationUs = Field(
        30_000_000, ge=1_000_000, description="A Sparkplug node is asked for its birth at most this often."
    )

    @field_validator("sparkplug_host", "home_assistant_prefix")
    @classmethod
    def _is_one_level(cls, host: str) -> str:
        if any(character in host for character in "/+#\0"):
            raise ValueError(f"{host!r} is a part of MQTT topics: no / + # in it")
        return host

    @field_validator("home_assistant_site")
    @classmethod
    def _is_a_name(cls, site: str) -> str:
        if not is_name(site):
            raise ValueError(f"{site!r} is not a name: use a-z, 0-9, _ and -, at most 64 characters")
        return site

    @field_validator("mqtt")
    @classmethod
    def _is_a_broker(cls, url: str) -> str:
        if url and not _BROKER.fullmatch(url):
            raise ValueError(
                "write mqtt://host:1883 or mqtts://host:8883; user and password have settings of their own"
            )
        return url

    @field_validator("mqtt_client_id")
    @classmethod
    def _is_a_client_id(cls, text: str) -> str:
        if not _CLIENT_ID.fullmatch(text):
            raise ValueError("write letters, digits, dots, _ and -, at most 64 of them")
        return text

    @field_validator("sites")
    @classmethod
    def _are_names(cls, sites: tuple[str, ...]) -> tuple[str, ...]:
        for site in sites:
            if not is_name(site):
                raise ValueError(f"{site!r} is not the name of a site: use a-z, 0-9, _ and -, at most 64 characters")
        return tuple(dict.fromkeys(sites))

    @model_validator(mode="after")
    def _check_broker(self) -> Self:
        """Refuses halves of what only a whole makes sense of."""
        if self.sites and not self.mqtt:
            raise ValueError("sites divide the devices of a broker: set mqtt to its URL, or leave sites empty")
        if bool(self.mqtt_cert_file) != bool(self.mqtt_key_file):
            raise ValueError("mqtt_cert_file and mqtt_key_file go together: set both or neither")
        if self.mqtt_password_file and not self.mqtt_username:
            raise ValueError("mqtt_password_file needs mqtt_username")
        return self

    @model_validator(mode="after")
    def _check_exposure(self) -> Self:
        """Refuses a listener that strangers can reach without identity or encryption."""
        if bool(self.tls_certificate) != bool(self.tls_key):
            raise ValueError("tls_certificate and tls_key go together: set both or neither")
        if self.tls_client_ca and not self.tls_certificate:
            raise ValueError("tls_client_ca needs tls_certificate and tls_key")
        if self.mqtt or is_loopback(self.host) or self.insecure:
            return self
        if not self.tls_certificate:
            raise ValueError(
                f"{self.host} can be reached by others: set tls_certificate and tls_key, or insecure = true"
            )
        if not self.users and not self.tls_client_ca:
            raise ValueError(f"{self.host} can be reached by others: set users or tls_client_ca, or insecure = true")
        return self

    @property
    def durable_level(self) -> AckLevel:
        """The level of durable acks; "auto" is "store" where nobody who knows the log has chosen."""
        return "backbone" if self.ack_level == "backbone" else "store"

    @property
    def admits_announced(self) -> bool:
        """Whether devices that announce themselves are this gateway's: their site may be another one's."""
        return self.home_assistant_devices and (not self.sites or self.home_assistant_site in self.sites)

    @property
    def anonymous(self) -> bool:
        """Whether clients without a name are admitted."""
        if self.allow_anonymous is not None:
            return self.allow_anonymous
        return not self.users and not self.tls_client_ca and (is_loopback(self.host) or self.insecure)
