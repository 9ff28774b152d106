"""The gateway behind a real Mosquitto: what is acknowledged when, what becomes of hostile messages, losses, take-overs."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import mqtt5
import pytest
from gateway_server import PARTITIONS, RawClient, Running, frame, need, seqs_of, until
from mosquitto_server import Mosquitto

from headwater import log_topics
from headwater.ack import Ack, parse_ack
from headwater.errors import ConnectError
from headwater.io.log_sqlite import SqliteLog, SqliteLogReader
from headwater.names import mqtt_topic
from headwater.status import Status

pytestmark = pytest.mark.integration

FRAME, ACK = "hw/1/north/pump-1/frame", "hw/1/north/pump-1/ack"
ROOT = Path(__file__).parents[2]
QOS1 = mqtt5.QoS.AT_LEAST_ONCE


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path) as server:
        yield server


def send(client: RawClient, *messages: tuple[str, bytes], retain: bool = False) -> list[int]:
    """Publishes at QoS 1 and returns the reason codes of the broker's PUBACKs."""
    for number, (topic, payload) in enumerate(messages, 1):
        client.send(mqtt5.PublishPacket(topic, payload, qos=QOS1, packet_id=number, retain=retain))
    codes: list[int] = []
    while len(codes) < len(messages):
        got = client.next()
        if isinstance(got, mqtt5.PubAckPacket):
            codes.append(int(got.reason_code))
        assert got is not None, "the broker hung up"
    return codes


class Acks:
    """A device that listens for its durable acks."""

    def __init__(self, broker: Mosquitto) -> None:
        self.client = broker.client("listener")
        self.client.send(mqtt5.SubscribePacket(1, [mqtt5.TopicFilter(ACK)]))
        assert isinstance(self.client.next(), mqtt5.SubAckPacket)

    def until(self, contiguous: int) -> Ack:
        while True:
            got = self.client.next()
            assert isinstance(got, mqtt5.PublishPacket)
            ack = parse_ack(got.payload)
            if ack.contiguous >= contiguous:
                return ack


class StubbornLog(SqliteLog):
    """A log that takes nothing while the test says so."""

    is_shut = False

    def append(self, records):
        if self.is_shut:
            raise ConnectError("shut")
        return super().append(records)


def test_frames_reach_the_log_in_order_and_the_durable_ack_reaches_the_device(
    tmp_path: Path, broker: Mosquitto
) -> None:
    with Running(tmp_path, mqtt=broker.url, ack_level="backbone") as server:
        acks = Acks(broker)
        assert set(send(broker.client(), *((FRAME, frame(seq)) for seq in range(1, 301)))) == {0}
        ack = acks.until(300)
        assert server.seqs() == list(range(1, 301))
        assert (ack.epoch, ack.missing, ack.level) == (77, (), "backbone")
        assert server.gateway.counters()["acks_sent"] >= 1
    late = Acks(broker)
    assert late.until(300).contiguous == 300, "it is retained: a device that comes later gets it at once"


@pytest.mark.parametrize("version", ["5", "mqttv311"])
def test_mosquitto_pub_feeds_foreign_json(tmp_path: Path, broker: Mosquitto, version: str) -> None:
    program = need("mosquitto_pub")
    with Running(tmp_path, mqtt=broker.url) as server:
        subprocess.run(
            [
                program,
                "-p",
                str(broker.port),
                "-V",
                version,
                "-q",
                "1",
                "-t",
                "hw/1/north/esp-1/json",
                "-m",
                '{"t": 4.5}',
            ],
            check=True,
            timeout=30,
        )
        until(server.batches)
        assert server.gateway.counters()["admitted_foreign_frames"] == 1
        (status,) = [status for batch in server.batches() for status in batch.statuses]
        assert (status.device, status.online) == ("esp-1", True)


def test_nothing_is_acknowledged_before_the_append_and_what_was_not_comes_again(
    tmp_path: Path, broker: Mosquitto
) -> None:
    log = StubbornLog(tmp_path / "log.db")
    log.is_shut = True
    with Running(tmp_path, mqtt=broker.url, log=log, retry="50ms") as server:
        send(broker.client(), *((FRAME, frame(seq)) for seq in range(1, 51)))
        until(lambda: server.gateway.counters()["received"] == 50)
        assert server.gateway.counters().get("committed_messages", 0) == 0
    with Running(tmp_path, mqtt=broker.url) as server:
        until(lambda: server.gateway.counters()["received"] == 50)
        until(lambda: len(server.seqs()) == 50)
        assert server.seqs() == list(range(1, 51))
    with Running(tmp_path, mqtt=broker.url) as server:
        send(broker.client(), (FRAME, frame(51)))
        until(lambda: server.gateway.counters()["received"])
        assert server.gateway.counters()["received"] == 1, "what was acknowledged does not come again"


def test_while_the_log_takes_nothing_the_connection_is_kept_alive(tmp_path: Path, broker: Mosquitto) -> None:
    log = StubbornLog(tmp_path / "log.db")
    log.is_shut = True
    with Running(tmp_path, mqtt=broker.url, log=log, retry="50ms", mqtt_keepalive="2s") as server:
        send(broker.client(), (FRAME, frame(1)))
        time.sleep(4.5)  # Longer than Mosquitto waits for a client that says nothing.
        assert server.gateway.counters()["connections_lost"] == 0
        log.is_shut = False
        until(lambda: server.seqs() == [1])
        assert server.gateway.counters()["connects"] == 1


def test_a_broker_that_hangs_is_left_and_found_again(tmp_path: Path, broker: Mosquitto) -> None:
    settings = {"mqtt_keepalive": "2s", "connect_timeout": "1s", "reconnect_min": "50ms"}
    with Running(tmp_path, mqtt=broker.url, **settings) as server:
        broker.signal(signal.SIGSTOP)
        until(lambda: server.gateway.counters()["connections_lost"] == 1)
        broker.signal(signal.SIGCONT)
        until(lambda: server.gateway.counters()["connections"])
        assert server.gateway.counters()["sessions_lost"] == 0
        send(broker.client(), (FRAME, frame(1)))
        until(lambda: server.seqs() == [1])


def test_a_broker_that_forgot_all_is_an_incident_and_devices_are_told_where_they_stand(
    tmp_path: Path, broker: Mosquitto
) -> None:
    with Running(tmp_path, mqtt=broker.url, ack_level="backbone", reconnect_min="20ms") as server:
        acks = Acks(broker)
        send(broker.client(), *((FRAME, frame(seq)) for seq in range(1, 4)))
        first = acks.until(3)
        broker.kill(wipe=True)
        broker.start()
        until(lambda: server.gateway.counters()["sessions_lost"] == 1)
        again = Acks(broker).until(3)
        assert again.resync > first.resync
        send(broker.client(), (FRAME, frame(4)))
        until(lambda: server.seqs() == [1, 2, 3, 4])


def test_hostile_messages_through_the_broker_are_dead_letters_and_stop_nobody(
    tmp_path: Path, broker: Mosquitto
) -> None:
    giant = b"G" * 700_000
    hostile = [
        (FRAME, b"rubbish"),
        (FRAME, giant),
        ("hw/1/NORTH/pump-1/frame", frame(1)),
        ("hw/1/north/pump-2/frame", frame(1)),
        ("hw/1/north/pump-1/json", b'{"a": NaN}'),
        ("hw/1/north/pump-1/json", b"[" * 5000),
        ("hw/1/north/pump-1/status", b"\xff\xfe"),
    ]
    with Running(tmp_path, mqtt=broker.url) as server:
        client = broker.client()
        send(client, *hostile, (FRAME, frame(1)))
        client.send(
            mqtt5.PublishPacket(
                FRAME,
                frame(2),
                qos=QOS1,
                packet_id=9,
                user_properties=[("k", "v")],
                content_type="x",
                correlation_data=b"\xff",
            )
        )
        until(lambda: server.seqs() == [1, 2])
        letters = server.records(log_topics.DEAD_LETTERS)
        assert len(letters) == len(hostile)
        by_topic = {(letter.headers["source"], letter.headers["reason"]) for letter in letters}
        assert (FRAME, "too_large") in by_topic
        assert ("hw/1/NORTH/pump-1/frame", "topic") in by_topic
        assert ("hw/1/north/pump-2/frame", "identity") in by_topic
        (large,) = [letter for letter in letters if letter.headers["reason"] == "too_large"]
        assert large.value == giant[:65_536]
        assert large.headers["device"] == "pump-1"
        # The log shows what the gateway counts a moment later.
        until(lambda: server.gateway.counters().get("committed_messages", 0) >= len(hostile) + 2)
        assert server.gateway.counters()["connects"] == 1
    with Running(tmp_path, mqtt=broker.url) as server:
        send(broker.client(), (FRAME, frame(3)))
        until(lambda: server.seqs() == [1, 2, 3])
        assert server.gateway.counters()["received"] == 1, "letters are acknowledged too: nothing comes again"


def test_a_will_that_the_broker_publishes_is_presence(tmp_path: Path, broker: Mosquitto) -> None:
    where = mqtt_topic("north", "pump-1", "status")
    with Running(tmp_path, mqtt=broker.url) as server:
        client = broker.client(connect=False)
        will = mqtt5.Will(where, payload=Status(online=False, epoch=7).to_json(), qos=QOS1, retain=True)
        client.send(mqtt5.ConnectPacket("pump", clean_start=True, will=will))
        assert isinstance(client.next(), mqtt5.ConnAckPacket)
        send(client, (where, Status(online=True, epoch=7).to_json()), retain=True)
        until(lambda: server.gateway.counters()["devices_online"] == 1)
        client.close()
        until(lambda: server.gateway.counters()["devices_online"] == 0)
        until(lambda: [s.online for batch in server.batches() for s in batch.statuses] == [True, False])
    # A gateway with a new session learns from what is retained; one that had its session already knows.
    with Running(tmp_path, mqtt=broker.url, mqtt_client_id="another") as server:
        until(lambda: server.gateway.counters()["received"] == 1)


def gateway_process(folder: Path, *more: str) -> subprocess.Popen[bytes]:
    """A gateway as a process of its own; what it says goes to `messages.txt`."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "headwater", "gateway", "--data", str(folder)]
    with (folder / "messages.txt").open("ab") as sink:
        return subprocess.Popen(
            [*command, "--set", f"gateway.partitions={PARTITIONS}", *more], stdout=sink, stderr=sink, cwd=ROOT
        )


def seqs_in(folder: Path, device: str) -> list[int]:
    """The seqs in another process's log; none while that process is about to make it."""
    try:
        with closing(SqliteLogReader(folder / "log.db")) as log:
            return seqs_of(log, device)
    except ConnectError:
        return []


@pytest.mark.parametrize("is_hung", [False, True])
def test_two_gateways_take_a_site_each_and_a_third_takes_one_over_in_order(
    tmp_path: Path, broker: Mosquitto, is_hung: bool
) -> None:
    mqtt = ["--mqtt", broker.url]
    north = [*mqtt, "--set", "gateway.mqtt_client_id=gw-north", "--set", 'gateway.sites=["north"]']
    south = [*mqtt, "--set", "gateway.mqtt_client_id=gw-south", "--set", 'gateway.sites=["south"]']
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    running = [gateway_process(first, *north), gateway_process(second, *south)]
    try:
        client = broker.client()
        for site, where in (("north", first), ("south", second)):
            seq = iter(range(1, 1000))
            until(lambda site=site, seq=seq: send(client, (f"hw/1/{site}/esp/json", b'{"a": %d}' % next(seq))) == [0])
            until(lambda where=where: (where / "log.db").exists())
        topics = {site: f"hw/1/{site}/{site}-1/frame" for site in ("north", "south")}
        sent: list[int] = []

        def push() -> None:
            sent.append(len(sent) + 1)
            send(client, *((topics[site], frame(sent[-1], site=site, device=f"{site}-1")) for site in topics))

        for _ in range(100):
            push()
        if is_hung:
            running[0].send_signal(signal.SIGSTOP)
        running.append(gateway_process(third, *north))
        until(lambda: push() or seqs_in(third, "north-1"))
        for _ in range(50):
            push()
        until(lambda: seqs_in(third, "north-1")[-1:] == sent[-1:])
        if is_hung:
            running[0].send_signal(signal.SIGCONT)
        assert running[0].wait(40) == 0, "it ended by itself: another one has its session"
        assert "took the session 'gw-north'" in (first / "messages.txt").read_text()
        until(lambda: seqs_in(second, "south-1") == sent)
        before, after = seqs_in(first, "north-1"), seqs_in(third, "north-1")
        assert before == sent[: len(before)]
        assert after == sent[after[0] - 1 :]
        assert after[0] <= len(before) + 1, "nothing is missing between the two"
        assert seqs_in(first, "south-1") == seqs_in(third, "south-1") == seqs_in(second, "north-1") == []
    finally:
        for process in running:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            process.wait(30)
