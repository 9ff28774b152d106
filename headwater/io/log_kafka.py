"""The log on Apache Kafka, and on what speaks its protocol (docs/kafka.md).

    KafkaLog.append ─▶ KafkaAppender ─▶ topics with the log topics' names ─▶ KafkaConsumer ─▶ KafkaLogReader.read
                                              IdentityWatch, Ends

A shard is a partition. Readers belong to no group and commit nothing: their offsets are part of their own state. A
record's timestamp travels in a header, because Kafka's own is the broker's time of the append.
"""

import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from headwater.errors import ConnectError, CorruptStateError
from headwater.io.log_kafka_client import KafkaOptions, LastError, make_admin
from headwater.io.log_kafka_consumer import KafkaConsumer
from headwater.io.log_kafka_ends import Ends, IdentityWatch
from headwater.io.log_kafka_producer import KafkaAppender
from headwater.io.log_kafka_topics import Durability, prepare_topics
from headwater.ports import LogRecord

KNOWN_PAUSE_S = 0.1


class KafkaLogReader:
    """Reads the log of a cluster; safe to call from several threads.

    The cluster and its topics need not be there yet: until they are, every call raises ConnectError, which hosts retry.

    Raises:
        SettingsError: the client refuses the options.
    """

    def __init__(self, options: KafkaOptions) -> None:
        self._options = options
        self._last = LastError()
        self._admin = make_admin(options, self._last)
        self._identity = IdentityWatch(options, self._admin, self._last)
        self._ends = Ends(options, self._admin, self._identity, self._last)
        self._lock = threading.Lock()
        self._consumer: KafkaConsumer | None = None
        self._incarnation = ""

    @property
    def incarnation(self) -> str:
        """Kafka's id of the readings' topic, which a topic that is made anew has another of.

        The answer is at most some seconds old and waits for nobody, except for the first one.
        """
        return self._identity.current().incarnation

    def append(self, records: Sequence[LogRecord]) -> list[int]:
        """Refuses: a reader never writes."""
        raise CorruptStateError(f"{len(records)} records handed to a reader of {self._options.servers}: use KafkaLog")

    def read(self, log_topic: str, partition: int, offset: int, records_max: int) -> list[LogRecord]:
        """Returns up to `records_max` records from `offset` on; [] at the end, or where there is no such partition.

        Where retention has deleted `offset`, the oldest record is the first. Where the log lost its tail and ends
        before `offset`, reading starts over at the oldest record.

        Raises:
            ConnectError: the cluster is away, or the log was replaced under a reader that had better look again.
        """
        with self._lock:
            identity = self._identity.current()
            if identity.incarnation != self._incarnation:
                was_known, self._incarnation = bool(self._incarnation), identity.incarnation
                self._ends.forget()
                if self._consumer is not None:
                    self._consumer.forget()
                if was_known:
                    raise ConnectError(f"kafka {self._options.servers}: the log was replaced")
            if partition >= identity.partitions:
                return []
            if self._consumer is None:
                self._consumer = KafkaConsumer(self._options, self._identity, self._ends)
            try:
                return self._consumer.read(log_topic, partition, offset, records_max)
            except ConnectError:
                self._identity.look_again()
                raise

    def start(self, log_topic: str, partition: int) -> int:
        """Offset of the oldest record that is still kept."""
        return self._ends.start(log_topic, partition)

    def end(self, log_topic: str, partition: int) -> int:
        """Offset that the next record will get; at most 50 ms old."""
        return self._ends.end(log_topic, partition)

    def close(self) -> None:
        """Releases the connections."""
        with self._lock:
            if self._consumer is not None:
                self._consumer.close()
            self._consumer = None


class KafkaLog(KafkaLogReader):
    """Appends to the log of a cluster, and reads it; makes topics that are missing, checks those that are there.

    Raises:
        ConnectError: the cluster doesn't answer.
        SettingsError: it refuses us, or a topic there is not what the log needs.
    """

    def __init__(self, options: KafkaOptions) -> None:
        super().__init__(options)
        self._durability = prepare_topics(options, self._admin, self._last)
        self._incarnation = self._incarnation_when_known()
        self._appender = KafkaAppender(options)

    def _incarnation_when_known(self) -> str:
        """Returns the incarnation; a broker that has not heard yet of topics that were just made is asked again."""
        deadline_s = time.monotonic() + self._options.connect_timeout_s
        while True:
            try:
                return self.incarnation
            except ConnectError:
                if time.monotonic() > deadline_s:
                    raise
            time.sleep(KNOWN_PAUSE_S)

    @property
    def durability(self) -> Durability:
        """How safe an acknowledged record is."""
        return self._durability

    @property
    def is_replicated(self) -> bool:
        """Tells whether an acknowledged record is on two brokers at least."""
        return self._durability.is_replicated

    def append(self, records: Sequence[LogRecord]) -> list[int]:
        """Appends in order and returns the offsets; when it returns, all in-sync replicas have the records.

        Within a partition all or none; among partitions some may be in the log when it raises.

        Raises:
            ConnectError: no acknowledgement in time; append the same again.
            RejectedError: a record is larger than the topic takes.
        """
        try:
            offsets = self._appender.append(records)
        except ConnectError:
            self._identity.look_again()
            raise
        for record, offset in zip(records, offsets, strict=True):
            self._ends.note(record.log_topic, record.partition, offset + 1)
        self._identity.current()
        return offsets

    def trim(self, log_topic: str, before_us: int) -> int:  # noqa: ARG002 — the port's signature.
        """Does nothing: Kafka deletes by the topic's own retention."""
        return 0

    def close(self) -> None:
        """Releases the connections; nothing appended is lost."""
        self._appender.close()
        super().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
