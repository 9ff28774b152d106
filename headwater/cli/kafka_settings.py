"""The `[kafka]` table, and the options of the Kafka adapter made of it and of a `kafka://` URL (docs/kafka.md)."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from headwater.address import is_loopback
from headwater.errors import SettingsError
from headwater.instant import US_PER_S
from headwater.settings import DurationUs, Table

if TYPE_CHECKING:
    from headwater.io.log_kafka_client import KafkaOptions

KAFKA = "kafka://"
# A record of a full batch that is not packed, with room for the summaries beside the readings.
BYTES_PER_READING = 24


class KafkaSettings(Table):
    """How a log on Kafka is reached and kept; used where `[pipeline] log` is kafka://HOST:PORT[,HOST:PORT]."""

    topic_prefix: str = Field(
        "",
        pattern=r"^[A-Za-z0-9._-]{0,100}$",
        description="Stands before the names of the topics, so that several plants share a cluster.",
    )
    replication: int = Field(
        0, ge=0, le=32_767, description="Copies of every record; 0: three, or one per broker where there are fewer."
    )
    message_max_bytes: int = Field(
        8 * 1024 * 1024, ge=65_536, description="Largest record; the topics are made with it."
    )
    security_protocol: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = Field(
        "plaintext", description="plaintext, ssl, sasl_plaintext or sasl_ssl."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512; PLAIN only with TLS."
    )
    username: str = Field("", description="Name for SASL.")
    password_file: str = Field("", description="File that holds the password for SASL, and nothing else.")
    ca_file: str = Field("", description="PEM file of the CA that signs the brokers; empty: the system's.")
    cert_file: str = Field("", description="PEM file of our certificate, where brokers want one.")
    key_file: str = Field("", description="PEM file of its private key.")
    connect_timeout_us: DurationUs = Field(
        30 * US_PER_S, gt=0, description="A gateway that starts waits so long for the cluster, then ends."
    )
    append_timeout_us: DurationUs = Field(
        10 * US_PER_S,
        gt=0,
        description="A batch that is not acknowledged within this time is reported, then waited on.",
    )
    read_timeout_us: DurationUs = Field(
        10 * US_PER_S, gt=0, description="A read that gets nothing, though there is something, fails after this time."
    )
    client: dict[str, str] = Field(
        {},
        description="Further settings of librdkafka's clients, by its names; what guarantees rest on can't be changed.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        """Refuses halves of credentials."""
        if self.security_protocol.startswith("sasl") != bool(self.username):
            raise ValueError("username goes with security_protocol sasl_ssl or sasl_plaintext, and they with it")
        if bool(self.username) != bool(self.password_file):
            raise ValueError("username and password_file go together: set both or neither")
        if bool(self.cert_file) != bool(self.key_file):
            raise ValueError("cert_file and key_file go together: set both or neither")
        if (self.ca_file or self.cert_file) and not self.security_protocol.endswith("ssl"):
            raise ValueError("ca_file and cert_file need security_protocol ssl or sasl_ssl")
        return self


def servers_of(url: str) -> str:
    """Returns "host:port,host:port" of a kafka:// URL.

    Raises:
        SettingsError: it is not one.

    >>> servers_of("kafka://a:9092,b:9092")
    'a:9092,b:9092'
    """
    servers = url.removeprefix(KAFKA)
    for server in servers.split(","):
        host, _, port = server.rpartition(":")
        if not host or "@" in host or "/" in host or not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
            raise SettingsError(
                f"[pipeline] log = {url!r}: write kafka://HOST:PORT[,HOST:PORT]; the rest is in [kafka]"
            )
    return servers


def check_batches(settings: KafkaSettings, readings_max: int, max_bytes: int) -> None:
    """Refuses a gateway whose batches may outgrow the largest record.

    Raises:
        SettingsError: they may.
    """
    largest = readings_max * BYTES_PER_READING + max_bytes
    if largest > settings.message_max_bytes:
        raise SettingsError(
            f"[kafka] message_max_bytes = {settings.message_max_bytes}, but a batch may have {largest} bytes: "
            "lower gateway.batch_readings_max and gateway.batch_max_bytes"
        )


def options_of(settings: KafkaSettings, url: str, *, partitions: int, keep_us: int) -> "KafkaOptions":
    """Returns the adapter's options; `partitions` 0 takes a log as it is.

    Raises:
        SettingsError: the URL or a file that the settings name is wrong.
    """
    from headwater.io.log_kafka_client import KafkaOptions  # noqa: PLC0415 — the client is an extra.

    servers = servers_of(url)
    hosts = [server.rpartition(":")[0].strip("[]") for server in servers.split(",")]
    in_clear = settings.security_protocol == "sasl_plaintext" and settings.sasl_mechanism == "PLAIN"
    if in_clear and not all(map(is_loopback, hosts)):
        raise SettingsError("[kafka] PLAIN would send the password in the clear: use sasl_ssl, or a SCRAM mechanism")
    return KafkaOptions(
        servers,
        topic_prefix=settings.topic_prefix,
        partitions=partitions,
        replication=settings.replication,
        keep_us=keep_us,
        message_max_bytes=settings.message_max_bytes,
        connect_timeout_s=settings.connect_timeout_us / US_PER_S,
        append_timeout_s=settings.append_timeout_us / US_PER_S,
        read_timeout_s=settings.read_timeout_us / US_PER_S,
        client=_client(settings),
    )


def _client(settings: KafkaSettings) -> Mapping[str, str]:
    """The settings of TLS and SASL in librdkafka's words, over what the user adds."""
    found: dict[str, str] = {"security.protocol": settings.security_protocol}
    if settings.username:
        found |= {
            "sasl.mechanism": settings.sasl_mechanism,
            "sasl.username": settings.username,
            "sasl.password": _secret(settings.password_file),
        }
    files = {
        "ssl.ca.location": settings.ca_file,
        "ssl.certificate.location": settings.cert_file,
        "ssl.key.location": settings.key_file,
    }
    return dict(settings.client) | found | {name: path for name, path in files.items() if path}


def _secret(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise SettingsError(f"[kafka] password_file = {path!r}: {error.strerror}") from error
