"""The guard before every request: host names, origins, the token, and headers that keep the browser strict."""

import base64
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address
from urllib.parse import parse_qsl, quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dashboards.sessions import Sessions
from headwater.ports import Clock

COOKIE = "headwater_session"
POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; object-src 'none'; "
    "base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
# A ping tells no more than that someone is there; InfluxDB answers it unasked too.
OPEN_PATHS = ("/login", "/static/", "/ping")
QUERY_PATH = "/query"
HOST_LENGTH_MAX = 255


def host_name(host: str) -> str | None:
    """Returns the name in a Host header without its port; None if it is no host.

    >>> host_name("LocalHost:8000"), host_name("[::1]:8000"), host_name("a b")
    ('localhost', '::1', None)
    """
    if not host or len(host) > HOST_LENGTH_MAX or any(c in host for c in " /\\@?#,"):
        return None
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def is_allowed_host(host: str, allowed: frozenset[str]) -> bool:
    """Tells whether a Host header may be answered: an address, localhost or a name from the settings.

    DNS rebinding needs a name of the attacker's, so plain addresses are safe.

    >>> is_allowed_host("127.0.0.1:8000", frozenset()), is_allowed_host("evil.example", frozenset())
    (True, False)
    """
    name = host_name(host)
    if name is None:
        return False
    if name == "localhost" or name in allowed:
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def is_same_origin(headers: Headers) -> bool:
    """Tells whether an unsafe request comes from the page itself, or from no browser at all."""
    origin = headers.get("origin")
    if origin is not None:
        return urlsplit(origin).netloc.lower() == headers.get("host", "").lower()
    return headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")


def session_key(headers: Headers) -> str:
    """Returns the session's key from the cookie; "" if there is none."""
    try:
        cookie = SimpleCookie(headers.get("cookie", ""))
    except CookieError:
        return ""
    return cookie[COOKIE].value if COOKIE in cookie else ""


def refusal(status: int, message: str) -> JSONResponse:
    """The one shape of every error of the API."""
    return JSONResponse({"error": {"status": status, "message": message}}, status)


def shown_token(scope: Scope, headers: Headers) -> str | None:
    """Returns the token that a request shows, None if it shows none.

    Everywhere `Authorization: Bearer TOKEN`. Where InfluxDB's clients ask, also their ways: `Token TOKEN`,
    `Token name:TOKEN`, the password of basic authentication, and the parameter `p`.
    """
    scheme, _, secret = headers.get("authorization", "").partition(" ")
    scheme, secret = scheme.lower(), secret.strip()
    if scheme == "bearer":
        return secret
    if scope["path"] != QUERY_PATH:
        return None
    if scheme == "token":
        return secret.rpartition(":")[2]
    if scheme == "basic":
        try:
            return base64.b64decode(secret, validate=True).decode().partition(":")[2]
        except ValueError:
            return ""
    return dict(parse_qsl(scope["query_string"].decode("latin-1"))).get("p")


class Guard:
    """ASGI middleware; what it lets through comes from an allowed host, the same origin and a known person."""

    def __init__(self, app: ASGIApp, *, sessions: Sessions, allowed_hosts: frozenset[str], clock: Clock) -> None:
        self._app = app
        self._sessions = sessions
        self._allowed_hosts = allowed_hosts
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers itself or passes on, and adds the headers either way."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_strict(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                if not scope["path"].startswith("/static/"):
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        answer = self._refuse(scope, Headers(scope=scope))
        if answer is not None:
            await answer(scope, receive, send_strict)
        else:
            await self._app(scope, receive, send_strict)

    def _refuse(self, scope: Scope, headers: Headers) -> Response | None:
        if not is_allowed_host(headers.get("host", ""), self._allowed_hosts):
            return refusal(421, "this host name is not allowed: add it to page.allowed_hosts")
        if scope["method"] not in ("GET", "HEAD", "OPTIONS") and not is_same_origin(headers):
            return refusal(403, "requests that change something must come from this page")
        path: str = scope["path"]
        if self._sessions.is_open or path.startswith(OPEN_PATHS):
            return None
        now_us = self._clock.monotonic_us()
        address = scope["client"][0] if scope.get("client") else ""
        secret = shown_token(scope, headers)
        if secret is not None:
            if self._sessions.is_locked(address, now_us):
                return refusal(429, "too many wrong tokens: wait a minute")
            if self._sessions.is_token(secret):
                return None
            self._sessions.fail(address, now_us)
            return _unauthorized(path, "the token is wrong")
        key = session_key(headers)
        if key and self._sessions.is_live(key, now_us):
            return None
        if path.startswith("/api/"):
            return refusal(401, "log in at /login, or send the header Authorization: Bearer TOKEN")
        if path == QUERY_PATH:
            return _unauthorized(path, "send the page's token as password, or as Authorization: Token TOKEN")
        return RedirectResponse(f"/login?next={quote(path, safe='/')}", 303)


def _unauthorized(path: str, message: str) -> Response:
    if path != QUERY_PATH:
        return refusal(401, message)
    return JSONResponse({"error": message}, 401, {"WWW-Authenticate": 'Basic realm="InfluxDB"'})
