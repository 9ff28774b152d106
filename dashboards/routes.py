"""The page's HTTP interface `/api/v1`: bounded questions to the reader, answered as JSON (docs/page.md)."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from dashboards.events import channels_of, stream
from dashboards.expected import expected_band
from dashboards.feed import Feed
from dashboards.parameters import (
    BadRequestError,
    integer_of,
    metric_of,
    name_of,
    number_of,
    optional_name,
    range_of,
)
from dashboards.security import refusal
from dashboards.settings import DashboardSettings
from dashboards.units import with_units
from dashboards.wire import json_text
from headwater.errors import ConnectError
from headwater.ports import Clock

BODY_BYTES_MAX = 4096
RANGE_DEFAULT_US = 15 * 60_000_000
DAY_US = 86_400_000_000
FAULT_MAX_US = 3_600_000_000
SEVERITY_MAX = 100.0
WINDOWS_MAX = 2000

Endpoint = Callable[[Request], Awaitable[Any]]


def answered(endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    """Turns what `endpoint` returns into JSON, and its refusals into 4xx and 503 with one sentence."""

    async def answer(request: Request) -> Response:
        try:
            value = await endpoint(request)
        except BadRequestError as error:
            return refusal(error.status, str(error))
        except ConnectError as error:
            return refusal(503, f"the store can't be read now: {error}")
        return value if isinstance(value, Response) else Response(json_text(value), media_type="application/json")

    return answer


@dataclass(frozen=True, slots=True)
class Api:
    """The endpoints over one feed."""

    feed: Feed
    settings: DashboardSettings
    clock: Clock

    def routes(self) -> list[Route]:
        """All routes below `/api/v1`."""
        gets: dict[str, Endpoint] = {
            "fleet": self.fleet,
            "devices/{site}/{device}": self.device,
            "series": self.series,
            "raw": self.raw,
            "anomalies": self.anomalies,
            "health": self.health,
            "health-history": self.health_history,
            "gaps": self.gaps,
            "alerts": self.alerts,
            "pipeline": self.pipeline,
            "accounts": self.accounts,
            "dead-letters": self.dead_letters,
            "simulator": self.simulator,
            "events": self.events,
        }
        posts: dict[str, Endpoint] = {"simulator/inject": self.inject, "simulator/network": self.network}
        return [
            *(Route(f"/api/v1/{path}", answered(endpoint), methods=["GET"]) for path, endpoint in gets.items()),
            *(Route(f"/api/v1/{path}", answered(endpoint), methods=["POST"]) for path, endpoint in posts.items()),
        ]

    async def _ask(self, call: Callable[..., Any], *args: Any, **options: Any) -> Any:
        key = (call.__name__, args, tuple(sorted(options.items())))
        return await self.feed.calls.get(key, self.settings.tick_us, call, *args, **options)

    def _limit(self, request: Request, default: int = 200) -> int:
        return integer_of(request.query_params, "limit", default, 1, self.settings.rows_max)

    def _range(self, request: Request, default_us: int = RANGE_DEFAULT_US) -> tuple[int, int]:
        now_us = self.clock.now_us()
        return range_of(request.query_params, now_us, default_us, self.settings.range_max_us)

    async def fleet(self, _request: Request) -> Any:
        """Every device in one row, and the key figures."""
        devices = await self._ask(self.feed.reader.devices)
        await self.feed.draw_missing_sparks(devices)
        return await self.feed.fleet()

    async def device(self, request: Request) -> Any:
        """One device: its row, its account, and the health of its components."""
        site, device = name_of(request.path_params, "site"), name_of(request.path_params, "device")
        row = await self._ask(self.feed.reader.device, site, device)
        if row is None:
            raise BadRequestError(f"there is no device {site}/{device}", status=404)
        accounts = [
            account for account in await self.feed.accounts() if (account["site"], account["device"]) == (site, device)
        ]
        health = await self._ask(self.feed.reader.health, site, device)
        return {"now_us": self.clock.now_us(), "row": with_units(row), "accounts": accounts, "health": health}

    async def series(self, request: Request) -> Any:
        """One metric as at most `points` buckets with mean, min, max, count; and its expected band."""
        query = request.query_params
        site, device, metric = name_of(query, "site"), name_of(query, "device"), metric_of(query)
        start_us, end_us = self._range(request)
        points = integer_of(query, "points", 600, 10, self.settings.points_max)
        columns = await self._ask(self.feed.reader.series, site, device, metric, start_us, end_us, points)
        return {
            "start_us": start_us,
            "end_us": end_us,
            "columns": columns,
            "expected": await self._expected(site, device, metric, start_us, end_us),
        }

    async def _expected(self, site: str, device: str, metric: str, start_us: int, end_us: int) -> Any:
        window = "10s" if end_us - start_us <= 2 * 3_600_000_000 else "1m"
        width_us = 10_000_000 if window == "10s" else 60_000_000
        start_us = max(start_us, end_us - WINDOWS_MAX * width_us) - 30 * width_us
        columns = await self._ask(self.feed.reader.windows, site, device, metric, window, start_us, end_us)
        lo, hi = expected_band(columns["mean"], columns["std"])
        return {"window": window, "time_us": columns["time_us"], "lo": lo, "hi": hi}

    async def raw(self, request: Request) -> Any:
        """The readings that the edge kept, at most `limit`, ascending."""
        query = request.query_params
        site, device, metric = name_of(query, "site"), name_of(query, "device"), metric_of(query)
        start_us, end_us = self._range(request)
        limit = integer_of(query, "limit", 2000, 1, self.settings.points_max)
        return {"columns": await self._ask(self.feed.reader.raw, site, device, metric, start_us, end_us, limit)}

    async def anomalies(self, request: Request) -> Any:
        """Anomalies, newest first."""
        query = request.query_params
        start_us, end_us = self._range(request, DAY_US)
        options = {"site": optional_name(query, "site"), "device": optional_name(query, "device")}
        rows = await self._ask(self.feed.reader.anomalies, start_us, end_us, self._limit(request), **options)
        return {"now_us": self.clock.now_us(), "rows": rows}

    async def health(self, request: Request) -> Any:
        """The newest health and remaining life per device and component."""
        query = request.query_params
        site, device = optional_name(query, "site"), optional_name(query, "device")
        return {"rows": await self._ask(self.feed.reader.health, site, device)}

    async def health_history(self, request: Request) -> Any:
        """Health of one device over time, newest first."""
        site, device = name_of(request.query_params, "site"), name_of(request.query_params, "device")
        start_us, end_us = self._range(request, DAY_US)
        limit = self._limit(request, min(600, self.settings.rows_max))
        return {"rows": await self._ask(self.feed.reader.health_history, site, device, start_us, end_us, limit)}

    async def gaps(self, request: Request) -> Any:
        """Frames that devices gave up and declared, newest first."""
        return {"rows": await self._ask(self.feed.reader.gaps, self._limit(request, 50))}

    async def alerts(self, request: Request) -> Any:
        """Alerts, newest first."""
        return {"rows": await self._ask(self.feed.reader.alerts, self._limit(request))}

    async def pipeline(self, _request: Request) -> Any:
        """Stages, spools, and the account of every frame."""
        return {**await self.feed.pipeline(), "history": list(self.feed.history)}

    async def accounts(self, _request: Request) -> Any:
        """The account of each device and epoch."""
        return {"rows": await self.feed.accounts()}

    async def dead_letters(self, request: Request) -> Any:
        """What could not be admitted, newest first, with its reason."""
        return {"rows": await self._ask(self.feed.reader.dead_letters, self._limit(request, 50))}

    async def simulator(self, _request: Request) -> Any:
        """Simulated sites, devices, faults; 404 outside the demo."""
        if self.feed.simulator is None:
            raise BadRequestError("there is no simulator here: it runs in `headwater demo`", status=404)
        state = await self.feed.calls.get("simulator", self.settings.tick_us, self.feed.simulator.state)
        return {"now_us": self.clock.now_us(), "state": state, "history": list(self.feed.history)}

    async def inject(self, request: Request) -> Any:
        """Starts a fault now."""
        body = await self._body(request)
        if self.feed.simulator is None:
            raise BadRequestError("there is no simulator here: it runs in `headwater demo`", status=404)
        kind = body.get("kind")
        if not isinstance(kind, str) or len(kind) > 64:
            raise BadRequestError("kind must be one of the simulator's kinds")
        metric = metric_of(body) if body.get("metric") else ""
        severity = number_of(body, "severity", 8.0, -SEVERITY_MAX, SEVERITY_MAX)
        duration_us = integer_of(body, "duration_us", 60_000_000, 1_000_000, FAULT_MAX_US)
        arguments = (name_of(body, "site"), name_of(body, "device"), metric, kind, severity, duration_us)
        try:
            fault = await self.feed.calls.run(self.feed.simulator.inject, *arguments)
        except (KeyError, ValueError) as error:
            raise BadRequestError(
                f"the simulator refuses this fault: {error.args[0] if error.args else kind}"
            ) from error
        self.feed.calls.forget("simulator")
        return {"id": fault}

    async def network(self, request: Request) -> Any:
        """Cuts or restores the network of a site."""
        body = await self._body(request)
        if self.feed.simulator is None:
            raise BadRequestError("there is no simulator here: it runs in `headwater demo`", status=404)
        if not isinstance(body.get("online"), bool):
            raise BadRequestError("online must be true or false")
        site = name_of(body, "site")
        try:
            await self.feed.calls.run(self.feed.simulator.set_online, site, body["online"])
        except KeyError as error:
            raise BadRequestError(f"the simulator knows no site {site}") from error
        self.feed.calls.forget("simulator")
        return {"site": site, "online": body["online"]}

    async def _body(self, request: Request) -> dict[str, Any]:
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise BadRequestError("send JSON with Content-Type: application/json", status=415)
        raw = bytearray()
        async for chunk in request.stream():
            raw += chunk
            if len(raw) > BODY_BYTES_MAX:
                raise BadRequestError(f"the body must be at most {BODY_BYTES_MAX} bytes", status=413)
        try:
            body = json.loads(bytes(raw))
        except (ValueError, RecursionError) as error:
            raise BadRequestError("the body is not JSON") from error
        if not isinstance(body, dict):
            raise BadRequestError("the body must be a JSON object")
        return body

    async def events(self, request: Request) -> Response:
        """The live stream; `last_event_id` as header or parameter continues an earlier one."""
        channels = channels_of(request.query_params.get("channels", ""))
        if self.feed.stream_count >= self.settings.streams_max:
            raise BadRequestError("too many live streams: close other tabs or raise page.streams_max", status=503)
        last = request.headers.get("last-event-id") or request.query_params.get("last_event_id", "")
        body = stream(self.feed, channels, last, ping_us=self.settings.ping_us)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(body, media_type="text/event-stream", headers=headers)
