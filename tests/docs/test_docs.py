"""What the docs show is what there is."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from headwater.cli import COMMANDS, build_parser
from headwater.cli.shared import table_classes
from headwater.settings import load_settings, sample_settings

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])


def test_the_tree_in_the_architecture_page_is_the_tree() -> None:
    done = subprocess.run([sys.executable, str(ROOT / "scripts" / "tree.py"), "--check"], check=False)
    assert done.returncode == 0, "run: python scripts/tree.py"


def test_the_sample_settings_are_what_the_models_say() -> None:
    committed = (ROOT / "headwater.sample.toml").read_text(encoding="utf-8")
    assert committed == sample_settings(table_classes()), "run: headwater config > headwater.sample.toml"
    assert load_settings(table_classes(), text=committed) == load_settings(table_classes())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http:", "https:", "mailto:")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_files_that_pages_name_are_there(page: Path) -> None:
    pattern = r"`((?:headwater|edge_agent|gateway|cloud_processor|simulators|dashboards|scripts|tests|benchmarks|docs|examples)/[\w./-]+)`"
    for target in re.findall(pattern, page.read_text(encoding="utf-8")):
        assert (ROOT / target).exists(), f"{page.name} names {target}"


def test_python_in_the_readme_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {"__name__": "readme"})


def test_commands_in_the_pages_exist() -> None:
    for page in PAGES:
        for name in re.findall(r"`headwater ([a-z]+)[ `]", page.read_text(encoding="utf-8")):
            assert name in COMMANDS, f"{page.name} shows headwater {name}"


def test_make_targets_in_the_pages_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page in PAGES:
        for name in re.findall(r"`make ([a-z-]+)`", page.read_text(encoding="utf-8")):
            assert name in targets, f"{page.name} shows make {name}"


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help_for_itself_and_its_options(name: str) -> None:
    parser = build_parser(name)
    commands = next(action for action in parser._actions if action.dest == "command")
    command = commands.choices[name]  # type: ignore[index, call-overload]
    assert command.description
    for action in command._actions:
        assert action.help, f"headwater {name} {action.option_strings or action.dest} has no help"


def test_the_settings_of_a_package_are_documented() -> None:
    for name, table in table_classes().items():
        for field_name, field in table.model_fields.items():
            assert field.description, f"[{name}] {field_name} has no description"
    assert tomllib.loads(sample_settings(table_classes())).keys() == table_classes().keys()


def test_no_page_names_this_machine() -> None:
    grep = shutil.which("git")
    assert grep
    words = ["/wo" + "rk/", "/fa" + "rm/", "/roo" + "t/"]
    for word in words:
        done = subprocess.run([grep, "grep", "-l", "-F", word], cwd=ROOT, capture_output=True, text=True, check=False)
        assert not done.stdout, f"{word} stands in {done.stdout}"
