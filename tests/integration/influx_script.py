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
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self


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


class Scripted:
    """The server; `answer` may be replaced by a rule that looks at the lines."""

    def __init__(
        self, script: list[Say] | None = None, *, version: str = "v2.7.12", tls: tuple[Path, Path] | None = None
    ) -> None:
        self.script = list(script or [])
        self.version = version
        self.requests: list[tuple[str, bytes, dict[str, str]]] = []
        self.stored: list[bytes] = []
        self.nothing = Say(204)
        self.answer: Callable[[list[bytes]], Say] = lambda _: self.script.pop(0) if self.script else Say(204)
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 65_536  # One segment an answer: the peer's delayed ACK would hold up a second one.

            def do_GET(self) -> None:
                self.send_response(204)
                self.send_header("X-Influxdb-Version", scripted.version)
                self.end_headers()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                scripted.take(self, body)

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = int(self._server.server_address[1])
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

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
        handler.send_response(say.status)
        handler.send_header("Content-Length", str(len(data)))
        if say.retry_after:
            handler.send_header("Retry-After", say.retry_after)
        handler.end_headers()
        handler.wfile.write(data)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
