"""The agent as a Sparkplug node: under pysparkplug as host behind a real Mosquitto, and under Headwater's own gateway."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gateway_server import until
from mosquitto_server import Mosquitto
from sparkplug_peer import Peer

from edge_agent.agent import Agent, AgentHost
from edge_agent.settings import AgentSettings
from gateway.settings import GatewaySettings
from headwater.cli.embedding import build_pipeline
from headwater.cli.pipeline import PipelineSettings
from headwater.cli.shared import table_classes
from headwater.embedded import Pipeline
from headwater.frame import Block
from headwater.io.clock_system import SystemClock
from headwater.metric import Metric

pytestmark = pytest.mark.integration
TOPIC = "spBv1.0/plant/{}/press-1"


class Counting:
    """A source that counts its readings, so that a lost or doubled one shows."""

    metrics = (Metric("count", unit="1", every_us=20_000),)
    is_exhausted = False

    def __init__(self) -> None:
        self.count = 0
        self.is_stopped = False

    def open(self) -> None:
        """Nothing to open."""

    def read(self, now_us: int) -> list[Block]:
        if self.is_stopped:
            return []
        self.count += 1
        return [Block(("count",), np.array([now_us]), np.array([[float(self.count)]]))]

    def close(self) -> None:
        """Nothing to close."""


class Driven:
    """An agent in a thread of its own."""

    def __init__(self, folder: Path, port: int, **settings: Any) -> None:
        made = AgentSettings(
            site="plant", device="press-1", gateway=f"mqtt://127.0.0.1:{port}", profile="sparkplug",
            sample_every="20ms", flush_every="40ms", reconnect_min="50ms", reconnect_max="200ms", **settings,
        )  # fmt: skip
        self.source = Counting()
        self.agent = Agent("plant", "press-1", self.source, made, SystemClock(), folder / "spool.db")
        self._stop = threading.Event()
        host = AgentHost([self.agent], drain_max_us=1_000_000)
        self._thread = threading.Thread(target=host.run, args=(self._stop,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(30)
        assert not self._thread.is_alive()


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Callable[..., Driven]]:
    made: list[Driven] = []

    def make(port: int, **settings: Any) -> Driven:
        made.append(Driven(tmp_path, port, **settings))
        return made[-1]

    yield make
    for driven in made:
        driven.stop()


class Heard:
    """What pysparkplug's host has heard: (verb, seq, metrics) in order."""

    def __init__(self, peer: Peer, port: int) -> None:
        self.peer = peer
        self.messages: list[tuple[str, int | None, list[Any]]] = []
        peer.call("host_up", port, [TOPIC.format(verb) for verb in ("NBIRTH", "NDATA", "NDEATH")])

    def update(self) -> "Heard":
        self.messages += [(topic.split("/")[2], seq, metrics) for topic, seq, metrics in self.peer.call("take")]
        return self

    def births(self) -> list[list[Any]]:
        return [metrics for verb, _, metrics in self.update().messages if verb == "NBIRTH"]

    def values(self, *, historical: bool) -> list[float]:
        """The values that came as data."""
        data = [metrics for verb, _, metrics in self.update().messages if verb == "NDATA"]
        return [value for metrics in data for _, _, _, value, flag, _ in metrics if flag is historical]


def test_a_host_of_others_gets_births_and_every_value_also_those_of_an_outage(
    tmp_path: Path, drive: Callable[..., Driven]
) -> None:
    with Mosquitto(tmp_path) as broker, Peer() as peer:
        heard = Heard(peer, broker.port)
        peer.call("state", "scada", True)
        driven = drive(broker.port, sparkplug_host="scada")
        until(lambda: len(heard.values(historical=False)) > 5)
        ((bdseq, rebirth, count),) = heard.births()
        assert (bdseq[0], bdseq[3], rebirth[0], rebirth[3]) == ("bdSeq", 0, "Node Control/Rebirth", False)
        assert count[:3] == ["count", 1, "DOUBLE"]
        broker.kill(wipe=True)
        reached = driven.source.count
        until(lambda: driven.source.count > reached + 20)
        driven.source.is_stopped = True
        broker.start()
        # The node waits until its host is there: nothing reaches a broker that nobody listens at.
        until(lambda: peer.call("connects") == 2)
        peer.call("state", "scada", True)
        until(lambda: driven.agent.buffered == 0)
        expected = set(np.arange(1.0, driven.source.count + 1))
        until(lambda: {*heard.values(historical=False), *heard.values(historical=True)} == expected)
        assert len(heard.values(historical=True)) >= 15
        until(lambda: len(heard.births()) >= 2)
        assert heard.births()[-1][0][3] >= 1, "another connection, another bdSeq"
        driven.stop()
        until(lambda: [verb for verb, _, _ in heard.update().messages][-1] == "NDEATH")


def test_a_host_of_others_asks_for_a_birth_and_gets_it(tmp_path: Path, drive: Callable[..., Driven]) -> None:
    with Mosquitto(tmp_path) as broker, Peer() as peer:
        heard = Heard(peer, broker.port)
        driven = drive(broker.port)
        until(lambda: len(heard.values(historical=False)) > 2)
        peer.call("command", TOPIC.format("NCMD"), [["Node Control/Rebirth", "BOOLEAN", True]])
        until(lambda: len(heard.births()) == 2)
        assert heard.births()[1][2][3] is not None, "with the newest value"
        peer.call("command", TOPIC.format("NCMD"), [["count", "DOUBLE", 5.0]])
        until(lambda: driven.agent.counters().get("sparkplug_commands_refused"))
        verbs = [(verb, seq) for verb, seq, _ in heard.update().messages]
        at = [n for n, (verb, _) in enumerate(verbs) if verb == "NBIRTH"][1]
        until(lambda: len(heard.update().messages) > at + 3)
        assert [seq for _, seq, _ in heard.messages[at : at + 4]] == [0, 1, 2, 3]


@pytest.fixture
def pipeline(tmp_path: Path) -> Iterator[Pipeline]:
    settings = {name: table() for name, table in table_classes().items()} | {
        "pipeline": PipelineSettings(data=str(tmp_path)),
        "gateway": GatewaySettings(port=0, partitions=4),
    }
    made = build_pipeline(settings)
    yield made
    made.close()


def stored(pipeline: Pipeline) -> list[float]:
    raw: Any = pipeline.reader.raw("plant", "press-1", "count", 0, 1 << 62, 100_000)
    return [float(value) for value in raw["value"]]


@pytest.mark.parametrize("release", ["durable", "puback"])
def test_under_headwaters_gateway_nothing_is_lost_and_with_durable_release_nothing_doubled(
    release: str, pipeline: Pipeline, drive: Callable[..., Driven]
) -> None:
    driven = drive(pipeline.start(), sparkplug_release=release, sparkplug_host="headwater")
    until(lambda: len(stored(pipeline)) > 10)
    driven.agent.set_network(is_up=False)
    until(lambda: pipeline.gateway.counters()["devices_online"] == 0)
    reached = driven.source.count
    until(lambda: driven.source.count > reached + 20)
    driven.source.is_stopped = True
    driven.agent.set_network(is_up=True)
    until(lambda: driven.agent.buffered == 0)
    until(lambda: len(set(stored(pipeline))) == driven.source.count)
    driven.stop()
    pipeline.stop_stages()
    assert sorted(set(stored(pipeline))) == list(np.arange(1.0, driven.source.count + 1))
    counters = pipeline.gateway.counters()
    assert counters["dead_letters"] == 0
    if release == "durable":
        assert len(stored(pipeline)) == driven.source.count, "once"
        total = pipeline.reader.account_total()
        assert (total["assigned"], total["unknown"]) == (total["stored"], 0)
        assert counters["sparkplug_frames"] >= total["assigned"]
        assert counters.get("admitted_foreign_frames", 0) == 0
    else:
        assert counters["sparkplug_historical"] >= 15


def test_it_says_nothing_while_its_primary_host_is_away(pipeline: Pipeline, drive: Callable[..., Driven]) -> None:
    driven = drive(pipeline.start(), sparkplug_host="another")
    until(lambda: driven.source.count > 20)
    time.sleep(0.2)
    assert pipeline.gateway.counters()["received"] == 0
    assert driven.agent.buffered > 0
    driven.source.is_stopped = True
    driven.stop()
    pipeline.stop_stages()
