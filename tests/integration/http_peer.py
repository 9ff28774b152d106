"""An HTTP server on loopback that answers as a test says; its users say what."""

import ssl
import threading
from abc import ABC, abstractmethod
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self


class HttpPeer(ABC):
    """`with SomePeer() as peer: peer.url`; every request comes to `respond`.

    Args:
        tls: (certificate, key); None for HTTP in the clear.

    Attributes:
        port, url: where it listens.
    """

    def __init__(self, tls: tuple[Path, Path] | None = None) -> None:
        peer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 65_536  # One segment an answer: the client's delayed ACK would hold up a second one.

            def answer(self) -> None:
                peer.respond(self, self.rfile.read(int(self.headers.get("Content-Length") or 0)))

            do_GET = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815 — the names that http.server calls.

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_port
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @abstractmethod
    def respond(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        """Answers one request by `send`."""

    def send(self, handler: BaseHTTPRequestHandler, status: int, data: bytes, **headers: str) -> None:
        """Sends an answer; in the names of headers `_` stands for `-`."""
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(data)))
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
