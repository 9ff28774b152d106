"""An HTTP server that answers writes as a script says and keeps what it stored: for what no real server does on demand.

    with Scripted([Say(429, retry_after="7"), Say(204)]) as server:
        …
        server.requests       every request: (path with query, body, headers)
        server.stored         lines of the requests that it answered with 2xx, or stored before it broke off

`tls` is (certificate, key). Answers are taken one after the other; when none is left, 204. `/ping` answers as InfluxDB 2, a
write of nothing as `nothing` says; neither is counted.
"""

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from http_peer import HttpPeer


@dataclass(frozen=True)
class Say:
    """One answer.

    Attributes:
        status: of HTTP; 0 closes the connection without any.
        message: of the JSON body.
        retry_after: header, "" for none.
        stores: whether the lines are kept; None: as the status says.
        raw: the body instead of a message in JSON.
        after: is called before the answer goes out, to be slow for as long as a test wants.
    """

    status: int
    message: str = ""
    retry_after: str = ""
    stores: bool | None = None
    raw: bytes = b""
    after: Callable[[], object] | None = None


class Scripted(HttpPeer):
    """The server; `answer` may be replaced by a rule that looks at the lines."""

    def __init__(
        self, script: list[Say] | None = None, *, version: str = "v2.7.12", tls: tuple[Path, Path] | None = None
    ) -> None:
        super().__init__(tls)
        self.script = list(script or [])
        self.version = version
        self.requests: list[tuple[str, bytes, dict[str, str]]] = []
        self.stored: list[bytes] = []
        self.nothing = Say(204)
        self.answer: Callable[[list[bytes]], Say] = lambda _: self.script.pop(0) if self.script else Say(204)

    def respond(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        if handler.command == "GET":
            self.send(handler, 204, b"", X_Influxdb_Version=self.version)
        else:
            self.take(handler, body)

    def take(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        plain = gzip.decompress(body) if handler.headers.get("Content-Encoding") == "gzip" else body
        lines = plain.split()[:1] and plain.splitlines()
        if lines:
            self.requests.append((handler.path, body, dict(handler.headers)))
        say = self.answer(lines) if lines else self.nothing
        if say.stores if say.stores is not None else 200 <= say.status < 300:
            self.stored += lines
        if say.after is not None:
            say.after()
        if not say.status:
            handler.close_connection = True
            return
        told: dict[str, Any] = {"code": "x", "message": say.message}
        data = say.raw or (json.dumps(told).encode() if say.message else b"")
        self.send(handler, say.status, data, **({"Retry_After": say.retry_after} if say.retry_after else {}))
