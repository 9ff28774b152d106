"""How the Kafka adapter connects: its options, librdkafka's settings made of them, and its errors in our words."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from headwater import log_topics
from headwater.errors import ConnectError, SettingsError

Config = dict[str, Any]

# Fetch answers at most this late where nothing came: a partition that is asked for anew waits for it.
FETCH_WAIT_MS = 50
FETCH_QUEUE_KB = 16 * 1024
PRODUCE_QUEUE_KB = 256 * 1024
# Errors of a request that the same request gets again, until somebody changes the settings here or there.
WRONG_SETTINGS = frozenset(
    {
        KafkaError._INVALID_ARG,  # noqa: SLF001 — librdkafka's own codes are spelt so.
        KafkaError._AUTHENTICATION,  # noqa: SLF001
        KafkaError._SSL,  # noqa: SLF001
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.UNSUPPORTED_SASL_MECHANISM,
        KafkaError.INVALID_CONFIG,
        KafkaError.INVALID_REPLICATION_FACTOR,
        KafkaError.POLICY_VIOLATION,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
    }
)
# What the clients would print, our own errors say.
_SILENT = logging.getLogger(f"{__name__}.librdkafka")
_SILENT.disabled = True


@dataclass(frozen=True, slots=True)
class KafkaOptions:
    """Where the cluster is and how the log uses it.

    Attributes:
        servers: "host:port,host:port", some of the brokers.
        topic_prefix: stands before every log topic's name, so that several logs share a cluster.
        partitions: shards of the log.
        replication: copies of every record; 0: three, or one per broker where there are fewer.
        keep_us: how long records stay; events stay a month at least, the registry of devices is compacted.
        message_max_bytes: largest record.
        connect_timeout_s: how long making the log waits for the cluster.
        append_timeout_s: how long an append waits for its acknowledgement before it raises.
        read_timeout_s: how long a read waits for records that are there.
        client: librdkafka's settings of TLS and SASL, and any others that this module does not set itself.
    """

    servers: str
    topic_prefix: str = ""
    partitions: int = log_topics.PARTITIONS_DEFAULT
    replication: int = 0
    keep_us: int = 7 * 86_400_000_000
    message_max_bytes: int = 8 * 1024 * 1024
    connect_timeout_s: float = 30.0
    append_timeout_s: float = 10.0
    read_timeout_s: float = 10.0
    client: Mapping[str, str] = field(default_factory=dict)

    def kafka_topic(self, log_topic: str) -> str:
        """Returns the name of a log topic in the cluster.

        Raises:
            ValueError: the log has no such topic.
        """
        if log_topic not in log_topics.ALL:
            raise ValueError(f"the log has no topic {log_topic!r}")
        return self.topic_prefix + log_topic


class LastError:
    """The newest thing that a client complained of, to tell why an answer did not come."""

    def __init__(self) -> None:
        self.error: KafkaError | None = None

    def __call__(self, error: KafkaError) -> None:
        """Takes an error; librdkafka calls it."""
        # That all brokers are down says less than why one is.
        if self.error is None or error.code() != KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001
            self.error = error

    @property
    def why(self) -> str:
        """What it was, for a message."""
        return "no answer in time" if self.error is None else _words(self.error)


def error_of(error: KafkaException) -> KafkaError:
    """Returns what an exception of the client carries."""
    found = error.args[0]
    assert isinstance(found, KafkaError)
    return found


@contextmanager
def as_our_errors(options: KafkaOptions, doing: str, last: LastError | None = None) -> Iterator[None]:
    """Turns the client's errors into ConnectError, or SettingsError where trying again can't help."""
    try:
        yield
    except KafkaException as exception:
        error = error_of(exception)
        timed_out = error.code() in {KafkaError._TIMED_OUT, KafkaError._TRANSPORT}  # noqa: SLF001
        if timed_out and last is not None and last.error is not None:
            error = last.error
        text = f"kafka {options.servers}: {doing}: {_words(error)}"
        if error.code() in WRONG_SETTINGS:
            raise SettingsError(text) from exception
        raise ConnectError(text) from exception


def _words(error: KafkaError) -> str:
    return str(error.str()) or str(error.name())


def make_producer(options: KafkaOptions, last: LastError) -> Producer:
    """Makes a producer that never lets a record expire, never reorders, and tells each record's fate."""
    settings = _settings(options, last) | {
        "acks": "all",
        "enable.idempotence": True,
        # A record that fails for good stops the producer rather than letting later ones pass it.
        "enable.gapless.guarantee": True,
        "message.timeout.ms": 0,
        "linger.ms": 1,
        "message.max.bytes": options.message_max_bytes,
        "queue.buffering.max.kbytes": PRODUCE_QUEUE_KB,
        # Batches close by size at the gateway and are packed there.
        "compression.type": "none",
        "retry.backoff.max.ms": 500,
    }
    with as_our_errors(options, "settings"):
        return Producer(settings)


def make_consumer(options: KafkaOptions, last: LastError) -> Consumer:
    """Makes a consumer that is told partitions and offsets by hand; it belongs to no group and commits nothing."""
    settings = _settings(options, last) | {
        "group.id": f"{options.topic_prefix}headwater",  # The client wants one; nothing is ever stored under it.
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        # A processor that waits for its store for hours reads on where it was.
        "max.poll.interval.ms": 86_400_000,
        "fetch.wait.max.ms": FETCH_WAIT_MS,
        "fetch.message.max.bytes": max(options.message_max_bytes // 8, 1024 * 1024),
        "fetch.max.bytes": max(2 * options.message_max_bytes, 16 * 1024 * 1024),
        "queued.max.messages.kbytes": FETCH_QUEUE_KB,
        "fetch.queue.backoff.ms": 10,
        "check.crcs": True,
    }
    with as_our_errors(options, "settings"):
        return Consumer(settings)


def make_admin(options: KafkaOptions, last: LastError) -> AdminClient:
    """Makes a client for topics and their ends."""
    with as_our_errors(options, "settings"):
        return AdminClient(_settings(options, last))


def _settings(options: KafkaOptions, last: LastError) -> Config:
    may_change: Config = {
        "socket.keepalive.enable": True,
        "socket.timeout.ms": 10_000,
        "socket.connection.setup.timeout.ms": 5_000,
        "reconnect.backoff.max.ms": 1_000,
        "topic.metadata.refresh.interval.ms": 30_000,
    }
    fixed: Config = {
        "bootstrap.servers": options.servers,
        "client.id": "headwater",
        "log_level": 0,
        "logger": _SILENT,
        "error_cb": last,
        "allow.auto.create.topics": False,
    }
    return may_change | dict(options.client) | fixed
