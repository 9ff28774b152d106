"""The agent's core, ticked by hand with a list of blocks, a clock in the test's hand and a gateway in memory."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.agent import Agent
from edge_agent.command import Command, Verb, sign
from edge_agent.settings import AgentSettings, MetricSettings
from edge_agent.spool import SpoolUnavailableError
from edge_agent.testing import ListSource, MemoryGateway
from headwater.codec import decode_frame
from headwater.errors import ConnectError, SettingsError
from headwater.frame import Block, Frame
from headwater.location import Location
from headwater.metric import Metric
from headwater.mqtt_link import LinkMessage
from headwater.names import mqtt_topic
from headwater.reasons import ClockQuality, DropReason
from headwater.settings import load_settings
from headwater.status import parse_status
from headwater.testing import ManualClock

SECOND = 1_000_000
METRICS = (Metric("a", every_us=SECOND), Metric("b", every_us=SECOND))


def second(number: int, *values: float) -> list[Block]:
    at = ManualClock().now_us() + number * SECOND
    return [Block(("a", "b")[: len(values)], np.array([at]), np.array([[value] for value in values]))]


class Device:
    """An agent and everything around it."""

    def __init__(self, path: Path, reads: list[Any], **changes: Any) -> None:
        self.clock = ManualClock()
        self.gateway = MemoryGateway()
        self.offered: list[Frame] = []
        self.accepted: list[tuple[Frame, bytes]] = []
        self.source = ListSource(METRICS, reads)
        self.is_synced: bool | None = True
        self.agent = Agent(
            "north",
            "pump",
            self.source,
            AgentSettings(**{"flush_every": "2s", **changes}),
            self.clock,
            path / "spool.db",
            on_accepted=lambda frame, payload: self.accepted.append((frame, payload)),
            on_offered=lambda frame, _: self.offered.append(frame),
            connect=self.gateway.connect,
            is_synced=lambda: self.is_synced,
            draw=lambda: 0.5,
        )

    def run(self, seconds: int) -> None:
        for _ in range(seconds):
            self.agent.tick(self.clock.now_us())
            self.clock.advance(SECOND)

    @property
    def frames(self) -> list[Frame]:
        return [frame for frame, _ in self.accepted]


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Callable[..., Device]]:
    made: list[Device] = []

    def make(reads: list[Any], **changes: Any) -> Device:
        made.append(Device(tmp_path, reads, **changes))
        return made[-1]

    yield make
    for one in made:
        one.agent.close()


def test_readings_wait_for_company_and_are_accepted_together(device: Callable[..., Device]) -> None:
    it = device([second(n, 1.0, 2.0) for n in range(6)])
    it.run(7)
    assert [frame.reading_count for frame in it.frames] == [6, 4, 2]
    assert [frame.seq for frame in it.frames] == [1, 2, 3]
    assert all(decode_frame(payload).seq == frame.seq for frame, payload in it.accepted)
    assert it.offered == it.frames
    assert it.frames[0].blocks[0].metrics == ("a", "b")
    assert it.frames[0].clock is ClockQuality.SYNCED


def test_the_source_is_asked_at_its_interval(device: Callable[..., Device]) -> None:
    it = device([second(n, 1.0) for n in range(10)], sample_every="3s")
    it.run(9)
    assert it.agent.counters()["sampled"] == 3
    assert it.agent.due_in_us() == 0


def test_a_source_that_is_gone_is_opened_again_with_growing_pauses(device: Callable[..., Device]) -> None:
    gone = ConnectError("no sensor at 0x76")
    it = device([second(0, 1.0), gone, gone, gone, second(9, 1.0)])
    it.run(20)
    counters = it.agent.counters()
    assert counters["source_errors"] == 3
    assert "0x76" in counters["last_error"]
    assert counters["sampled"] == 2
    assert it.source.is_open


def test_the_ledger_balances_with_readings_that_are_no_numbers(device: Callable[..., Device]) -> None:
    it = device([second(n, float("nan") if n % 2 else 1.0, 2.0) for n in range(6)])
    it.run(8)
    it.agent.finish()
    totals = [frame.ledger for frame in it.frames]
    assert sum(ledger.acquired for ledger in totals) == 12
    assert sum(ledger.dropped.get(DropReason.NOT_FINITE.value, 0) for ledger in totals) == 3
    assert sum(frame.reading_count for frame in it.frames) == 9


def test_frames_are_published_and_freed_by_the_durable_ack(device: Callable[..., Device]) -> None:
    it = device([second(n, 1.0) for n in range(6)])
    it.run(8)
    assert [frame.seq for frame in it.gateway.frames] == [1, 2, 3]
    it.gateway.send_ack(it.gateway.ack(it.agent.spool.epoch))
    it.run(1)
    assert it.agent.buffered == 0


def test_while_the_disk_refuses_frames_wait_and_then_the_oldest_are_counted_as_dropped(
    device: Callable[..., Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    it = device([second(n, 1.0, 2.0) for n in range(40)], waiting_max=4)

    def refuse(*_: Any, **__: Any) -> None:
        raise SpoolUnavailableError("spool: database or disk is full")

    it.run(4)
    with monkeypatch.context() as patch:
        patch.setattr(it.agent.spool, "append", refuse)
        it.run(20)
    assert it.agent.counters()["spool_errors"] > 4
    it.run(20)
    it.agent.finish()
    assert [frame.seq for frame in it.frames] == list(range(1, len(it.frames) + 1))
    ledgers = [frame.ledger for frame in it.frames]
    refused = sum(ledger.dropped.get(DropReason.SPOOL_REFUSED.value, 0) for ledger in ledgers)
    assert refused > 0
    assert sum(ledger.acquired for ledger in ledgers) == 80
    assert sum(frame.reading_count for frame in it.frames) == 80 - refused


def test_a_step_of_the_clock_is_noticed_and_marked(device: Callable[..., Device]) -> None:
    it = device([second(n, 1.0) for n in range(9)])
    it.run(4)
    it.clock.step_wall(3_600 * SECOND)
    it.run(3)
    assert it.agent.counters()["clock_steps"] == 1
    assert it.frames[-1].clock is ClockQuality.CORRECTED


def test_the_status_says_what_the_device_measures(device: Callable[..., Device]) -> None:
    it = device([], metrics={"a": MetricSettings(reduction="swing:0.5", hi=80.0)})
    status = it.agent.status(online=True)
    assert status.metrics == {
        "a": {"unit": "", "lo": None, "hi": 80.0, "reduction": "swing:0.5"},
        "b": {"unit": "", "lo": None, "hi": None, "reduction": "raw"},
    }
    assert status.to_json()


def test_the_status_says_where_the_device_stands_as_far_as_its_source_knows(device: Callable[..., Device]) -> None:
    it = device([])
    assert it.agent.status(online=True).location is None
    it.source.location = Location(47.5, 8.25)  # type: ignore[attr-defined]
    assert it.agent.status(online=True).location == Location(47.5, 8.25)


def test_where_the_device_stands_is_as_set_whatever_its_source_knows(device: Callable[..., Device]) -> None:
    it = device([], latitude=-33, longitude=151.2)
    it.source.location = Location(47.5, 8.25)  # type: ignore[attr-defined]
    assert parse_status(it.agent.status(online=False).to_json()).location == Location(-33.0, 151.2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("latitude = 47.5", "both, or neither"),
        ("longitude = 8.5", "both, or neither"),
        ('latitude = 47.5\nlongitude = ""', "both, or neither"),
        ("latitude = 90.1\nlongitude = 8.5", "latitude"),
        ("latitude = nan\nlongitude = 8.5", "latitude"),
        ("latitude = 47.5\nlongitude = inf", "longitude"),
        ("latitude = true\nlongitude = false", "a number"),
        ('latitude = "here"\nlongitude = 8.5', "latitude"),
        ("latitude = 47.5\nlongtude = 8.5", 'did you mean "longitude"'),
    ],
)
def test_a_location_that_can_not_be_is_refused_in_the_settings(text: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        load_settings({"agent": AgentSettings}, text=f"[agent]\n{text}")


def test_an_empty_location_in_the_settings_is_none() -> None:
    settings = load_settings({"agent": AgentSettings}, text='[agent]\nlatitude = ""\nlongitude = ""')["agent"]
    assert isinstance(settings, AgentSettings)
    assert settings.location is None


def test_finish_brings_what_is_held_back_into_the_spool(device: Callable[..., Device]) -> None:
    it = device(
        [second(n, float(n), 1.0) for n in range(5)], flush_every="1h", metrics={"a": {"reduction": "swing:0.1"}}
    )
    it.run(6)
    assert not it.frames
    it.agent.finish()
    a = [block for frame in it.frames for block in frame.blocks if "a" in block.metrics]
    assert max(int(block.time_us[-1]) for block in a) == ManualClock().now_us() + 4 * SECOND
    assert it.agent.is_exhausted


def test_a_gap_is_declared_even_when_no_reading_comes(tmp_path: Path) -> None:
    first = Device(tmp_path, [second(0, 1.0)])
    first.run(4)
    first.agent.close()
    (tmp_path / "spool.db").write_bytes(b"rubbish" * 100)
    again = Device(tmp_path, [])
    again.run(4)
    gaps = [gap for frame in again.frames for gap in frame.gaps]
    assert [(gap.epoch, gap.to_seq) for gap in gaps] == [(first.agent.spool.epoch, 0)]
    again.agent.close()


def test_what_detectors_have_learnt_survives_a_restart_and_damage_to_it_only_costs_that(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    reads = [second(n, float(value), 1.0) for n, value in enumerate(np.round(rng.normal(20, 0.1, 300), 2))]
    first = Device(tmp_path, reads)
    first.run(300)
    first.agent.finish()
    learnt = first.agent.chain.learnt()
    first.agent.close()
    again = Device(tmp_path, [])
    assert again.agent.chain.learnt() == learnt
    again.agent.close()
    (tmp_path / "spool.db.learnt").write_bytes(b"rubbish")
    third = Device(tmp_path, [])
    assert third.agent.counters()["memory_errors"] == 1
    assert third.agent.chain.learnt() != learnt
    third.agent.close()


def test_only_fresh_signed_commands_are_obeyed_and_only_once(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(b"0123456789abcdef0123456789abcdef\n")
    it = Device(tmp_path, [second(n, 1.0) for n in range(20)], flush_every="1h", command_key_file=str(key))
    it.run(3)

    def order(payload: bytes, leaf: str = "command") -> None:
        link = it.gateway.links[-1]
        link.push(LinkMessage(mqtt_topic("north", "pump", leaf), payload))
        it.run(1)

    secret = key.read_bytes().strip()
    asked = Command(Verb.FLUSH, it.clock.now_us())
    good = sign(secret, "north", "pump", asked)
    order(sign(b"another key......", "north", "pump", asked))
    order(sign(secret, "north", "other", asked))
    order(sign(secret, "north", "pump", Command(Verb.FLUSH, asked.at_us - 3_600 * SECOND)))
    order(good, "config")
    order(b"{}")
    assert not it.frames
    order(good)
    assert len(it.frames) == 1
    order(good)
    counters = it.agent.counters()
    assert (counters["commands_obeyed"], counters["commands_refused"]) == (1, 6)
    order(sign(secret, "north", "pump", Command(Verb.RESEND, it.clock.now_us())))
    order(sign(secret, "north", "pump", Command(Verb.ANNOUNCE, it.clock.now_us())))
    assert it.agent.counters()["commands_obeyed"] == 3
    assert [frame.seq for frame in it.gateway.frames] == [1, 1]
    it.agent.close()


def test_a_key_that_cannot_protect_anything_is_refused(tmp_path: Path) -> None:
    short = tmp_path / "key"
    short.write_bytes(b"secret")
    with pytest.raises(SettingsError, match="too short"):
        Device(tmp_path, [], command_key_file=str(short))
    with pytest.raises(SettingsError, match="can be read"):
        Device(tmp_path, [], command_key_file=str(tmp_path / "nothing"))
