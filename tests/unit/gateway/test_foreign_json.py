"""Foreign JSON: the shapes of contracts §3 and SenML, and why others are refused."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.foreign_json import RecentContent, read_json
from headwater.errors import DecodeError

NOW_US = 1_700_000_000_000_000


def read(text: str | bytes) -> dict[str, list[tuple[int, float]]]:
    payload = text if isinstance(text, bytes) else text.encode()
    frame = read_json(payload, "north", "esp", NOW_US).frame
    assert (frame.epoch, frame.seq) == (0, 0)
    return {
        metric: list(zip(block.time_us.tolist(), block.value[row].tolist(), strict=True))
        for block in frame.blocks
        for row, metric in enumerate(block.metrics)
    }


def test_plain_metrics_take_the_time_of_arrival() -> None:
    assert read('{"temp": 21.5, "door": true, "n": 3}') == {
        "temp": [(NOW_US, 21.5)],
        "door": [(NOW_US, 1.0)],
        "n": [(NOW_US, 3.0)],
    }


@pytest.mark.parametrize("ts", ["1600000000", "1600000000000", "1600000000000000", "1600000000000000000", "1.6e9"])
def test_the_magnitude_of_ts_tells_its_unit(ts: str) -> None:
    assert read(f'{{"ts": {ts}, "values": {{"temp": 1}}}}') == {"temp": [(1_600_000_000_000_000, 1.0)]}


def test_a_list_is_one_frame_and_metrics_of_equal_times_share_a_block() -> None:
    text = '[{"ts": 1600000002, "values": {"a": 2, "b": 5}}, {"ts": 1600000001, "values": {"a": 1, "b": 4}}]'
    frame = read_json(text.encode(), "north", "esp", NOW_US).frame
    (block,) = frame.blocks
    assert block.metrics == ("a", "b")
    assert block.time_us.tolist() == [1_600_000_001_000_000, 1_600_000_002_000_000]
    assert np.array_equal(block.value, [[1.0, 2.0], [4.0, 5.0]])
    assert frame.ledger.acquired == 4


def test_senml_of_the_standard() -> None:
    # RFC 8428, 5.1.3 (multiple data points), with numbers only.
    text = """[
        {"bn":"urn:dev:ow:10e2073a01080063:","bt":1.276020076001e+09,"bu":"A","bver":5,"n":"voltage","u":"V","v":120.1},
        {"n":"current","t":-5,"v":1.2}, {"n":"current","t":-4,"v":1.3}, {"n":"current","v":1.7}]"""
    assert read(text) == {
        "urn:dev:ow:10e2073a01080063:voltage": [(1_276_020_076_001_000, 120.1)],
        "urn:dev:ow:10e2073a01080063:current": [
            (1_276_020_071_001_000, 1.2),
            (1_276_020_072_001_000, 1.3),
            (1_276_020_076_001_000, 1.7),
        ],
    }


def test_senml_times_near_zero_are_relative_to_now_and_base_values_add_up() -> None:
    assert read('[{"n": "a", "t": -2, "bv": 10, "v": 1}, {"n": "b", "vb": false}]') == {
        "a": [(NOW_US - 2_000_000, 11.0)],
        "b": [(NOW_US, 0.0)],
    }


def test_senml_base_fields_hold_until_the_next_record_that_has_them() -> None:
    text = """[{"bt": 1600000000, "bv": 10}, {"bn": "a:", "n": "x", "v": 1}, {"n": "y", "v": 2, "t": 1},
        {"bn": "b:", "bt": 1600000100, "n": "x", "v": 3}, {"bv": 0, "n": "y", "v": 4}]"""
    assert read(text) == {
        "a:x": [(1_600_000_000_000_000, 11.0)],
        "a:y": [(1_600_000_001_000_000, 12.0)],
        "b:x": [(1_600_000_100_000_000, 13.0)],
        "b:y": [(1_600_000_100_000_000, 4.0)],
    }


def test_senml_times_are_absolute_from_2_to_the_28_on_after_the_base_is_added() -> None:
    assert read('[{"n": "a", "v": 1, "t": -60}, {"bt": -30, "n": "b", "v": 1, "t": 10}]') == {
        "a": [(NOW_US - 60_000_000, 1.0)],
        "b": [(NOW_US - 20_000_000, 1.0)],
    }
    # 2^28 s lies in 1978: absolute, and so before any believable time.
    with pytest.raises(DecodeError) as error:
        read(f'[{{"bt": {1 << 27}, "n": "a", "v": 1, "t": {1 << 27}}}]')
    assert error.value.reason == "time_range"


def test_senml_keys_that_nobody_knows_are_ignored_and_units_and_sums_leave_values_alone() -> None:
    text = '[{"bn": "a:", "bver": 10, "bu": "Cel", "bs": 5, "n": "x", "u": "K", "v": 1, "ut": 5, "l": "new"}]'
    assert read(text) == {"a:x": [(NOW_US, 1.0)]}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('[{"n": "a", "v": 1, "must_": 1}]', "schema"),
        ('[{"n": "a", "v": 1, "bver": 11}]', "version"),
        ('[{"n": "a", "v": 1, "bver": 0}]', "schema"),
        ('[{"n": "a", "v": 1, "bver": true}]', "schema"),
        ('[{"n": "a", "v": 1, "s": 4}]', "schema"),
        ('[{"bt": 1600000000}, {"n": "a", "v": 1}, 5]', "schema"),
        ("", "parse"),
        ("{", "parse"),
        ("3", "schema"),
        ("{}", "schema"),
        ("[]", "schema"),
        ("[3]", "schema"),
        ('{"a": null}', "schema"),
        ('{"a": "1"}', "schema"),
        ('{"a": {"b": 1}}', "schema"),
        ('{"a": 1, "a": 1}', "schema"),
        ('{"ts": 1600000000, "a": 1}', "schema"),
        ('{"ts": 1600000000, "values": {}}', "schema"),
        ('{"ts": true, "values": {"a": 1}}', "schema"),
        ('[{"a": 1}, {"a": 2}]', "schema"),
        ('[{"n": "a", "vs": "on"}]', "schema"),
        ('[{"n": "a"}]', "schema"),
        ('[{"n": "a", "v": 1, "vb": true}]', "schema"),
        ('[{"bn": "a", "bt": 5}]', "schema"),
        ('{"a": NaN}', "not_finite"),
        ('{"a": -Infinity}', "not_finite"),
        ('{"a": 1e400}', "not_finite"),
        ('{"": 1}', "name"),
        ('{"a b": 1}', "name"),
        ('{"ts": 1, "values": {"a": 1}}', "time_range"),
        ('{"ts": 1800000000, "values": {"a": 1}}', "time_range"),
        ("[" * 100_000, "too_large"),
        ("[" * 60_000, "parse"),
        ('{"a": ' + "1" * 5000 + "}", "parse"),
        ('{"a": ' + "1" * 400 + "}", "not_finite"),
    ],
)
def test_what_is_refused_and_why(text: str, reason: str) -> None:
    with pytest.raises(DecodeError) as error:
        read(text)
    assert error.value.reason == reason


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["ts", "values", "n", "bn", "bt", "t", "v", "vb", "a", ""]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(_JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=50))
def test_anything_is_a_frame_of_finite_readings_or_refused(payload: bytes) -> None:
    try:
        frame = read_json(payload, "north", "esp", NOW_US).frame
    except DecodeError:
        return
    assert frame.reading_count > 0
    for block in frame.blocks:
        assert np.isfinite(block.value).all()
        assert (np.diff(block.time_us) > 0).all()


def test_recent_content_forgets_the_oldest_beyond_its_bound() -> None:
    recent = RecentContent(window_us=1_000, count_max=2)
    assert [recent.is_new("n", "d", bytes([n]), 0) for n in (1, 2, 3, 3, 1)] == [True, True, True, False, True]
    assert len(recent) == 2
