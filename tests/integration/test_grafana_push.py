"""`headwater dashboards push` and `export` against a scripted Grafana, a hostile one too."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from grafana_peer import TOKEN, GrafanaPeer

from dashboards.grafana.screen import MENU
from headwater.cli import main
from headwater.io import dashboards_grafana

pytestmark = pytest.mark.integration

FOLDER = Path(__file__).parents[2] / "dashboards" / "grafana" / "provisioning"


@pytest.fixture
def grafana() -> Iterator[GrafanaPeer]:
    with GrafanaPeer() as peer:
        yield peer


@pytest.fixture
def token(tmp_path: Path) -> str:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    return str(path)


def call(action: str, grafana: GrafanaPeer, token: str, *more: str) -> int:
    settings = ("--set", f"grafana.url={grafana.url}", "--set", f"grafana.token_file={token}")
    return main(["dashboards", action, *more, *settings])


def committed(uid: str) -> Any:
    return json.loads((FOLDER / "dashboards" / "headwater" / f"{uid}.json").read_text())


def test_push_makes_the_folder_and_all_dashboards_and_replaces_them_the_second_time(
    grafana: GrafanaPeer, token: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("push", grafana, token, "--json") == 0
    assert grafana.folders == {"headwater": "Headwater"}
    assert grafana.dashboards.keys() == MENU.keys()
    assert json.loads(capsys.readouterr().out) == {"pushed": dict.fromkeys(MENU, 1), "missing_sources": []}
    assert call("push", grafana, token, "--json") == 0
    assert set(json.loads(capsys.readouterr().out)["pushed"].values()) == {2}
    assert [seen for seen in grafana.seen if seen == ("POST", "/api/folders")] == [("POST", "/api/folders")]


def test_what_was_pushed_comes_back_the_same(grafana: GrafanaPeer, token: str, tmp_path: Path) -> None:
    assert call("push", grafana, token) == 0
    assert call("export", grafana, token, str(tmp_path / "out")) == 0
    for uid in MENU:
        assert json.loads((tmp_path / "out" / f"{uid}.json").read_text()) == committed(uid)


def test_many_dashboards_are_asked_for_page_by_page(
    grafana: GrafanaPeer, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dashboards_grafana, "PAGE", 2)
    assert call("push", grafana, token) == 0
    with closing(dashboards_grafana.GrafanaDashboards(grafana.url, TOKEN)) as asked:
        assert asked.uids("headwater") == sorted(MENU)


def test_a_missing_data_source_is_told_but_no_failure(
    grafana: GrafanaPeer, token: str, capsys: pytest.CaptureFixture[str]
) -> None:
    grafana.sources.remove("headwater-page")
    assert call("push", grafana, token) == 0
    assert "the data source headwater-page is not there yet" in capsys.readouterr().err


def test_a_grafana_behind_a_path_is_found(token: str) -> None:
    with GrafanaPeer(prefix="/plant/grafana") as grafana:
        assert call("push", grafana, token) == 0
        assert grafana.dashboards.keys() == MENU.keys()


def test_a_broken_tree_is_not_pushed(
    grafana: GrafanaPeer, token: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = committed("headwater-fleet")
    broken["panels"][1]["id"] = 1
    (tmp_path / "fleet.json").write_text(json.dumps(broken))
    assert call("push", grafana, token, str(tmp_path)) == 1
    assert "nothing was pushed" in capsys.readouterr().err
    assert not grafana.seen


@pytest.mark.parametrize(
    ("refusal", "sentence"),
    [
        ((500, {"message": "database is locked"}), "is in trouble: Server Error 500: database is locked"),
        ((503, b"<html>"), "is in trouble"),
        ((403, {"message": "no"}), "refuses (403): the token may not do that"),
        ((400, {"message": "Cannot save provisioned dashboard"}), "came from provisioning files"),
        ((200, b"<html>a login page</html>"), "does not speak like a Grafana"),
        ((200, b""), "does not speak like a Grafana"),
        ((200, [1, 2]), "does not speak like a Grafana"),
        ((200, {"version": None}), "does not speak like a Grafana"),
    ],
)
def test_an_answer_that_is_none_is_said_in_a_sentence(
    grafana: GrafanaPeer, token: str, capsys: pytest.CaptureFixture[str], refusal: tuple[int, Any], sentence: str
) -> None:
    grafana.folders["headwater"] = "Headwater"
    grafana.refusals = [(200, {"buildInfo": {"version": "13.3.0"}}), (200, {"uid": "headwater"}), refusal]
    assert call("push", grafana, token) == 1
    assert sentence in capsys.readouterr().err
    assert not grafana.dashboards


def test_a_wrong_token_a_missing_file_and_an_empty_one_are_told_apart(
    grafana: GrafanaPeer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wrong").write_text("glsa_wrong")
    assert call("push", grafana, str(tmp_path / "wrong")) == 1
    assert "put a service account's token into grafana.token_file" in capsys.readouterr().err
    assert call("push", grafana, str(tmp_path / "nowhere")) == 78
    (tmp_path / "empty").write_text("\n")
    assert call("push", grafana, str(tmp_path / "empty")) == 78
    assert "its first line is empty" in capsys.readouterr().err


def test_nobody_at_the_address_is_a_lost_connection(token: str, capsys: pytest.CaptureFixture[str]) -> None:
    with GrafanaPeer() as grafana:
        pass
    assert call("push", grafana, token) == 1
    assert f"no Grafana answers at {grafana.url}" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["ftp://x", "127.0.0.1:3000", "http://admin:admin@x:3000"])
def test_an_address_that_is_none_is_a_wrong_setting(url: str) -> None:
    assert main(["dashboards", "push", "--set", f"grafana.url={json.dumps(url)}"]) == 78


def test_export_needs_a_folder_and_writes_nowhere_else(
    grafana: GrafanaPeer, token: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("export", grafana, token) == 78
    grafana.dashboards["../../evil"] = {"dashboard": {"tags": ["headwater"]}, "provisioned": False}
    assert call("export", grafana, token, str(tmp_path / "out")) == 1
    assert "which is no uid" in capsys.readouterr().err
    assert not list(tmp_path.glob("*evil*"))
