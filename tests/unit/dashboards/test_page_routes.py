"""Every endpoint answers its question, and refuses what is out of bounds with one sentence."""

import pytest
from asgi_calls import Page

from headwater.errors import ConnectError

PUMP = "site=harbour&device=pump-01"
VIBRATION = f"{PUMP}&metric=vibration_rms_mms"


def test_the_fleet_tells_every_device_its_attention_and_the_figures() -> None:
    fleet = Page().get("/api/v1/fleet").json()
    assert fleet["figures"]["devices"] == len(fleet["devices"]) == 6
    assert fleet["figures"]["unknown"] == 0
    pump = next(row for row in fleet["devices"] if (row["site"], row["device"]) == ("harbour", "pump-01"))
    assert pump["spark"]["metric"] == "bearing_temp_cel"
    assert len(pump["spark"]["time_us"]) == len(pump["spark"]["mean"]) > 10
    assert sum(site["devices"] for site in fleet["sites"]) == 6


def test_a_device_comes_with_units_accounts_and_health() -> None:
    body = Page().get("/api/v1/devices/harbour/pump-01").json()
    assert body["row"]["metrics"]["bearing_temp_cel"]["unit"] == "Cel"
    assert [row["device"] for row in body["accounts"]] == ["pump-01"]
    assert body["health"][0]["component"] == "bearing"


def test_a_series_has_buckets_and_a_band_that_was_expected() -> None:
    body = Page().get(f"/api/v1/series?{VIBRATION}&points=50").json()
    columns, expected = body["columns"], body["expected"]
    assert 10 < len(columns["time_us"]) <= 50
    for lo, mean, hi in zip(columns["min"], columns["mean"], columns["max"], strict=True):
        assert lo <= mean <= hi
    assert len(expected["time_us"]) == len(expected["lo"]) == len(expected["hi"])
    assert all(lo is None or lo <= hi for lo, hi in zip(expected["lo"], expected["hi"], strict=True))


def test_raw_readings_ascend_and_stop_at_the_limit() -> None:
    time_us = Page().get(f"/api/v1/raw?{VIBRATION}&limit=7").json()["columns"]["time_us"]
    assert len(time_us) == 7
    assert time_us == sorted(time_us)


@pytest.mark.parametrize(
    "path",
    [
        "anomalies",
        "health",
        "alerts",
        "accounts",
        "dead-letters",
        "gaps",
        "pipeline",
        "simulator",
        f"health-history?{PUMP}",
    ],
)
def test_every_other_question_is_answered(path: str) -> None:
    answer = Page().get(f"/api/v1/{path}")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()


def test_anomalies_can_be_asked_of_one_device() -> None:
    page = Page()
    page.post("/api/v1/simulator/inject", {"site": "harbour", "device": "pump-01", "kind": "spike"})
    page.clock.advance(10_000_000)
    rows = page.get(f"/api/v1/anomalies?{PUMP}").json()["rows"]
    assert {row["device"] for row in rows} == {"pump-01"}


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("devices/harbour/nobody", 404, "no device"),
        ("devices/harbour/UPPER", 400, "device must be a name"),
        ("series?site=harbour&device=pump-01", 400, "metric"),
        (f"series?{VIBRATION}&points=100000", 400, "points is 100000"),
        (f"series?{VIBRATION}&points=ten", 400, "points must be an integer"),
        (f"series?{VIBRATION}&start_us=5&end_us=5", 400, "must lie before"),
        (f"series?{VIBRATION}&start_us=0&end_us=1795000000000000", 400, "the range is"),
        (f"series?{VIBRATION}&start_us=-1", 400, "start_us"),
        (f"raw?{VIBRATION}&limit=0", 400, "limit is 0"),
        ("anomalies?limit=1000000", 400, "limit"),
        ("anomalies?site=..", 400, "site must be a name"),
        ("events?channels=", 400, "channels must name"),
        ("events?channels=fleet,secrets", 400, "channels may be"),
        ("events?channels=device/north/..%2f", 400, "channels may be"),
        ("nothing", 404, "there is nothing"),
    ],
)
def test_what_is_out_of_bounds_is_refused_in_one_sentence(path: str, status: int, words: str) -> None:
    answer = Page().get(f"/api/v1/{path}")
    assert answer.status == status
    assert words in answer.message


def test_a_fault_can_be_injected_and_a_network_cut_and_restored() -> None:
    page = Page()
    body = {"site": "north", "device": "pump-01", "kind": "spike", "severity": 1.5, "duration_us": 30_000_000}
    assert page.post("/api/v1/simulator/inject", body).json()["id"]
    assert page.post("/api/v1/simulator/network", {"site": "north", "online": False}).status == 200
    state = page.get("/api/v1/simulator").json()["state"]
    assert [site["online"] for site in state["sites"]] == [True, False, True]
    page.post("/api/v1/simulator/network", {"site": "north", "online": True})
    assert all(site["online"] for site in page.get("/api/v1/simulator").json()["state"]["sites"])


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("inject", {"site": "north", "device": "pump-01", "kind": "nonsense"}, 400),
        ("inject", {"site": "north", "device": "pump-01", "kind": 3}, 400),
        ("inject", {"site": "north", "device": "pump-01", "kind": "spike", "severity": float("1e9")}, 400),
        ("inject", {"site": "north", "device": "pump-01", "kind": "spike", "severity": True}, 400),
        ("inject", {"site": "north", "device": "pump-01", "kind": "spike", "duration_us": 1}, 400),
        ("network", {"site": "nowhere", "online": True}, 400),
        ("network", {"site": "north", "online": "no"}, 400),
        ("network", [], 400),
        ("network", b"{", 400),
        ("network", b"[" * 4000, 400),
        ("network", b" " * 5000, 413),
    ],
)
def test_commands_out_of_bounds_are_refused(path: str, body: object, status: int) -> None:
    answer = Page().post(f"/api/v1/simulator/{path}", body)
    assert answer.status == status
    assert answer.message


def test_commands_come_as_json_only() -> None:
    answer = Page().post("/api/v1/simulator/network", {"site": "north", "online": False}, content_type="text/plain")
    assert answer.status == 415


def test_outside_the_demo_there_is_no_simulator() -> None:
    page = Page(simulator=False)
    assert page.get("/api/v1/simulator").status == 404
    assert page.post("/api/v1/simulator/network", {"site": "north", "online": False}).status == 404


def test_a_store_that_is_away_is_said_so() -> None:
    class Away:
        def devices(self) -> None:
            raise ConnectError("no such file")

    answer = Page(reader=Away()).get("/api/v1/fleet")
    assert answer.status == 503
    assert "no such file" in answer.message


@pytest.mark.parametrize("path", ["/", "/fleet", "/anomalies", "/pipeline", "/simulator", "/device/north/pump-01"])
def test_every_screen_has_an_address_of_its_own(path: str) -> None:
    answer = Page().get(path)
    assert answer.status == 200
    assert b'<main id="main"' in answer.body


@pytest.mark.parametrize("path", ["/device/north/<script>", "/device/NORTH/x", "/nothing", "/static/../app.py"])
def test_other_addresses_lead_nowhere(path: str) -> None:
    assert Page().get(path).status == 404
