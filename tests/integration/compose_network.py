"""The services of docker-compose.yml run natively: their own command lines and environments, with this machine's places put in."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
HEADWATER = [sys.executable, "-m", "headwater"]
WAIT_S = 60.0
FOLDERS = ("/plant", "/data", "/tokens", "/device", "/spool", "/checkpoints", "/tmp")


class Network:
    """What stands for the containers' names, ports and paths.

    Args:
        folder: where the containers' folders are.
        ports: {"name:port" of a container: port of this machine}.
        variables: of the plant's .env.
        places: {path in an image: what stands for it}.
    """

    def __init__(
        self,
        folder: Path,
        ports: Mapping[str, int],
        variables: Mapping[str, str] | None = None,
        places: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self._names = {name: f"127.0.0.1:{port}" for name, port in ports.items()} | dict(places or {})
        self._variables = variables or {}

    def here(self, text: str) -> str:
        """Puts this machine's places in."""
        text = re.sub(r"\$\{(\w+):-(\w*)\}", lambda found: self._variables.get(found[1], found[2]), text)
        for name, place in self._names.items():
            text = text.replace(name, place)
        scheme, path = ("file://", text[7:]) if text.startswith("file://") else ("", text)
        for folder in FOLDERS:
            if path == folder or path.startswith(f"{folder}/"):
                path = str(self.folder / path[1:])
                break
        return scheme + path.replace("version=2", "version=1")

    def command(self, service: Mapping[str, Any]) -> list[str]:
        """The service's own words after `headwater`."""
        words = service["command"]
        if "entrypoint" in service:
            words = shlex.split(words[0].split(";")[0])[1:]
        return [self.here(word) for word in words]

    def environment(self, service: Mapping[str, Any]) -> dict[str, str]:
        """The service's own environment."""
        return {key: self.here(value) for key, value in service.get("environment", {}).items()}


def run(network: Network, name: str, *more: str, **environment: str) -> subprocess.Popen[bytes]:
    service = SERVICES[name]
    output = (network.folder / f"{name}.txt").open("ab")
    folder = network.folder / "device" if "working_dir" in service else network.folder
    with output:
        return subprocess.Popen(
            [*HEADWATER, *network.command(service), *more],
            env=os.environ | network.environment(service) | environment,
            cwd=folder,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


@contextmanager
def running(
    network: Network, name: str, *more: str, code: int = 0, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A service until the block ends; it must still be there then, and end with `code` when it is asked to."""
    process = run(network, name, *more, **environment)
    try:
        yield process
        assert process.poll() is None, said(network, name)
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S) == code, said(network, name)
    finally:
        with suppress(ProcessLookupError):  # It ended, and all that it had started.
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def said(network: Network, name: str) -> str:
    """The end of what a service said."""
    return (network.folder / f"{name}.txt").read_text()[-2000:]


def until(is_so: Callable[[], object], what: str, wait_s: float = WAIT_S) -> None:
    deadline = time.monotonic() + wait_s
    while not is_so():
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.1)


def healthy(network: Network, name: str, more: Mapping[str, str]) -> bool:
    """What the service's own health check says."""
    service = SERVICES[name]
    words = [network.here(word) for word in service["healthcheck"]["test"][2:]]
    environment = os.environ | network.environment(service) | more
    done = subprocess.run(
        [*HEADWATER, *words], env=environment, cwd=network.folder, stdout=subprocess.DEVNULL, check=False
    )
    return done.returncode == 0


def variables_of(plant: Path) -> dict[str, str]:
    """What the plant's .env says."""
    lines = (plant / ".env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if not line.startswith("#"))


def settle(plant: Path, broker_port: int, user: str) -> None:
    """Puts this machine's places into the plant's own files, and takes the demo device and the volumes' folders out of it."""
    for path in (plant / "headwater.toml", plant / "mosquitto" / "mosquitto.conf"):
        path.write_text(path.read_text().replace("/plant/", f"{plant}/").replace("8883", str(broker_port)))
    with (plant / "mosquitto" / "mosquitto.conf").open("a") as conf:
        conf.write(f"user {user}\n")  # A container's broker is not root, so it changes to nobody.
    (plant / "demo-device").rename(plant.parent / "device")
    for name in ("data", "tokens", "spool", "checkpoints", "tmp"):
        (plant.parent / name).mkdir()
