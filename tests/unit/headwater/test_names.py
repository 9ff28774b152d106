"""Names and topics: what may enter, and what may not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.errors import InvalidNameError
from headwater.names import LEAVES, check_metric, check_name, is_name, mqtt_topic, parse_mqtt_topic, shard_of

BAD_NAMES = ["", "A", "-a", "_a", "a b", "a/b", "a" * 65, "ä", "a\n", "a\x00", "+", "#", "..", "a.b"]


@pytest.mark.parametrize("text", BAD_NAMES)
def test_a_bad_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidNameError):
        check_name(text, "device")


@pytest.mark.parametrize("text", ["", "_x", "a b", "a" * 129, "a\n", "ü", 'a"b'])
def test_a_bad_metric_is_refused(text: str) -> None:
    with pytest.raises(InvalidNameError):
        check_metric(text)


@given(st.from_regex(r"[a-z0-9][a-z0-9_-]{0,63}", fullmatch=True), st.sampled_from(sorted(LEAVES)))
def test_a_topic_is_taken_apart_as_it_was_built(name: str, leaf: str) -> None:
    found = parse_mqtt_topic(mqtt_topic(name, name, leaf))
    assert found is not None
    assert (found.site, found.device, found.leaf) == (name, name, leaf)


@given(st.text(max_size=40))
def test_no_other_text_is_a_topic_of_ours(text: str) -> None:
    found = parse_mqtt_topic(text)
    assert found is None or mqtt_topic(found.site, found.device, found.leaf) == text


@given(st.text(max_size=70))
def test_a_name_never_holds_anything_that_mqtt_sql_or_a_path_could_misread(text: str) -> None:
    if is_name(text):
        assert not set(text) & set("/+#\\'\"\x00\n .%")


def test_a_device_keeps_its_shard() -> None:
    assert [shard_of("north", f"pump-{n}", 4) for n in range(6)] == [
        shard_of("north", f"pump-{n}", 4) for n in range(6)
    ]
    assert {shard_of("north", f"pump-{n}", 4) for n in range(100)} == {0, 1, 2, 3}
