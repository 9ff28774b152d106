"""The dashboards as they are made: what is committed is what the code makes, and the SDK reads it back the same."""

import json
import re
from pathlib import Path

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards.grafana.bundle import described, files
from dashboards.grafana.check import check_tree
from dashboards.grafana.contents import panels_of, queries_of, variables_of
from dashboards.grafana.rules import RULES
from dashboards.grafana.screen import MENU
from headwater.points import MEASUREMENT_TAGS

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "dashboards" / "grafana" / "provisioning"
DASHBOARDS = {uid: json.loads((FOLDER / "dashboards" / "headwater" / f"{uid}.json").read_text()) for uid in MENU}


def test_the_committed_files_are_what_the_code_makes() -> None:
    committed = {
        path.relative_to(FOLDER).as_posix(): path.read_text(encoding="utf-8")
        for path in FOLDER.rglob("*")
        if path.is_file()
    }
    made = files()
    assert committed.keys() == made.keys(), "run: headwater dashboards build"
    for name, text in made.items():
        assert committed[name] == text, f"{name}: run: headwater dashboards build"


def test_the_page_about_grafana_holds_the_outline() -> None:
    assert described() in (ROOT / "docs" / "grafana.md").read_text(encoding="utf-8"), (
        "put the output of headwater dashboards build --outline into docs/grafana.md"
    )


def test_the_committed_tree_is_right() -> None:
    provisioned = [yaml.safe_load(path.read_text()) for path in sorted(FOLDER.rglob("*.yaml"))]
    assert check_tree(DASHBOARDS, provisioned) == []


@pytest.mark.parametrize("uid", MENU)
def test_the_sdk_reads_a_dashboard_back_as_it_was_written(uid: str) -> None:
    register_default_plugins()
    again = json.loads(json.dumps(Dashboard.from_json(DASHBOARDS[uid]), cls=JSONEncoder))
    for part in (*again["links"], *again["annotations"]["list"]):
        part.pop("placement", None)
    for panel in again["panels"]:
        if "repeat" not in panel:
            panel.pop("repeatDirection", None)
    assert again == DASHBOARDS[uid]


@pytest.mark.parametrize("uid", MENU)
def test_every_panel_tells_its_unit_or_number_its_meaning_and_what_nothing_means(uid: str) -> None:
    for panel in panels_of(DASHBOARDS[uid]):
        if panel["type"] in {"row", "text"}:
            continue
        assert len(panel["description"]) > 10, panel["title"]
        assert panel["fieldConfig"]["defaults"]["noValue"], panel["title"]
        if panel["type"] == "timeseries":
            assert panel["interval"], f"{panel['title']} has no smallest interval"
            assert panel["options"]["legend"]["showLegend"], panel["title"]


def test_all_dashboards_are_chained_and_linked_alike() -> None:
    for uid, dashboard in DASHBOARDS.items():
        variables = variables_of(dashboard)
        assert next(iter(variables)) == "ds", uid
        assert "site" in variables, uid
        for name, before in (("device", "site"), ("metric", "device"), ("window", "device")):
            if name in variables:
                assert f"${{{before}:regex}}" in variables[name]["query"]["query"], (uid, name)
        links = [link["url"] for link in dashboard["links"]]
        assert len(links) == len(MENU) - 1, uid
        names = [annotation["name"] for annotation in dashboard["annotations"]["list"]]
        assert names == ["Notes", "Anomalies", "Alerts"], uid
    assert {"site", "device", "metric", "window"} <= variables_of(DASHBOARDS["headwater-device"]).keys()


def test_every_measurement_is_shown_and_no_query_is_flux() -> None:
    texts = [asked.text for dashboard in DASHBOARDS.values() for asked in queries_of(dashboard)]
    for measurement in MEASUREMENT_TAGS:
        assert any(re.search(f'FROM .*"{measurement}"', text) for text in texts), measurement
    assert not [text for text in texts if "|>" in text or "from(bucket" in text]


def test_columns_that_numbers_and_bars_show_are_columns_of_their_queries() -> None:
    for dashboard in DASHBOARDS.values():
        for panel in panels_of(dashboard):
            if panel["type"] in {"stat", "bargauge"}:
                (column,) = re.findall(r"^/\^(\w+)\$/$", panel["options"]["reduceOptions"]["fields"])
                outer = panel["targets"][0]["query"].split(" FROM ", 1)[0]
                assert f'AS "{column}"' in outer, panel["title"]


def test_a_map_shows_columns_of_its_query_and_leads_to_the_device() -> None:
    (panel,) = [panel for panel in panels_of(DASHBOARDS["headwater-fleet"]) if panel["type"] == "geomap"]
    (layer,) = panel["options"]["layers"]
    selected = re.findall(r'"(\w+)"', panel["targets"][0]["query"].split(" FROM ", 1)[0])
    assert [layer["location"]["latitude"], layer["location"]["longitude"]] == selected[:2]
    assert layer["config"]["style"]["color"]["field"] == selected[2]
    assert panel["options"]["view"]["layer"] == layer["name"]
    assert panel["options"]["tooltip"]["mode"] == "details"
    changed = {one["matcher"]["options"]: one["properties"] for one in panel["fieldConfig"]["overrides"]}
    colours = {value: word["color"] for value, word in changed["state"][0]["value"][0]["options"].items()}
    assert colours == {"0": "red", "1": "green", "2": "orange"}
    assert [step["color"] for step in changed["state"][1]["value"]["steps"]] == ["red", "green", "orange"]
    (link,) = changed["device"][0]["value"]
    assert link["url"].startswith("/d/headwater-device?")


def test_no_dashboard_asks_a_server_of_others() -> None:
    # The ground of a map is a file that Grafana serves itself; all its types of tiles come from outside.
    for uid, dashboard in DASHBOARDS.items():
        assert "://" not in json.dumps(dashboard), uid
        for panel in panels_of(dashboard):
            if panel["type"] == "geomap":
                basemap = panel["options"]["basemap"]
                assert (basemap["type"], basemap["config"]["src"]) == ("geojson", "public/maps/countries.geojson")


def test_rules_have_limits_reasons_and_a_place_to_look_at() -> None:
    rules = yaml.safe_load((FOLDER / "alerting" / "rules.yaml").read_text())["groups"][0]["rules"]
    assert [rule["uid"] for rule in rules] == [rule.uid for rule in RULES]
    for rule in rules:
        panel = next(
            panel
            for panel in panels_of(DASHBOARDS[rule["dashboardUid"]])
            if str(panel["id"]) == rule["annotations"]["__panelId__"]
        )
        assert panel["targets"], rule["title"]
        assert rule["annotations"]["description"].endswith(".")
        assert rule["labels"]["severity"] in {"warning", "critical"}
    covered = {rule["title"] for rule in rules}
    assert {
        "Device offline",
        "Health low",
        "Remaining life short",
        "Unknown frames",
        "Pipeline lags",
        "Dead letters",
    } <= covered


def test_environment_variables_stand_only_where_grafana_puts_them_in() -> None:
    texts = {path.relative_to(FOLDER).as_posix(): path.read_text() for path in FOLDER.rglob("*.yaml")}
    assert set(re.findall(r"\$(HEADWATER_\w+)", texts["datasources/headwater.yaml"])) == {
        "HEADWATER_INFLUX_URL",
        "HEADWATER_INFLUX_DATABASE",
        "HEADWATER_INFLUX_READ_TOKEN",
        "HEADWATER_PAGE_URL",
        "HEADWATER_PAGE_TOKEN",
    }
    for name, text in texts.items():
        if not name.startswith(("datasources/", "alerting/rules")):
            assert "$" not in text, f"{name}: Grafana would look for an environment variable"
