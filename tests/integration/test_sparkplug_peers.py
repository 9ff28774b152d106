"""pysparkplug's edge node against the real gateway, log, processor and store."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mqtt5
import numpy as np
import pytest
from gateway_server import RawClient, Running, until
from mosquitto_server import Mosquitto
from sparkplug_peer import Peer

from gateway.settings import GatewaySettings
from headwater import log_topics
from headwater.cli.embedding import build_pipeline
from headwater.cli.pipeline import PipelineSettings
from headwater.cli.shared import table_classes
from headwater.embedded import Pipeline

pytestmark = pytest.mark.integration


@pytest.fixture
def peer() -> Iterator[Peer]:
    with Peer() as process:
        yield process


@pytest.fixture
def pipeline(tmp_path: Path) -> Iterator[Pipeline]:
    settings = {name: table() for name, table in table_classes().items()} | {
        "pipeline": PipelineSettings(data=str(tmp_path)),
        "gateway": GatewaySettings(port=0, partitions=4, sparkplug_rebirth_every_us=1_000_000),
    }
    made = build_pipeline(settings)
    yield made
    made.close()


def stored(pipeline: Pipeline, device: str, metric: str) -> list[float]:
    raw: Any = pipeline.reader.raw("plant_a", device, metric, 0, 1 << 62, 1000)
    return [float(value) for value in raw["value"]]


def test_a_node_and_its_device_are_in_the_store_with_every_value_accounted_for(pipeline: Pipeline, peer: Peer) -> None:
    port = pipeline.start()
    births = [["Speed", "DOUBLE", 1.5], ["On", "BOOLEAN", True], ["Label", "STRING", "x"], ["Low", "INT8", -7]]
    peer.call("node_up", port, "Plant A", "Press 1", births, {"Motor": [["Temp", "FLOAT", 20.5]]})
    until(lambda: pipeline.gateway.counters().get("sparkplug_messages") == 2)
    for at in range(10):
        peer.call("update", [["Speed", "DOUBLE", 2.0 + at], ["Low", "INT8", -8 - at]])
        peer.call("update_device", "Motor", [["Temp", "FLOAT", 21.0 + at]])
        time.sleep(0.002)  # The next one has another millisecond.
    until(lambda: pipeline.gateway.counters().get("sparkplug_messages") == 22)
    online = {row["device"]: row["online"] for row in pipeline.reader.devices()}
    until(lambda: len(stored(pipeline, "press_1--motor", "Temp")) == 11)
    peer.call("node_down")
    until(lambda: not pipeline.gateway.counters()["devices_online"])
    pipeline.stop_stages()
    assert stored(pipeline, "press_1", "Speed") == [1.5, *np.arange(2.0, 12.0)]
    assert stored(pipeline, "press_1", "Low") == [-7.0, *-np.arange(8.0, 18.0)]
    assert stored(pipeline, "press_1", "On") == [1.0]
    assert stored(pipeline, "press_1--motor", "Temp") == [20.5, *np.arange(21.0, 31.0)]
    counters = pipeline.gateway.counters()
    left_out = sum(count for name, count in counters.items() if name.startswith("sparkplug_left_out_"))
    assert counters["sparkplug_metrics"] == counters["sparkplug_readings"] + left_out
    assert (counters["sparkplug_left_out_text"], counters["dead_letters"]) == (1, 0)
    assert set(online) <= {"press_1", "press_1--motor"}


def test_the_gateway_asks_a_node_for_its_birth_when_it_knows_none(tmp_path: Path, peer: Peer) -> None:
    with Running(tmp_path) as server:
        peer.call("node_up", server.port, "Plant A", "Press 1", [["Speed", "DOUBLE", 1.5]], {})
        until(lambda: server.gateway.counters().get("sparkplug_messages") == 1)
        # Another connection speaks out of turn for the node: a hole in its sequence, which never closes.
        intruder = RawClient(server.port, "intruder")
        intruder.send(mqtt5.PublishPacket("spBv1.0/Plant A/NDATA/Press 1", bytes.fromhex("1863")))
        commands: list[Any] = []
        until(lambda: commands.extend(peer.call("take")) or commands)
        ((topic, _, ((name, _, _, value, _, _),)),) = commands
        assert (topic, name, value) == ("spBv1.0/Plant A/NCMD/Press 1", "Node Control/Rebirth", True)
        intruder.close()


def test_a_killed_node_is_offline_and_its_will_is_honoured(tmp_path: Path, peer: Peer) -> None:
    with Running(tmp_path) as server:
        peer.call("node_up", server.port, "Plant A", "Press 1", [["Speed", "DOUBLE", 1.5]], {"Motor": []})
        until(lambda: server.gateway.counters()["devices_online"] == 2)
        peer.kill()
        until(lambda: server.gateway.counters()["devices_online"] == 0)
        assert server.gateway.counters()["sparkplug_deaths"] == 1
        until(lambda: len(server.records(log_topics.EVENTS)) == 4)
        events = [json.loads(record.value) for record in server.records(log_topics.EVENTS)]
        assert sorted((event["device"], event["online"]) for event in events) == [
            ("press_1", False), ("press_1", True), ("press_1--motor", False), ("press_1--motor", True),
        ]  # fmt: skip


def test_a_host_sees_the_gateways_state_and_the_nodes_messages(tmp_path: Path, peer: Peer) -> None:
    with Running(tmp_path) as server:
        peer.call("host_up", server.port, ["spBv1.0/STATE/headwater", "spBv1.0/Plant A/NBIRTH/Press 1"])
        heard: list[Any] = []
        until(lambda: heard.extend(peer.call("take")) or heard)
        assert heard[0][0] == "spBv1.0/STATE/headwater"
        with Peer() as node:
            node.call("node_up", server.port, "Plant A", "Press 1", [["Speed", "DOUBLE", 1.5]], {})
            until(lambda: heard.extend(peer.call("take")) or len(heard) == 2)
        assert [metric[0] for metric in heard[1][2]] == ["Speed", "bdSeq"]


def test_rubbish_on_sparkplug_topics_harms_nobody_else(tmp_path: Path, peer: Peer) -> None:
    with Running(tmp_path) as server:
        peer.call("node_up", server.port, "Plant A", "Press 1", [["Speed", "DOUBLE", 1.5]], {})
        until(lambda: server.gateway.counters().get("sparkplug_messages") == 1)
        hostile = RawClient(server.port, "hostile")
        draw = np.random.default_rng(3)
        for at in range(200):
            hostile.send(mqtt5.PublishPacket(f"spBv1.0/g/NDATA/n{at % 7}", draw.bytes(int(draw.integers(0, 300)))))
            hostile.send(mqtt5.PublishPacket(f"spBv1.0/{'x' * at}/DBIRTH/n/d", b"\x12\x00" * at))
        peer.call("update", [["Speed", "DOUBLE", 9.0]])
        until(lambda: server.gateway.counters().get("sparkplug_readings") == 2)
        until(lambda: server.gateway.counters()["dead_letters"] > 100)
        hostile.close()


def test_behind_a_broker_it_is_the_same(tmp_path: Path, peer: Peer) -> None:
    with Mosquitto(tmp_path) as broker, Running(tmp_path, mqtt=broker.url) as server:
        until(lambda: server.gateway.counters()["connections"])
        peer.call("host_up", broker.port, ["spBv1.0/STATE/headwater"])
        heard: list[Any] = []
        until(lambda: heard.extend(peer.call("take")) or heard)
        with Peer() as node:
            node.call("node_up", broker.port, "Plant A", "Press 1", [["Speed", "DOUBLE", 1.5]], {"Motor": []})
            until(lambda: server.gateway.counters()["devices_online"] == 2)
            node.call("update", [["Speed", "DOUBLE", 2.5]])
            until(lambda: server.gateway.counters().get("sparkplug_readings") == 2)
            hole = broker.client("intruder")
            hole.send(mqtt5.PublishPacket("spBv1.0/Plant A/NDATA/Press 1", bytes.fromhex("1863")))
            commands: list[Any] = []
            until(lambda: commands.extend(node.call("take")) or commands)
            assert commands[0][2][0][0] == "Node Control/Rebirth"
            node.kill()
        until(lambda: server.gateway.counters()["devices_online"] == 0)
        assert server.gateway.counters()["dead_letters"] == 0
