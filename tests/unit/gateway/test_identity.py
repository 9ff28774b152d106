"""The users file, certificates, and the settings that keep strangers out."""

import pytest
from pydantic import ValidationError

from gateway.identity import Identity, Users, certificate_identity, hash_password
from gateway.settings import GatewaySettings
from headwater.errors import SettingsError

HASH = hash_password(b"secret", b"0123456789abcdef", cost=16)


def test_a_user_is_recognised_by_name_and_password() -> None:
    users = Users(f'[users.pump]\npassword = "{HASH}"\ndevices = ["north/pump-*", "south/fan"]\n', "u.toml")
    identity = users.identify("pump", b"secret")
    assert identity == Identity("pump", (("north", "pump-*"), ("south", "fan")))
    assert users.identify("pump", b"Secret") is None
    assert users.identify("nobody", b"secret") is None


def test_patterns_allow_what_they_say() -> None:
    identity = Identity("x", (("north", "*"), ("south", "fan")))
    assert identity.may_speak_for("north", "anything")
    assert identity.may_speak_for("south", "fan")
    assert not identity.may_speak_for("south", "fan-2")
    assert identity.may_subscribe("hw/1/north/+/ack")
    assert not identity.may_subscribe("hw/1/+/+/ack")
    assert not identity.may_subscribe("hw/1/south/fan/#/x")
    assert not identity.may_subscribe("hw/1/#")


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "[other]",
        "users = 3",
        "[users.a]",
        '[users.a]\npassword = "plain"',
        f'[users.a]\npassword = "{HASH}"\nrights = 3',
        f'[users.a]\npassword = "{HASH}"\ndevices = ["north"]',
        f'[users.a]\npassword = "{HASH}"\ndevices = ["NORTH/a"]',
        '[users.a]\npassword = "scrypt$999999999$8$1$00$00"',
    ],
)
def test_a_wrong_users_file_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(SettingsError, match=r"u\.toml"):
        Users(text, "u.toml")


@pytest.mark.parametrize(
    ("name", "devices"),
    [
        ("north/pump-1", (("north", "pump-1"),)),
        ("pump-1", (("*", "pump-1"),)),
        ("Pump", None),
        ("a/b/c", None),
        ("north.pump-1", (("north", "pump-1"),)),
        ("a.b.c", None),
        ("gateway@main", None),
        ("a@b", None),
        (".x", None),
    ],
)
def test_the_common_name_of_a_certificate_names_a_device(name: str, devices: object) -> None:
    identity = certificate_identity(name)
    assert (identity.devices if identity else None) == devices


def test_the_common_name_of_an_operators_certificate_says_so() -> None:
    assert certificate_identity("operator@desk") == Identity("operator@desk", (), is_operator=True)
    assert certificate_identity("operator@") is None
    assert certificate_identity("operator@a/b") is None


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"mqtt": "127.0.0.1:1883"}, "write mqtt://"),
        ({"mqtt": "mqtt://user:secret@host"}, "settings of their own"),
        ({"mqtt": "mqtt://host", "mqtt_client_id": "a/b"}, "letters, digits"),
        ({"mqtt": "mqtt://host", "sites": ["North"]}, "not the name of a site"),
        ({"sites": ["north"]}, "set mqtt"),
        ({"mqtt": "mqtts://host", "mqtt_cert_file": "a"}, "go together"),
        ({"mqtt": "mqtts://host", "mqtt_password_file": "a"}, "needs mqtt_username"),
        ({"host": "0.0.0.0"}, "tls_certificate"),
        ({"host": "0.0.0.0", "tls_certificate": "a", "tls_key": "b"}, "users or tls_client_ca"),
        ({"tls_certificate": "a"}, "go together"),
        ({"tls_client_ca": "a"}, "needs tls_certificate"),
        ({"port": 70_000}, "65535"),
        ({"prot": 1}, "prot"),
    ],
)
def test_settings_that_would_let_strangers_in_are_refused(values: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        GatewaySettings(**values)


@pytest.mark.parametrize(
    ("values", "anonymous"),
    [
        ({}, True),
        ({"users": "u.toml"}, False),
        ({"users": "u.toml", "allow_anonymous": True}, True),
        ({"host": "0.0.0.0", "insecure": True}, True),
        ({"host": "0.0.0.0", "tls_certificate": "a", "tls_key": "b", "users": "u"}, False),
        ({"allow_anonymous": False}, False),
    ],
)
def test_anonymous_clients_are_admitted_only_where_nobody_else_can_come(
    values: dict[str, object], anonymous: bool
) -> None:
    assert GatewaySettings(**values).anonymous is anonymous
