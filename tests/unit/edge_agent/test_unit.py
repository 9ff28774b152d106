"""The systemd unit of an agent, as a text."""

import pytest

from edge_agent.unit import UnitPlan, unit_text
from headwater.errors import SettingsError

PYTHON, SETTINGS = "/opt/headwater/bin/python", "/etc/headwater/headwater.toml"


def lines(**changes: object) -> list[str]:
    return unit_text(UnitPlan(PYTHON, SETTINGS, **changes)).splitlines()  # type: ignore[arg-type]


def test_it_is_started_watched_and_restarted_but_not_with_wrong_settings() -> None:
    found = lines()
    assert f"ExecStart={PYTHON} -m headwater agent --config {SETTINGS} --data %S/headwater" in found
    assert {"Type=notify", "WatchdogSec=30", "Restart=always", "RestartPreventExitStatus=78"} <= set(found)
    assert found[-1] == "WantedBy=multi-user.target"


def test_the_clock_may_be_asked_but_not_set() -> None:
    found = lines()
    assert "SystemCallFilter=@system-service adjtimex" in found
    assert "CapabilityBoundingSet=" in found
    assert not [line for line in found if line.startswith("ProtectClock")]


@pytest.mark.parametrize(
    ("source", "line"), [("i2c", "DeviceAllow=char-i2c rw"), ("modbus", "SupplementaryGroups=dialout")]
)
def test_a_source_on_a_bus_may_open_that_bus_only(source: str, line: str) -> None:
    found = lines(source=source)
    assert line in found
    assert "DevicePolicy=closed" in found
    assert "PrivateDevices=yes" not in found
    assert "PrivateDevices=yes" in lines(source="host")


def test_secrets_are_handed_over_as_credentials() -> None:
    found = lines(secrets=(("password_file", "/etc/headwater/agent 50%.password"),))
    assert "LoadCredential=password_file:/etc/headwater/agent 50%%.password" in found
    assert any(line.endswith(" --set agent.password_file=%d/password_file") for line in found)


def test_a_home_is_readable_only_if_the_interpreter_lies_there() -> None:
    assert "ProtectHome=yes" in lines()
    assert "ProtectHome=read-only" in lines(reads_home=True)


def test_a_users_own_unit_asks_for_nothing_that_needs_root() -> None:
    found = lines(is_user=True)
    assert "DynamicUser=yes" not in found
    assert found[-1] == "WantedBy=default.target"


def test_paths_with_spaces_and_signs_stay_one_word() -> None:
    text = unit_text(UnitPlan('/opt/my "py"/50%$x', SETTINGS))
    assert 'ExecStart="/opt/my \\"py\\"/50%%$$x" -m headwater' in text


@pytest.mark.parametrize("path", ["python", "/opt/x\nExecStart=/bin/sh", "/opt/\x07"])
def test_a_path_that_would_add_lines_is_refused(path: str) -> None:
    with pytest.raises(SettingsError):
        unit_text(UnitPlan(path, SETTINGS))
    with pytest.raises(SettingsError):
        unit_text(UnitPlan(PYTHON, path))
