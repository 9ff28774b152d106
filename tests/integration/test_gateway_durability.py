"""What a PUBACK and a durable ack are worth: kill -9, restarts, TLS, and a store that falls behind."""

import os
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import mqtt5
import paho.mqtt.client as paho
import pytest
from gateway_server import PARTITIONS, RawClient, Running, frame, until
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from headwater import log_topics
from headwater.ack import Ack, parse_ack
from headwater.batch_arrow import batch_from_arrow
from headwater.io.log_memory import MemoryLog
from headwater.io.log_sqlite import SqliteLog
from headwater.ports import FrontierRow, LogRecord
from headwater.status import Status

pytestmark = pytest.mark.integration

QOS1 = mqtt5.QoS.AT_LEAST_ONCE
ACK = "hw/1/north/pump-1/ack"
FRAME = "hw/1/north/pump-1/frame"

CHILD = """
import asyncio, sys
from gateway.bridge import Gateway
from gateway.settings import GatewaySettings
from headwater.io.clock_system import SystemClock
from headwater.io.log_sqlite import SqliteLog

async def main():
    settings = GatewaySettings(port=0, partitions=4, ack_level="backbone")
    print(await Gateway(settings, SqliteLog(sys.argv[1]), SystemClock(), None).start(), flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


class Frontiers:
    """A store whose progress the test decides."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: list[FrontierRow] = []

    def store(self, row: FrontierRow) -> None:
        with self._lock:
            self._rows.append(row)

    def changed(self, since: int) -> tuple[int, list[FrontierRow]]:
        with self._lock:
            return len(self._rows), self._rows[since:]


def next_ack(client: RawClient) -> Ack:
    """The next durable ack; PUBACKs before it are passed over."""
    while True:
        got = client.next()
        assert got is not None, "the connection ended"
        if isinstance(got, mqtt5.PublishPacket):
            assert got.topic == ACK
            return parse_ack(got.payload)


def test_a_gateway_whose_writer_fails_sends_clients_away_and_tells_its_host_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(MemoryLog):
        def append(self, records: Sequence[LogRecord]) -> list[int]:
            raise RuntimeError("a fault")

    with Running(tmp_path, log=Broken()) as server:
        assert server.gateway.failure is None
        device = RawClient(server.port, "device")
        device.send(mqtt5.PublishPacket(FRAME, frame(1), qos=QOS1, packet_id=1))
        while (got := device.next()) is not None:
            assert not isinstance(got, mqtt5.PubAckPacket)
        until(lambda: server.gateway.failure)
        assert str(server.gateway.failure) == "a fault"
        device.close()
    assert "the gateway closes" in caplog.text


def test_store_level_acks_follow_the_store_and_wait_retained_for_a_device(tmp_path: Path) -> None:
    frontiers = Frontiers()
    with Running(tmp_path, frontiers=frontiers, store_poll_us=20_000, ack_every_us=20_000) as server:
        device = RawClient(server.port, "device")
        device.send(mqtt5.SubscribePacket(1, [mqtt5.TopicFilter(ACK)]))
        frontiers.store(FrontierRow("north", "pump-1", 77, 5, ((8, 9),)))
        first = next_ack(device)
        assert (first.epoch, first.contiguous, first.level, first.log) == (77, 5, "store", server.log.incarnation)
        frontiers.store(FrontierRow("north", "pump-1", 77, 9, ()))
        assert next_ack(device).contiguous == 9
        device.close()
        again = RawClient(server.port, "device")
        again.send(mqtt5.SubscribePacket(1, [mqtt5.TopicFilter(ACK)]))
        assert next_ack(again).contiguous == 9
        again.close()


def test_a_hole_in_the_store_is_asked_for_after_a_while(tmp_path: Path) -> None:
    frontiers = Frontiers()
    settings = {"store_poll_us": 20_000, "ack_every_us": 20_000, "missing_after_us": 100_000}
    with Running(tmp_path, frontiers=frontiers, **settings) as server:
        device = RawClient(server.port, "device")
        device.send(mqtt5.SubscribePacket(1, [mqtt5.TopicFilter(ACK)]))
        frontiers.store(FrontierRow("north", "pump-1", 77, 5, ((8, 9),)))
        assert [next_ack(device).missing for _ in range(2)] == [(), ((6, 7),)]
        device.close()


def test_backbone_level_acks_follow_the_log_and_survive_a_restart(tmp_path: Path) -> None:
    for first_seq, expected in ((1, 3), (4, 6)):
        with Running(tmp_path, ack_level="backbone", store_poll_us=20_000) as server:
            device = RawClient(server.port, "device")
            device.send(mqtt5.SubscribePacket(1, [mqtt5.TopicFilter(ACK)]))
            for seq in range(first_seq, first_seq + 3):
                device.send(mqtt5.PublishPacket(FRAME, frame(seq), qos=QOS1, packet_id=seq))
            contiguous = 0
            while contiguous < expected:
                ack = next_ack(device)
                assert ack.level == "backbone"
                contiguous = ack.contiguous
            assert contiguous == expected
            device.close()


def test_every_frame_acknowledged_before_kill_9_is_in_the_log_after_it(tmp_path: Path) -> None:
    sent = 0
    for round_number in range(2):
        with subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path / "log.db")], stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            client = RawClient(int(child.stdout.readline()), f"c{round_number}")
            packets = [
                mqtt5.PublishPacket(FRAME, frame(sent + n), qos=QOS1, packet_id=n).write() for n in range(1, 501)
            ]
            client.send(*packets)
            acked = 0
            while acked < 100 + 150 * round_number:
                got = client.next()
                assert isinstance(got, mqtt5.PubAckPacket)
                assert got.packet_id == acked + 1
                acked += 1
            os.kill(child.pid, signal.SIGKILL)
            while client.next() is not None:
                acked += 1
            client.close()
        with SqliteLog(tmp_path / "log.db") as log:
            seqs = {
                int(seq)
                for partition in range(PARTITIONS)
                for record in log.read(log_topics.READINGS, partition, 0, 10_000)
                for seq in batch_from_arrow(record.value).seq
            }
        assert set(range(sent + 1, sent + acked + 1)) <= seqs
        sent += 500


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=60)


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """ca.pem, server.pem/key and one certificate for north/pump-1, all made for this test."""
    folder = tmp_path / "tls"
    folder.mkdir()
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    ca = ["-keyout", f"{folder}/ca.key", "-out", f"{folder}/ca.pem", "-subj", "/CN=test ca"]
    openssl("req", "-x509", *curve, *ca)
    for name, subject, extra in (
        ("server", "/CN=localhost", "subjectAltName=IP:127.0.0.1"),
        ("device", "/CN=north\\/pump-1", "extendedKeyUsage=clientAuth"),
    ):
        issued = ["-keyout", f"{folder}/{name}.key", "-out", f"{folder}/{name}.pem", "-subj", subject]
        signing = ["-CA", f"{folder}/ca.pem", "-CAkey", f"{folder}/ca.key", "-addext", extra]
        openssl("req", "-x509", *curve, *issued, *signing)
    return folder


def test_with_mutual_tls_the_certificate_is_the_identity(tmp_path: Path, certificates: Path) -> None:
    settings = {
        "tls_certificate": str(certificates / "server.pem"),
        "tls_key": str(certificates / "server.key"),
        "tls_client_ca": str(certificates / "ca.pem"),
    }
    with Running(tmp_path, **settings) as server:
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id="d", protocol=MQTTProtocolVersion.MQTTv5)
        reasons: dict[int, int] = {}
        client.on_publish = lambda _c, _u, mid, reason, _p: reasons.__setitem__(mid, reason.value)
        client.tls_set(str(certificates / "ca.pem"), str(certificates / "device.pem"), str(certificates / "device.key"))
        client.connect("127.0.0.1", server.port)
        client.loop_start()
        status = Status(online=True).to_json()
        mids = [client.publish(f"hw/1/north/{device}/status", status, qos=1).mid for device in ("pump-1", "pump-2")]
        until(lambda: len(reasons) == 2)
        assert [reasons[mid] for mid in mids] == [0, 0x87]
        client.disconnect()
        client.loop_stop()
        stranger = paho.Client(CallbackAPIVersion.VERSION2, client_id="s", protocol=MQTTProtocolVersion.MQTTv5)
        stranger.tls_set(str(certificates / "ca.pem"), cert_reqs=ssl.CERT_REQUIRED)
        refused = threading.Event()
        stranger.on_disconnect = lambda *_: refused.set()
        stranger.on_connect = lambda *_: pytest.fail("a stranger came in")
        try:
            stranger.connect("127.0.0.1", server.port)
            stranger.loop_start()
            assert refused.wait(40)
        except OSError:
            refused.set()
        stranger.loop_stop()
        assert server.gateway.counters()["connections"] <= 1
