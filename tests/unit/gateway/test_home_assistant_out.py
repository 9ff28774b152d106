"""What the gateway tells Home Assistant: its sensors, their values, and when they go."""

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sessions import NOW_US

from gateway.home_assistant_config import parse_config, parse_discovery_topic, value_of
from gateway.home_assistant_out import DEVICES_MAX, METRICS_MAX, TELL_AGAIN_US, HomeAssistant, id_of, node_of
from gateway.inbound import Note
from headwater.batch import Batch
from headwater.batch_build import batch_from_frames
from headwater.frame import Block, Frame
from headwater.quality import Quality
from headwater.reasons import ClockQuality
from headwater.status import Status
from headwater.summary import summarize


def batch(values: dict[str, float], at_us: int = NOW_US, site: str = "north", device: str = "pump-1") -> Batch:
    block = Block(tuple(values), np.array([at_us]), np.array([[value] for value in values.values()]))
    frame = Frame(site, device, 7, 1, at_us, ClockQuality.SYNCED, blocks=(block,))
    return batch_from_frames([(frame, at_us, 1)], shard=0, made_us=at_us)


def units(told: dict[str, str], who: bytes = b"north/pump-1") -> Note:
    return Note(0, (who, Status(online=True, metrics={name: {"unit": unit} for name, unit in told.items()}).to_json()))


def make_home() -> HomeAssistant:
    return HomeAssistant("homeassistant", 10_000_000, 60_000_000)


def test_every_metric_is_announced_once_with_its_unit_and_the_values_follow_in_one_message() -> None:
    home = make_home()
    home.describe([units({"temp": "Cel", "flow/in": "m3/h"})])
    home.note([batch({"temp": 21.5, "flow/in": 3.0})], 0)
    kept, states = home.due(0, 100)
    assert sorted(topic for topic, _ in kept) == [
        f"homeassistant/sensor/north_pump-1/{id_of('flow/in')}/config",
        "homeassistant/sensor/north_pump-1/temp/config",
    ]
    told = json.loads(dict(kept)["homeassistant/sensor/north_pump-1/temp/config"])
    assert told["unit_of_measurement"] == "°C"
    assert told["device"]["identifiers"] == ["headwater_north_pump-1"]
    assert states == [("hw/1/north/pump-1/state", b'{"temp":21.5,"flow/in":3.0}')]
    assert home.due(1, 100) == ([], [])


def test_values_are_told_at_most_every_so_often_and_only_when_there_are_new_ones() -> None:
    home = make_home()
    home.note([batch({"temp": 1.0})], 0)
    home.due(0, 100)
    home.note([batch({"temp": 2.0}, NOW_US + 1)], 1_000_000)
    home.note([batch({"temp": 0.5}, NOW_US - 1)], 2_000_000)
    assert home.due(9_999_999, 100) == ([], [])
    assert home.due(10_000_000, 100) == ([], [("hw/1/north/pump-1/state", b'{"temp":2.0}')])
    assert home.due(30_000_000, 100) == ([], [])


def test_a_unit_that_is_learnt_later_is_told_again() -> None:
    home = make_home()
    home.note([batch({"temp": 1.0})], 0)
    home.due(0, 100)
    home.describe([units({"temp": "bar"}), Note(0, (b"north/pump-1/config", b"{}")), Note(0, (b"n/d", b"junk"))])
    ((_, payload),), _ = home.due(1, 100)
    assert json.loads(payload)["unit_of_measurement"] == "bar"
    assert home.counters["entries_refused"] == 1


def test_a_device_that_falls_silent_is_taken_back() -> None:
    home = make_home()
    home.note([batch({"temp": 1.0})], 0)
    home.due(0, 100)
    assert home.due(60_000_000, 100) == ([], [])
    assert home.due(60_000_001, 100) == ([("homeassistant/sensor/north_pump-1/temp/config", b"")], [])
    home.note([batch({"temp": 1.0})], 70_000_000)
    assert len(home.due(70_000_000, 100)[0]) == 1


def test_everything_is_told_again_every_hour() -> None:
    home = HomeAssistant("homeassistant", 10_000_000, 10 * TELL_AGAIN_US)
    home.note([batch({"temp": 1.0, "flow": 2.0})], 0)
    first, _ = home.due(0, 100)
    assert home.due(TELL_AGAIN_US - 1, 100)[0] == []
    assert [home.due(TELL_AGAIN_US, 1)[0], home.due(TELL_AGAIN_US + 1, 1)[0]] == [first[:1], first[1:]]
    assert home.due(TELL_AGAIN_US + 2, 100)[0] == []


def test_bad_values_are_not_shown_and_summaries_are() -> None:
    home = make_home()
    quality = np.array([[0, Quality.BAD_RANGE]], np.uint8)
    block = Block(("temp",), NOW_US + np.arange(2), np.array([[1.0, 99.0]]), quality)
    panes = summarize(
        ("power",), np.zeros(2, np.int32), NOW_US + np.arange(2), np.array([5.0, 6.0]), width_us=1_000_000
    )
    frame = Frame("north", "pump-1", 7, 1, NOW_US, ClockQuality.SYNCED, blocks=(block,), summaries=panes)
    home.note([batch_from_frames([(frame, NOW_US, 1)], shard=0, made_us=NOW_US)], 0)
    ((_, told),) = home.due(0, 100)[1]
    assert json.loads(told) == {"temp": 1.0, "power": 6.0}


def test_what_is_told_at_once_is_bounded_and_the_rest_follows() -> None:
    home = make_home()
    home.note([batch({f"m{n}": 1.0 for n in range(10)})], 0)
    told = [home.due(0, 4) for _ in range(4)]
    assert [len(kept) for kept, _ in told] == [4, 4, 2, 0]
    assert [len(states) for _, states in told] == [0, 0, 1, 0]


def test_devices_and_metrics_are_bounded() -> None:
    home = make_home()
    home.note([batch({f"m{n}": 1.0 for n in range(METRICS_MAX + 3)})], 0)
    assert home.counters["left_out"] == 3
    for n in range(DEVICES_MAX):
        home.note([batch({"a": 1.0}, device=f"d{n}")], 0)
    assert home.counters["left_out"] == 4


def test_no_two_devices_or_metrics_meet_in_one_topic() -> None:
    nodes = [node_of("a", "b_c"), node_of("a_b", "c"), node_of("a_b_c", "d"), node_of("a", "b")]
    assert len(set(nodes)) == 4
    assert len({id_of(metric) for metric in ("a/b", "a.b", "a_b", "a:b")}) == 4


@given(
    st.dictionaries(
        st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_./:-]{0,20}", fullmatch=True),
        st.floats(allow_nan=False, allow_infinity=False),
        min_size=1,
        max_size=5,
    )
)
def test_what_is_told_can_be_read_as_home_assistant_reads_it(values: dict[str, float]) -> None:
    home = make_home()
    home.note([batch(values)], 0)
    kept, ((state_topic, state),) = home.due(0, 100)
    read = {}
    for topic, payload in kept:
        found = parse_discovery_topic(topic, "homeassistant")
        assert found is not None
        entity = parse_config(found, payload)
        assert entity.state_topic == state_topic
        read[json.loads(payload)["name"]] = value_of(entity.path, state, json.loads(state))
    assert read == values
