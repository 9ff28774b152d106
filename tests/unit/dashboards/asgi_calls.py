"""Calls an ASGI application without a server, one request at a time."""

import json
from dataclasses import dataclass
from typing import Any

import anyio

from dashboards.app import make_app
from dashboards.sample import SamplePlant
from dashboards.settings import DashboardSettings
from headwater.testing import ManualClock

TOKEN = "a-token-of-fair-length"


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        return self.json()["error"]["message"]


class Page:
    """The page over a made-up plant and a clock that stands still."""

    def __init__(self, *, reader: Any = None, simulator: bool = True, points: Any = None, **settings: Any) -> None:
        self.clock = ManualClock(1_795_000_000_000_000)
        self.plant = SamplePlant(self.clock, devices=6)
        self.app = make_app(
            reader or self.plant,
            counters=self.plant.counters,
            simulator=self.plant if simulator else None,
            settings=DashboardSettings(**settings),
            clock=self.clock,
            points=points,
        )

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, headers=headers)

    def post(self, path: str, body: Any, **headers: str) -> Answer:
        headers.setdefault("content_type", "application/json")
        return self.ask(
            "POST", path, headers=headers, body=body if isinstance(body, bytes) else json.dumps(body).encode()
        )

    def ask(self, method: str, path: str, *, headers: dict[str, str] | None = None, body: bytes = b"") -> Answer:
        return anyio.run(self._ask, method, path, headers or {}, body)

    async def _ask(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        plain, _, query = path.partition("?")
        named = {"host": "127.0.0.1:8000", **{name.replace("_", "-"): value for name, value in headers.items()}}
        scope = {
            "type": "http", "http_version": "1.1", "method": method, "scheme": "http", "path": plain,
            "raw_path": plain.encode(), "query_string": query.encode(), "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in named.items()],
            "client": ("127.0.0.1", 5), "server": ("127.0.0.1", 8000),
        }  # fmt: skip
        sent: list[dict[str, Any]] = []
        received = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> dict[str, Any]:
            message = next(received, None)
            return message if message is not None else await anyio.sleep_forever()

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        start = sent[0]
        content = b"".join(message.get("body", b"") for message in sent[1:])
        return Answer(start["status"], {name.decode(): value.decode() for name, value in start["headers"]}, content)
