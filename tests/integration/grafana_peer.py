"""The few answers of Grafana's HTTP API that Headwater uses, kept in memory, and faults on demand.

Written after the API's reference; a real Grafana is not here to compare it with.
"""

import json
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from http_peer import HttpPeer

TOKEN = "glsa_right"


class GrafanaPeer(HttpPeer):
    """`with GrafanaPeer() as grafana: grafana.url`.

    Attributes:
        folders: {uid: title}.
        dashboards: {uid: {"dashboard", "folderUid", "provisioned"}}; versions count from 1.
        sources: uids of data sources.
        refusals: answers (status, body) that the next requests get instead, first one first.
        seen: (method, path) of every request.
    """

    def __init__(self, *, prefix: str = "") -> None:
        super().__init__()
        self.folders: dict[str, str] = {}
        self.dashboards: dict[str, dict[str, Any]] = {}
        self.sources = ["headwater-influxdb", "headwater-page"]
        self.refusals: list[tuple[int, Any]] = []
        self.seen: list[tuple[str, str]] = []
        self._prefix = prefix
        self.url += prefix

    def respond(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        rights = handler.headers.get("Authorization", "")
        status, answer = self.answer(handler.command, handler.path, rights, json.loads(body) if body else None)
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send(handler, status, data, Content_Type="application/json")

    def answer(self, method: str, target: str, authorization: str, body: Any) -> tuple[int, Any]:
        parts = urlsplit(target.removeprefix(self._prefix))
        self.seen.append((method, parts.path))
        if self.refusals:
            return self.refusals.pop(0)
        if authorization != f"Bearer {TOKEN}":
            return 401, {"message": "Invalid API key"}
        if parts.path == "/api/frontend/settings":
            return 200, {"buildInfo": {"version": "13.3.0"}}
        return self._folders(method, parts.path, body) or self._boards(method, parts.path, parts.query, body)

    def _folders(self, method: str, path: str, body: Any) -> tuple[int, Any] | None:
        if method == "POST" and path == "/api/folders":
            self.folders[body["uid"]] = body["title"]
            return 200, body
        if path.startswith("/api/folders/"):
            uid = path.rpartition("/")[2]
            return (200, {"uid": uid}) if uid in self.folders else (404, {"message": "folder not found"})
        if path == "/api/datasources":
            return 200, [{"uid": uid} for uid in self.sources]
        return None

    def _boards(self, method: str, path: str, query: str, body: Any) -> tuple[int, Any]:
        if method == "POST" and path == "/api/dashboards/db":
            dashboard = body["dashboard"]
            before = self.dashboards.get(dashboard["uid"])
            if before and before["provisioned"]:
                return 400, {"message": "Cannot save provisioned dashboard"}
            if body["folderUid"] not in self.folders:
                return 400, {"message": "folder not found"}
            if before and not body["overwrite"]:
                return 412, {"message": "The dashboard has been changed by someone else"}
            version = before["dashboard"]["version"] + 1 if before else 1
            kept = {**dashboard, "id": 7, "version": version}
            self.dashboards[dashboard["uid"]] = {
                "dashboard": kept,
                "folderUid": body["folderUid"],
                "provisioned": False,
            }
            return 200, {"status": "success", "uid": dashboard["uid"], "version": version}
        if path == "/api/search":
            asked = parse_qs(query)
            limit, page = int(asked["limit"][0]), int(asked["page"][0])
            found = [uid for uid, one in self.dashboards.items() if asked["tag"][0] in one["dashboard"]["tags"]]
            return 200, [{"uid": uid} for uid in found[(page - 1) * limit : page * limit]]
        if path.startswith("/api/dashboards/uid/"):
            one = self.dashboards.get(path.rpartition("/")[2])
            return (200, {"dashboard": one["dashboard"], "meta": {}}) if one else (404, {"message": "not found"})
        return 404, {"message": f"no {method} {path}"}
