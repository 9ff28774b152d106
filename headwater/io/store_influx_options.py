"""Where an InfluxDB is and how it is written: options of the store, without its client."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from headwater.errors import SettingsError
from headwater.instant import US_PER_S

SCHEMES = {"influxdb": "http", "influxdb+http": "http", "influxdbs": "https", "influxdb+https": "https"}
PORT = 8086


@dataclass(frozen=True, slots=True)
class InfluxAddress:
    """Where a server is, from `influxdb://HOST[:PORT][/PATH][?version=1&org=NAME]`.

    Attributes:
        url: http or https, without a slash at the end.
        version: 1, 2 or 3; 0 where the server is asked.
        org: organisation of a 2.x server, "" where the settings tell it.
    """

    url: str
    version: int = 0
    org: str = ""


def parse_address(url: str) -> InfluxAddress:
    """Reads the URL of a store.

    >>> parse_address("influxdbs://db.example?version=2&org=plant")
    InfluxAddress(url='https://db.example:8086', version=2, org='plant')

    Raises:
        SettingsError: it is not such a URL, or it holds a password.
    """
    try:
        parts = urlsplit(url)
        options = parse_qs(parts.query, strict_parsing=bool(parts.query))
        port = parts.port or PORT
        unknown = options.keys() - {"version", "org"}
        version = int(options.get("version", ["0"])[0])
    except ValueError as error:
        raise SettingsError(f"store {url!r}: {error}; write influxdb://HOST:8086, perhaps with ?version=1") from error
    if parts.scheme not in SCHEMES or not parts.hostname or version not in {0, 1, 2, 3} or unknown:
        raise SettingsError(
            f"store {url!r}: write influxdb://HOST:8086 or influxdbs://HOST:8086, perhaps with ?version=1, 2 or 3 and org=NAME"
        )
    if parts.username or parts.password:
        raise SettingsError(
            "store: no user and password in the URL; put a token, or user:password, into influx.token_file"
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return InfluxAddress(
        f"{SCHEMES[parts.scheme]}://{host}:{port}{parts.path.rstrip('/')}", version, options.get("org", [""])[0]
    )


@dataclass(frozen=True, slots=True)
class InfluxOptions:
    """How to speak with a server; the table `[influx]` of the settings.

    Attributes:
        address: see there.
        org: organisation (2.x).
        token_file: file with the token (2.x, 3) or user:password (1.x); None for none. Read for every request, so a
            new token needs no restart.
        raw, windows, events: buckets (databases) for readings, windows and all other measurements.
        lines_max, bytes_max: bounds of one request, before compression.
        gzip_level: 1 to 9, 0 sends plain bytes.
        connect_us, answer_us: how long to wait.
        ca_file: certificates to trust instead of the system's, "" for these.
    """

    address: InfluxAddress
    org: str = ""
    token_file: Path | None = None
    raw: str = "raw"
    windows: str = "windows"
    events: str = "events"
    lines_max: int = 10_000
    bytes_max: int = 4 << 20
    gzip_level: int = 1
    connect_us: int = 3 * US_PER_S
    answer_us: int = 20 * US_PER_S
    ca_file: str = ""
