"""Settings: where a value comes from, and what is said when it is wrong."""

import tomllib

import pytest
from pydantic import Field

from headwater.errors import SettingsError
from headwater.settings import DurationUs, Table, load_settings, sample_settings


class Demo(Table):
    """A table for these tests."""

    port: int = Field(1883, ge=0, le=65535, description="TCP port.")
    flush_every_us: DurationUs = Field(1_000_000, description="Time between two frames.")
    name: str = Field("x", description="A name.")


TABLES = {"demo": Demo}


def demo(**arguments: object) -> Demo:
    found = load_settings(TABLES, **arguments)["demo"]  # type: ignore[arg-type]
    assert isinstance(found, Demo)
    return found


def test_a_flag_wins_over_the_environment_over_the_file_over_the_default() -> None:
    text, environment, flags = "[demo]\nport = 1", {"HEADWATER_DEMO__PORT": "2"}, ["demo.port=3"]
    assert demo().port == 1883
    assert demo(text=text).port == 1
    assert demo(text=text, environment=environment).port == 2
    assert demo(text=text, environment=environment, flags=flags).port == 3


def test_a_duration_is_written_with_its_unit() -> None:
    assert demo(text='[demo]\nflush_every = "200ms"').flush_every_us == 200_000


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"text": "[demo]\nprot = 1"}, 'did you mean "port"'),
        ({"text": "[dmeo]\nport = 1"}, 'did you mean "demo"'),
        ({"text": "[demo]\nport = 70000"}, "headwater.toml: [demo] port"),
        ({"text": "port = = 1"}, "not TOML"),
        ({"text": "demo = 3"}, "must be a table"),
        ({"text": '[demo]\nflush_every = "soon"'}, "is not a duration"),
        ({"environment": {"HEADWATER_DEMO__PORT": "many"}}, "HEADWATER_DEMO__PORT"),
        ({"flags": ["demo.port"]}, "write table.key=value"),
        ({"flags": ["demo.port=x"]}, "--set demo.port"),
    ],
)
def test_a_wrong_setting_is_named_with_its_place(arguments: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        demo(**arguments)
    assert said in str(caught.value)


def test_the_sample_shows_every_default_and_is_read_back_as_the_defaults() -> None:
    sample = sample_settings(TABLES)
    shown = "\n".join(
        line.removeprefix("# ") if " = " in line and not line.startswith("# Flag") else line
        for line in sample.splitlines()
    )
    assert tomllib.loads(shown)["demo"] == {"port": 1883, "flush_every": "1s", "name": "x"}
    assert demo(text=sample) == Demo()
    assert demo(text=shown) == Demo()
