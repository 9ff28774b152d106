"""Serves the live page in a thread of its own."""

import socket
import threading
from collections.abc import Callable

import uvicorn
from starlette.applications import Starlette

from dashboards.settings import check_exposure
from headwater.errors import ConnectError

START_S = 10.0
STOP_S = 5.0
TURN_EVERY_S = 1


class PageServer:
    """Listens on `host` and `port` (0 takes a free one) until stopped.

    `on_turn` is called about once a second by the loop that answers requests.

    Raises:
        SettingsError: `host` is beyond loopback and the app has no token.
    """

    def __init__(self, app: Starlette, host: str, port: int, on_turn: Callable[[], object] = lambda: None) -> None:
        check_exposure(host, app.state.token)
        self._app = app
        self._host = host
        self._port = port
        self._thread: threading.Thread | None = None
        self._on_turn = on_turn
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                http="h11",
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=2,
                limit_concurrency=512,
                h11_max_incomplete_event_size=16 * 1024,
                callback_notify=self._turned,
                timeout_notify=TURN_EVERY_S,
            )
        )

    def start(self) -> int:
        """Returns the port once requests are answered.

        Raises:
            ConnectError: the port is taken or the page did not start.
        """
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((self._host, self._port))
        except OSError as error:
            listener.close()
            raise ConnectError(f"the page can't listen on {self._host}:{self._port}: {error}") from error
        port: int = listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, args=(listener,), name="headwater-page", daemon=True)
        self._thread.start()
        waited_s = 0.0
        while not self._server.started:
            self._thread.join(0.02)
            waited_s += 0.02
            if not self._thread.is_alive() or waited_s > START_S:
                raise ConnectError(f"the page did not start on {self._host}:{port}")
        return port

    async def _turned(self) -> None:
        self._on_turn()

    def _run(self, listener: socket.socket) -> None:
        try:
            self._server.run(sockets=[listener])
        finally:
            listener.close()

    def stop(self) -> None:
        """Ends the live streams, answers what is under way, and returns when the thread has ended."""
        if self._thread is None:
            return
        self._app.state.feed.close_soon()
        self._server.should_exit = True
        self._thread.join(STOP_S)
        self._thread = None
