"""The few answers of InfluxDB 2's API that a set-up needs, in memory; the tests that use it run on a real one too."""

import itertools
import json
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from http_peer import HttpPeer


class ToyInflux2(HttpPeer):
    """Organisation "plant" with an administrator, a bucket "first", and what a client adds."""

    token = "administrators-token"

    def __init__(self, *, is_fresh: bool = False) -> None:
        super().__init__()
        self._numbers = (f"{number:016x}" for number in itertools.count(1))
        self.org = {"id": next(self._numbers), "name": "plant"}
        self.buckets: dict[str, dict[str, Any]] = {}
        self.tokens: dict[str, dict[str, Any]] = {}
        self.is_fresh = is_fresh
        self._add(self.buckets, {"name": "first", "orgID": self.org["id"], "retentionRules": []})

    def respond(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        rights = handler.headers.get("Authorization") or ""
        status, told = self.asked(handler.command, handler.path, body, rights)
        data = json.dumps(told).encode() if told is not None else b""
        self.send(handler, status, data, X_Influxdb_Version="v2.7.12", Content_Type="application/json")

    def _add(self, kept: dict[str, dict[str, Any]], row: dict[str, Any]) -> dict[str, Any]:
        row = {**row, "id": next(self._numbers)}
        kept[row["id"]] = row
        return row

    def may(self, token: str, action: str, bucket: str) -> bool:
        if token == self.token:
            return True
        held = next((row for row in self.tokens.values() if row["token"] == token), None)
        return held is not None and any(
            right["action"] == action and self.buckets[right["resource"]["id"]]["name"] == bucket
            for right in held["permissions"]
        )

    def asked(self, method: str, path: str, body: bytes, rights: str) -> tuple[int, Any]:
        parts, token = urlsplit(path), rights.removeprefix("Token ")
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        known = {self.token, *(row["token"] for row in self.tokens.values())}
        if parts.path == "/ping":
            return 204, None
        if parts.path == "/api/v2/setup":
            return 200, {"allowed": self.is_fresh}
        if token not in known or self.is_fresh:
            return 401, {"code": "unauthorized", "message": "unauthorized access"}
        if parts.path == "/api/v2/write":
            if query["bucket"] not in {row["name"] for row in self.buckets.values()}:
                return 404, {"code": "not found", "message": "bucket not found"}
            return (204, None) if self.may(token, "write", query["bucket"]) else (403, {"message": "insufficient"})
        if parts.path == "/query":
            bucket = parse_qs(body.decode())["db"][0]
            is_allowed = self.may(token, "read", bucket)
            return (200, {"results": [{}]}) if is_allowed else (403, {"message": "insufficient permissions"})
        if token != self.token:
            return 200, {"authorizations": [], "buckets": [], "orgs": []}
        if parts.path == "/api/v2/orgs":
            return 200, {"orgs": [self.org]}
        return self._kept(method, parts.path.split("/")[3:], json.loads(body or b"null"))

    def _kept(self, method: str, place: list[str], told: Any) -> tuple[int, Any]:
        kept = {"buckets": self.buckets, "authorizations": self.tokens}[place[0]]
        if method == "GET":
            return 200, {place[0]: list(kept.values()), "links": {"self": "/"}}
        if method == "POST":
            secret = {"token": f"secret-{len(kept)}-{next(self._numbers)}"} if kept is self.tokens else {}
            return 201, self._add(kept, {**told, **secret})
        if method == "PATCH":
            kept[place[1]] |= told
            return 200, kept[place[1]]
        del kept[place[1]]
        return 204, None
