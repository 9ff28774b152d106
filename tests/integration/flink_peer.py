"""A REST interface of Flink that says what a test wants, on loopback."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


class FlinkPeer:
    """`with FlinkPeer({"/overview": {…}}) as flink: flink.url`; a path that it does not know is answered with 404.

    Attributes:
        answers: {path: JSON, or bytes as they are}.
    """

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers
        peer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                found = peer.answers.get(self.path)
                data = found if isinstance(found, bytes) else json.dumps(found or {"errors": ["Not found."]}).encode()
                self.send_response(404 if found is None else 200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *arguments: object) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"flink://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
