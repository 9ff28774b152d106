"""Our processes under systemd's protocol: what `systemd-analyze` says of the units, and what each tells a supervisor."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from gateway_server import until

from gateway.settings import GatewaySettings
from headwater.cli import build_parser
from headwater.cli.embedding import build_pipeline
from headwater.cli.pipeline import PipelineSettings
from headwater.cli.shared import table_classes
from headwater.io.supervisor_systemd import Supervisor

pytestmark = pytest.mark.integration

HEADWATER = [sys.executable, "-m", "headwater"]
PATIENCE_US = 3_000_000
WAIT_S = 30.0


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    path = tmp_path / "headwater.toml"
    path.write_text('[agent]\nsite = "north"\ndevice = "pump-1"\ngateway = ""\npassword_file = "/etc/hosts"\n')
    return path


@pytest.fixture
def notices(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket that systemd would listen on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(tmp_path / "notify"))
        channel.settimeout(WAIT_S)
        yield channel


def analyze(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    if program is None and os.environ.get("CI") == "true":
        pytest.fail("systemd-analyze is missing: python scripts/install_servers.py systemd")
    if program is None:
        pytest.skip("systemd-analyze is not installed (python scripts/install_servers.py systemd)")
    environment = os.environ | {"XDG_RUNTIME_DIR": str(folder)}
    return subprocess.run([program, *arguments], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("kind", [[], ["--user-unit"]])
def test_systemd_understands_every_line_of_the_unit(settings: Path, tmp_path: Path, kind: list[str]) -> None:
    unit = tmp_path / "headwater-agent.service"
    command = [*HEADWATER, "agent", "install", "--config", str(settings), "--unit-file", str(unit), *kind]
    subprocess.run(command, check=True, capture_output=True)
    done = analyze("verify", "--man=no", *(["--user"] if kind else []), str(unit), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "headwater-agent" not in done.stderr, done.stderr
    unit.write_text(unit.read_text().replace("WatchdogSec", "WatchDog"))
    assert "WatchDog" in analyze("verify", "--man=no", str(unit), folder=tmp_path).stderr, "verify finds nothing at all"


def test_the_unit_is_well_confined(settings: Path, tmp_path: Path) -> None:
    unit = tmp_path / "headwater-agent.service"
    command = [*HEADWATER, "agent", "install", "--config", str(settings), "--unit-file", str(unit)]
    subprocess.run(command, check=True, capture_output=True)
    done = analyze("security", "--offline=true", "--no-pager", str(unit), folder=tmp_path)
    found = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    assert float(found[1]) < 2.5, done.stdout


def test_install_prints_by_default_and_needs_a_settings_file(settings: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [*HEADWATER, "agent", "install", "--config", str(settings)], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("[Unit]\n")
    assert not list(tmp_path.rglob("*.service"))
    done = subprocess.run(
        [*HEADWATER, "agent", "install"], cwd=tmp_path / "..", capture_output=True, text=True, check=False
    )
    assert done.returncode == 78
    assert "needs a settings file" in done.stderr


def test_a_place_that_cannot_be_written_is_told(settings: Path) -> None:
    command = [*HEADWATER, "agent", "install", "--config", str(settings), "--unit-file", "/proc/x/y.service"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 78
    assert "--user-unit" in done.stderr


def test_the_agent_says_ready_pings_and_says_that_it_stops(
    settings: Path, tmp_path: Path, notices: socket.socket
) -> None:
    environment = os.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": str(PATIENCE_US)}
    command = [*HEADWATER, "agent", "--config", str(settings), "--data", str(tmp_path / "data")]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as agent:
        assert notices.recv(4096).decode() == "READY=1\nSTATUS=north/pump-1 to nobody"
        assert [notices.recv(4096) for _ in range(2)] == [b"WATCHDOG=1"] * 2
        agent.send_signal(signal.SIGTERM)
        rest = []
        while not rest or not rest[-1].startswith("STOPPING=1"):
            rest.append(notices.recv(4096).decode())
        assert set(rest[:-1]) <= {"WATCHDOG=1"}
        assert agent.wait(WAIT_S) == 0


@pytest.mark.parametrize("name", ["gateway", "processor", "sink", "page", "up"])
def test_each_service_of_a_hub_says_ready_pings_and_says_that_it_stops(
    name: str, tmp_path: Path, notices: socket.socket
) -> None:
    environment = os.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": str(PATIENCE_US)}
    ports = ["--set", "gateway.port=0", "--set", "page.port=0"]
    command = [*HEADWATER, name, "--data", str(tmp_path / "data"), *ports]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as service:
        while (told := notices.recv(4096).decode()) == "WATCHDOG=1":
            assert name == "page", "its loop turns before it has been asked for the first time"
        assert told.startswith("READY=1\nSTATUS="), told
        assert [notices.recv(4096) for _ in range(2)] == [b"WATCHDOG=1"] * 2
        service.send_signal(signal.SIGTERM)
        rest = []
        while not rest or not rest[-1].startswith("STOPPING=1"):
            rest.append(notices.recv(4096).decode())
        assert set(rest[:-1]) <= {"WATCHDOG=1"}
        assert service.wait(WAIT_S) == 0


def verified_unit_of(page: str, unit: Path) -> str:
    """Writes the unit that a page of the docs shows, has systemd verify it, and returns its text."""
    shown = (Path(__file__).parents[2] / "docs" / page).read_text(encoding="utf-8")
    (text,) = re.findall(r"```ini\n(.*?)```", shown, re.DOTALL)
    unit.write_text(text.replace("/opt/headwater/bin/python", sys.executable))
    assert sys.executable in unit.read_text()
    done = analyze("verify", "--man=no", str(unit), folder=unit.parent)
    assert done.returncode == 0, done.stderr
    assert unit.name.partition("@")[0].removesuffix(".service") not in done.stderr, done.stderr
    return str(text)


def test_systemd_understands_the_unit_of_a_hub_that_the_docs_show(tmp_path: Path) -> None:
    unit = tmp_path / "headwater@up.service"
    verified_unit_of("deploy.md", unit)
    done = analyze("security", "--offline=true", "--no-pager", str(unit), folder=tmp_path)
    found = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    assert float(found[1]) < 2.5, done.stdout


def test_systemd_understands_the_unit_of_a_flink_cluster_that_the_docs_show(tmp_path: Path) -> None:
    text = verified_unit_of("flink.md", tmp_path / "headwater-flink.service")
    words = re.findall(r"^ExecStart=\S+ -m headwater (.*)$", text, re.MULTILINE)[0].split()
    build_parser("flink").parse_args(words)


def test_a_processor_that_hangs_is_noticed_by_who_looks_at_the_pipeline(tmp_path: Path) -> None:
    data = PipelineSettings(data=str(tmp_path))
    pipeline = build_pipeline(
        {name: made() for name, made in table_classes().items()}
        | {"pipeline": data, "gateway": GatewaySettings(port=0)}
    )
    may_go_on, hangs = threading.Event(), threading.Event()
    step = pipeline.processor.step_once

    def hang() -> int:
        hangs.set()
        may_go_on.wait(WAIT_S)
        return step()

    pipeline.start()
    until(pipeline.has_turned)
    pipeline.processor.step_once = hang  # type: ignore[method-assign]
    hangs.wait(WAIT_S)
    pipeline.has_turned()
    assert not pipeline.has_turned()
    may_go_on.set()
    until(pipeline.has_turned)
    pipeline.stop_stages()
    pipeline.close()


def test_a_source_that_hangs_is_noticed_by_silence(tmp_path: Path, notices: socket.socket) -> None:
    fifo = tmp_path / "readings.csv"
    os.mkfifo(fifo)
    environment = os.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": str(PATIENCE_US)}
    command = [*HEADWATER, "agent", "--source", "csv", "--option", f"path={fifo}", "--data", str(tmp_path / "data")]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL) as agent:
        assert notices.recv(4096).startswith(b"READY=1")
        notices.settimeout(PATIENCE_US / 1e6)
        with suppress(TimeoutError):
            while notices.recv(4096) == b"WATCHDOG=1":
                notices.settimeout(PATIENCE_US / 1e6)
            pytest.fail("it stopped, or said something else")
        assert agent.poll() is None
        agent.kill()


def test_without_a_supervisor_nothing_is_said_and_nothing_breaks() -> None:
    alone = Supervisor({})
    alone.ready("x")
    alone.alive(0)
    alone.stopping("x")
    assert alone.ping_every_us == 0


def test_pings_are_a_third_of_the_patience_apart_and_of_the_watched_process_only(notices: socket.socket) -> None:
    address = notices.getsockname()
    assert Supervisor({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "9", "WATCHDOG_PID": "1"}).ping_every_us == 0
    watched = Supervisor({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "9", "WATCHDOG_PID": str(os.getpid())})
    for now_us in range(10):
        watched.alive(now_us)
    watched.stopping("two\nlines")
    assert [notices.recv(99) for _ in range(4)] == [b"WATCHDOG=1"] * 4
    assert notices.recv(99) == b"STOPPING=1\nSTATUS=two lines"


def test_an_abstract_name_is_understood_and_a_dead_supervisor_is_survived(caplog: pytest.LogCaptureFixture) -> None:
    name = f"@headwater-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind("\0" + name[1:])
        channel.settimeout(WAIT_S)
        Supervisor({"NOTIFY_SOCKET": name}).ready("up")
        assert channel.recv(99) == b"READY=1\nSTATUS=up"
    Supervisor({"NOTIFY_SOCKET": name}).ready("up")
    assert "can't be told READY=1" in caplog.text
