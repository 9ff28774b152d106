"""`headwater enroll`: a folder for one device to take along: its certificate or password, whom to trust, its settings."""

import argparse
import json
import secrets
from pathlib import Path

from gateway.identity import Users, hash_password
from gateway.settings import GatewaySettings
from headwater.cli.new_files import append, write_new
from headwater.cli.shared import say, table, table_classes
from headwater.errors import InvalidNameError, SettingsError
from headwater.io.clock_system import SystemClock
from headwater.mosquitto import acl_of_device, acl_of_gateway, acl_of_operator, device_user, password_line
from headwater.names import check_name
from headwater.settings import load_settings

_ROLES = {"gateway": acl_of_gateway, "operator": acl_of_operator}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("who", metavar="SITE/DEVICE", help="whom to admit; also gateway@NAME or operator@NAME")
    parser.add_argument(
        "folder", metavar="FOLDER", help="where to write what the device needs; made if it is not there"
    )
    parser.add_argument("--hub", metavar="FOLDER", default=".", help="the folder that `headwater init` wrote")


def run(options: argparse.Namespace) -> int:
    """Writes the device's folder, and admits the device at the broker or among the users of the gateway."""
    hub, folder = Path(options.hub), Path(options.folder)
    user, rights, settings = _whom(options.who)
    url = _url(hub)
    acl, passwd, users = hub / "mosquitto" / "acl", hub / "mosquitto" / "passwd", hub / "users.toml"
    if acl.exists() and f"\nuser {user}\n" in acl.read_text(encoding="utf-8"):
        raise SettingsError(f"{user} is in {acl} already: take its lines away first if it is to have a new key")
    if users.exists() and f'[users."{user}"]' in users.read_text(encoding="utf-8"):
        raise SettingsError(f"{user} is in {users} already: take its table away first if it is to have a new password")
    if not acl.exists() and settings.get("role") == "gateway":
        raise SettingsError("a gateway needs no admission where devices connect to it: this hub has no broker")
    has_password = passwd.exists() or users.exists()
    files = {folder / "ca.pem": _read(hub / "tls" / "ca.pem")}
    password = secrets.token_urlsafe(24)
    if has_password:
        files[folder / "mqtt.password"] = f"{password}\n".encode()
        settings |= {"username": user, "password_file": "mqtt.password", "ca_file": "ca.pem"}
    else:
        files |= _certificate(hub, folder, user)
        settings |= {"cert_file": "client.pem", "key_file": "client.key", "ca_file": "ca.pem"}
    files[folder / "headwater.toml"] = _settings_text(settings, url).encode()
    write_new(files)
    if users.exists():
        append(users, _user_table(user, settings, password).encode())
    if passwd.exists():
        append(passwd, password_line(user, password.encode(), secrets.token_bytes(12)).encode())
    if acl.exists():
        append(acl, b"\n" + rights.encode())
        say("enroll: tell the broker to read its files again: kill -HUP its process")
    elif users.exists():
        say("enroll: start the gateway again: it reads its users when it starts")
    say(f"enroll: {user} connects to {url} with the files in {folder}; start it there, or name their whole paths")
    return 0


def _whom(who: str) -> tuple[str, str, dict[str, str]]:
    """Returns the user's name, its lines in an ACL file, and its settings so far."""
    role, at, name = who.partition("@")
    if at:
        if role not in _ROLES:
            raise SettingsError(f"{who!r}: write SITE/DEVICE, gateway@NAME or operator@NAME")
        return who, _ROLES[role](_checked(name, role)), {"role": role}
    site, slash, device = who.partition("/")
    if not slash:
        raise SettingsError(f"{who!r}: write SITE/DEVICE, such as north/pump-1")
    _checked(site, "site")
    _checked(device, "device")
    return device_user(site, device), acl_of_device(site, device), {"site": site, "device": device}


def _checked(name: str, what: str) -> str:
    try:
        return check_name(name, what)
    except InvalidNameError as error:
        raise SettingsError(str(error)) from error


def _url(hub: Path) -> str:
    """Where devices connect to, as the hub's settings and its server's certificate say."""
    path = hub / "headwater.toml"
    tables = load_settings(table_classes(), text=_read(path).decode(), where=str(path))
    gateway = table(tables, "gateway", GatewaySettings)
    if gateway.mqtt:
        return gateway.mqtt
    from headwater.io.certificates_cryptography import common_name  # noqa: PLC0415 an extra of its own

    host = common_name(_read(hub / "tls" / "server.pem"))
    return f"mqtts://{f'[{host}]' if ':' in host else host}:{gateway.port}"


def _certificate(hub: Path, folder: Path, user: str) -> dict[Path, bytes]:
    from headwater.io.certificates_cryptography import Pair, issue  # noqa: PLC0415 an extra of its own

    authority = Pair(_read(hub / "tls" / "ca.pem"), _read(hub / "secrets" / "ca.key"))
    pair = issue(authority, user, SystemClock().now_us())
    return {folder / "client.pem": pair.certificate, folder / "client.key": pair.key}


def _user_table(user: str, settings: dict[str, str], password: str) -> str:
    """A user of the gateway's own endpoint; a name in quotes holds no quote (`check_name`)."""
    right = "operator = true" if "role" in settings else f'devices = ["{settings["site"]}/{settings["device"]}"]'
    hashed = hash_password(password.encode(), secrets.token_bytes(16))
    text = f'\n[users."{user}"]\npassword = "{hashed}"\n{right}\n'
    Users(text, "enroll")
    return text


def _settings_text(settings: dict[str, str], url: str) -> str:
    role = settings.get("role")
    if role is None:
        name, values = "agent", settings | {"gateway": url}
    elif role == "gateway":
        name = "gateway"
        values = {"mqtt": url} | {f"mqtt_{key}": value for key, value in settings.items() if key != "role"}
    else:
        files = "\n".join(f"# {key}: {value}" for key, value in settings.items() if key != "role")
        return f"# An operator at {url}, for any MQTT client:\n{files}\n"
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    return "\n".join(["# Written by `headwater enroll`.", f"[{name}]", *lines, ""])


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}: is --hub the folder that `headwater init` wrote?") from error
