"""Installs peers that can't live beside Headwater's own packages into folders of their own, by pip and by name.

python scripts/peers.py pysparkplug      into .venv/peers/pysparkplug (it asks for an older paho-mqtt than Headwater)

A test runs such a peer as a process of its own with the folder on PYTHONPATH.
"""

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[1] / ".venv" / "peers"
PEERS = {"pysparkplug": "pysparkplug==0.6.1"}


def installed(name: str) -> Path | None:
    """The folder of a peer, None while it is not there."""
    folder = FOLDER / name
    return folder if (folder / name / "__init__.py").exists() else None


def main() -> int:
    """Installs what is missing of the named peers."""
    for name in sys.argv[1:]:
        if installed(name) is None:
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            done = subprocess.run([*command, "--target", str(FOLDER / name), PEERS[name]], check=False)
            if done.returncode:
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
