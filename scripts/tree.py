"""Writes the tree of packages and modules, each with its own first line, into docs/architecture.md.

python scripts/tree.py          write it
python scripts/tree.py --check  exit 1 if it is not what stands there
"""

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "architecture.md"
PACKAGES = ("headwater", "edge_agent", "gateway", "cloud_processor", "simulators", "dashboards")
BEGIN, END = "<!-- tree: written by scripts/tree.py -->\n", "<!-- end of tree -->\n"


def first_line(path: Path) -> str:
    """The first line of a module's docstring, without its full stop."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.split("\n", 1)[0].rstrip(".").replace("|", "\\|")


def folder_lines(folder: Path) -> list[str]:
    """A heading for a package and a row per module."""
    name = folder.relative_to(ROOT).as_posix()
    lines = [f"\n**`{name}/`** — {first_line(folder / '__init__.py')}\n", "| module | what it is |", "|---|---|"]
    lines += [
        f"| `{path.name}` | {first_line(path)} |" for path in sorted(folder.glob("*.py")) if path.name != "__init__.py"
    ]
    for below in sorted(path for path in folder.iterdir() if (path / "__init__.py").exists()):
        lines += folder_lines(below)
    return lines


def main() -> int:
    """Writes or checks."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    tree = "\n".join(line for package in PACKAGES for line in folder_lines(ROOT / package)) + "\n\n"
    wanted = before + BEGIN + tree + END + after
    if "--check" in sys.argv:
        return int(wanted != text)
    PAGE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
