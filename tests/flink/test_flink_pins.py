"""The core on the versions that PyFlink pins: golden cases, operator contract and replay, in the job's own environment."""

import os
import subprocess

import pytest
from flink_world import ROOT

from headwater.io.flink_environment import FlinkEnvironment

pytestmark = [pytest.mark.flink, pytest.mark.integration]

VERSIONS = "import numpy, pyarrow, google.protobuf as p; print(numpy.__version__, pyarrow.__version__, p.__version__)"
TESTS = (
    "tests/golden",
    "tests/property/test_operator_contract.py",
    "tests/property/test_task_replay.py",
    "tests/property/test_flink_host.py",
    "tests/property/test_pane_windows_oracle.py",
    "tests/unit/headwater/test_results_arrow.py",
)


def run(environment: FlinkEnvironment, *arguments: str) -> str:
    variables = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [str(environment.python), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=variables)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_the_environment_holds_what_pyflink_pins(environment: FlinkEnvironment) -> None:
    numpy, pyarrow, protobuf = run(environment, "-c", VERSIONS).split()
    assert (numpy.rpartition(".")[0], pyarrow.rpartition(".")[0], protobuf.partition(".")[0]) == ("2.1", "16.1", "5")


def test_operators_and_formats_pass_their_tests_on_those_versions(environment: FlinkEnvironment) -> None:
    said = run(environment, "-m", "pytest", "-q", "--noconftest", "-p", "no:cacheprovider", *TESTS)
    assert " passed" in said
    assert " skipped" not in said
