"""Every example in a docstring runs."""

import doctest
import importlib
import pkgutil

import niquests  # noqa: F401  its first import tries a socket, which tests of examples may not
import pytest

PACKAGES = ("headwater", "edge_agent", "gateway", "cloud_processor", "simulators", "dashboards")


def module_names() -> list[str]:
    """All modules of all packages."""
    names = []
    for package in PACKAGES:
        names.append(package)
        root = importlib.import_module(package)
        names += [found.name for found in pkgutil.walk_packages(root.__path__, f"{package}.")]
    return [name for name in names if not name.endswith("__main__")]


@pytest.mark.parametrize("name", module_names())
def test_examples_in_docstrings_run(name: str) -> None:
    failed, _ = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert failed == 0
