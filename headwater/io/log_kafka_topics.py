"""The log's topics in a Kafka cluster: made as contracts want them, checked where they are there already.

Records get the broker's time (LogAppendTime), so that retention counts from the append: a device with a wrong clock, or
one that comes back with a month of readings, must not make Kafka delete its neighbours' records early or refuse its own.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ClusterMetadata, ConfigResource, NewTopic, ResourceType

from headwater import log_topics
from headwater.errors import ConnectError, SettingsError
from headwater.io.log_kafka_client import WRONG_SETTINGS, KafkaOptions, LastError, as_our_errors, error_of

US_PER_MS = 1_000
EVENTS_KEEP_US = 30 * 86_400_000_000
COPIES_WANTED = 3
_SLICE_S = 2.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Durability:
    """How safe an acknowledged record is: copies of each, and how many of them an acknowledgement waits for."""

    copies: int
    in_sync_min: int

    @property
    def is_replicated(self) -> bool:
        """Tells whether an acknowledged record outlives any one broker and its disk."""
        return self.in_sync_min >= 2


def topic_settings(options: KafkaOptions, log_topic: str, copies: int) -> dict[str, str]:
    """Returns what a log topic is made with (contracts §6).

    >>> topic_settings(KafkaOptions("x"), log_topics.DEVICES, 3)["cleanup.policy"]
    'compact'
    """
    keep_us = max(options.keep_us, EVENTS_KEEP_US) if log_topic == log_topics.EVENTS else options.keep_us
    settings = {
        "cleanup.policy": "delete",
        "retention.ms": str(keep_us // US_PER_MS),
        "retention.bytes": "-1",
        "max.message.bytes": str(options.message_max_bytes),
        "message.timestamp.type": "LogAppendTime",
        "min.insync.replicas": str(max(copies - 1, 1)),
        "unclean.leader.election.enable": "false",
        "compression.type": "producer",
    }
    if log_topic == log_topics.DEVICES:
        del settings["retention.ms"], settings["retention.bytes"]
        settings["cleanup.policy"] = "compact"
    return settings


def prepare_topics(options: KafkaOptions, admin: AdminClient, last: LastError) -> Durability:
    """Makes the topics that are missing, checks those that are there, and returns how safe the log is.

    Raises:
        ConnectError: the cluster doesn't answer.
        SettingsError: it refuses us, or a topic is not what the settings say in a way that would lose or mix records.
    """
    cluster = metadata(options, admin, last)
    copies = options.replication or min(len(cluster.brokers), COPIES_WANTED)
    wanted = {options.kafka_topic(name): name for name in log_topics.ALL}
    missing = {topic: name for topic, name in wanted.items() if topic not in cluster.topics}
    if missing:
        _make(options, admin, missing, copies)
        cluster = _led(options, admin, last, wanted)
    for topic in wanted:
        found = len(cluster.topics[topic].partitions)
        if found != options.partitions:
            raise SettingsError(
                f"{options.servers}: topic {topic} has {found} partitions, but gateway.partitions is "
                f"{options.partitions}: set gateway.partitions and processor.partitions to {found}"
            )
    settings = _settings_of(options, admin, wanted)
    for topic, name in wanted.items():
        check_settings(options, topic, name, settings[topic])
    fewest = min(len(part.replicas) for topic in wanted for part in cluster.topics[topic].partitions.values())
    in_sync = min(int(settings[topic].get("min.insync.replicas", "1")) for topic in wanted)
    if len(cluster.brokers) >= COPIES_WANTED and (fewest < COPIES_WANTED or in_sync < 2):
        _log.warning(
            "kafka %s: %d copies, %d in sync before an acknowledgement, though the cluster has %d brokers: with one "
            "broker's disk acknowledged records are lost; raise the topics' replication to 3 and min.insync.replicas to 2",
            options.servers, fewest, in_sync, len(cluster.brokers),
        )  # fmt: skip
    return Durability(fewest, in_sync)


def metadata(options: KafkaOptions, admin: AdminClient, last: LastError) -> ClusterMetadata:
    """Asks what the cluster consists of; waits for it as long as the options say, but not on a refusal.

    Raises:
        ConnectError: no answer in time.
        SettingsError: the cluster refuses our credentials.
    """
    deadline_s = time.monotonic() + options.connect_timeout_s
    while True:
        left_s = deadline_s - time.monotonic()
        try:
            return admin.list_topics(timeout=min(max(left_s, 0.1), _SLICE_S))
        except KafkaException as exception:
            admin.poll(0)
            is_wrong = last.error is not None and last.error.code() in WRONG_SETTINGS
            if left_s <= _SLICE_S or is_wrong:
                with as_our_errors(options, "looking for the cluster", last):
                    raise exception from None


def check_settings(options: KafkaOptions, topic: str, log_topic: str, found: Mapping[str, str]) -> None:
    """Holds the settings of an existing topic against what the log needs; what only wastes or worries is a warning.

    Raises:
        SettingsError: records would be lost or refused.
    """
    where = f"{options.servers}: topic {topic}"
    wanted = topic_settings(options, log_topic, 1)
    policy = found.get("cleanup.policy", wanted["cleanup.policy"])
    if log_topic != log_topics.DEVICES and "compact" in policy:
        raise SettingsError(f"{where} has cleanup.policy={policy}, which deletes records: set it to delete")
    if log_topic == log_topics.DEVICES and "delete" in policy:
        _log.warning(
            "kafka %s has cleanup.policy=%s: devices' configurations vanish in time; set compact", where, policy
        )
    size = int(found.get("max.message.bytes", options.message_max_bytes))
    if size < options.message_max_bytes:
        raise SettingsError(
            f"{where} takes records of {size} bytes, but [kafka] message_max_bytes is {options.message_max_bytes}: "
            f"raise the topic's max.message.bytes, or set message_max_bytes={size}"
        )
    keep_ms = int(found.get("retention.ms", "-1"))
    if "retention.ms" in wanted and 0 <= keep_ms < int(wanted["retention.ms"]):
        _log.warning("kafka %s keeps records for %d s only, less than pipeline.log_keep", where, keep_ms // 1000)
    if int(found.get("retention.bytes", "-1")) >= 0 and log_topic != log_topics.DEVICES:
        _log.warning("kafka %s has retention.bytes=%s: it may delete unread records", where, found["retention.bytes"])
    if found.get("message.timestamp.type", "LogAppendTime") != "LogAppendTime":
        _log.warning(
            "kafka %s has message.timestamp.type=%s: set LogAppendTime", where, found["message.timestamp.type"]
        )
    if found.get("unclean.leader.election.enable", "false") == "true":
        _log.warning("kafka %s has unclean.leader.election.enable=true: it may lose acknowledged records", where)


def _make(options: KafkaOptions, admin: AdminClient, missing: Mapping[str, str], copies: int) -> None:
    made = [
        NewTopic(topic, options.partitions, copies, config=topic_settings(options, name, copies))
        for topic, name in missing.items()
    ]
    futures = admin.create_topics(made, request_timeout=options.connect_timeout_s)
    for topic, future in futures.items():
        with as_our_errors(options, f"making topic {topic}"):
            try:
                future.result()
            except KafkaException as exception:
                # Another gateway may have been first.
                if error_of(exception).code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise


def _led(options: KafkaOptions, admin: AdminClient, last: LastError, wanted: Mapping[str, str]) -> ClusterMetadata:
    """Waits until every partition has a leader."""
    deadline_s = time.monotonic() + options.connect_timeout_s
    while time.monotonic() < deadline_s:
        cluster = metadata(options, admin, last)
        found = [cluster.topics[topic] for topic in wanted if topic in cluster.topics]
        parts = [part for topic in found for part in topic.partitions.values()]
        if len(found) == len(wanted) and parts and all(part.leader >= 0 for part in parts):
            return cluster
        time.sleep(0.05)
    raise ConnectError(f"kafka {options.servers}: the new topics have no leaders")


def _settings_of(options: KafkaOptions, admin: AdminClient, topics: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Returns the settings of topics; {} for one that the cluster doesn't let us see."""
    found: dict[str, dict[str, str]] = {}
    resources = [ConfigResource(ResourceType.TOPIC, topic) for topic in topics]
    for resource, future in admin.describe_configs(resources, request_timeout=options.connect_timeout_s).items():
        try:
            entries = future.result()
        except KafkaException as exception:
            error = error_of(exception)
            _log.warning("kafka %s: settings of topic %s: %s", options.servers, resource.name, error.str())
            entries = {}
        found[resource.name] = {name: str(entry.value) for name, entry in entries.items() if entry.value is not None}
    return found
