"""Where a broker is and how it knows us: its URL, passwords from files, TLS; for every client of one."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from headwater.errors import SettingsError

PORTS: Final = {"mqtt": 1883, "mqtts": 8883}


@dataclass(frozen=True, slots=True)
class Broker:
    """Where a broker is and how it knows us.

    Attributes:
        url: mqtt://host[:port] or mqtts://host[:port].
        username, password_file: empty for none.
        ca_file: authorities to trust; empty for the system's.
        cert_file, key_file: the client's certificate; empty for none.
        connect_timeout_s, keepalive_s: seconds.
    """

    url: str
    username: str = ""
    password_file: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    connect_timeout_s: float = 10.0
    keepalive_s: int = 30


def parse_broker(url: str) -> tuple[str, str, int]:
    """Takes a broker's URL apart into scheme, host and port.

    >>> parse_broker("mqtts://plant.example")
    ('mqtts', 'plant.example', 8883)

    Raises:
        SettingsError: it is not one.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise SettingsError(f"{url!r} is not the address of a broker: {error}") from error
    if parts.scheme not in PORTS or not parts.hostname or parts.username or parts.path not in ("", "/"):
        raise SettingsError(f"{url!r} is not the address of a broker: write mqtt://host:1883 or mqtts://host:8883")
    return parts.scheme, parts.hostname, port or PORTS[parts.scheme]


def read_secret(file: str) -> str | None:
    """Reads a password from a file; None if none is named.

    Raises:
        SettingsError: the file can't be read.
    """
    if not file:
        return None
    try:
        return Path(file).read_text(encoding="utf-8").rstrip("\n")
    except OSError as error:
        raise SettingsError(f"password_file {file}: {error.strerror}: name a file that this user may read") from error


def tls_context(broker: Broker) -> ssl.SSLContext:
    """Makes what a client needs for TLS: whom to trust, and its own certificate if it has one.

    Raises:
        SettingsError: a file can't be read or is not what it must be.
    """
    try:
        context = ssl.create_default_context(cafile=broker.ca_file or None)
        if broker.cert_file:
            context.load_cert_chain(broker.cert_file, broker.key_file or None)
    except OSError as error:
        files = ", ".join(filter(None, (broker.ca_file, broker.cert_file, broker.key_file)))
        raise SettingsError(f"TLS files {files}: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
