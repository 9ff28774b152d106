"""Real InfluxDB 1.6, 2.7 and VictoriaMetrics on loopback, with their data in a folder, for tests and benchmarks.

    with Influx1(tmp_path) as server:
        server.make("raw")
        server.write("raw", b"telemetry,site=a,device=b,metric=c value=1 1700000000000000000\n")
        server.query("raw", 'SELECT * FROM "telemetry"')

A server is waited for by its own protocol and ended by its own process; `kill` and `start` again keep port and data.
"""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

ANSWER_S_MAX = 40.0


def need(program: str, package: str) -> str:
    """The path of a program; without it the test is skipped, or fails under CI."""
    path = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path is None and os.environ.get("CI") == "true":
        pytest.fail(f"{program} is missing: python scripts/install_servers.py {package}")
    if path is None:
        pytest.skip(f"{program} is not installed (python scripts/install_servers.py {package})")
    return path


def free_port() -> int:
    """A TCP port that nobody has at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def http(method: str, url: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    """One request; returns (status, body) whatever the status is."""
    request = urllib.request.Request(url, body, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_S_MAX) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


class Server(ABC):
    """A server process on loopback that can be killed and started again with the same port and data."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.folder = folder
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """Program and arguments."""

    @abstractmethod
    def is_up(self) -> bool:
        """Asks the server by its own protocol."""

    def start(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(self.command(), stdout=log, stderr=log, cwd=self.folder)
        end = time.monotonic() + ANSWER_S_MAX
        while not self._answers():
            assert self._process.poll() is None, (self.folder / "server.log").read_text()[-2000:]
            assert time.monotonic() < end, "the server did not answer in time"
            time.sleep(0.02)
        return self

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def pause(self) -> None:
        """SIGSTOP: the port accepts connections and nobody answers."""
        assert self._process is not None
        self._process.send_signal(19)

    def resume(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        self._process.send_signal(18)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _answers(self) -> bool:
        try:
            return self.is_up()
        except (OSError, urllib.error.URLError):
            return False


INFLUX1 = """
reporting-disabled = true
bind-address = "127.0.0.1:0"
[meta]
  dir = "{folder}/meta"
  logging-enabled = false
[data]
  dir = "{folder}/data"
  wal-dir = "{folder}/wal"
  query-log-enabled = false
  index-version = "inmem"
[coordinator]
  write-timeout = "10s"
[monitor]
  store-enabled = false
[subscriber]
  enabled = false
[continuous_queries]
  enabled = false
[http]
  bind-address = "127.0.0.1:{port}"
  log-enabled = false
  auth-enabled = {auth}
"""


class Influx1(Server):
    """InfluxDB 1.6 (Debian package influxdb): `/ping`, `/write` and InfluxQL by `/query`."""

    def __init__(self, folder: Path, port: int = 0, *, auth: bool = False) -> None:
        super().__init__(folder, port)
        self._auth = auth

    def command(self) -> list[str]:
        config = self.folder / "influxdb.conf"
        text = INFLUX1.format(folder=self.folder, port=self.port, auth=str(self._auth).lower())
        config.write_text(text)
        return [need("influxd", "influxdb"), "-config", str(config)]

    def is_up(self) -> bool:
        return http("GET", f"{self.url}/ping")[0] == 204

    def make(self, *databases: str) -> None:
        """Makes databases with a retention policy `autogen` that keeps for ever."""
        for name in databases:
            self.query("", f'CREATE DATABASE "{name}"')

    def write(self, database: str, lines: bytes) -> tuple[int, bytes]:
        """Posts line protocol; returns (status, body)."""
        return http("POST", f"{self.url}/write?db={database}", lines)

    def query(self, database: str, text: str, parameters: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Rows of all series of an InfluxQL query, tags as columns too; times in ns."""
        fields = {"db": database, "q": text, "epoch": "ns", "params": json.dumps(parameters or {})}
        body = urllib.parse.urlencode(fields).encode()
        status, data = http("POST", f"{self.url}/query", body)
        assert status == 200, data
        # A float without a fraction comes without a point, and −0.0 as "-0".
        (result,) = json.loads(data, parse_int=lambda text: -0.0 if text == "-0" else int(text))["results"]
        assert "error" not in result, result["error"]
        return [
            {**series.get("tags", {}), **dict(zip(series["columns"], row, strict=True))}
            for series in result.get("series", [])
            for row in series["values"]
        ]


class Influx2(Server):
    """InfluxDB 2.7, where `make influxdb2` has built one; without it the test is skipped, under CI too.

    Attributes:
        token: of the administrator whom `start` makes; its organisation is "plant".
    """

    token = "administrators-token"

    def command(self) -> list[str]:
        path = (
            Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
            / "headwater"
            / "influxdb-v2.7.12"
            / "influxd"
        )
        if not path.exists():
            pytest.skip("InfluxDB 2 is not built (make influxdb2)")
        return [
            str(path), "run", "--reporting-disabled", "--log-level", "error", "--ui-disabled",
            "--http-bind-address", f"127.0.0.1:{self.port}", "--bolt-path", str(self.folder / "influxd.bolt"),
            "--sqlite-path", str(self.folder / "influxd.sqlite"), "--engine-path", str(self.folder / "engine"),
        ]  # fmt: skip

    def is_up(self) -> bool:
        return http("GET", f"{self.url}/health")[0] == 200

    def start(self) -> Self:
        super().start()
        wanted = {"username": "boss", "password": "open-sesame", "org": "plant", "bucket": "first", "token": self.token}
        status, answer = http("POST", f"{self.url}/api/v2/setup", json.dumps(wanted).encode())
        assert status in {201, 422}, answer  # 422: it was set up before.
        return self

    def query(self, token: str, bucket: str, text: str) -> list[dict[str, Any]]:
        """Rows of an InfluxQL query; times in ns."""
        body = urllib.parse.urlencode({"db": bucket, "q": text, "epoch": "ns"}).encode()
        status, data = http("POST", f"{self.url}/query", body, Authorization=f"Token {token}")
        assert status == 200, data
        (result,) = json.loads(data)["results"]
        assert "error" not in result, result["error"]
        return [
            {**series.get("tags", {}), **dict(zip(series["columns"], row, strict=True))}
            for series in result.get("series", [])
            for row in series["values"]
        ]


class Victoria(Server):
    """VictoriaMetrics (Debian package victoria-metrics): `/api/v2/write` for unmodified InfluxDB 2 clients."""

    def command(self) -> list[str]:
        return [
            need("victoria-metrics", "victoria-metrics"),
            f"-storageDataPath={self.folder / 'data'}",
            f"-httpListenAddr=127.0.0.1:{self.port}",
            "-search.latencyOffset=0s",
            "-retentionPeriod=100y",
        ]

    def is_up(self) -> bool:
        return http("GET", f"{self.url}/health")[0] == 200

    def export(self, selector: str = '{__name__!=""}') -> dict[tuple[str, str, str, str], dict[int, float]]:
        """{(name, site, device, metric): {time in ms: value}} of all that was written."""
        query = urllib.parse.urlencode({"match[]": selector})
        http("GET", f"{self.url}/internal/force_flush")
        status, data = http("GET", f"{self.url}/api/v1/export?{query}")
        assert status == 200, data
        found = {}
        for line in data.splitlines():
            row = json.loads(line)
            names = row["metric"]
            key = (names["__name__"], names.get("site", ""), names.get("device", ""), names.get("metric", ""))
            found[key] = dict(zip(row["timestamps"], row["values"], strict=True))
        return found
