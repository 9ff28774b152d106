"""pysparkplug, a Sparkplug client that people have, as a process of its own: it asks for an older paho-mqtt than ours.

The test sends one JSON list a line, [call, arguments …], and reads one JSON value a line. Run as a script, this file is
the other side.
"""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parents[2]


def peer_folder() -> Path:
    """Where pysparkplug is; skips the test where it is not installed, fails it under CI."""
    import pytest  # noqa: PLC0415 - the other side has none

    folder = ROOT / ".venv" / "peers" / "pysparkplug"
    if not (folder / "pysparkplug" / "__init__.py").exists():
        reason = "pysparkplug is not installed: python scripts/install_servers.py pysparkplug"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


class Peer:
    """The process; `call` waits for its answer."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(peer_folder())},
            text=True,
        )

    def call(self, name: str, *arguments: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([name, *arguments]) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


class Calls:
    """What the process can do; runs on pysparkplug's side of the pipe."""

    def __init__(self) -> None:
        import pysparkplug  # noqa: PLC0415 - only the other side has it

        self.psp: Any = pysparkplug
        self.heard: list[Any] = []
        self.client: Any = None
        self.node: Any = None
        self._connects = 0
        self._connected = threading.Event()

    def _metric(self, name: str, kind: str, value: Any, time_ms: int = 0, *, historical: bool = False) -> Any:
        return self.psp.Metric(
            timestamp=time_ms or self.psp.get_current_timestamp(),
            name=name,
            datatype=self.psp.DataType[kind],
            value=value,
            is_historical=historical,
        )

    def _message(self, _who: Any, message: Any) -> None:
        metrics = [
            [metric.name, metric.alias, metric.datatype.name, metric.value, metric.is_historical, metric.timestamp]
            for metric in getattr(message.payload, "metrics", ())
        ]
        self.heard.append([str(message.topic), getattr(message.payload, "seq", None), metrics])

    def node_up(self, port: int, group: str, node: str, metrics: list[Any], devices: dict[str, list[Any]]) -> None:
        made = [self._metric(*metric) for metric in metrics]
        self.node = self.psp.EdgeNode(group, node, made, cmd_callback=self._message)
        for name, listed in devices.items():
            self.node.register(self.psp.Device(name, [self._metric(*metric) for metric in listed]))
        self.node.connect("127.0.0.1", port=port, keepalive=20)

    def update(self, metrics: list[Any]) -> None:
        self.node.update([self._metric(*metric) for metric in metrics])

    def update_device(self, device: str, metrics: list[Any]) -> None:
        self.node.update_device(device, [self._metric(*metric) for metric in metrics])

    def node_down(self) -> None:
        self.node.disconnect()

    def host_up(self, port: int, patterns: list[str]) -> None:
        self.client = self.psp.Client(
            client_options=self.psp.ClientOptions(reconnection_delay_min=1, reconnection_delay_max=1)
        )
        self.client.connect("127.0.0.1", port=port, callback=self._up)
        assert self._connected.wait(40)
        for pattern in patterns:
            topic = self.psp.Topic.from_str(pattern)
            self.client.subscribe(topic, self.psp.QoS.AT_LEAST_ONCE, self._message)

    def _up(self, _client: Any) -> None:
        self._connects += 1
        self._connected.set()

    def connects(self) -> int:
        return self._connects

    def state(self, host: str, online: bool) -> None:
        payload = self.psp.State(timestamp=self.psp.get_current_timestamp(), online=online)
        topic = self.psp.Topic.from_str(f"spBv1.0/STATE/{host}")
        self.client.publish(self.psp.Message(topic=topic, payload=payload, qos=self.psp.QoS.AT_LEAST_ONCE, retain=True))

    def command(self, topic: str, metrics: list[Any]) -> None:
        payload = self.psp.NCmd(self.psp.get_current_timestamp(), tuple(self._metric(*metric) for metric in metrics))
        message = self.psp.Message(
            topic=self.psp.Topic.from_str(topic), payload=payload, qos=self.psp.QoS.AT_MOST_ONCE, retain=False
        )
        self.client.publish(message, include_dtypes=True)

    def take(self) -> list[Any]:
        heard, self.heard = self.heard, []
        return heard


def main() -> None:
    calls = Calls()
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print(json.dumps(getattr(calls, name)(*arguments), default=str), flush=True)


if __name__ == "__main__":
    main()
