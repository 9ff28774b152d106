"""Reading from Kafka: one consumer for all partitions, assigned by hand, with a buffer per partition.

    brokers ─▶ fetches of all partitions in one queue ─▶ lanes, one per partition ─▶ read(partition, offset)

Readers walk through partitions in turn and may read the same records twice, so a lane keeps what it gave out until
a later offset is asked for. Reading on from there costs no request; any other offset starts the lane anew.
"""

import logging
import re
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from headwater.errors import ConnectError
from headwater.io.log_kafka_client import KafkaOptions, LastError, as_our_errors, make_consumer
from headwater.io.log_kafka_ends import Ends, IdentityWatch
from headwater.io.log_kafka_producer import TIMESTAMP_HEADER
from headwater.ports import LogRecord

LANE_MAX_BYTES = 4 * 1024 * 1024
LANE_MAX_RECORDS = 2_000
CONSUME_MAX = 64
QUIET_AGE_MAX_S = 1.0
_OUT_OF_RANGE = frozenset({KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE})  # noqa: SLF001

_TIME = re.compile(r"-?[0-9]{1,18}", re.ASCII)

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Lane:
    """What is known of one partition from `first` on; `following` is the offset that the next fetch gives or passes."""

    first: int
    following: int
    records: deque[LogRecord] = field(default_factory=deque)
    size_bytes: int = 0
    is_paused: bool = False
    error: KafkaError | None = None


class KafkaConsumer:
    """Reads records of any partition from any offset; for one thread at a time.

    Raises:
        SettingsError: the client refuses the options.
    """

    def __init__(self, options: KafkaOptions, identity: IdentityWatch, ends: Ends) -> None:
        self._options, self._identity, self._ends = options, identity, ends
        self._last = LastError()
        self._consumer: Consumer = make_consumer(options, self._last)
        self._lanes: dict[tuple[str, int], _Lane] = {}
        self._log_topics: dict[str, str] = {}

    def read(self, log_topic: str, partition: int, offset: int, records_max: int) -> list[LogRecord]:
        """Returns up to `records_max` records from `offset` on, or from the oldest on; [] at the end.

        The end is the one that a broker told at most a second ago; what comes after it arrives within milliseconds.

        Raises:
            ConnectError: records are there, but none comes.
        """
        place = (self._options.kafka_topic(log_topic), partition)
        self._log_topics[place[0]] = log_topic
        lane = self._lane(place, max(offset, 0))
        deadline_s = time.monotonic() + self._options.read_timeout_s
        self._take(0)
        while not lane.records:
            if lane.error is not None:
                lane = self._mend(place, lane)
                continue
            end = self._ends.end(log_topic, partition, QUIET_AGE_MAX_S)
            if lane.following > end and lane.following > (end := self._ends.end(log_topic, partition, 0.0)):
                lane = self._start_over(place, lane.following, end)
            if lane.following >= end:
                return []
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                self.forget()
                raise ConnectError(f"kafka {self._options.servers}: {place[0]}/{partition}: {self._last.why}")
            self._take(left_s)
        self._last.error = None
        return list(islice(lane.records, records_max))

    def forget(self) -> None:
        """Gives up all lanes; the next reads begin anew."""
        with as_our_errors(self._options, "reading"):
            self._consumer.resume([TopicPartition(*place) for place in self._lanes])
            self._consumer.unassign()
        self._lanes.clear()

    def close(self) -> None:
        """Ends the consumer."""
        self._consumer.close()

    def _lane(self, place: tuple[str, int], offset: int) -> _Lane:
        """Returns the partition's lane, with nothing before `offset` in it."""
        lane = self._lanes.get(place)
        if lane is None or not lane.first <= offset <= lane.following:
            return self._begin(place, offset)
        while lane.records and lane.records[0].offset < offset:
            lane.size_bytes -= len(lane.records.popleft().value)
        lane.first = offset
        if lane.is_paused and lane.size_bytes < LANE_MAX_BYTES // 2 and len(lane.records) < LANE_MAX_RECORDS // 2:
            lane.is_paused = False
            with as_our_errors(self._options, "reading"):
                self._consumer.resume([TopicPartition(*place)])
        return lane

    def _begin(self, place: tuple[str, int], offset: int) -> _Lane:
        """Has the consumer fetch from `offset` on; what was on its way for the partition is dropped."""
        with as_our_errors(self._options, "reading"):
            if place in self._lanes:
                # A pause would outlive the assignment.
                self._consumer.resume([TopicPartition(*place)])
                self._consumer.incremental_unassign([TopicPartition(*place)])
            self._consumer.incremental_assign([TopicPartition(*place, offset)])
        lane = self._lanes[place] = _Lane(offset, offset)
        return lane

    def _mend(self, place: tuple[str, int], lane: _Lane) -> _Lane:
        """Begins anew after a broker said that it can't give what comes next; retention may have been faster than we."""
        error, lane.error = lane.error, None
        assert error is not None
        if error.code() not in _OUT_OF_RANGE:
            self.forget()
            raise ConnectError(f"kafka {self._options.servers}: {place[0]}/{place[1]}: {error.str()}")
        self._ends.forget()
        log_topic = self._log_topics[place[0]]
        start, end = self._ends.start(log_topic, place[1]), self._ends.end(log_topic, place[1])
        if lane.first > end:
            return self._start_over(place, lane.first, end)
        return self._begin(place, max(lane.first, start))

    def _start_over(self, place: tuple[str, int], offset: int, end: int) -> _Lane:
        """Begins at the oldest record: the log ends before `offset`, so it has lost its tail.

        What came after the loss has numbers that were given before, and nobody knows how many; so all that is there
        is read again, and what was seen falls to the frontier. A log that was made anew is another matter.
        """
        self._identity.confirm()
        _log.error(
            "kafka %s: %s/%d ends at %d, but was read to %d: reading it again",
            self._options.servers,
            *place,
            end,
            offset,
        )
        return self._begin(place, self._ends.start(self._log_topics[place[0]], place[1]))

    def _take(self, timeout_s: float) -> None:
        """Moves what has come into the lanes; waits for the first of it only."""
        with as_our_errors(self._options, "reading"):
            message = self._consumer.poll(timeout_s)
            if message is None:
                return
            messages = [message, *self._consumer.consume(CONSUME_MAX, 0)]
        touched: dict[tuple[str, int], int] = {}
        for message in messages:
            lane = self._lanes.get((message.topic() or "", message.partition() or 0))
            error = message.error()
            if lane is None:
                self._last.error = error or self._last.error
            elif error is not None:
                lane.error = error
            else:
                self._add(lane, message)
                touched[message.topic() or "", message.partition() or 0] = lane.following
        for (topic, partition), following in touched.items():
            self._ends.note(self._log_topics[topic], partition, following)

    def _add(self, lane: _Lane, message: Message) -> None:
        record = self._record(message)
        if record.offset < lane.following:
            return
        lane.records.append(record)
        lane.size_bytes += len(record.value)
        lane.following = record.offset + 1
        if not lane.is_paused and (lane.size_bytes > LANE_MAX_BYTES or len(lane.records) > LANE_MAX_RECORDS):
            lane.is_paused = True
            self._consumer.pause([TopicPartition(message.topic() or "", record.partition)])

    def _record(self, message: Message) -> LogRecord:
        headers = _headers(message)
        timestamp_us = _time_us(headers.pop(TIMESTAMP_HEADER, ""))
        if timestamp_us is None:
            timestamp_us = message.timestamp()[1] * 1_000
        partition, offset = message.partition(), message.offset()
        assert partition is not None
        assert offset is not None
        log_topic = self._log_topics[message.topic() or ""]
        return LogRecord(
            log_topic, partition, message.key() or b"", message.value() or b"", timestamp_us, headers, offset
        )


def _time_us(text: str) -> int | None:
    """Reads the timestamp of our own records; None of what others wrote there."""
    return int(text) if _TIME.fullmatch(text) else None


def _headers(message: Message) -> dict[str, str]:
    found = message.headers() or []
    pairs = found.items() if isinstance(found, Mapping) else found
    return {name: value.decode(errors="replace") if isinstance(value, bytes) else value or "" for name, value in pairs}
