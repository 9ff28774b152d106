"""`headwater dashboards build|validate|push|export`: Grafana's dashboards as code."""

import argparse
import json
from contextlib import closing
from pathlib import Path
from typing import Any

from dashboards.grafana.settings import GrafanaSettings
from headwater.cli.shared import print_json, read_settings, say, table
from headwater.errors import RejectedError, SettingsError

FOLDER = Path(__file__).parents[2] / "dashboards" / "grafana" / "provisioning"
FOLDER_UID = "headwater"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "action",
        choices=("build", "validate", "push", "export"),
        help="build: write the files; validate: check them, without a Grafana; push: into a Grafana; export: out of one",
    )
    parser.add_argument(
        "folder", nargs="?", type=Path, default=None, help="folder of the files (default: those of this package)"
    )
    parser.add_argument("--check", action="store_true", help="build: write nothing, fail if the files differ")
    parser.add_argument("--outline", action="store_true", help="build: write nothing, list all panels and queries")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(options: argparse.Namespace) -> int:
    """Does what was asked; 1 if `build --check` or `validate` found something."""
    folder = options.folder or FOLDER
    if options.action == "build":
        return _build(folder, options)
    if options.action == "validate":
        return _validate(folder, as_json=options.json)
    settings = table(read_settings(options), "grafana", GrafanaSettings)
    if options.action == "export" and options.folder is None:
        raise SettingsError("export: name the folder to write to, such as `headwater dashboards export backup`")
    report = _push(folder, settings) if options.action == "push" else _export(folder, settings)
    if options.json:
        print_json(report)
    return 0


def _build(folder: Path, options: argparse.Namespace) -> int:
    from dashboards.grafana.bundle import described, files  # noqa: PLC0415  the SDK is there where dashboards are made

    if options.outline:
        print(described(), end="")
        return 0
    wanted = files()
    stale = {
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.suffix in {".json", ".yaml"}
    } - wanted.keys()
    different = [name for name, text in wanted.items() if _text(folder / name) != text]
    if options.check:
        for name in [*different, *sorted(stale)]:
            say(f"{folder / name} is not what the code makes: run headwater dashboards build")
        return int(bool(different or stale))
    for name in different:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted[name], encoding="utf-8")
    for name in stale:
        say(f"{folder / name} is not made by the code any more: delete it if it is not yours")
    say(f"{len(wanted)} files in {folder}, {len(different)} written.")
    return 0


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _validate(folder: Path, *, as_json: bool) -> int:
    from dashboards.grafana.check import check_tree  # noqa: PLC0415  its parser is needed only here

    dashboards, provisioned = _read(folder)
    wrong = check_tree(dashboards, provisioned)
    if as_json:
        print_json({"ok": not wrong, "dashboards": sorted(dashboards), "wrong": wrong})
    else:
        for sentence in wrong:
            print(sentence)
        say(f"{len(dashboards)} dashboards: {f'{len(wrong)} things are wrong' if wrong else 'all right'}.")
    return int(bool(wrong))


def _read(folder: Path) -> tuple[dict[str, Any], list[Any]]:
    """Reads the dashboards and the provisioning files of a folder.

    Raises:
        SettingsError: there are none, or one is no JSON or YAML.
    """
    import yaml  # noqa: PLC0415  an extra brings it

    if not folder.is_dir():
        raise SettingsError(f"{folder}: there is no such folder; `headwater dashboards build {folder}` makes one")
    dashboards: dict[str, Any] = {}
    provisioned: list[Any] = []
    for path in sorted(path for path in folder.rglob("*") if path.suffix in {".json", ".yaml", ".yml"}):
        try:
            text = path.read_text(encoding="utf-8")
            found = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
        except (ValueError, yaml.YAMLError) as error:
            raise SettingsError(f"{path}: {error}") from error
        if not isinstance(found, dict):
            raise SettingsError(f"{path}: holds no object")
        if path.suffix == ".json":
            dashboards[str(path.relative_to(folder))] = found
        else:
            provisioned.append(found)
    if not dashboards:
        raise SettingsError(f"{folder}: there is no dashboard (*.json) in it")
    return dashboards, provisioned


def _push(folder: Path, settings: GrafanaSettings) -> dict[str, Any]:
    from dashboards.grafana.check import check_tree  # noqa: PLC0415  its parser is needed only here

    dashboards, provisioned = _read(folder)
    wrong = check_tree(dashboards, provisioned)
    if wrong:
        raise RejectedError("\n".join([*wrong, "nothing was pushed"]), reason="wrong")
    with closing(_connect(settings)) as grafana:
        say(f"Grafana {grafana.version()} at {settings.url}")
        grafana.make_folder(FOLDER_UID, settings.folder)
        pushed = {}
        for dashboard in dashboards.values():
            pushed[dashboard["uid"]] = grafana.push(dashboard, FOLDER_UID)
            say(f"  {settings.url.rstrip('/')}/d/{dashboard['uid']}  version {pushed[dashboard['uid']]}")
        wanted = {str(source["uid"]) for file in provisioned for source in file.get("datasources", ())}
        missing = sorted(wanted - grafana.sources())
    for uid in missing:
        say(f"  the data source {uid} is not there yet: provision it (docs/grafana.md), else its panels stay empty")
    return {"pushed": pushed, "missing_sources": missing}


def _export(folder: Path, settings: GrafanaSettings) -> dict[str, Any]:
    with closing(_connect(settings)) as grafana:
        uids = grafana.uids("headwater")
        strange = next((uid for uid in uids if not uid.replace("-", "").replace("_", "").isalnum()), None)
        if strange is not None:
            raise RejectedError(f"Grafana names a dashboard {strange!r}, which is no uid", reason="uid")
        folder.mkdir(parents=True, exist_ok=True)
        for uid in uids:
            path = folder / f"{uid}.json"
            text = json.dumps(grafana.fetch(uid), indent=2, sort_keys=True, ensure_ascii=False)
            path.write_text(f"{text}\n", encoding="utf-8")
            say(f"  {path}")
    return {"exported": uids}


def _connect(settings: GrafanaSettings) -> Any:
    from headwater.io.dashboards_grafana import GrafanaDashboards  # noqa: PLC0415  an extra brings its client

    token = ""
    if settings.token_file:
        path = Path(settings.token_file)
        if not path.is_file():
            raise SettingsError(f"grafana.token_file {path}: there is no such file")
        token = path.read_text(encoding="utf-8").split("\n", 1)[0].strip()
        if not token:
            raise SettingsError(f"grafana.token_file {path}: its first line is empty")
    return GrafanaDashboards(settings.url, token)
