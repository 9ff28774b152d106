"""Everything that `headwater dashboards validate` must find, put into a tree that was right before."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from dashboards.grafana.check import check_tree
from headwater.cli import main

FOLDER = Path(__file__).parents[3] / "dashboards" / "grafana" / "provisioning"
FLEET = "headwater-fleet"
Tree = dict[str, Any]


@pytest.fixture
def tree() -> Tree:
    """{file: dashboard} and the provisioning files under "yaml", free to be spoilt."""
    found = {path.stem: json.loads(path.read_text()) for path in FOLDER.rglob("*.json")}
    found["yaml"] = [yaml.safe_load(path.read_text()) for path in sorted(FOLDER.rglob("*.yaml"))]
    return copy.deepcopy(found)


def wrong(tree: Tree) -> list[str]:
    return check_tree({name: value for name, value in tree.items() if name != "yaml"}, tree["yaml"])


def panel(tree: Tree, title: str, uid: str = FLEET) -> Any:
    return next(panel for panel in tree[uid]["panels"] if panel.get("title") == title)


def rule(tree: Tree) -> Any:
    return next(file for file in tree["yaml"] if "groups" in file)["groups"][0]["rules"][0]


def ask(text: str) -> Callable[[Tree], None]:
    def spoil(tree: Tree) -> None:
        panel(tree, "Anomalies")["targets"][0]["query"] = text

    return spoil


def put(path: str, value: Any, title: str = "Anomalies") -> Callable[[Tree], None]:
    def spoil(tree: Tree) -> None:
        at, *rest = path.split(".")
        place = panel(tree, title) if at == "panel" else tree[FLEET] if at == "dashboard" else rule(tree)
        for key in rest[:-1]:
            place = place[int(key)] if isinstance(place, list) else place[key]
        place[int(rest[-1]) if isinstance(place, list) else rest[-1]] = value

    return spoil


SPOILT = [
    (ask("SELECT count( FROM x"), "found"),
    (ask('SELECT count("score") FROM "anomalies"'), 'FROM "anomalies": there is no such measurement'),
    (ask('SELECT count("scores") FROM "anomaly"'), '"scores" is neither a tag nor a field of "anomaly"'),
    (ask('SELECT count("device") FROM "anomaly"'), 'count() of the tag "device": functions take fields'),
    (ask('SELECT count("score") FROM "anomaly" GROUP BY "value"'), 'GROUP BY the field "value": only tags make series'),
    (ask('SELECT count("score") FROM "anomaly" GROUP BY "where"'), '"where" is neither'),
    (ask('SELECT count("score") FROM "anomaly" WHERE "sites" = \'a\''), '"sites" is neither'),
    (ask('SELECT mean("message") FROM "anomaly"'), "mean() of a field that holds string"),
    (ask('SELECT holt_winters(mean("score"), 3, 1) FROM "anomaly"'), "holt_winters() is no function that"),
    (ask('SELECT top("score", "value", 3) FROM "anomaly"'), 'top() by the field "value"'),
    (ask('SELECT sum("c") FROM (SELECT count("score") AS "d" FROM "anomaly")'), '"c" is neither a tag nor a field of the subquery'),
    (ask('SELECT count("score") FROM "anomaly" WHERE "site" =~ /^${plant:regex}$/'), "uses the variable $plant, which the dashboard does not have"),
    (ask(""), "is empty"),
    (put("panel.id", 2), 'has the id 2 of panel "Devices"'),
    (put("panel.gridPos.x", 8), "overlaps panel"),
    (put("panel.gridPos.x", 22), "lies outside of the 24 columns"),
    (put("panel.gridPos", {}), "has no place on the grid"),
    (put("panel.datasource.uid", "P1234"), "asks the data source 'P1234', which is not provisioned"),
    (put("panel.targets.0.datasource.uid", "${other}"), "asks the data source $other"),
    (put("panel.type", "grafana-clock-panel"), "which Grafana does not bring along"),
    (put("panel.repeat", "metric"), "repeats for $metric"),
    (put("panel.repeat", "site"), "repeats, but leaves room beside itself"),
    (put("panel.title", "Of $metric"), "uses the variable $metric"),
    (put("dashboard.links.0.url", "/d/headwater-nowhere"), "leads to the dashboard 'headwater-nowhere', which is not there"),
    (put("dashboard.links.0.url", "/d/headwater-device?var-plant=x"), "sets plant, which the dashboard headwater-device does not have"),
    (put("dashboard.uid", ""), "has no uid"),
    (put("dashboard.uid", "headwater-device"), "another dashboard has the uid headwater-device too"),
    (put("dashboard.schemaVersion", 16), "is older than"),
    (put("dashboard.elements", {}), "schema v2"),
    (put("dashboard.templating.list.0.current.value", "gone"), "begins with the data source 'gone'"),
    (put("dashboard.annotations.list.1.target.query", 'SELECT "text" FROM "anomaly"'), 'annotation "Anomalies": "text" is neither'),
    (put("dashboard.templating.list.1.query.query", 'SHOW TAG VALUES FROM "device" WITH KEY = "state"'), 'variable site: "state" is no tag'),
    (put("rule.condition", "D"), "has the condition 'D', but only A, B, C"),
    (put("rule.panelId", 99), "leads to panel 99"),
    (put("rule.dashboardUid", "x"), "leads to the dashboard 'x'"),
    (put("rule.data.0.datasourceUid", "x"), "A asks the data source 'x'"),
    (put("rule.data.1.model.expression", "Z"), "B works on 'Z'"),
    (put("rule.data.0.model.query", 'SELECT last("state") FROM "device" WHERE $timeFilter'), "has no GROUP BY time"),
    (put("rule.data.0.model.query", 'SELECT last("state") FROM "device" WHERE "site" = \'$site\' GROUP BY time(1m)'), "alert rules have no variables"),
    (put("rule.uid", "headwater-health"), "has no uid of its own"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "sentence"), SPOILT, ids=[sentence for _, sentence in SPOILT])
def test_what_is_wrong_is_said_in_a_sentence(tree: Tree, spoil: Callable[[Tree], None], sentence: str) -> None:
    spoil(tree)
    found = wrong(tree)
    assert any(sentence in line for line in found), found


def test_a_policy_that_leads_nowhere_is_found(tree: Tree) -> None:
    policy = next(file for file in tree["yaml"] if "policies" in file)["policies"][0]
    policy["routes"][0]["receiver"] = "nobody"
    assert wrong(tree) == ["policy: messages go to 'nobody', which is no contact point"]


def test_the_command_says_what_is_wrong_and_fails(
    tree: Tree, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree[FLEET]["panels"][1]["id"] = 1
    for name, dashboard in tree.items():
        if name != "yaml":
            (tmp_path / f"{name}.json").write_text(json.dumps(dashboard))
    (tmp_path / "all.yaml").write_text(yaml.safe_dump(next(file for file in tree["yaml"] if "datasources" in file)))
    assert main(["dashboards", "validate", str(tmp_path)]) == 1
    assert 'headwater-fleet.json: panel "Devices" has the id 1 of panel "Now"' in capsys.readouterr().out


def test_the_commands_of_the_package_itself_are_content(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dashboards", "validate", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"]
    assert main(["dashboards", "build", "--check"]) == 0


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("x.json", "{", "x.json: Expecting"),
        ("x.json", "[]", "x.json: holds no object"),
        ("x.yaml", "a: [", "x.yaml: while parsing"),
        ("x.yaml", "a: 1", "there is no dashboard"),
    ],
)
def test_files_that_are_none_are_wrong_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str, sentence: str
) -> None:
    (tmp_path / name).write_text(text)
    assert main(["dashboards", "validate", str(tmp_path)]) == 78
    assert sentence in capsys.readouterr().err


def test_build_writes_into_a_folder_and_leaves_foreign_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "new"
    assert main(["dashboards", "build", str(folder)]) == 0
    (folder / "mine.json").write_text("{}")
    assert main(["dashboards", "build", str(folder)]) == 0
    assert "mine.json is not made by the code" in capsys.readouterr().err
    assert main(["dashboards", "build", str(folder), "--check"]) == 1
    assert (folder / "dashboards" / "headwater" / "headwater-fleet.json").is_file()
