"""The pure parts: overview, rates, the expected band, JSON, units."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards.expected import expected_band
from dashboards.overview import fleet_rows, main_counter, site_rows, stage_rows, totals, with_log
from dashboards.rates import Rates, flatten
from dashboards.units import order_metrics
from dashboards.wire import json_text, plain
from headwater.points import DeviceAccount

NOW_US = 1_795_000_000_000_000


def device(name: str, **fields) -> dict:
    return {"site": "north", "device": name, "online": True, "buffered": 0, **fields}


def anomaly(name: str, severity: str, ago_us: int = 0) -> dict:
    return {"site": "north", "device": name, "severity": severity, "time_us": NOW_US - ago_us}


def test_a_device_asks_for_attention_by_the_worst_that_is_known_of_it() -> None:
    rows = fleet_rows(
        [device("a"), device("b"), device("c", online=False), device("d"), device("e")],
        [
            {"site": "north", "device": "d", "component": "x", "health": 20.0},
            {"site": "north", "device": "d", "component": "y", "health": 90.0},
        ],
        [
            anomaly("a", "warning"),
            anomaly("a", "critical"),
            anomaly("b", "info"),
            anomaly("e", "critical", 700_000_000),
        ],
        {},
        NOW_US,
    )
    assert [(row["device"], row["attention"], row["why"]) for row in rows] == [
        ("a", "critical", "critical"),
        ("b", "", ""),
        ("c", "warning", "offline"),
        ("d", "critical", "health 20"),
        ("e", "", ""),
    ]
    assert [row["anomalies"] for row in rows] == [2, 1, 0, 0, 1]


def test_the_agents_own_counters_are_newer_than_the_stores_rows() -> None:
    rows = fleet_rows([device("a", buffered=1)], [], [], {"north/a": {"online": False, "buffered": 70}}, NOW_US)
    assert (rows[0]["online"], rows[0]["buffered"]) == (False, 70)
    assert site_rows(rows) == [{"site": "north", "devices": 1, "online": 0, "buffered": 70}]


def test_a_device_whose_state_was_never_told_counts_as_offline() -> None:
    rows = fleet_rows([{"site": "n", "device": "a", "online": None, "buffered": None}], [], [], {}, NOW_US)
    assert (rows[0]["online"], rows[0]["buffered"]) == (False, 0)


def test_the_account_adds_up_over_devices() -> None:
    sums = totals([{"assigned": 5, "stored": 3, "gap": 2, "unknown": 0}, {"assigned": 4, "stored": 4, "unknown": None}])
    assert sums["assigned"] == sums["stored"] + sums["gap"] + sums["unknown"] == 9


def test_stages_stand_in_flow_order_even_without_counters() -> None:
    rows = stage_rows(
        {"gateway": {"admitted_readings": 7, "dead_letters_readings": 1}}, {"gateway.admitted_readings": 3.5}
    )
    assert [row["stage"] for row in rows] == ["agents", "gateway", "log", "processor", "store"]
    assert (rows[1]["main"], rows[1]["rate"]) == ("admitted_readings", 3.5)
    assert (rows[0]["main"], rows[0]["rate"]) == ("", None)
    assert main_counter({"dead_letters_readings": 1}) == ""


def test_a_log_that_counts_itself_is_believed() -> None:
    assert with_log({"log": {"records": 2}, "gateway": {"commits": 9}})["log"] == {"records": 2}


def test_a_rate_follows_its_counter_and_survives_a_restart() -> None:
    rates = Rates(smooth_us=1)
    rates.update(-2_000_000, {"a": 0})
    rates.update(-1_000_000, {"a": 900})
    rates.update(0, {"a": 1_000})
    assert rates.update(1_000_000, {"a": 1_050})["a"] == 50
    assert rates.update(2_000_000, {"a": 10})["a"] == 0
    assert rates.update(3_000_000, {"a": 30})["a"] == pytest.approx(20)
    assert rates.update(3_000_000, {"a": 90}) == {"a": pytest.approx(20)}
    assert rates.update(4_000_000, {}) == {}


def looks_of(*totals: int) -> list[float | None]:
    """The rates of a total that is looked at once a second."""
    rates = Rates(smooth_us=1)
    return [rates.update(second * 1_000_000, {"a": total}).get("a") for second, total in enumerate(totals)]


def test_the_first_moves_of_a_counter_have_no_rate_for_they_count_what_had_waited() -> None:
    assert looks_of(0, 0, 90_000, 90_030, 90_060, 90_090) == [None, 0, None, None, 30, 30]
    assert looks_of(0, 3_000, 12_000, 14_000, 14_030) == [None, None, None, None, 30]


def test_a_counter_that_moves_evenly_has_a_rate_after_its_fifth_move() -> None:
    assert looks_of(0, 30, 60, 90, 120, 150, 180, 210) == [None] * 6 + [30, 30]


def test_a_counter_that_comes_later_settles_by_itself() -> None:
    rates = Rates(smooth_us=1)
    for second in range(8):
        rates.update(second * 1_000_000, {"a": 30 * second})
    assert rates.update(8_000_000, {"a": 240, "late": 70_000}) == {"a": 30.0}
    assert rates.update(9_000_000, {"a": 270, "late": 80_000}) == {"a": 30.0}
    assert rates.update(10_000_000, {"a": 300, "late": 80_010}) == {"a": 30.0}
    assert rates.update(11_000_000, {"a": 330, "late": 80_020}) == {"a": 30.0, "late": 10.0}


def test_counters_are_flattened_without_the_devices_and_not_for_ever() -> None:
    deep: dict = {}
    deep["again"] = deep
    assert flatten({"a": {"b": 1, "devices": {"x": 1}}, "c": "text", "d": None, "e": deep}) == {"a.b": 1, "c": "text"}


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(0, 1e3)), max_size=40), st.integers(3, 8))
def test_the_expected_band_is_that_of_the_windows_before(windows, trail) -> None:
    mean = np.array([one for one, _ in windows], float)
    std = np.array([two for _, two in windows], float)
    lo, hi = expected_band(mean, std, trail=trail)
    for at in range(len(mean)):
        if at < 3 or len(mean) < 4:
            assert np.isnan(lo[at])
            assert np.isnan(hi[at])
            continue
        before, spread = mean[max(0, at - trail) : at], std[max(0, at - trail) : at]
        centre = np.median(before)
        half = 3 * max(np.median(spread), 1.4826 * np.median(np.abs(before - centre)))
        assert lo[at] == pytest.approx(centre - half, abs=1e-6)
        assert hi[at] == pytest.approx(centre + half, abs=1e-6)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=30))
def test_columns_become_json_that_browsers_read(values) -> None:
    column = json.loads(json_text({"v": np.array(values, float)}))["v"]
    for sent, value in zip(column, values, strict=True):
        if not math.isfinite(value):
            assert sent is None
        elif 1e-5 < abs(value) < 1e12:
            assert sent == pytest.approx(value, rel=1e-6)


def test_rows_of_any_shape_become_json() -> None:
    account = DeviceAccount("n", "p", 1 << 63, 3, ((5, 6),), 6, 5, 0, 0, 1, 0, 50, 60, 10, 0, 0, 0)
    row = plain(
        {
            "account": account,
            "payload": b"\x00\xff",
            "flag": np.bool_(True),
            "n": np.int64(4),
            "time": 1_795_000_000_000_000,
        }
    )
    assert row["account"]["epoch"] == str(1 << 63)
    assert row["account"]["ranges"] == [[5, 6]]
    assert (row["payload"], row["flag"], row["n"], row["time"]) == ("00ff", True, 4, 1_795_000_000_000_000)


def test_long_texts_of_devices_are_cut() -> None:
    assert len(plain("x" * 10_000)) == 400


def test_metrics_stand_in_the_order_in_which_people_read_them() -> None:
    names = ["setpoint_flow_m3h", "zeta", "flow_m3h", "pressure_bar", "running", "vibration_rms_mms"]
    assert order_metrics(names) == [
        "pressure_bar",
        "flow_m3h",
        "vibration_rms_mms",
        "zeta",
        "running",
        "setpoint_flow_m3h",
    ]
