"""One suite for every adapter of the Log port."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka_server import options_of

from headwater import log_topics
from headwater.io.log_kafka import KafkaLog, KafkaLogReader
from headwater.io.log_memory import MemoryLog
from headwater.io.log_sqlite import SqliteLog, SqliteLogReader
from headwater.ports import Log, LogRecord


def record(value: bytes, *, log_topic: str = log_topics.READINGS, partition: int = 0, **more: object) -> LogRecord:
    fields: dict[str, object] = {"key": b"k", "timestamp_us": 7} | more
    return LogRecord(log_topic, partition, value=value, **fields)  # type: ignore[arg-type]


KAFKA = [pytest.param(name, marks=pytest.mark.integration) for name in ("kafka", "kafka reader")]


@pytest.fixture(params=["memory", "sqlite", "sqlite reader", *KAFKA])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Log, Log]]:
    """A log to write and a log to read the same from."""
    if request.param.startswith("kafka"):
        options = options_of(request.getfixturevalue("kafka"), partitions=6, append_timeout_s=10.0)
        with KafkaLog(options) as kafka_log:
            other: Log = kafka_log if request.param == "kafka" else KafkaLogReader(options)
            yield kafka_log, other
            other.close()
        return
    if request.param == "memory":
        log: Log = MemoryLog()
        yield log, log
        return
    with SqliteLog(tmp_path / "log.db") as writer:
        reader: Log = writer if request.param == "sqlite" else SqliteLogReader(tmp_path / "log.db")
        yield writer, reader
        reader.close()


def test_what_is_appended_is_read_back_with_every_field(pair: tuple[Log, Log]) -> None:
    writer, reader = pair
    sent = record(
        b"v" * 100_000, partition=3, key="kä".encode(), timestamp_us=-1, headers={"reason": "parse", "n": "1"}
    )
    assert writer.append([sent]) == [0]
    (got,) = reader.read(log_topics.READINGS, 3, 0, 10)
    assert (got.key, got.value, got.timestamp_us, dict(got.headers)) == (sent.key, sent.value, -1, dict(sent.headers))
    assert (got.log_topic, got.partition, got.offset) == (sent.log_topic, 3, 0)


def test_offsets_count_from_zero_per_log_topic_and_partition_without_holes(pair: tuple[Log, Log]) -> None:
    writer, reader = pair
    mixed = [record(b"a"), record(b"b", partition=1), record(b"c"), record(b"d", log_topic=log_topics.EVENTS)]
    assert writer.append(mixed) == [0, 0, 1, 0]
    assert writer.append([record(b"e")]) == [2]
    assert [r.value for r in reader.read(log_topics.READINGS, 0, 0, 10)] == [b"a", b"c", b"e"]
    assert [r.offset for r in reader.read(log_topics.READINGS, 0, 1, 10)] == [1, 2]
    assert reader.end(log_topics.READINGS, 0) == 3
    assert reader.start(log_topics.READINGS, 0) == 0


def test_a_read_is_bounded_and_ends_empty(pair: tuple[Log, Log]) -> None:
    writer, reader = pair
    writer.append([record(bytes([n])) for n in range(10)])
    assert len(reader.read(log_topics.READINGS, 0, 2, 3)) == 3
    assert reader.read(log_topics.READINGS, 0, 10, 3) == []
    assert reader.read(log_topics.READINGS, 5, 0, 3) == []
    assert reader.end(log_topics.READINGS, 5) == 0


def test_nothing_appended_is_no_change(pair: tuple[Log, Log]) -> None:
    writer, reader = pair
    assert writer.append([]) == []
    assert reader.end(log_topics.READINGS, 0) == 0


def test_the_incarnation_is_the_same_for_writer_and_reader(pair: tuple[Log, Log]) -> None:
    writer, reader = pair
    assert writer.incarnation == reader.incarnation != ""
