"""A short run of the fuzz campaign (`make fuzz` is the long one)."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "fuzz.py"


def test_decoders_raise_only_their_own_errors_on_hostile_input() -> None:
    command = [sys.executable, str(SCRIPT), "--inputs", "24000", "--seed", "20261122"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "24000 passed, 0 failed" in done.stdout
