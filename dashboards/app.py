"""The live page as an ASGI application: shell and static files, the API, the login, behind the guard."""

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import anyio
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from dashboards.feed import Feed
from dashboards.influx_routes import InfluxApi
from dashboards.influxql.points import PointReader
from dashboards.reader import Reader
from dashboards.ring import Ring
from dashboards.routes import Api
from dashboards.security import COOKIE, Guard, refusal, session_key
from dashboards.sessions import Sessions
from dashboards.settings import DashboardSettings, check_exposure
from headwater.errors import SettingsError
from headwater.names import is_name
from headwater.ports import Clock, SimulatorControl

STATIC = Path(__file__).parent / "static"
SCREENS = ("fleet", "anomalies", "pipeline", "simulator")
LOGIN_BYTES_MAX = 2048


def make_app(
    reader: Reader,
    *,
    counters: Callable[[], dict[str, Any]] | None,
    simulator: SimulatorControl | None,
    settings: DashboardSettings,
    clock: Clock,
    points: PointReader | None = None,
) -> Starlette:
    """Makes the page over `reader`, and InfluxQL over `points` where there are any; `app.state.feed` is its heart and `app.state.feed.close()` ends its streams.

    Raises:
        SettingsError: the page would be open to a network without a token, or the token can't be read.
    """
    token = read_token(settings)
    check_exposure(settings.host, token)
    ring = Ring(secrets.token_hex(4), events_max=settings.events_max, backlog_max=settings.backlog_max)
    feed = Feed(reader, counters=counters, simulator=simulator, settings=settings, clock=clock, ring=ring)
    sessions = Sessions(
        token,
        tries_max=settings.login_tries_max,
        idle_us=settings.session_idle_us,
        sessions_max=settings.sessions_max,
    )

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with anyio.create_task_group() as group:
            group.start_soon(feed.run)
            yield
            feed.close()
            group.cancel_scope.cancel()

    door = Login(sessions, clock)
    allowed = frozenset(name.lower() for name in (*settings.allowed_hosts, settings.host))
    app = Starlette(
        routes=[
            *Api(feed, settings, clock).routes(),
            *InfluxApi(points, settings, clock).routes(),
            Route("/login", door.show, methods=["GET"]),
            Route("/login", door.enter, methods=["POST"]),
            Route("/logout", door.leave, methods=["POST"]),
            Mount("/static", StaticFiles(directory=STATIC), name="static"),
            Route("/", shell),
            *(Route(f"/{screen}", shell) for screen in SCREENS),
            Route("/device/{site}/{device}", shell),
            Route("/{rest:path}", missing, methods=["GET", "POST"]),
        ],
        middleware=[Middleware(Guard, sessions=sessions, allowed_hosts=allowed, clock=clock)],
        lifespan=lifespan,
    )
    app.state.feed = feed
    app.state.token = token
    return app


def read_token(settings: DashboardSettings) -> str:
    """Returns the token from the settings or from its file.

    Raises:
        SettingsError: the file can't be read.
    """
    if not settings.token_file:
        return settings.token.strip()
    try:
        lines = Path(settings.token_file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"page.token_file {settings.token_file!r} can't be read: {error}") from error
    return lines[0].strip() if lines else ""


async def shell(request: Request) -> Response:
    """The one HTML file of all screens."""
    if any(not is_name(name) for name in request.path_params.values()):
        return await missing(request)
    return FileResponse(STATIC / "index.html", media_type="text/html", headers={"Cache-Control": "no-cache"})


async def missing(request: Request) -> Response:
    """Says that there is nothing here."""
    return refusal(404, f"there is nothing at {request.url.path[:100]}")


class Login:
    """The login form: the token once, then a cookie that scripts can't read and other sites can't send."""

    def __init__(self, sessions: Sessions, clock: Clock) -> None:
        self._sessions = sessions
        self._clock = clock

    async def show(self, _request: Request) -> Response:
        """The form; straight to the page where no token is set."""
        if self._sessions.is_open:
            return RedirectResponse("/", 303)
        return FileResponse(STATIC / "login.html", media_type="text/html", headers={"Cache-Control": "no-store"})

    async def enter(self, request: Request) -> Response:
        """Opens a session for who knows the token."""
        now_us = self._clock.monotonic_us()
        address = request.client.host if request.client else ""
        if self._sessions.is_locked(address, now_us):
            return RedirectResponse("/login?why=wait", 303)
        raw = bytearray()
        async for chunk in request.stream():
            raw += chunk
            if len(raw) > LOGIN_BYTES_MAX:
                return refusal(413, "the form is too long")
        form = parse_qs(raw.decode("latin-1"), max_num_fields=8)
        if not self._sessions.is_token(form.get("token", [""])[0].strip()):
            self._sessions.fail(address, now_us)
            return RedirectResponse("/login?why=wrong", 303)
        key = secrets.token_urlsafe(32)
        self._sessions.start(key, now_us)
        answer = RedirectResponse(safe_path(form.get("next", ["/"])[0]), 303)
        is_https = request.url.scheme == "https"
        answer.set_cookie(COOKIE, key, httponly=True, samesite="strict", secure=is_https, path="/")
        return answer

    async def leave(self, request: Request) -> Response:
        """Ends the session."""
        self._sessions.end(session_key(request.headers))
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(COOKIE, path="/")
        return answer


def safe_path(text: str) -> str:
    r"""Returns a path of this page to go on to; "/" for anything that could lead elsewhere.

    >>> safe_path("/device/north/pump-1"), safe_path("//evil.example"), safe_path("/\\evil.example")
    ('/device/north/pump-1', '/', '/')
    """
    is_plain = text.startswith("/") and not text.startswith("//") and len(text) <= 256
    return text if is_plain and all(c.isalnum() or c in "/_-" for c in text) else "/"
