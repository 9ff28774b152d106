"""Appending to Kafka: synchronous, in order per partition, never a record that is forgotten.

    append ─▶ librdkafka's queue ─▶ brokers ─▶ delivery of every record ─▶ offsets
                 └─ no answer in time: ConnectError, the records stay queued; the same append again waits on for them

Within one producer the broker keeps order and drops repeats (idempotence), and a record that fails stops all that come
after it. A producer that failed is replaced; what of it still reaches the log are copies of what the caller appends
again. Each producer's records are in order, so what comes *first* of every record is in order too, and copies fall to
the frontier.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from headwater.errors import ConnectError, RejectedError
from headwater.io.log_kafka_client import KafkaOptions, LastError, error_of, make_producer
from headwater.ports import LogRecord

TIMESTAMP_HEADER = "timestamp_us"
# What the broker says of a record that it would say again.
_TOO_LARGE = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE})
# What the records get that stood behind it when the producer stopped.
_FOLLOWING = frozenset(
    {
        KafkaError._FATAL,  # noqa: SLF001 — librdkafka's own codes are spelt so.
        KafkaError._GAPLESS_GUARANTEE,  # noqa: SLF001
        KafkaError._PURGE_QUEUE,  # noqa: SLF001
        KafkaError._PURGE_INFLIGHT,  # noqa: SLF001
    }
)
_FAREWELL_S = 1.0
_OVERHEAD_BYTES = 1024


@dataclass(slots=True)
class _Pending:
    """One append on its way: how many records the client has taken, and the offset of each that is durable."""

    records: tuple[LogRecord, ...]
    offsets: list[int]
    sent: int = 0
    waiting: int = 0
    errors: list[KafkaError] = field(default_factory=list)


@dataclass(slots=True)
class _Delivered:
    """Notes the fate of one record; librdkafka calls it."""

    pending: _Pending
    index: int

    def __call__(self, error: KafkaError | None, message: Message) -> None:
        offset = message.offset()
        self.pending.waiting -= 1
        if error is not None:
            self.pending.errors.append(error)
        elif offset is not None:
            self.pending.offsets[self.index] = offset


def _served(call: Callable[..., object], *arguments: float) -> list[KafkaError]:
    """Makes a call that serves callbacks, and returns the fatal error that the client raises from it, if any."""
    try:
        call(*arguments)
    except KafkaException as exception:
        return [error_of(exception)]
    except SystemError as exception:
        # In the midst of a delivery report the interpreter finds the client's error unasked for.
        if not isinstance(exception.__cause__, KafkaException):
            raise
        return [error_of(exception.__cause__)]
    return []


@dataclass
class KafkaAppender:
    """Appends records; safe to call from several threads, one append at a time."""

    options: KafkaOptions
    last: LastError = field(default_factory=LastError)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: _Pending | None = None
        self._producer: Producer = make_producer(self.options, self.last)

    def append(self, records: Sequence[LogRecord]) -> list[int]:
        """Appends in order and returns the offsets; when it returns, all in-sync replicas have the records.

        Raises:
            ConnectError: no acknowledgement in time; append the same again.
            RejectedError: a record is larger than the topic takes.
            ValueError: the log has no such topic or partition.
        """
        wanted = tuple(records)
        self._check(wanted)
        with self._lock:
            pending = self._pending
            if pending is None or pending.records != wanted:
                pending = self._pending = _Pending(wanted, [-1] * len(wanted))
            deadline_s = time.monotonic() + self.options.append_timeout_s
            self._send(pending, deadline_s)
            while pending.waiting and not pending.errors:
                self._wait(pending, deadline_s)
            if pending.errors:
                self._replace()
                raise self._failure(pending.errors)
            self._pending = None
            self.last.error = None
            return pending.offsets

    def close(self) -> None:
        """Ends the producer; what was not acknowledged may or may not be in the log."""
        with self._lock:
            self._end(self._producer)

    def _check(self, records: Sequence[LogRecord]) -> None:
        for record in records:
            if not 0 <= record.partition < self.options.partitions:
                raise ValueError(f"the log has no partition {record.partition} of {record.log_topic!r}")
            size = len(record.value) + len(record.key) + sum(map(len, record.headers.values()))
            if size + _OVERHEAD_BYTES > self.options.message_max_bytes:
                raise RejectedError(
                    f"a record of {size} bytes for {record.log_topic}: [kafka] message_max_bytes is "
                    f"{self.options.message_max_bytes}; raise it, or lower gateway.batch_readings_max",
                    reason="size",
                )

    def _send(self, pending: _Pending, deadline_s: float) -> None:
        """Hands over what the client has not taken yet; where its queue is full, waits for room."""
        while pending.sent < len(pending.records) and not pending.errors:
            record = pending.records[pending.sent]
            headers: list[tuple[str, str | bytes | None]] = [
                (name, value.encode()) for name, value in record.headers.items()
            ]
            headers.append((TIMESTAMP_HEADER, str(record.timestamp_us).encode()))
            try:
                self._producer.produce(
                    self.options.kafka_topic(record.log_topic),
                    record.value,
                    record.key,
                    record.partition,
                    on_delivery=_Delivered(pending, pending.sent),
                    headers=headers,
                )
                pending.sent += 1
                pending.waiting += 1
            except BufferError:
                self._wait(pending, deadline_s)
            except KafkaException as exception:
                # An error of an earlier record has stopped the producer.
                pending.errors.append(error_of(exception))

    def _wait(self, pending: _Pending, deadline_s: float) -> None:
        """Lets the client work until it has something to tell."""
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            raise ConnectError(
                f"kafka {self.options.servers}: not acknowledged within {self.options.append_timeout_s:g} s: "
                f"{self.last.why}"
            )
        pending.errors += _served(self._producer.poll, left_s)

    def _failure(self, errors: Sequence[KafkaError]) -> Exception:
        """Returns what to raise; a cause says more than that the producer stopped because of it."""
        causes = [error for error in errors if error.code() not in _FOLLOWING]
        text = f"kafka {self.options.servers}: the append failed: {(causes or errors)[0].str()}"
        if any(error.code() in _TOO_LARGE for error in causes):
            return RejectedError(f"{text}; raise max.message.bytes of the topic", reason="size")
        return ConnectError(text)

    def _replace(self) -> None:
        """Gives up a producer that failed, with all that it still holds."""
        self._pending = None
        self._end(self._producer)
        self._producer = make_producer(self.options, self.last)

    @staticmethod
    def _end(producer: Producer) -> None:
        _served(producer.purge)
        _served(producer.flush, _FAREWELL_S)
