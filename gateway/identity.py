"""Who a client is and what it may do: users with scrypt hashes, certificates, patterns of devices.

The users file is TOML:

    [users.pump-1]
    password = "scrypt$16384$8$1$<salt, hex>$<key, hex>"
    devices = ["north/pump-1"]        # also "north/*" or "*/*"

    [users.plant-desk]
    password = "…"
    operator = true                   # may read everything and send configurations and commands
"""

import hashlib
import hmac
import tomllib
from dataclasses import dataclass
from typing import Any

from headwater.errors import SettingsError
from headwater.names import MQTT_PREFIX, is_name
from headwater.sparkplug_topic import NAMESPACE, Verb, name_of

_MEMORY_MAX_BYTES = 128 * 1024 * 1024
_KEYS = {"password", "devices", "operator"}


def _matches(pattern: str, name: str) -> bool:
    return pattern in {name, "*"} or (pattern.endswith("*") and name.startswith(pattern[:-1]))


@dataclass(frozen=True, slots=True)
class Identity:
    """An authenticated client.

    Attributes:
        name: user name or certificate name, "" for anonymous.
        devices: (site pattern, device pattern) pairs that it may speak for.
        is_operator: may subscribe to everything and publish configurations and commands.
    """

    name: str
    devices: tuple[tuple[str, str], ...] = ()
    is_operator: bool = False

    def may_speak_for(self, site: str, device: str) -> bool:
        """Tells whether it may publish as this device.

        >>> Identity("p", (("north", "pump-*"),)).may_speak_for("north", "pump-1")
        True
        """
        return any(_matches(s, site) and _matches(d, device) for s, d in self.devices)

    def may_subscribe(self, pattern: str) -> bool:
        """Tells whether it may receive what a subscription asks for: its own devices' topics, or all as operator.

        >>> pump = Identity("p", (("north", "pump-1"),))
        >>> pump.may_subscribe("hw/1/north/pump-1/ack"), pump.may_subscribe("hw/1/north/+/ack")
        (True, False)
        >>> pump.may_subscribe("spBv1.0/North/NCMD/Pump-1/#"), pump.may_subscribe("spBv1.0/North/NDATA/Pump-2")
        (True, False)
        """
        if self.is_operator:
            return True
        levels = pattern.split("/")
        if levels[0] == NAMESPACE:
            return self._may_subscribe_sparkplug(levels)
        if len(levels) != 5 or "/".join(levels[:2]) != MQTT_PREFIX:
            return False
        site, device = ("*" if level == "+" else level for level in levels[2:4])
        if not all(part == "*" or is_name(part) for part in (site, device)):
            return False
        return any(_covers(s, site) and _covers(d, device) for s, d in self.devices)

    def _may_subscribe_sparkplug(self, levels: list[str]) -> bool:
        """A node may hear what hosts say of themselves, and the commands to itself and its devices."""
        if levels[1:2] == [Verb.STATE]:
            return True
        match levels[1:]:
            case [group, Verb.NCMD, node] | [group, Verb.NCMD, node, "#"] | [group, Verb.DCMD, node, _]:
                return self.may_speak_for(name_of(group), name_of(node))
        return False


def _covers(pattern: str, asked: str) -> bool:
    return pattern == "*" if asked == "*" else _matches(pattern, asked)


ANONYMOUS = Identity("", (("*", "*"),), is_operator=True)


def certificate_identity(common_name: str) -> Identity | None:
    """Reads the common name of a client's certificate, None if it names nobody.

    "site.device" or "site/device" is a device, "device" one of any site, "operator@name" an operator.

    >>> certificate_identity("north.pump-1")
    Identity(name='north.pump-1', devices=(('north', 'pump-1'),), is_operator=False)
    """
    role, at, name = common_name.partition("@")
    if at:
        return Identity(common_name, is_operator=True) if role == "operator" and is_name(name) else None
    site, mark, device = common_name.rpartition("/" if "/" in common_name else ".")
    if not is_name(device) or (mark and not is_name(site)):
        return None
    return Identity(common_name, ((site or "*", device),))


def hash_password(password: bytes, salt: bytes, *, cost: int = 16_384) -> str:
    """Writes the hash that a users file holds.

    >>> hash_password(b"secret", bytes(16), cost=2)[:26]
    'scrypt$2$8$1$0000000000000'
    """
    key = hashlib.scrypt(password, salt=salt, n=cost, r=8, p=1, maxmem=_MEMORY_MAX_BYTES, dklen=32)
    return f"scrypt${cost}$8$1${salt.hex()}${key.hex()}"


@dataclass(frozen=True, slots=True)
class _Scrypt:
    cost: int
    block: int
    parallel: int
    salt: bytes
    key: bytes

    def matches(self, password: bytes) -> bool:
        key = hashlib.scrypt(
            password,
            salt=self.salt,
            n=self.cost,
            r=self.block,
            p=self.parallel,
            maxmem=_MEMORY_MAX_BYTES,
            dklen=len(self.key),
        )
        return hmac.compare_digest(key, self.key)


class Users:
    """The users file, parsed; `identify` costs tens of milliseconds on purpose, so call it off the event loop.

    Raises:
        SettingsError: what is wrong in the file, and where.
    """

    def __init__(self, text: str, where: str) -> None:
        try:
            data = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise SettingsError(f"{where}: not TOML: {error}") from error
        unknown = data.keys() - {"users"}
        if unknown or not isinstance(data.get("users", {}), dict):
            raise SettingsError(f"{where}: write tables [users.<name>] and nothing else, not {sorted(unknown)}")
        self._users = {name: _read_user(name, entry, where) for name, entry in data.get("users", {}).items()}
        self._nobody = _Scrypt(16_384, 8, 1, bytes(16), bytes(32))

    def identify(self, name: str, password: bytes) -> Identity | None:
        """Returns who this is, or None; an unknown name costs the same time as a wrong password."""
        scrypt, identity = self._users.get(name, (self._nobody, None))
        return identity if scrypt.matches(password) else None


def _read_user(name: str, entry: Any, where: str) -> tuple[_Scrypt, Identity]:
    place = f"{where}: [users.{name}]"
    if not isinstance(entry, dict) or not entry.keys() <= _KEYS:
        raise SettingsError(f"{place}: known keys are {', '.join(sorted(_KEYS))}")
    devices = []
    for text in entry.get("devices", ()):
        site, slash, device = str(text).partition("/")
        if not slash or not all(part == "*" or is_name(part.removesuffix("*")) for part in (site, device)):
            raise SettingsError(f'{place}: {text!r} is not "site/device"; "*" may end either')
        devices.append((site, device))
    try:
        kind, cost, block, parallel, salt, key = str(entry.get("password", "")).split("$")
        scrypt = _Scrypt(int(cost), int(block), int(parallel), bytes.fromhex(salt), bytes.fromhex(key))
        valid = kind == "scrypt" and 128 * scrypt.cost * scrypt.block < _MEMORY_MAX_BYTES and len(scrypt.key) >= 16
    except ValueError:
        valid = False
    if not valid:
        raise SettingsError(
            f"{place}: password must be scrypt$cost$8$1$salt$key, as gateway.identity.hash_password writes it"
        )
    return scrypt, Identity(name, tuple(devices), is_operator=entry.get("operator") is True)
