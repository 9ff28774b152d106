"""Speaks HTTP with InfluxDB 1.x, 2.x, 3 Core, and what takes their line protocol, by urllib3 (extra `influx`).

One way to write for all: the bytes of line protocol in gzip, to `/write` (1.x) or `/api/v2/write` (all others). The
influxdb-client package could carry them too, but compresses at level 9 and knows no `/write`: docs/decisions/0010.
"""

import json
import math
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlencode

import urllib3

from headwater.errors import ConnectError
from headwater.instant import US_PER_S
from headwater.io.store_influx_options import InfluxOptions

ANSWER_BYTES_MAX = 65_536
RETRY_AFTER_S_MAX = 300.0
MESSAGE_MAX = 4_096


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said.

    Attributes:
        status: of HTTP.
        message: its reason, one line for people; "" for none.
        wait_us: how long it asks to be left alone.
        body: the first ANSWER_BYTES_MAX bytes, or all that was asked for.
        headers: by lower-case name.
    """

    status: int
    message: str
    wait_us: int
    body: bytes
    headers: dict[str, str]

    @property
    def is_good(self) -> bool:
        """The server did as it was asked."""
        return 200 <= self.status < 300


def pack(lines: bytes, level: int) -> bytes:
    """Compresses the body of a write, in gzip without a time, so that equal lines are equal bytes."""
    if not level:
        return lines
    packer = zlib.compressobj(level, wbits=31)
    return packer.compress(lines) + packer.flush()


def unpack(body: bytes, level: int) -> bytes:
    """Undoes `pack`."""
    return zlib.decompress(body, wbits=31) if level else body


class InfluxHttp:
    """A connection to a server; every method may be called from any thread and raises ConnectError where none answers."""

    def __init__(self, options: InfluxOptions) -> None:
        self.options = options
        self.url = options.address.url
        self._version = options.address.version
        self._pool = urllib3.PoolManager(
            maxsize=4,
            retries=False,
            timeout=urllib3.Timeout(connect=options.connect_us / US_PER_S, read=options.answer_us / US_PER_S),
            ca_certs=options.ca_file or None,
        )

    def close(self) -> None:
        """Closes the connections."""
        self._pool.clear()

    def version(self) -> int:
        """1, 2 or 3: how this server wants to be written to; asked once. What doesn't tell its version gets 2."""
        if not self._version:
            self.told_version()
        return self._version

    def forget_version(self) -> None:
        """Asks again before the next write, for another server may come back where this one was."""
        self._version = self.options.address.version

    def told_version(self) -> tuple[int, str]:
        """Asks `/ping`; returns (the version that counts, what the server says, "" if it doesn't tell)."""
        answer = self.request("GET", "/ping")
        if answer.status >= 500:
            raise ConnectError(f"{self.url}/ping answers {answer.status} {answer.message}")
        text = answer.headers.get("x-influxdb-version", "")
        major = text.lstrip("v").partition(".")[0]
        self._version = self.options.address.version or (int(major) if major in {"1", "2", "3"} else 2)
        return self._version, text

    def write(self, bucket: str, body: bytes) -> Answer:
        """Sends lines that `pack` packed."""
        if self.version() == 1:
            path = "/write?" + urlencode({"db": bucket, "precision": "ns"})
        else:
            path = "/api/v2/write?" + urlencode({"org": self.org, "bucket": bucket, "precision": "ns"})
        headers = {"Content-Type": "text/plain; charset=utf-8"}
        if self.options.gzip_level:
            headers["Content-Encoding"] = "gzip"
        return self.request("POST", path, body, headers)

    def refusal(self, bucket: str) -> Answer | None:
        """Writes nothing to a bucket; returns the answer if the server refuses even that.

        So a request that is wrong as such (no right, no bucket, no organisation) is told from lines that are.
        """
        answer = self.write(bucket, pack(b"\n", self.options.gzip_level))
        # InfluxDB 3 says 400 to a write of nothing because it is empty, after all else was found to be right.
        is_fine = answer.is_good or (answer.status == 400 and "empty" in answer.message)
        return None if is_fine else answer

    @property
    def org(self) -> str:
        """The organisation of a 2.x server."""
        return self.options.address.org or self.options.org

    def query(self, database: str, text: str, parameters: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Asks in InfluxQL; returns the series of all statements: name, tags, columns, values; times in ns.

        Raises:
            ConnectError: no answer, or an error instead of one.
        """
        fields = {"db": database, "q": text, "epoch": "ns", "params": json.dumps(parameters or {})}
        body = urlencode(fields).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = self.request("POST", "/query", body, headers, bytes_max=256 << 20)
        if answer.status != 200:
            raise ConnectError(f"{self.url}/query answers {answer.status} {answer.message}")
        try:
            results = json.loads(answer.body)["results"]
            errors = [result["error"] for result in results if "error" in result]
            series = [one for result in results for one in result.get("series", [])]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ConnectError(f"{self.url}/query answers something that is not InfluxQL's") from error
        if errors:
            raise ConnectError(f"{self.url}/query: {errors[0]}")
        return series

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        *,
        bytes_max: int = ANSWER_BYTES_MAX,
    ) -> Answer:
        """Sends one request and returns the answer, whatever it is; redirects are answers too."""
        try:
            response = self._pool.request(
                method, self.url + path, body=body, headers={**(headers or {}), **self._rights()}, redirect=False,
                preload_content=False,
            )  # fmt: skip
            data = response.read(bytes_max + 1)
            if len(data) > bytes_max:
                response.close()  # What is left of a long answer goes with its connection.
            response.drain_conn()
            response.release_conn()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ConnectError(f"{self.url}: {_plain(error)}") from error
        told = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status, _message(data, told), _wait_us(told.get("retry-after", "")), data, told)

    def _rights(self) -> dict[str, str]:
        if self.options.token_file is None:
            return {}
        try:
            token = self.options.token_file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ConnectError(f"influx.token_file: {error}") from error
        user, colon, password = token.partition(":")
        if colon and self._version == 1:
            return dict(urllib3.make_headers(basic_auth=f"{user}:{password}"))
        return {"Authorization": f"Token {token}"}


def _plain(error: Exception) -> str:
    """The innermost sentence of an error of urllib3."""
    text = str(error)
    return text.rpartition(": ")[2] if text else type(error).__name__


def _message(body: bytes, headers: dict[str, str]) -> str:
    text = headers.get("x-influxdb-error", "")
    if not text:
        try:
            told = json.loads(body)
            text = str(told.get("message") or told.get("error") or "") if isinstance(told, dict) else ""
        except (ValueError, RecursionError):
            text = body.decode("utf-8", "replace")
    return " ".join(text.split())[:MESSAGE_MAX]


def _wait_us(text: str) -> int:
    """Reads Retry-After: seconds or a date, bounded."""
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
        except (TypeError, ValueError):
            return 0
    return round(min(max(seconds, 0.0), RETRY_AFTER_S_MAX) * US_PER_S) if math.isfinite(seconds) else 0
