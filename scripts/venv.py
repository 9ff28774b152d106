"""Makes the virtual environment with the newest suitable Python on this machine: `python3 scripts/venv.py .venv`."""

import shutil
import subprocess
import sys

MINIMUM = (3, 11)
CHECK = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))"


def main() -> int:
    """Tries this Python first, then others by name."""
    target = sys.argv[1]
    for name in (sys.executable, "python3.13", "python3.12", "python3.11", "python3"):
        path = shutil.which(name)
        if path is None or subprocess.run([path, "-c", CHECK], capture_output=True, check=False).returncode:
            continue
        return subprocess.run([path, "-m", "venv", target], check=False).returncode
    print(
        "Headwater needs Python 3.11 or later with venv (on Debian: apt install python3 python3-venv).", file=sys.stderr
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
