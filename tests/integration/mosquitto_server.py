"""A real Mosquitto on loopback, its data in a folder of its own, for tests of what stands behind a broker."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import mqtt5
from gateway_server import RawClient, need


def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Mosquitto:
    """A broker that runs until the `with` block ends; `kill` and `start` in between as often as a test likes.

    Without `conf` it admits everybody and keeps everything; `conf` is the path of a configuration that listens on `port`.
    """

    def __init__(self, folder: Path, conf: Path | None = None, port: int | None = None) -> None:
        self._program = need("mosquitto")
        self.folder = folder
        self.data = folder / "mosquitto-data"
        self.port = port or free_port()
        self._conf = conf
        self._process: subprocess.Popen[bytes] | None = None
        self._clients: list[RawClient] = []

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def client(self, client_id: str = "raw", *, connect: bool = True) -> RawClient:
        """A client on a socket, closed at the end."""
        client = RawClient(self.port, client_id, connect=connect)
        self._clients.append(client)
        return client

    def start(self, *, is_plain: bool = True) -> None:
        """Starts it and waits until it answers CONNECT; one that speaks TLS is waited for by its socket."""
        self.data.mkdir(exist_ok=True)
        conf = self._conf
        if conf is None:
            conf = self.folder / "mosquitto.conf"
            conf.write_text(
                f"listener {self.port} 127.0.0.1\nallow_anonymous true\nuser {_user()}\nset_tcp_nodelay true\n"
                "max_inflight_messages 0\nmax_queued_messages 0\n"
                f"persistence true\npersistence_location {self.data}/\nautosave_on_changes true\nautosave_interval 1\n"
            )
        with (self.folder / "mosquitto.txt").open("ab") as sink:
            self._process = subprocess.Popen([self._program, "-c", str(conf)], stdout=sink, stderr=sink)
        end = time.monotonic() + 20
        while not self._answers(is_plain=is_plain):
            assert self._process.poll() is None, (self.folder / "mosquitto.txt").read_text()
            assert time.monotonic() < end, "mosquitto does not answer"
            time.sleep(0.02)

    def _answers(self, *, is_plain: bool) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as probe:
                if is_plain:
                    probe.sendall(mqtt5.ConnectPacket("probe", clean_start=True).write())
                    return bool(probe.recv(4))
                return True
        except OSError:
            return False

    @contextmanager
    def tls(self) -> Iterator[Self]:
        """Runs it with a configuration that speaks TLS."""
        try:
            self.start(is_plain=False)
            yield self
        finally:
            self.__exit__(None, None, None)

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self, *, wipe: bool = False) -> None:
        """kill -9, and where asked its data is gone too."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        if wipe:
            shutil.rmtree(self.data)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients:
            client.close()
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(10)


def _user() -> str:
    """Whom Mosquitto is to run as: root drops to another user that may not read a test's folder."""
    return "root" if os.geteuid() == 0 else Path.home().owner()
