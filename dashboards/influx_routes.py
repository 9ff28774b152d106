"""InfluxDB 1.x's `/ping` and `/query` over the pipeline's own store, for an unmodified Grafana (docs/influxql.md).

A query runs in a worker thread of its own small pool, so that the page stays quick, within bounds from the settings; it
ends when its time is up or when who asked has gone.
"""

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

import anyio
import anyio.to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import headwater
from dashboards.influxql.answers import EPOCHS_NS
from dashboards.influxql.engine import Engine
from dashboards.influxql.errors import ParseError
from dashboards.influxql.points import Budget, PointReader
from dashboards.settings import DashboardSettings
from headwater.errors import ConnectError
from headwater.ports import Clock

BODY_BYTES_MAX = 256 * 1024
PARAMETERS_MAX = 100
# Clients look at the number, people at the rest: InfluxQL as 1.6 answers it, and who answers.
VERSION = f"1.6.7-headwater-{headwater.__version__}"
HEADERS = {"X-Influxdb-Version": VERSION, "X-Influxdb-Build": "Headwater"}


def problem(status: int, message: str) -> JSONResponse:
    """The shape of errors that InfluxDB's clients know."""
    return JSONResponse({"error": message}, status, HEADERS)


@dataclass(slots=True)
class InfluxApi:
    """The endpoints over one store; `points` is None where the store is no file of ours to read."""

    points: PointReader | None
    settings: DashboardSettings
    clock: Clock
    _limiter: anyio.CapacityLimiter | None = field(default=None, init=False)

    def routes(self) -> list[Route]:
        """`/ping` and `/query`."""
        return [
            Route("/ping", self.ping, methods=["GET", "HEAD"]),
            Route("/query", self.query, methods=["GET", "POST"]),
        ]

    async def ping(self, _request: Request) -> Response:
        """Says that the server is there."""
        return Response(status_code=204, headers=HEADERS)

    async def query(self, request: Request) -> Response:
        """Answers the statements of `q`."""
        if self.points is None:
            return problem(404, "the store of this pipeline is an InfluxDB: point the data source at that one")
        values = dict(request.query_params)
        if request.method == "POST":
            body = bytearray()
            async for chunk in request.stream():
                body += chunk
                if len(body) > BODY_BYTES_MAX:
                    return problem(413, f"the query must be at most {BODY_BYTES_MAX} bytes")
            try:
                values |= dict(parse_qsl(body.decode("utf-8"), max_num_fields=PARAMETERS_MAX))
            except ValueError:  # More fields than anyone sends, or no text.
                return problem(400, "the body must be a form in UTF-8")
        if not values.get("q", "").strip(" ;\t\r\n"):
            return problem(400, 'missing required parameter "q"')
        epoch = values.get("epoch", "")
        if epoch and epoch not in EPOCHS_NS:
            return problem(400, "epoch must be one of ns, u, ms, s, m, h")
        parameters = parameters_of(values.get("params", ""))
        if parameters is None:
            return problem(400, "error parsing query parameters: they must be a JSON object")
        return await self._answered(request, values, epoch, parameters)

    async def _answered(
        self, request: Request, values: Mapping[str, str], epoch: str, parameters: Mapping[str, object]
    ) -> Response:
        given_up = threading.Event()
        answer: list[Response] = []
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(self.settings.influxql_threads_max)

        async def watch() -> None:
            while not given_up.is_set():
                if (await request.receive())["type"] == "http.disconnect":
                    given_up.set()

        async with anyio.create_task_group() as group:
            group.start_soon(watch)
            try:
                run = partial(self._run, values, epoch, parameters, given_up)
                answer.append(await anyio.to_thread.run_sync(run, limiter=self._limiter, abandon_on_cancel=True))
            finally:
                given_up.set()
                group.cancel_scope.cancel()
        return answer[0]

    def _run(
        self, values: Mapping[str, str], epoch: str, parameters: Mapping[str, object], given_up: threading.Event
    ) -> Response:
        settings = self.settings
        assert self.points is not None

        def budget() -> Budget:
            end_us = self.clock.monotonic_us() + settings.influxql_time_us

            def is_over() -> bool:
                return given_up.is_set() or self.clock.monotonic_us() > end_us

            maxima = (settings.influxql_points_max, settings.influxql_values_max, settings.influxql_series_max)
            return Budget(*maxima, is_over)

        engine = Engine(self.points, settings.influxql_database, budget)
        try:
            found = engine.answer(
                values["q"],
                database=values.get("db", ""),
                epoch=epoch,
                now_ns=self.clock.now_us() * 1_000,
                parameters=parameters,
            )
        except ParseError as error:
            return problem(400, f"error parsing query: {error}")
        except ConnectError as error:
            return problem(503, f"the store can't be read now: {error}")
        indent = 4 if values.get("pretty") == "true" else None
        text = json.dumps(found, separators=None if indent else (",", ":"), indent=indent, allow_nan=False)
        return Response(text + "\n", media_type="application/json", headers=HEADERS)


def parameters_of(text: str) -> dict[str, Any] | None:
    """Returns the values of `$name`s; None where the text is no JSON object.

    >>> parameters_of('{"device": "pump-1"}'), parameters_of(""), parameters_of("[]")
    ({'device': 'pump-1'}, {}, None)
    """
    if not text:
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
