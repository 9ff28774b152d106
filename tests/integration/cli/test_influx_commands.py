"""`headwater influx setup` and `headwater doctor` with a real InfluxDB 1.6, as a user meets them."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from influx_server import Influx1, Victoria, free_port

from headwater.cli import main

pytestmark = pytest.mark.integration

DAY = "24h0m0s"


def headwater(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error::ResourceWarning", "-m", "headwater", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def influxdb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influx1]:
    with Influx1(tmp_path_factory.mktemp("influxdb")) as server:
        yield server


def steps(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert done.returncode == 0, done.stderr
    return [f"{step['done']} {step['what']}" for step in json.loads(done.stdout)["steps"]]


def keeps(server: Influx1, database: str) -> str:
    (policy,) = server.query("", f'SHOW RETENTION POLICIES ON "{database}"')
    assert policy["default"]
    return str(policy["duration"])


def finding(done: subprocess.CompletedProcess[str], hop: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in json.loads(done.stdout)["findings"] if one["hop"] == hop)
    return found


def test_setup_makes_databases_and_retention_and_may_be_done_again(influxdb: Influx1, tmp_path: Path) -> None:
    base = ("influx", "setup", "--url", f"influxdb://127.0.0.1:{influxdb.port}", "--data", str(tmp_path), "--json")
    lasting = ("--set", "pipeline.event_keep=0s")
    assert steps(headwater(*base, *lasting)) == [
        "made database raw, keeps 30 days", "made database windows, keeps 365 days", "made database events, keeps for ever",
    ]  # fmt: skip
    assert [keeps(influxdb, name) for name in ("raw", "windows", "events")] == ["720h0m0s", "8760h0m0s", "0s"]
    assert {step.split()[0] for step in steps(headwater(*base, *lasting))} == {"kept"}
    assert (
        steps(headwater(*base, *lasting, "--set", "pipeline.telemetry_keep=1d"))[0]
        == "changed database raw, keeps 1 days"
    )
    assert keeps(influxdb, "raw") == DAY


def test_one_database_for_all_keeps_as_long_as_the_longest(influxdb: Influx1, tmp_path: Path) -> None:
    names = [flag for table in ("raw", "windows", "events") for flag in ("--set", f"influx.{table}=plant")]
    url = f"influxdb://127.0.0.1:{influxdb.port}"
    done = headwater("influx", "setup", "--url", url, "--data", str(tmp_path), *names)
    assert (done.returncode, done.stdout) == (0, "made     database plant, keeps 365 days\n")


def test_the_doctor_names_what_is_missing_and_how_to_mend_it(influxdb: Influx1, tmp_path: Path) -> None:
    url, names = f"influxdb://127.0.0.1:{influxdb.port}", ("--set", "influx.raw=doc", "--set", "influx.events=doc")
    doctor = (
        "doctor",
        "--data",
        str(tmp_path),
        "--set",
        f"pipeline.store={url}",
        *names,
        "--set",
        "influx.windows=doc",
        "--json",
    )
    seen = finding(headwater(*doctor), "influx")
    assert not seen["is_good"]
    assert "InfluxDB 1.6.7" in seen["what"]
    assert "'doc': 404 database not found" in seen["what"]
    assert "influx setup" in seen["mend"]
    influxdb.make("doc")
    seen = finding(headwater(*doctor), "influx")
    assert (seen["is_good"], seen["mend"]) == (True, "")
    assert seen["what"].endswith("buckets doc")


def test_the_doctor_tells_a_server_that_does_not_answer(tmp_path: Path) -> None:
    store = f"pipeline.store=influxdb://127.0.0.1:{free_port()}"
    seen = finding(headwater("doctor", "--data", str(tmp_path), "--set", store, "--json"), "influx")
    assert not seen["is_good"]
    assert "refused" in seen["what"]
    assert "start the server" in seen["mend"]


def test_wrong_rights_on_influxdb_1_are_told_and_right_ones_work(tmp_path: Path) -> None:
    secret = tmp_path / "admin"
    with Influx1(tmp_path / "influx", auth=True) as server:
        server.query("", "CREATE USER boss WITH PASSWORD 'sesame' WITH ALL PRIVILEGES")
        url = f"influxdb://127.0.0.1:{server.port}"
        base = ("influx", "setup", "--url", url, "--data", str(tmp_path))
        secret.write_text("boss:wrong\n")
        done = headwater(*base, "--admin-token-file", str(secret))
        assert done.returncode == 1
        assert "401" in done.stderr
        assert "wrong" not in done.stderr
        secret.write_text("boss:sesame\n")
        assert headwater(*base, "--admin-token-file", str(secret)).returncode == 0
        doctor = ("doctor", "--data", str(tmp_path), "--set", f"pipeline.store={url}", "--json")
        assert "token" in finding(headwater(*doctor), "influx")["mend"]
        seen = finding(headwater(*doctor, "--set", f"influx.token_file={secret}"), "influx")
        assert seen["is_good"], seen


def test_setup_has_nothing_to_do_with_a_server_that_is_no_influxdb(tmp_path: Path) -> None:
    with Victoria(tmp_path / "victoria") as server:
        done = headwater("influx", "setup", "--url", f"influxdb://127.0.0.1:{server.port}", "--data", str(tmp_path))
        assert done.returncode == 1
        assert "doesn't say that it is an InfluxDB" in done.stderr
        doctor = (
            "doctor",
            "--data",
            str(tmp_path),
            "--set",
            f"pipeline.store=influxdb://127.0.0.1:{server.port}",
            "--json",
        )
        seen = finding(headwater(*doctor), "influx")
        assert seen["is_good"]
        assert "tells no version, written as 2.x" in seen["what"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--url", "influxdb://boss:sesame@127.0.0.1"), "token_file"),
        (("--url", "influxdb://127.0.0.1?version=9"), "?version=1, 2 or 3"),
        (("--url", "influxdb://127.0.0.1?orgg=a"), "org=NAME"),
        (("--url", "influxdb://127.0.0.1:http"), "influxdb://HOST:8086"),
        (("--url", "influxdb://"), "influxdb://HOST:8086"),
        (("--url", "http://127.0.0.1:8086"), "no InfluxDB"),
        ((), "no InfluxDB"),
        (("--url", "influxdb://127.0.0.1", "--admin-token-file", "/nowhere/token"), "no such file"),
        (("--url", "influxdb://127.0.0.1", "--set", 'influx.raw=a"b'), "raw"),
    ],
)
def test_wrong_settings_exit_with_78_and_say_what_to_write(
    arguments: tuple[str, ...], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["influx", "setup", "--data", str(tmp_path), *arguments]) == 78
    said = capsys.readouterr().err
    assert says in said
    assert "sesame" not in said


def test_without_its_client_a_store_on_influxdb_says_what_to_install(tmp_path: Path) -> None:
    arguments = ["processor", "--data", str(tmp_path), "--store", "influxdb://127.0.0.1:1"]
    code = f"import sys; sys.modules['urllib3'] = None; from headwater.cli import main; sys.exit(main({arguments}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "pip install 'headwater[influx]'" in done.stderr
