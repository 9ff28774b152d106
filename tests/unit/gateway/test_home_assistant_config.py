"""Home Assistant's discovery messages: their topics, their templates, and the values that these find."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.home_assistant_config import DiscoveryTopic, parse_discovery_topic, parse_template, value_of
from headwater.errors import DecodeError


@pytest.mark.parametrize(
    ("template", "path"),
    [
        ("{{ value }}", None),
        ("{{value}}", None),
        ("{{- value_json.a -}}", ("a",)),
        ("{{ value_json.a.b }}", ("a", "b")),
        ("{{ value_json['a b'][\"c\"].d }}", ("a b", "c", "d")),
    ],
)
def test_simple_templates_are_read(template: str, path: tuple[str, ...] | None) -> None:
    assert parse_template(template) == path


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_state_is_a_finite_number_or_none(payload: bytes) -> None:
    value = value_of(None, payload, None)
    assert value is None or isinstance(value, float)


@given(st.text(max_size=40))
def test_any_template_is_read_or_refused(text: str) -> None:
    try:
        path = parse_template("{{ value_json" + text + " }}")
    except DecodeError:
        return
    assert path


@pytest.mark.parametrize(
    "topic", ["homeassistant/sensor/config", "homeassistant/sensor/a/b/c/config", "x/sensor/a/config"]
)
def test_other_topics_are_no_discovery(topic: str) -> None:
    assert parse_discovery_topic(topic, "homeassistant") is None
    assert parse_discovery_topic("homeassistant/sensor/a/config", "homeassistant") == DiscoveryTopic("sensor", "", "a")
