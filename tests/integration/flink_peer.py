"""A REST interface of Flink that says what a test wants, on loopback."""

import json
from http.server import BaseHTTPRequestHandler
from typing import Any

from http_peer import HttpPeer


class FlinkPeer(HttpPeer):
    """`with FlinkPeer({"/overview": {…}}) as flink: flink.url`; a path that it does not know is answered with 404.

    Attributes:
        answers: {path: JSON, or bytes as they are}.
    """

    def __init__(self, answers: dict[str, Any]) -> None:
        super().__init__()
        self.answers = answers
        self.url = f"flink://127.0.0.1:{self.port}"

    def respond(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        del body
        found = self.answers.get(handler.path)
        data = found if isinstance(found, bytes) else json.dumps(found or {"errors": ["Not found."]}).encode()
        self.send(handler, 404 if found is None else 200, data)
