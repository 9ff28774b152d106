"""Commands from an operator over MQTT: few, harmless, and only with the right signature."""

import hmac
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from headwater.errors import DecodeError
from headwater.instant import US_PER_S
from headwater.reasons import DeadLetterReason

SIZE_MAX_BYTES = 4_096
AGE_MAX_US = 300 * US_PER_S


class Verb(StrEnum):
    """What an operator may ask of a device."""

    ANNOUNCE = "announce"
    FLUSH = "flush"
    RESEND = "resend"


@dataclass(frozen=True, slots=True)
class Command:
    """An order and when it was given."""

    verb: Verb
    at_us: int


def sign(key: bytes, site: str, device: str, command: Command) -> bytes:
    """Writes a command with its HMAC-SHA256 over site, device, verb and time."""
    mac = _mac(key, site, device, command)
    return json.dumps({"command": command.verb.value, "at_us": command.at_us, "mac": mac}).encode()


def read_command(payload: bytes, key: bytes, site: str, device: str, *, now_us: int, after_us: int) -> Command:
    """Reads a command that is signed for this device, fresh, and newer than the last one; without a key none is.

    >>> asked = Command(Verb.FLUSH, 1_700_000_000_000_000)
    >>> payload = sign(b"key", "north", "pump-1", asked)
    >>> read_command(payload, b"key", "north", "pump-1", now_us=asked.at_us + 5, after_us=0) == asked
    True

    Raises:
        DecodeError: it is none, or must not be obeyed.
    """
    if not key:
        raise DecodeError(DeadLetterReason.IDENTITY, "command without agent.command_key_file: remote control is off")
    if len(payload) > SIZE_MAX_BYTES:
        raise DecodeError(DeadLetterReason.TOO_LARGE, f"command of {len(payload)} bytes")
    try:
        data: Any = json.loads(payload)
        command, mac = Command(Verb(data["command"]), data["at_us"]), data["mac"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DecodeError(DeadLetterReason.PARSE, f"command: {error}") from error
    if type(command.at_us) is not int or type(mac) is not str:
        raise DecodeError(DeadLetterReason.SCHEMA, "command fields of wrong types")
    if not hmac.compare_digest(_mac(key, site, device, command).encode(), mac.encode()):
        raise DecodeError(DeadLetterReason.IDENTITY, "command with a wrong signature")
    if abs(now_us - command.at_us) > AGE_MAX_US or command.at_us <= after_us:
        raise DecodeError(DeadLetterReason.TIME_RANGE, "command that is too old or was obeyed before")
    return command


def _mac(key: bytes, site: str, device: str, command: Command) -> str:
    return hmac.new(key, f"{site}/{device}\n{command.verb}\n{command.at_us}".encode(), "sha256").hexdigest()
