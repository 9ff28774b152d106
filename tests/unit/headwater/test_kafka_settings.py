"""The `[kafka]` table and kafka:// URLs: what is wrong is told before anything connects."""

from pathlib import Path
from typing import Any

import pytest

from gateway.settings import GatewaySettings
from headwater.cli.engines import gateway_of, open_log, open_log_reader
from headwater.cli.kafka_settings import KafkaSettings, check_batches, options_of, servers_of
from headwater.cli.shared import table_classes
from headwater.errors import ConnectError, SettingsError
from headwater.io.log_memory import MemoryLog
from headwater.settings import Table, load_settings

SASL = {"security_protocol": "sasl_ssl", "username": "me"}


class ReplicatedLog(MemoryLog):
    """A log with copies."""

    is_replicated = True

    def trim(self, log_topic: str, before_us: int) -> int:
        return 0


def tables(*flags: str) -> dict[str, Table]:
    return load_settings(table_classes(), flags=flags)


@pytest.mark.parametrize(
    "url",
    [
        "kafka://", "kafka://host", "kafka://:9092", "kafka://host:0", "kafka://host:65536", "kafka://host:port",
        "kafka://host:9092/topic", "kafka://me:secret@host:9092", "kafka://a:1,", "kafka://a:1,b", "kafka://host:٩",
    ],
)  # fmt: skip
def test_a_url_that_names_no_brokers_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match=r"write kafka://HOST:PORT"):
        servers_of(url)


def test_a_url_may_name_several_brokers_and_addresses() -> None:
    assert servers_of("kafka://a.example:9092,[::1]:9093") == "a.example:9092,[::1]:9093"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"username": "me", "password_file": "p"}, "username goes with security_protocol"),
        ({"security_protocol": "sasl_ssl"}, "username goes with security_protocol"),
        (SASL, "username and password_file go together"),
        ({"security_protocol": "ssl", "cert_file": "c"}, "cert_file and key_file go together"),
        ({"ca_file": "c"}, "need security_protocol ssl"),
        ({"topic_prefix": "no/slash"}, "pattern"),
        ({"replication": -1}, "greater than or equal to 0"),
        ({"sasl_mechanism": "GSSAPI"}, "PLAIN"),
        ({"append_timeout": "0s"}, "greater than 0"),
        ({"pasword_file": "p"}, 'did you mean "password_file"'),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        tables(*(f"kafka.{name}={value!r}" for name, value in given.items()))


def test_secrets_come_from_files_and_settings_become_the_clients(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret with spaces \n", encoding="utf-8")
    settings = KafkaSettings(
        **SASL, password_file=str(secret), ca_file="ca.pem", client={"client.rack": "a", "acks": "0"}
    )
    options = options_of(settings, "kafka://far.example:9093", partitions=6, keep_us=7)
    assert dict(options.client) == {
        "client.rack": "a", "acks": "0", "security.protocol": "sasl_ssl", "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "me", "sasl.password": "s3cret with spaces ", "ssl.ca.location": "ca.pem",
    }  # fmt: skip
    assert (options.servers, options.partitions, options.keep_us) == ("far.example:9093", 6, 7)
    secret.unlink()
    with pytest.raises(SettingsError, match="No such file"):
        options_of(settings, "kafka://far.example:9093", partitions=6, keep_us=7)


def test_what_guarantees_rest_on_can_not_be_changed_by_the_user() -> None:
    from headwater.io import log_kafka_client  # noqa: PLC0415

    options = log_kafka_client.KafkaOptions(
        "127.0.0.1:9", client={"log_level": "7", "allow.auto.create.topics": "true"}
    )
    found = log_kafka_client._settings(options, log_kafka_client.LastError())
    assert (found["log_level"], found["allow.auto.create.topics"]) == (0, False)


def test_a_password_is_never_sent_in_the_clear_to_another_machine(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s", encoding="utf-8")
    plain = {"security_protocol": "sasl_plaintext", "username": "me", "password_file": str(tmp_path / "secret")}
    with pytest.raises(SettingsError, match="in the clear"):
        options_of(
            KafkaSettings(**plain, sasl_mechanism="PLAIN"), "kafka://127.0.0.1:1,far.example:2", partitions=1, keep_us=1
        )
    options_of(
        KafkaSettings(**plain, sasl_mechanism="PLAIN"), "kafka://127.0.0.1:1,localhost:2", partitions=1, keep_us=1
    )
    options_of(KafkaSettings(**plain), "kafka://far.example:2", partitions=1, keep_us=1)


def test_batches_that_may_outgrow_the_largest_record_are_refused() -> None:
    gateway = GatewaySettings()
    check_batches(KafkaSettings(), gateway.batch_readings_max, gateway.batch_max_bytes)
    with pytest.raises(SettingsError, match=r"lower gateway\.batch_readings_max"):
        check_batches(KafkaSettings(message_max_bytes=1_000_000), gateway.batch_readings_max, gateway.batch_max_bytes)
    check_batches(KafkaSettings(message_max_bytes=1_000_000), 16_384, 524_288)


@pytest.mark.parametrize(
    ("level", "log", "found"),
    [
        ("auto", MemoryLog(), "store"), ("auto", ReplicatedLog(), "backbone"), ("store", ReplicatedLog(), "store"),
        ("backbone", ReplicatedLog(), "backbone"), ("backbone", MemoryLog(), "backbone"),
    ],
)  # fmt: skip
def test_acks_follow_what_the_log_can_lose(level: str, log: Any, found: str, caplog: pytest.LogCaptureFixture) -> None:
    assert gateway_of(tables(f"gateway.ack_level={level}"), log).durable_level == found
    assert ("not replicated" in caplog.text) == (level == "backbone" and not isinstance(log, ReplicatedLog))


def test_a_gateway_that_nobody_told_of_its_log_acknowledges_what_is_stored() -> None:
    assert GatewaySettings().durable_level == "store"


@pytest.mark.integration
def test_a_reader_is_opened_without_a_broker_and_a_writer_is_not() -> None:
    settings = tables("pipeline.log=kafka://127.0.0.1:9", "kafka.connect_timeout=1ms")
    open_log_reader(settings).close()
    with pytest.raises(ConnectError, match=r"kafka 127.0.0.1:9: looking for the cluster"):
        open_log(settings)
