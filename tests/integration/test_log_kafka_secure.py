"""A Kafka with TLS and SASL, as clusters that others run have: what `[kafka]` says is what gets in."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka_server import load_script

from headwater.cli.kafka_settings import KafkaSettings, options_of
from headwater.errors import ConnectError, SettingsError
from headwater.io.log_kafka import KafkaLog, KafkaLogReader
from headwater.log_topics import READINGS
from headwater.ports import LogRecord

pytestmark = pytest.mark.integration
PASSWORD = "correct horse battery staple!"


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Path]]:
    """A node with such a listener, and the folder of its certificate and of passwords."""
    script, folder = load_script(), tmp_path_factory.mktemp("kafka")
    for name in ("node", "stranger"):
        key, certificate = folder / f"{name}.key", folder / f"{name}.crt"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", str(key),
             "-out", str(certificate), "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"],
            check=True, capture_output=True, timeout=60,
        )  # fmt: skip
    (folder / "node.pem").write_text((folder / "node.key").read_text() + (folder / "node.crt").read_text())
    (folder / "password").write_text(PASSWORD + "\n")
    (folder / "wrong").write_text("guess")
    who = script.Secure(folder / "node.pem", "plant", PASSWORD)
    cluster = script.Cluster(folder / "secure", is_tied=True, secure=who)
    cluster.start()
    yield cluster, folder
    cluster.kill(1)
    shutil.rmtree(folder)


def settings(folder: Path, **more: Any) -> KafkaSettings:
    fields = {
        "security_protocol": "sasl_ssl", "username": "plant", "password_file": str(folder / "password"),
        "ca_file": str(folder / "node.crt"), "connect_timeout": "20s",
    }  # fmt: skip
    return KafkaSettings(**(fields | more))


def url(cluster: Any) -> str:
    return f"kafka://127.0.0.1:{cluster.nodes[0].secure_port}"


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_the_right_user_appends_and_reads(secure: tuple[Any, Path], mechanism: str) -> None:
    cluster, folder = secure
    table = settings(folder, sasl_mechanism=mechanism, topic_prefix=f"{mechanism}.")
    options = options_of(table, url(cluster), partitions=2, keep_us=10**12)
    with KafkaLog(options) as log:
        assert log.append([LogRecord(READINGS, 1, b"k", b"v", 7)]) == [0]
        reader = KafkaLogReader(options)
        assert [found.value for found in reader.read(READINGS, 1, 0, 10)] == [b"v"]
        reader.close()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"password_file": "wrong"}, "uthentication failed"),
        ({"username": "stranger"}, "uthentication failed"),
        ({"ca_file": "stranger.crt"}, "certificate"),
        ({"ca_file": "missing.crt"}, "ssl.ca.location"),
    ],
)
def test_the_wrong_user_and_the_wrong_broker_are_told_as_wrong_settings_at_once(
    secure: tuple[Any, Path], wrong: dict[str, str], message: str
) -> None:
    cluster, folder = secure
    paths = {name: str(folder / value) if name.endswith("file") else value for name, value in wrong.items()}
    options = options_of(settings(folder, **paths), url(cluster), partitions=2, keep_us=10**12)
    with pytest.raises(SettingsError, match=message) as caught:
        KafkaLog(options)
    assert PASSWORD not in str(caught.value)


def test_a_plain_client_does_not_get_in(secure: tuple[Any, Path]) -> None:
    cluster, _ = secure
    options = options_of(KafkaSettings(connect_timeout="3s"), url(cluster), partitions=2, keep_us=10**12)
    with pytest.raises((ConnectError, SettingsError)):
        KafkaLog(options)
