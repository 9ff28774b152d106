"""Brokers that die, hang and come back: nothing acknowledged is lost, nothing is out of order, copies are told apart.

Each appender writes its own numbers 0, 1, 2 … to every partition, appends the same again after a ConnectError as the
port says, and notes what was acknowledged. Then the log is read and held against the notes.
"""

import contextlib
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import mqtt5
import pytest
from gateway_server import RawClient, Running, frame, until
from kafka_server import load_script, options_of

from headwater.errors import ConnectError
from headwater.io.log_kafka import KafkaLog, KafkaLogReader
from headwater.io.log_kafka_client import KafkaOptions
from headwater.log_topics import READINGS
from headwater.ports import LogRecord

pytestmark = pytest.mark.integration
PARTITIONS = 4
QOS1 = mqtt5.QoS.AT_LEAST_ONCE
# `make test-kafka` takes more time for more rounds and a long pause.
ROUNDS = int(os.environ.get("HEADWATER_KAFKA_ROUNDS", "1"))
PAUSE_S = float(os.environ.get("HEADWATER_KAFKA_PAUSE_S", "1"))


def record(number: int, partition: int) -> LogRecord:
    return LogRecord(READINGS, partition, b"k", str(number).encode().ljust(2_000, b"."), number)


def append(log: KafkaLog, records: list[LogRecord]) -> list[int]:
    """Appends as the port wants it: the same again until it is there."""
    deadline_s = time.monotonic() + 60
    while True:
        try:
            return log.append(records)
        except ConnectError:
            if time.monotonic() > deadline_s:
                raise


class Load:
    """Appends groups of numbered records without a pause, in a thread of its own, until the `with` block ends."""

    def __init__(self, log: KafkaLog, records_per_group: int = 3) -> None:
        self.log, self.errors = log, Counter[str]()
        self.acked = self.groups = 0
        self._each = records_per_group
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.is_set():
            numbers = range(self.acked, self.acked + self._each)
            group = [record(number, partition) for number in numbers for partition in range(PARTITIONS)]
            while True:
                try:
                    self.log.append(group)
                    break
                except ConnectError as error:
                    self.errors[str(error)] += 1
            self.acked += self._each
            self.groups += 1

    def until(self, groups: int, timeout_s: float = 60.0) -> None:
        """Waits until so many more groups are acknowledged."""
        goal, deadline_s = self.groups + groups, time.monotonic() + timeout_s
        while self.groups < goal:
            assert time.monotonic() < deadline_s, f"no progress: {self.errors}"
            time.sleep(0.01)

    def until_told(self, timeout_s: float = 60.0) -> None:
        """Waits until an append that began after this call has failed."""
        goal, deadline_s = self.errors.total() + 2, time.monotonic() + timeout_s
        while self.errors.total() < goal:
            assert time.monotonic() < deadline_s, "no append fails"
            time.sleep(0.01)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive()


def read_all(options: KafkaOptions) -> list[list[int]]:
    """The numbers in every partition, in the order of the log, by a reader of its own."""
    reader = KafkaLogReader(options)
    found: list[list[int]] = [[] for _ in range(PARTITIONS)]
    deadline_s = time.monotonic() + 60
    for partition, numbers in enumerate(found):
        while True:
            try:
                records = reader.read(READINGS, partition, len(numbers), 1000)
            except ConnectError:
                # A broker that has just come back may not lead its partitions yet.
                assert time.monotonic() < deadline_s
                continue
            if not records:
                break
            numbers += [int(one.value.rstrip(b".")) for one in records]
    reader.close()
    return found


def check(options: KafkaOptions, acked: int, *, copies: bool = False) -> None:
    """Every acknowledged number is there, firsts in order, and no copies where there must be none."""
    for numbers in read_all(options):
        firsts = list(dict.fromkeys(numbers))
        assert firsts == sorted(firsts)
        assert firsts[:acked] == list(range(acked))
        assert copies or len(firsts) == len(numbers)


def read_on(reader: KafkaLogReader, offset: int) -> None:
    """Reads at the end until that fails, for 30 s at most."""
    deadline_s = time.monotonic() + 30
    while time.monotonic() < deadline_s:
        assert reader.read(READINGS, 0, offset, 10) == []


@pytest.fixture
def options(kafka: Any) -> Iterator[KafkaOptions]:
    """A log on the one node, which runs again afterwards whatever a test did to it."""
    yield options_of(kafka)
    kafka.resume()
    kafka.start()


# One node.


def test_a_node_that_hangs_stops_acknowledgements_and_then_has_everything_once(
    options: KafkaOptions, kafka: Any
) -> None:
    with KafkaLog(options) as log:
        with Load(log) as load:
            load.until(20)
            kafka.suspend(1)
            load.until_told()
            before = load.acked
            load.until_told()
            assert load.acked == before
            kafka.resume()
            load.until(20)
        assert all("not acknowledged within 1 s" in text for text in load.errors)
        check(options, load.acked)


def test_a_node_that_hangs_longer_than_its_connections_last_has_everything_once(
    options: KafkaOptions, kafka: Any
) -> None:
    """The client gives its connection up and sends again by another; the node wakes and finds both."""
    options = replace(options, client={"socket.timeout.ms": "1000"})
    with KafkaLog(options) as log:
        with Load(log) as load:
            load.until(20)
            kafka.suspend(1)
            for _ in range(4):
                load.until_told()
            kafka.resume()
            load.until(20)
        check(options, load.acked)


def test_what_was_given_up_and_came_late_keeps_its_place(options: KafkaOptions, kafka: Any) -> None:
    with KafkaLog(options) as log:
        append(log, [record(0, 0)])
        kafka.suspend(1)
        for number in (1, 2):
            with pytest.raises(ConnectError):
                log.append([record(number, 0)])
        kafka.resume()
        assert append(log, [record(2, 0)]) == [2]
        assert append(log, [record(3, 0)]) == [3]
        assert read_all(options)[0] == [0, 1, 2, 3]


def test_a_writer_that_gave_up_and_went_leaves_order_to_the_next(options: KafkaOptions, kafka: Any) -> None:
    first = KafkaLog(options)
    append(first, [record(0, 0)])
    kafka.suspend(1)
    with pytest.raises(ConnectError):
        first.append([record(1, 0), record(2, 0)])
    first.close()
    kafka.resume()
    with KafkaLog(options) as second:
        append(second, [record(number, 0) for number in (1, 2, 3)])
        firsts = list(dict.fromkeys(read_all(options)[0]))
        assert firsts == [0, 1, 2, 3]


def test_a_node_killed_under_load_and_started_again_has_everything_once(options: KafkaOptions, kafka: Any) -> None:
    with KafkaLog(options) as log:
        with Load(log) as load:
            for _ in range(ROUNDS):
                load.until(20)
                kafka.kill(1)
                load.until_told()
                kafka.start()
                load.until(20)
        assert any("Connection refused" in text for text in load.errors)
        check(options, load.acked)


def test_a_reader_says_that_the_node_is_away_and_goes_on_where_it_was(options: KafkaOptions, kafka: Any) -> None:
    with KafkaLog(options) as log:
        reader = KafkaLogReader(options)
        append(log, [record(number, 0) for number in range(3)])
        assert len(reader.read(READINGS, 0, 0, 10)) == 3
        assert reader.read(READINGS, 0, 3, 10) == []
        incarnation = reader.incarnation
        kafka.kill(1)
        with pytest.raises(ConnectError):
            read_on(reader, 3)
        assert reader.incarnation == incarnation
        kafka.start()
        append(log, [record(3, 0)])
        deadline_s, found = time.monotonic() + 30, []
        while not found and time.monotonic() < deadline_s:
            with contextlib.suppress(ConnectError):  # Until it has found the node again.
                found = reader.read(READINGS, 0, 3, 10)
        assert [one.offset for one in found] == [3]
        reader.close()


# Three nodes.


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Three running nodes."""
    found = load_script().Cluster(tmp_path_factory.mktemp("kafka") / "three", 3, is_tied=True)
    found.start()
    yield found
    for node in found.nodes:
        found.kill(node.number)


def test_one_of_three_may_die_and_two_may_not(cluster: Any) -> None:
    options = options_of(cluster)
    with KafkaLog(options) as log:
        assert log.is_replicated
        assert log.durability.copies == 3
        with Load(log) as load:
            load.until(20)
            cluster.kill(1)
            load.until(50)
            cluster.kill(2)
            load.until_told()
            before = load.acked
            load.until_told()
            time.sleep(PAUSE_S)
            assert load.acked == before
            cluster.start(wait=False)
            load.until(20)
        check(options, load.acked)
        cluster.wait([1, 2, 3])


def test_a_gateway_acknowledges_nothing_without_a_quorum_and_then_everything_once(cluster: Any, tmp_path: Path) -> None:
    log = KafkaLog(options_of(cluster))
    with Running(tmp_path, log=log, ack_level="backbone", store_poll_us=20_000, retry_us=100_000) as server:
        device = RawClient(server.port, "device")
        device.socket.settimeout(60)

        def send(first: int, last: int) -> None:
            for seq in range(first, last + 1):
                packet = mqtt5.PublishPacket("hw/1/north/pump-1/frame", frame(seq), qos=QOS1, packet_id=seq)
                device.send(packet)

        def acked(count: int) -> None:
            for _ in range(count):
                assert isinstance(device.next(), mqtt5.PubAckPacket)

        send(1, 50)
        acked(50)
        cluster.kill(1)
        send(51, 100)
        acked(50)
        cluster.kill(3)
        send(101, 150)
        before = server.gateway.counters().get("append_retries", 0)
        until(lambda: server.gateway.counters().get("append_retries", 0) >= before + 2)
        device.socket.settimeout(1)
        with pytest.raises(TimeoutError):
            device.next()
        device.socket.settimeout(60)
        cluster.start(wait=False)
        acked(50)
        cluster.wait([1, 2, 3])
        # A reader knows the end as the leader told it a moment ago.
        until(lambda: len(server.seqs()) >= 150)
        assert server.seqs() == list(range(1, 151))
        device.close()
