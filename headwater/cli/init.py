"""`headwater init`: a folder with all that a plant of its own needs: settings, an authority, certificates, a broker's files."""

import argparse
import getpass
import json
import os
import secrets
from pathlib import Path
from typing import Any

from headwater.cli import enroll
from headwater.cli.new_files import write_new
from headwater.cli.shared import say
from headwater.compose_files import BROKER, ROOT, compose_files
from headwater.errors import SettingsError
from headwater.io.clock_system import SystemClock
from headwater.mosquitto import (
    acl_of_announced,
    acl_of_gateway,
    acl_of_operator,
    is_foreign_filter,
    mosquitto_conf,
    password_line,
)

# What is drawn at random, as text: file in `secrets/` → bytes of randomness.
SECRETS = {"page.token": 32}
ACL_HEAD = (
    "# Who may do what. `headwater enroll` adds a device; take its lines away to lock it out; then kill -HUP.\n\n"
)
FIRST_GATEWAY, FIRST_OPERATOR = "main", "desk"
PORT = 8883
DEMO_DEVICE = "demo/pump-001"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("folder", metavar="FOLDER", help="where to write; made if it is not there")
    parser.add_argument(
        "--host",
        action="append",
        default=[],
        help="name or address by which devices reach this machine; may be repeated",
    )
    parser.add_argument("--port", type=int, default=PORT, help="TCP port for devices")
    parser.add_argument(
        "--broker", action="store_true", help="devices connect to a Mosquitto, not to the gateway's own endpoint"
    )
    parser.add_argument(
        "--passwords", action="store_true", help="devices prove who they are by user and password, not by certificate"
    )
    parser.add_argument(
        "--announced",
        action="append",
        default=[],
        metavar="FILTER",
        help="with --broker: admit devices made for Home Assistant that announce themselves, and let the gateway read "
        "their topics, such as 'zigbee2mqtt/#'; may be repeated",
    )
    parser.add_argument(
        "--compose",
        action="store_true",
        help="for docker-compose.yml: a broker, secrets for InfluxDB and Grafana, an .env, and a demo device",
    )
    parser.add_argument("--flink", action="store_true", help="with --compose: Apache Flink hosts the tasks")
    parser.add_argument(
        "--root", metavar="PATH", help="where the folder will be when it is used, such as in a container"
    )


def run(options: argparse.Namespace) -> int:
    """Writes the folder; it overwrites nothing."""
    _check(options)
    folder = Path(options.folder)
    if options.compose:
        options.broker, options.root, options.host = True, ROOT, [*options.host, BROKER]
    _check_announced(options)
    root = options.root or str(folder.resolve())
    if any(character in root for character in '"\\\n') or not root.startswith("/"):
        raise SettingsError(f"{root!r}: an absolute path without quotes, backslashes or line ends")
    files = _files(options, root)
    if options.compose:
        files |= compose_files(
            str(folder.resolve()), os.getuid(), os.getgid(), secrets.token_bytes, has_flink=options.flink
        )
    write_new({folder / name: content for name, content in files.items()})
    if options.broker:
        (folder / "mosquitto" / "data").mkdir(mode=0o700, exist_ok=True)
    if options.compose:
        enroll.run(argparse.Namespace(who=DEMO_DEVICE, folder=str(folder / "demo-device"), hub=str(folder)))
        say(f"init: start the hub with docker compose --env-file {folder}/.env up -d")
        return 0
    if options.broker:
        say(f"init: start the broker with mosquitto -c {root}/mosquitto/mosquitto.conf")
    say(f"init: start the hub with headwater up --config {root}/headwater.toml")
    say(f"init: add a device with headwater enroll SITE/DEVICE NEW_FOLDER --hub {folder}")
    return 0


def _check(options: argparse.Namespace) -> None:
    """Raises a SettingsError where options are missing or do not go together."""
    if not options.host:
        raise SettingsError("--host NAME: by which name or address do devices reach this machine?")
    if not 0 < options.port < 1 << 16:
        raise SettingsError(f"--port {options.port}: a port is 1 to 65535")
    if options.flink and not options.compose:
        raise SettingsError("--flink goes with --compose; without containers see headwater flink and docs/flink.md")
    if options.compose and (options.passwords or options.root or options.port != PORT):
        raise SettingsError(f"--compose: the compose file has certificates, {ROOT} and port {PORT}; leave those out")


def _check_announced(options: argparse.Namespace) -> None:
    if options.announced and not options.broker:
        raise SettingsError("--announced FILTER is a right at a broker: add --broker, or see docs/home-assistant.md")
    for pattern in options.announced:
        if not is_foreign_filter(pattern):
            raise SettingsError(
                f"--announced {pattern!r}: a printable MQTT topic filter, and none of hw/, spBv1.0/, $ or all topics"
            )


def _files(options: argparse.Namespace, root: str) -> dict[str, bytes]:
    from headwater.io.certificates_cryptography import issue, make_authority  # noqa: PLC0415 an extra of its own

    now_us = SystemClock().now_us()
    authority = make_authority("Headwater plant", now_us)
    server = issue(
        authority, options.host[0], now_us, hosts=list(dict.fromkeys([*options.host, "localhost", "127.0.0.1"]))
    )
    files = {
        "headwater.toml": _settings(options, root).encode(),
        "tls/ca.pem": authority.certificate,
        "tls/server.pem": server.certificate,
        "secrets/ca.key": authority.key,
        "secrets/server.key": server.key,
        **{f"secrets/{name}": f"{secrets.token_urlsafe(count)}\n".encode() for name, count in SECRETS.items()},
    }
    if options.broker:
        announced = acl_of_announced(options.announced) if options.announced else ""
        acl = f"{ACL_HEAD}{acl_of_gateway(FIRST_GATEWAY)}{announced}\n{acl_of_operator(FIRST_OPERATOR)}"
        user = "" if options.root else getpass.getuser()
        conf = mosquitto_conf(root, options.port, user=user, has_passwords=options.passwords)
        files |= {"mosquitto/mosquitto.conf": conf.encode(), "mosquitto/acl": acl.encode()}
        if options.passwords:
            files |= _broker_passwords()
        else:
            gateway = issue(authority, f"gateway@{FIRST_GATEWAY}", now_us)
            files |= {"tls/gateway.pem": gateway.certificate, "secrets/gateway.key": gateway.key}
    elif options.passwords:
        files["users.toml"] = b"# Who may connect; see docs/security.md. `headwater enroll` adds devices.\n[users]\n"
    if not options.passwords:
        operator = issue(authority, f"operator@{FIRST_OPERATOR}", now_us)
        files |= {"tls/operator.pem": operator.certificate, "secrets/operator.key": operator.key}
    return files


def _broker_passwords() -> dict[str, bytes]:
    lines, files = "", {}
    for role, name in (("gateway", FIRST_GATEWAY), ("operator", FIRST_OPERATOR)):
        password = secrets.token_urlsafe(24)
        files[f"secrets/{role}.password"] = f"{password}\n".encode()
        lines += password_line(f"{role}@{name}", password.encode(), secrets.token_bytes(12))
    return files | {"mosquitto/passwd": lines.encode()}


def _settings(options: argparse.Namespace, root: str) -> str:
    """The settings file; paths are absolute, so that it may be used from anywhere."""
    gateway: dict[str, str | int | bool]
    if options.broker:
        gateway = {
            "mqtt": f"mqtts://{_bracketed(options.host[0])}:{options.port}",
            "mqtt_ca_file": f"{root}/tls/ca.pem",
        }
        if options.passwords:
            gateway |= {
                "mqtt_username": f"gateway@{FIRST_GATEWAY}",
                "mqtt_password_file": f"{root}/secrets/gateway.password",
            }
        else:
            gateway |= {
                "mqtt_cert_file": f"{root}/tls/gateway.pem",
                "mqtt_key_file": f"{root}/secrets/gateway.key",
            }
    else:
        gateway = {
            "host": "0.0.0.0",  # noqa: S104 — devices are elsewhere, and the listener asks for TLS and an identity.
            "port": options.port,
            "tls_certificate": f"{root}/tls/server.pem",
            "tls_key": f"{root}/secrets/server.key",
        }
        gateway |= {"users": f"{root}/users.toml"} if options.passwords else {"tls_client_ca": f"{root}/tls/ca.pem"}
    if options.announced:
        gateway["home_assistant_devices"] = True
    tables: dict[str, dict[str, Any]] = {
        "pipeline": {"data": f"{root}/data"},
        "gateway": gateway,
        "page": {"token_file": f"{root}/secrets/page.token"},
    }
    lines = ["# Settings of the hub, written by `headwater init`; `headwater config` shows all there are."]
    for name, values in tables.items():
        lines += ["", f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    return "\n".join(lines) + "\n"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
