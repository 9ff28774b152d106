"""The life of a Sparkplug node over a link in memory: births, deaths, rebirths, commands, its primary host, its ids."""

from pathlib import Path

import pytest
from pydantic import ValidationError
from sparkplug_bench import Bench

from edge_agent.settings import AgentSettings
from headwater.mqtt_link import LinkDown, LinkMessage
from headwater.sparkplug_codec import SparkplugMetric, decode_payload
from headwater.sparkplug_schema import DataType
from headwater.sparkplug_topic import HostState

REBIRTH = SparkplugMetric("Node Control/Rebirth", None, 5, DataType.BOOLEAN, True, "boolean_value")


def test_it_is_born_with_its_metrics_and_leaves_the_death_that_goes_with_it(bench: Bench) -> None:
    bench.step()
    ((topic, birth, qos),) = bench.wire.published
    assert (topic, birth.seq, qos) == ("spBv1.0/plant/NBIRTH/press-1", 0, 0)
    bdseq, rebirth, speed = birth.metrics
    assert (bdseq.name, bdseq.datatype, bdseq.raw) == ("bdSeq", DataType.INT64, 0)
    assert (rebirth.name, rebirth.raw, rebirth.alias) == ("Node Control/Rebirth", False, None)
    assert (speed.name, speed.alias, speed.datatype, speed.unit, speed.is_null) == (
        "Speed",
        1,
        DataType.DOUBLE,
        "rpm",
        True,
    )
    assert (birth.frame, birth.status) == (b"", b"")
    will = bench.wire.will
    assert (will.mqtt_topic, will.retain) == ("spBv1.0/plant/NDEATH/press-1", False)
    assert [(m.name, m.raw) for m in decode_payload(will.payload).metrics] == [("bdSeq", 0)]
    assert bench.wire.subscribed == ["spBv1.0/plant/NCMD/press-1/#"]


def test_bdseq_goes_on_over_connections_and_restarts(tmp_path: Path) -> None:
    seen = []
    for _ in range(2):
        bench = Bench(tmp_path)
        bench.step()
        bench.wire.waiting.append(LinkDown("cut"))
        bench.step(1)
        bench.step()
        seen += [wire.published[0][1].metrics[0].raw for wire in bench.links]
        assert [decode_payload(wire.will.payload).metrics[0].raw for wire in bench.links] == seen[-2:]
        bench.spool.close()
    assert seen == [0, 1, 2, 3]


def test_sequence_and_bdseq_go_round_at_256(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    assert [bench.edge.next_bdseq() for _ in range(257)] == [*range(256), 0]
    bench.step()
    bench.store(*range(260))
    bench.step(45)
    assert [told.seq for _, told, _ in bench.wire.published] == [n % 256 for n in range(261)]
    bench.spool.close()


def test_a_rebirth_is_answered_once_a_second_with_the_same_bdseq_and_seq_zero(bench: Bench) -> None:
    bench.step()
    bench.store(7.0)
    bench.step()
    bench.command(REBIRTH)
    bench.command(REBIRTH)
    bench.step(1)
    births = [told for topic, told, _ in bench.wire.published if "NBIRTH" in topic]
    assert [(told.seq, told.metrics[0].raw) for told in births] == [(0, 0), (0, 0)]
    assert births[1].metrics[2].raw == 7.0
    assert (bench.edge.counters["rebirths"], bench.edge.counters["commands_refused"]) == (1, 1)
    bench.store(8.0)
    bench.step()
    assert bench.wire.published[-1][1].seq == 1


@pytest.mark.parametrize(
    "metric",
    [
        SparkplugMetric("Node Control/Rebirth", None, 5, DataType.BOOLEAN, False, "boolean_value"),
        SparkplugMetric("Speed", None, 5, DataType.DOUBLE, 1.0, "double_value"),
    ],
)
def test_other_commands_are_refused_and_counted(bench: Bench, metric: SparkplugMetric) -> None:
    bench.step()
    bench.command(metric)
    bench.wire.waiting.append(LinkMessage("spBv1.0/plant/NCMD/press-1", b"\xff"))
    bench.step()
    assert (len(bench.wire.published), bench.edge.counters["commands_refused"]) == (1, 2)


def test_a_metric_that_no_birth_told_of_is_born_before_its_data(bench: Bench) -> None:
    bench.step()
    bench.store(1.0, metric="Flow")
    bench.step()
    assert [(verb, [alias for alias, _, _ in told]) for verb, told, _ in bench.said()] == [
        ("NBIRTH", [1]),
        ("NBIRTH", [2, 1]),
        ("NDATA", [2]),
    ]
    assert bench.spool.buffered == 0


def test_as_a_device_of_its_node_it_has_a_birth_of_its_own(tmp_path: Path) -> None:
    bench = Bench(tmp_path, sparkplug_group="Plant A", sparkplug_node="Line", sparkplug_device="Press")
    bench.step()
    bench.store(1.0)
    bench.step()
    assert [(topic, told.seq, qos) for topic, told, qos in bench.wire.published] == [
        ("spBv1.0/Plant A/NBIRTH/Line", 0, 0),
        ("spBv1.0/Plant A/DBIRTH/Line/Press", 1, 0),
        ("spBv1.0/Plant A/DDATA/Line/Press", 2, 1),
    ]
    assert bench.wire.subscribed == ["spBv1.0/Plant A/NCMD/Line/#", "spBv1.0/Plant A/DCMD/Line/Press"]
    assert bench.spool.buffered == 0
    bench.spool.close()


def test_it_waits_for_its_primary_host_and_dies_when_that_goes(tmp_path: Path) -> None:
    bench = Bench(tmp_path, sparkplug_host="scada")
    bench.store(1.0)
    bench.step()
    state = "spBv1.0/STATE/scada"
    assert (bench.wire.subscribed, bench.wire.published) == ([state], [])
    bench.wire.waiting.append(LinkMessage(state, HostState(online=False, time_ms=10).to_json()))
    bench.wire.waiting.append(LinkMessage(state, b"rubbish"))
    bench.step()
    assert bench.wire.published == []
    bench.wire.waiting.append(LinkMessage(state, HostState(online=True, time_ms=20).to_json()))
    bench.step()
    assert [verb for verb, _, _ in bench.said()] == ["NBIRTH", "NDATA"]
    bench.wire.waiting.append(LinkMessage(state, HostState(online=False, time_ms=15).to_json()))
    bench.step()
    assert len(bench.links) == 1, "that was said before"
    bench.wire.waiting.append(LinkMessage(state, HostState(online=False, time_ms=30).to_json()))
    bench.step(1)
    assert [verb for verb, _, _ in bench.said()][-1] == "NDEATH"
    assert bench.wire.is_over
    bench.step()
    assert len(bench.links) == 2
    bench.spool.close()


def test_a_clean_goodbye_is_a_death(bench: Bench) -> None:
    bench.step()
    bench.uplink.leave()
    bench.step(1)
    topic, told, qos = bench.wire.published[-1]
    assert (topic, told.seq, [(m.name, m.raw) for m in told.metrics], qos) == (
        "spBv1.0/plant/NDEATH/press-1", None, [("bdSeq", 0)], 0,
    )  # fmt: skip
    assert bench.uplink.is_gone


@pytest.mark.parametrize(
    "ids",
    [{"sparkplug_group": "Other"}, {"sparkplug_node": "Press"}, {"sparkplug_device": "motor"}],
)
def test_release_durable_needs_ids_that_the_gateway_maps_to_the_devices_names(ids: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="durable"):
        AgentSettings(site="plant", device="press-1", profile="sparkplug", sparkplug_release="durable", **ids)
    AgentSettings(site="plant", device="press-1", profile="sparkplug", **ids)
    AgentSettings(
        site="plant", device="line--press", profile="sparkplug", sparkplug_release="durable",
        sparkplug_group="Plant", sparkplug_node="Line", sparkplug_device="Press",
    )  # fmt: skip


def test_ids_are_one_level_of_a_topic() -> None:
    with pytest.raises(ValidationError, match="MQTT topics"):
        AgentSettings(sparkplug_group="a/b")
