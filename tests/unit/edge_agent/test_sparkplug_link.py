"""The agent as a Sparkplug node over a link in memory: births, data, what frees frames, rebirths, primary host, replay."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from edge_agent.dial import sparkplug_edge
from edge_agent.pack import Draft, Lane
from edge_agent.settings import AgentSettings
from edge_agent.sparkplug_frame import speak
from edge_agent.spool import Room, Spool
from edge_agent.traffic import UplinkLimits
from edge_agent.uplink import Uplink
from headwater.ack import Ack
from headwater.codec import decode_frame, encode_frame
from headwater.errors import ConnectError
from headwater.frame import Anomaly, Block, Frame
from headwater.mqtt_link import LinkDown, LinkEvent, LinkMessage, LinkPuback, LinkUp, Will
from headwater.names import mqtt_topic
from headwater.quality import Quality
from headwater.reasons import ClockQuality, Severity
from headwater.sparkplug_codec import (
    SparkplugMetric,
    SparkplugPayload,
    decode_payload,
    encode_payload,
)
from headwater.sparkplug_schema import DataType
from headwater.sparkplug_topic import HostState
from headwater.status import Status
from headwater.testing import ManualClock

NOW = 1_700_000_000_000_000
LIMITS = UplinkLimits(in_flight_max=8, unacked_max=64, ack_timeout_us=10_000_000, reconnect_min_us=1_000)


class Wire:
    """A link to a broker that notes what is published; `answers` False holds PUBACKs back."""

    def __init__(self, will: Will, *, answers: bool) -> None:
        self.will = will
        self.answers = answers
        self.published: list[tuple[str, SparkplugPayload, int]] = []
        self.subscribed: list[str] = []
        self.waiting: list[LinkEvent] = []
        self.held: list[int] = []
        self.is_over = False
        self._mid = 0

    def start(self) -> None:
        self.waiting.append(LinkUp(100))

    def events(self) -> list[LinkEvent]:
        found, self.waiting = self.waiting, []
        return found

    def subscribe(self, mqtt_topics: tuple[str, ...]) -> None:
        self.subscribed += mqtt_topics

    def publish(self, mqtt_topic: str, payload: bytes, *, retain: bool = False, qos: int = 1) -> int:
        assert not retain
        if self.is_over:
            raise ConnectError("gone")
        self._mid += 1
        self.published.append((mqtt_topic, decode_payload(payload), qos))
        if qos == 0 or self.answers:
            self.waiting.append(LinkPuback(self._mid, 0))
        else:
            self.held.append(self._mid)
        return self._mid

    def close(self) -> None:
        self.is_over = True

    drop = close

    def fileno(self) -> int:
        return -1

    wants_write = False

    def on_ready(self, *, readable: bool, writable: bool) -> None:
        """Nothing to move."""


class Bench:
    """A spool, an uplink that speaks Sparkplug, and links in memory."""

    def __init__(self, folder: Path, *, answers: bool = True, room: Room | None = None, **settings: Any) -> None:
        self.settings = AgentSettings(site="plant", device="press-1", profile="sparkplug", **settings)
        self.spool = Spool(folder / "spool.db", site="plant", device="press-1", now_us=NOW, room=room)
        self.answers = answers
        self.links: list[Wire] = []
        self.time_us = 0
        self.metrics: dict[str, dict[str, Any]] = {"Speed": {"unit": "rpm"}}
        self.clock = ManualClock(NOW)
        self.edge = sparkplug_edge(self.settings, self._dial, self.spool, self.clock)
        self.uplink = Uplink(self.spool, self.edge.connect, self._status, lambda: 0.5, LIMITS)

    def _dial(self, will: Will) -> Wire:
        self.links.append(Wire(will, answers=self.answers))
        return self.links[-1]

    def _status(self, online: bool) -> Status:
        return Status(online, self.spool.epoch, self.spool.assigned, metrics=self.metrics)

    @property
    def wire(self) -> Wire:
        return self.links[-1]

    def store(self, *values: float, metric: str = "Speed") -> None:
        at_us = NOW + self.spool.assigned * 1_000
        self.spool.append(
            [
                Draft(
                    at_us,
                    ClockQuality.SYNCED,
                    Lane.NORMAL,
                    (Block((metric,), np.array([at_us + n * 1_000]), np.array([[v]])),),
                )
                for n, v in enumerate(values)
            ],
            NOW,
        )

    def step(self, times: int = 3) -> None:
        for _ in range(times):
            self.time_us += 300_000
            self.clock.advance(300_000)
            self.uplink.step(self.time_us, NOW + self.time_us)

    def said(self) -> list[tuple[str, list[tuple[int | None, float | str | None, bool]], int]]:
        """(verb, [(alias, value, historical)], qos) of everything on the newest link."""
        return [
            (topic.split("/")[2], [(m.alias, m.raw, m.is_historical) for m in told.metrics if m.alias], qos)
            for topic, told, qos in self.wire.published
        ]

    def command(self, *metrics: SparkplugMetric, verb: str = "NCMD") -> None:
        payload = encode_payload(SparkplugPayload(5, None, metrics))
        self.wire.waiting.append(LinkMessage(f"spBv1.0/plant/{verb}/press-1", payload))


REBIRTH = SparkplugMetric("Node Control/Rebirth", None, 5, DataType.BOOLEAN, True, "boolean_value")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.spool.close()


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


def test_data_goes_by_alias_with_time_and_without_a_type_and_its_puback_frees_it(bench: Bench) -> None:
    bench.step()
    bench.store(1.5, 2.5)
    bench.step()
    (_, first, qos), (_, second, _) = bench.wire.published[1:]
    assert first.metrics == (SparkplugMetric("", 1, NOW // 1_000, raw=1.5, field="double_value"),)
    assert (first.seq, second.seq, qos) == (1, 2, 1)
    assert bench.spool.buffered == 0


def test_without_a_puback_nothing_is_freed(tmp_path: Path) -> None:
    bench = Bench(tmp_path, answers=False)
    bench.step()
    bench.store(1.0, 2.0, 3.0)
    bench.step()
    assert bench.spool.buffered == 3
    first, second, third = bench.wire.held
    bench.wire.waiting += [LinkPuback(third, 0), LinkPuback(first, 0)]
    bench.step()
    assert bench.spool.buffered == 2, "the second is not there yet"
    bench.wire.waiting.append(LinkPuback(second, 0))
    bench.step()
    assert bench.spool.buffered == 0
    bench.spool.close()


def test_a_message_that_nobody_subscribed_to_is_not_freed(tmp_path: Path) -> None:
    bench = Bench(tmp_path, answers=False)
    bench.step()
    bench.store(1.0)
    bench.step()
    bench.wire.waiting.append(LinkPuback(bench.wire.held[0], 0x10))
    bench.step(1)
    assert bench.spool.buffered == 1
    assert bench.uplink.counters.refused == 1
    bench.spool.close()


def test_what_was_kept_while_it_was_away_is_historical_and_what_is_new_is_not(bench: Bench) -> None:
    bench.step()
    bench.store(1.0)
    bench.step()
    bench.wire.waiting.append(LinkDown("cut"))
    bench.step(1)
    bench.store(2.0, 3.0)
    bench.step()
    bench.store(4.0)
    bench.step()
    birth, *data = bench.said()
    assert birth == ("NBIRTH", [(1, 1.0, False)], 0), "with the newest value that was sent"
    assert sorted(data) == [
        ("NDATA", [(1, 2.0, True)], 1),
        ("NDATA", [(1, 3.0, True)], 1),
        ("NDATA", [(1, 4.0, False)], 1),
    ]
    assert bench.spool.buffered == 0


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


def test_with_release_durable_the_native_frame_travels_along_and_only_the_gateways_ack_frees(tmp_path: Path) -> None:
    bench = Bench(tmp_path, sparkplug_release="durable")
    bench.step()
    bench.store(1.0, 2.0)
    bench.step()
    _, first, second = [told for _, told, _ in bench.wire.published]
    assert [decode_frame(told.frame).seq for told in (first, second)] == [1, 2]
    assert [m.raw for m in first.metrics] == [1.0]
    assert bench.spool.buffered == 2
    assert mqtt_topic("plant", "press-1", "ack") in bench.wire.subscribed
    ack = Ack(bench.spool.epoch, 2, (), "store", "log")
    bench.wire.waiting.append(LinkMessage(mqtt_topic("plant", "press-1", "ack"), ack.to_json()))
    bench.step()
    assert bench.spool.buffered == 0
    bench.spool.close()


def test_frames_that_were_given_up_do_not_hold_back_the_others(tmp_path: Path) -> None:
    bench = Bench(tmp_path, room=Room(2_000))
    for _ in range(80):
        bench.store(1.0, 2.0, 3.0)
    assert bench.spool.given_up > 0
    for _ in range(40):
        bench.step()
        bench.store(1.0)
    bench.step(10)
    assert bench.spool.buffered == 0
    bench.spool.close()


def test_frames_of_an_earlier_epoch_are_historical_and_freed_as_well(tmp_path: Path) -> None:
    first = Spool(tmp_path / "spool.db", site="plant", device="press-1", now_us=NOW)
    block = Block(("Speed",), np.array([NOW]), np.array([[1.0]]))
    first.append([Draft(NOW, ClockQuality.SYNCED, Lane.NORMAL, (block,)) for _ in range(5)], NOW)
    first.rotate(9, NOW)
    first.close()
    bench = Bench(tmp_path)
    assert bench.spool.buffered > 0
    bench.step(8)
    bench.store(2.0)
    bench.step(8)
    assert bench.spool.buffered == 0
    historical = [flag for verb, told, _ in bench.said() if verb == "NDATA" for _, _, flag in told]
    assert historical.count(True) == 5
    bench.spool.close()


def test_what_sparkplug_has_no_word_for_is_counted() -> None:
    anomaly = Anomaly("a", NOW, "level", Severity.WARNING, True, 2.0, 5.0, 1.0, 0.0, 3.0)
    wave = Block(("w",), NOW + np.arange(4) * 1_000, np.ones((1, 4)), rate_hz=1000.0)
    fast = Block(("a",), NOW + np.arange(4) * 400, np.arange(4.0)[None])
    quality = np.array([[Quality.BAD_RANGE, Quality.MISSING, Quality.UNCERTAIN]], np.uint8)
    judged = Block(("b",), NOW + np.arange(3) * 1_000, np.arange(3.0)[None], quality)
    frame = Frame("n", "d", 7, 1, NOW, ClockQuality.SYNCED, blocks=(wave, fast, judged), anomalies=(anomaly,))
    spoken = speak(frame, {"a": 1, "b": 2, "w": 3}, is_historical=False)
    assert [(m.alias, m.raw, m.quality) for m in spoken.metrics] == [
        (1, 2.0, None),
        (2, 0.0, 0),
        (1, 3.0, None),
        (2, 2.0, None),
    ]
    assert (spoken.left_out, spoken.unsaid) == (6, 1)
    assert frame.reading_count == len(spoken.metrics) + spoken.left_out
    times = [m.time_ms for m in spoken.metrics]
    assert times == sorted(times, key=lambda ms: ms or 0)


def test_the_native_frame_beside_ten_samples_of_ten_metrics_is_a_tenth_more() -> None:
    names = tuple(f"metric/{n}" for n in range(10))
    walk = np.round(np.cumsum(np.random.default_rng(1).normal(0, 0.02, (10, 10)), axis=1) + 20, 2)
    block = Block(names, NOW + 1_000_000 * np.arange(10), walk)
    frame = Frame("north", "pump-1", 7, 3, NOW, ClockQuality.SYNCED, blocks=(block,))
    aliases = {name: n + 1 for n, name in enumerate(names)}
    metrics = speak(frame, aliases, is_historical=False).metrics
    assert len(encode_frame(frame)) < 0.1 * len(encode_payload(SparkplugPayload(5, 0, metrics)))


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
