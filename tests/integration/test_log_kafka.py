"""The log on a real Kafka: its topics, its identity, and reads from any place."""

import logging
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic, ResourceType
from gateway_server import until
from kafka_server import load_script, options_of

from headwater import log_topics
from headwater.errors import ConnectError, RejectedError, SettingsError
from headwater.io import log_kafka_consumer
from headwater.io.log_kafka import KafkaLog, KafkaLogReader
from headwater.io.log_kafka_client import KafkaOptions
from headwater.log_topics import READINGS
from headwater.ports import LogRecord

pytestmark = pytest.mark.integration


@pytest.fixture
def options(kafka: Any) -> KafkaOptions:
    return options_of(kafka)


@pytest.fixture
def admin(kafka: Any) -> AdminClient:
    return AdminClient({"bootstrap.servers": kafka.url.removeprefix("kafka://")})


@pytest.fixture
def log(options: KafkaOptions) -> Iterator[KafkaLog]:
    with KafkaLog(replace(options, append_timeout_s=10.0)) as made:
        yield made


def record(number: int, partition: int = 0, size: int = 0) -> LogRecord:
    return LogRecord(READINGS, partition, b"k", str(number).encode().ljust(size, b"."), number)


def settings_of(admin: AdminClient, topic: str) -> dict[str, str]:
    (future,) = admin.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]).values()
    return {name: entry.value for name, entry in future.result().items()}


def change(admin: AdminClient, topic: str, name: str, value: str) -> None:
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    for future in admin.incremental_alter_configs([resource]).values():
        future.result()
    until(lambda: settings_of(admin, topic)[name] == value)


def make(admin: AdminClient, topic: str, partitions: int = 4, **settings: str) -> None:
    config = {name.replace("_", "."): value for name, value in settings.items()}
    for future in admin.create_topics([NewTopic(topic, partitions, 1, config=config)]).values():
        future.result()
    until(lambda: topic in admin.list_topics().topics)


def delete(admin: AdminClient, topic: str) -> None:
    for future in admin.delete_topics([topic]).values():
        future.result()
    until(lambda: topic not in admin.list_topics().topics)


# Topics.


def test_topics_are_made_as_the_contract_says(log: KafkaLog, options: KafkaOptions, admin: AdminClient) -> None:
    day_ms = 86_400_000
    for name in log_topics.ALL:
        topic = options.kafka_topic(name)
        assert len(admin.list_topics(topic).topics[topic].partitions) == 4
        found = settings_of(admin, topic)
        assert (found["message.timestamp.type"], found["max.message.bytes"]) == ("LogAppendTime", str(8 << 20))
        assert found["cleanup.policy"] == ("compact" if name == log_topics.DEVICES else "delete")
        kept = {log_topics.EVENTS: 30 * day_ms, log_topics.DEVICES: None}.get(name, 7 * day_ms)
        assert kept is None or int(found["retention.ms"]) == kept
    assert not log.is_replicated


def test_a_log_that_is_there_is_opened_as_it_is(log: KafkaLog, options: KafkaOptions) -> None:
    log.append([record(1)])
    with KafkaLog(options) as again:
        assert again.incarnation == log.incarnation
        assert again.append([record(2)]) == [1]


def test_another_number_of_partitions_is_refused_by_writers_and_readers(log: KafkaLog, options: KafkaOptions) -> None:
    wrong = replace(options, partitions=12)
    with pytest.raises(SettingsError, match=r"has 4 partitions, but gateway.partitions is 12: set .* to 4"):
        KafkaLog(wrong)
    reader = KafkaLogReader(wrong)
    with pytest.raises(SettingsError, match="has 4 partitions, but the settings say 12"):
        reader.read(READINGS, 0, 0, 1)
    reader.close()
    as_it_is = KafkaLogReader(replace(options, partitions=0))
    assert as_it_is.end(READINGS, 3) == as_it_is.end(READINGS, 7) == 0
    assert as_it_is.read(READINGS, 7, 0, 1) == []
    as_it_is.close()


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("cleanup_policy", "compact", "deletes records: set it to delete"),
        ("cleanup_policy", "compact,delete", "deletes records: set it to delete"),
        ("max_message_bytes", "1000000", "message_max_bytes=1000000"),
    ],
)
def test_a_topic_that_would_lose_or_refuse_records_is_refused(
    options: KafkaOptions, admin: AdminClient, setting: str, value: str, message: str
) -> None:
    make(admin, options.kafka_topic(READINGS), **{setting: value})
    with pytest.raises(SettingsError, match=message):
        KafkaLog(options)


def test_a_topic_that_only_worries_is_warned_of(
    options: KafkaOptions, admin: AdminClient, caplog: pytest.LogCaptureFixture
) -> None:
    doubtful = {"retention_ms": "3600000", "retention_bytes": "1000000", "message_timestamp_type": "CreateTime"}
    doubtful |= {"unclean_leader_election_enable": "true", "max_message_bytes": str(8 << 20)}
    make(admin, options.kafka_topic(READINGS), **doubtful)
    make(admin, options.kafka_topic(log_topics.DEVICES), cleanup_policy="delete", max_message_bytes=str(8 << 20))
    with caplog.at_level(logging.WARNING), KafkaLog(options) as log:
        assert log.append([record(1)]) == [0]
    for words in ("3600 s only", "retention.bytes", "CreateTime", "unclean", "configurations vanish"):
        assert words in caplog.text


def test_nobody_there_is_a_connect_error_in_time(options: KafkaOptions) -> None:
    (port,) = load_script().free_ports(1)
    away = replace(options, servers=f"127.0.0.1:{port}", connect_timeout_s=0.5)
    started_s = time.monotonic()
    with pytest.raises(ConnectError, match="Connection refused"):
        KafkaLog(away)
    assert time.monotonic() - started_s < 3
    reader = KafkaLogReader(away)
    with pytest.raises(ConnectError, match=f"kafka 127.0.0.1:{port}"):
        _ = reader.incarnation
    reader.close()


def test_a_reader_waits_for_a_log_that_is_not_made_yet(options: KafkaOptions) -> None:
    reader = KafkaLogReader(options)
    with pytest.raises(ConnectError, match="Unknown topic"):
        reader.read(READINGS, 0, 0, 1)
    with KafkaLog(options) as log:
        log.append([record(1)])
        assert [found.value for found in reader.read(READINGS, 0, 0, 1)] == [b"1"]
    reader.close()


def test_tls_towards_a_plain_port_is_told_as_a_wrong_setting(options: KafkaOptions) -> None:
    with pytest.raises((SettingsError, ConnectError), match="SSL"):
        KafkaLog(replace(options, client={"security.protocol": "ssl"}, connect_timeout_s=3.0))


def test_a_client_that_refuses_its_settings_says_which(options: KafkaOptions) -> None:
    with pytest.raises(SettingsError, match="nonsense"):
        KafkaLogReader(replace(options, client={"nonsense": "1"}))


# Identity and retention.


def test_a_log_that_was_made_anew_has_another_incarnation_and_is_read_from_its_start(
    log: KafkaLog, options: KafkaOptions, admin: AdminClient
) -> None:
    reader = KafkaLogReader(options)
    log.append([record(number) for number in range(5)])
    assert len(reader.read(READINGS, 0, 0, 10)) == 5
    before = reader.incarnation
    delete(admin, options.kafka_topic(READINGS))
    with KafkaLog(options) as new:
        assert new.incarnation != before
        assert new.append([record(7)]) == [0]
        deadline_s = time.monotonic() + 20
        while reader.incarnation == before and time.monotonic() < deadline_s:
            try:
                assert reader.read(READINGS, 0, 5, 10) == []
            except ConnectError:
                continue
        assert reader.incarnation == new.incarnation
        found: list[LogRecord] = []
        while not found and time.monotonic() < deadline_s:
            try:
                found = reader.read(READINGS, 0, 0, 10)
            except ConnectError:
                continue
        assert [(one.offset, one.value) for one in found] == [(0, b"7")]
        # The old writer goes on in the new log and says so.
        while log.incarnation == before and time.monotonic() < deadline_s:
            try:
                log.append([record(8)])
            except ConnectError:
                continue
        assert log.incarnation == new.incarnation
    reader.close()


def test_records_that_retention_deleted_are_passed_over(
    log: KafkaLog, options: KafkaOptions, admin: AdminClient
) -> None:
    reader = KafkaLogReader(options)
    log.append([record(number) for number in range(10)])
    assert [found.offset for found in reader.read(READINGS, 0, 0, 2)] == [0, 1]
    for future in admin.delete_records([TopicPartition(options.kafka_topic(READINGS), 0, 6)]).values():
        future.result()
    time.sleep(2 * 0.05)  # A start is known for 50 ms.
    assert reader.start(READINGS, 0) == 6
    assert reader.end(READINGS, 0) == 10
    late = KafkaLogReader(options)
    assert [found.offset for found in late.read(READINGS, 0, 0, 100)] == [6, 7, 8, 9]
    assert [found.offset for found in late.read(READINGS, 0, 4, 100)] == [6, 7, 8, 9]
    for one in (reader, late):
        one.close()


def test_a_reader_ahead_of_a_log_that_lost_its_tail_starts_over(log: KafkaLog, options: KafkaOptions) -> None:
    reader = KafkaLogReader(options)
    log.append([record(number) for number in range(3)])
    assert [found.offset for found in reader.read(READINGS, 0, 2, 10)] == [2]
    assert reader.read(READINGS, 0, 3, 10) == []
    assert [found.offset for found in reader.read(READINGS, 0, 7, 10)] == [0, 1, 2]
    log.append([record(3)])
    deadline_s, found = time.monotonic() + 10, []
    while not found and time.monotonic() < deadline_s:
        found = reader.read(READINGS, 0, 3, 10)
    assert [one.offset for one in found] == [3]
    assert reader.read(READINGS, 0, 4, 10) == []
    reader.close()


# Records.


def test_a_record_that_is_too_large_is_rejected_and_the_log_goes_on(
    log: KafkaLog, options: KafkaOptions, admin: AdminClient
) -> None:
    with pytest.raises(RejectedError, match="message_max_bytes"):
        log.append([record(1), record(2, size=9 << 20)])
    assert log.end(READINGS, 0) == 0
    change(admin, options.kafka_topic(READINGS), "max.message.bytes", "100000")
    with pytest.raises(RejectedError, match=r"raise max.message.bytes"):
        log.append([record(3, size=200_000)])
    assert log.append([record(4)]) == [0]
    assert [found.value for found in log.read(READINGS, 0, 0, 10)] == [b"4"]


def test_what_a_foreign_program_wrote_is_read_with_the_brokers_time(log: KafkaLog, kafka: Any) -> None:
    producer = Producer({"bootstrap.servers": kafka.url.removeprefix("kafka://")})
    headers = [("a", b"\xff"), ("b", None), ("timestamp_us", b"1e9")]
    producer.produce(log._options.kafka_topic(READINGS), b"x", None, 0, headers=headers)
    assert producer.flush(10) == 0
    (found,) = log.read(READINGS, 0, 0, 10)
    assert (found.key, found.value, dict(found.headers)) == (b"", b"x", {"a": "\ufffd", "b": ""})
    assert abs(found.timestamp_us / 1e6 - time.time()) < 60


@pytest.mark.parametrize("seed", range(2))
def test_reads_from_anywhere_give_what_is_there(
    log: KafkaLog, options: KafkaOptions, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Small lanes, so that partitions are paused and resumed all the time."""
    monkeypatch.setattr(log_kafka_consumer, "LANE_MAX_BYTES", 2_000)
    monkeypatch.setattr(log_kafka_consumer, "LANE_MAX_RECORDS", 40)
    chance = random.Random(seed)
    written: list[list[bytes]] = [[] for _ in range(4)]
    reader = KafkaLogReader(options)
    for _ in range(25):
        partition = chance.randrange(4)
        more = [
            record(len(written[partition]) + i, partition, chance.randrange(300)) for i in range(chance.randrange(60))
        ]
        log.append(more)
        written[partition] += [one.value for one in more]
        for _ in range(chance.randrange(5)):
            partition = chance.randrange(4)
            offset = chance.randrange(len(written[partition]) + 1)
            at_most = chance.randrange(1, 80)
            while offset < len(written[partition]):
                found = (log if chance.random() < 0.3 else reader).read(READINGS, partition, offset, at_most)
                assert [one.value for one in found] == written[partition][offset : offset + len(found)]
                assert [one.offset for one in found] == list(range(offset, offset + len(found)))
                offset += chance.randrange(len(found) + 1)
                if chance.random() < 0.2:
                    break
    reader.close()
