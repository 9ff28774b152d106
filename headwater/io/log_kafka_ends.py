"""Which log a Kafka cluster holds, and from where to where its partitions reach: asked often, answered cheaply."""

import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec, TopicDescription

from headwater import log_topics
from headwater.errors import ConnectError, SettingsError
from headwater.io.log_kafka_client import KafkaOptions, LastError, as_our_errors, error_of

IDENTITY_AGE_MAX_S = 2.0
ENDS_AGE_MAX_S = 0.05
FAILURE_AGE_MAX_S = 1.0
ASK_TIMEOUT_S = 3.0
LEADER_PAUSE_S = 0.05
_LEADER_MOVES = frozenset(
    {
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.OFFSET_NOT_AVAILABLE,
    }
)
_NO_LEADERS = KafkaError._NOENT  # noqa: SLF001 — librdkafka's own codes are spelt so.
_NO_ID = "AAAAAAAAAAAAAAAAAAAAAA"


@dataclass(frozen=True, slots=True)
class Identity:
    """Which log it is: the id of the readings' topic (KIP-516), and its number of partitions."""

    incarnation: str
    partitions: int


class IdentityWatch:
    """Knows which log it is; once known, asks again every two seconds without making anybody wait."""

    def __init__(self, options: KafkaOptions, admin: AdminClient, last: LastError) -> None:
        self._options, self._admin, self._last = options, admin, last
        self._topic = options.kafka_topic(log_topics.READINGS)
        self._lock = threading.Lock()
        self._known: Identity | None = None
        self._cluster = ""
        self._asked_s = 0.0
        self._answer: Future[TopicDescription] | None = None

    def current(self) -> Identity:
        """Returns the newest answer; waits for one only if there has been none.

        Raises:
            ConnectError: there has been none, and none comes: the cluster is away or holds no log yet.
            SettingsError: the log has another number of partitions than the settings say.
        """
        with self._lock:
            now_s = time.monotonic()
            if self._answer is None and (self._known is None or now_s - self._asked_s > IDENTITY_AGE_MAX_S):
                self._answer, self._asked_s = self._ask(), now_s
            answer = self._answer
            if answer is not None and (self._known is None or answer.done()):
                self._answer = None
                try:
                    self._known = self._read(answer)
                except ConnectError:
                    if self._known is None:
                        raise
            assert self._known is not None
            return self._known

    def confirm(self) -> None:
        """Asks now, and waits for the answer.

        Raises:
            ConnectError: it is another log than before, or the cluster is away.
        """
        answer = self._read(self._ask())  # Not under the lock: `current` must not wait.
        with self._lock:
            before, self._known, self._answer = self._known, answer, None
            self._asked_s = time.monotonic()
        if before not in {None, answer}:
            raise ConnectError(f"kafka {self._options.servers}: the log was replaced")

    def look_again(self) -> None:
        """Has the next `current` ask: something is not as it was."""
        with self._lock:
            self._asked_s = 0.0

    def _ask(self) -> "Future[TopicDescription]":
        topics = TopicCollection([self._topic])
        return self._admin.describe_topics(topics, request_timeout=ASK_TIMEOUT_S)[self._topic]

    def _read(self, answer: "Future[TopicDescription]") -> Identity:
        with as_our_errors(self._options, f"looking for topic {self._topic}", self._last):
            try:
                found = answer.result()
            except KafkaException:
                self._admin.poll(0)
                raise
        incarnation = str(found.topic_id)
        if incarnation == _NO_ID:
            # What only speaks Kafka's protocol may know no topic ids.
            with as_our_errors(self._options, "asking for the cluster's id", self._last):
                self._cluster = self._cluster or str(self._admin.cluster_id(timeout=ASK_TIMEOUT_S))
            incarnation = f"{self._cluster}/{self._topic}"
        wanted, partitions = self._options.partitions, len(found.partitions)
        if wanted and partitions != wanted:
            raise SettingsError(
                f"{self._options.servers}: topic {self._topic} has {partitions} partitions, but the settings say {wanted}: "
                f"set gateway.partitions and processor.partitions to {partitions}"
            )
        return Identity(incarnation, partitions)


class Ends:
    """Knows the first and the next offset of every partition; one question answers for all partitions of a topic."""

    def __init__(self, options: KafkaOptions, admin: AdminClient, identity: IdentityWatch, last: LastError) -> None:
        self._options, self._admin, self._identity, self._last = options, admin, identity, last
        self._lock = threading.Lock()
        self._asked_s: dict[tuple[str, bool], float] = {}
        self._known: dict[tuple[str, bool], dict[int, int]] = {}
        self._failed: dict[tuple[str, bool], tuple[float, ConnectError]] = {}

    def start(self, log_topic: str, partition: int) -> int:
        """Offset of the oldest record; 0 of a partition that isn't there."""
        return self._get(log_topic, partition, is_end=False, age_max_s=ENDS_AGE_MAX_S)

    def end(self, log_topic: str, partition: int, age_max_s: float = ENDS_AGE_MAX_S) -> int:
        """Offset of the next record as known at most `age_max_s` ago; 0 of a partition that isn't there."""
        return self._get(log_topic, partition, is_end=True, age_max_s=age_max_s)

    def note(self, log_topic: str, partition: int, end: int) -> None:
        """Takes what an append of our own has shown."""
        with self._lock:
            ends = self._known.get((log_topic, True))
            if ends is not None and end > ends.get(partition, 0):
                ends[partition] = end

    def forget(self) -> None:
        """Has everything asked anew."""
        with self._lock:
            self._asked_s.clear()
            self._failed.clear()

    def _get(self, log_topic: str, partition: int, *, is_end: bool, age_max_s: float) -> int:
        partitions = self._identity.current().partitions
        if partition >= partitions:
            return 0
        which = (log_topic, is_end)
        with self._lock:
            now_s = time.monotonic()
            if now_s - self._asked_s.get(which, -age_max_s - 1) > age_max_s:
                failed_s, error = self._failed.get(which, (-FAILURE_AGE_MAX_S, ConnectError()))
                if now_s - failed_s < FAILURE_AGE_MAX_S:
                    raise error
                try:
                    self._known[which] = self._ask(log_topic, partitions, is_end=is_end)
                except ConnectError as failure:
                    self._failed[which] = (time.monotonic(), failure)
                    raise
                self._asked_s[which] = now_s
            return self._known[which][partition]

    def _ask(self, log_topic: str, partitions: int, *, is_end: bool) -> dict[int, int]:
        """Asks the leaders of all partitions; while a partition changes its leader, asks again."""
        topic = self._options.kafka_topic(log_topic)
        spec = OffsetSpec.latest() if is_end else OffsetSpec.earliest()
        wanted = {TopicPartition(topic, partition): spec for partition in range(partitions)}
        deadline_s = time.monotonic() + ASK_TIMEOUT_S
        with as_our_errors(self._options, f"asking for the ends of {topic}", self._last):
            while True:
                answers = self._admin.list_offsets(wanted, request_timeout=ASK_TIMEOUT_S)
                try:
                    return {place.partition: answer.result().offset for place, answer in answers.items()}
                except KafkaException as exception:
                    self._admin.poll(0)
                    code = error_of(exception).code()
                    if time.monotonic() > deadline_s or code not in _LEADER_MOVES | {_NO_LEADERS}:
                        raise
                    if code == _NO_LEADERS:
                        # After an outage the client believes for minutes that no partition has a leader, unless told to look.
                        self._admin.list_topics(topic, timeout=ASK_TIMEOUT_S)
                time.sleep(LEADER_PAUSE_S)
