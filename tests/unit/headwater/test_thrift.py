"""A process sets its limits before numpy comes."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import os, sys
from headwater.cli import main
assert "numpy" not in sys.modules, "too late for the settings to have an effect"
try:
    main([sys.argv[1], "--help"])
except SystemExit:
    print(os.environ.get("OPENBLAS_NUM_THREADS", "unset"))
"""


@pytest.mark.parametrize(
    ("command", "given", "found"), [("agent", None, "1"), ("agent", "3", "3"), ("check", None, "1"), ("up", "2", "2")]
)
def test_every_command_keeps_blas_to_one_thread_unless_the_user_says_otherwise(
    command: str, given: str | None, found: str
) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    if given is not None:
        environment["OPENBLAS_NUM_THREADS"] = given
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, command], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.splitlines()[-1] == found
