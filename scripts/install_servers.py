"""Installs the Debian packages that tests need; says so and goes on where it can't, fails under CI=true.

python scripts/install_servers.py [mosquitto] [chromium]      both when none is named
"""

import os
import shutil
import subprocess
import sys

PACKAGES = {
    "mosquitto": (["mosquitto", "mosquitto_pub"], ["mosquitto", "mosquitto-clients"]),
    "chromium": (["chromium"], ["chromium", "fonts-inter"]),
}


def missing(name: str) -> bool:
    """Tells whether one of the server's commands is not there."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return any(shutil.which(command, path=path) is None for command in PACKAGES[name][0])


def apt(*arguments: str) -> bool:
    """Runs apt-get as it is, or by sudo where that asks no question; waits for another apt to end."""
    command = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300", *arguments]
    if os.geteuid() != 0:
        command = ["sudo", "-n", *command]
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    print("+", " ".join(command), flush=True)
    try:
        return subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False).returncode == 0
    except FileNotFoundError:
        return False


def main() -> int:
    """Installs what is missing of the named servers."""
    wanted = [name for name in sys.argv[1:] or PACKAGES if missing(name)]
    if not wanted:
        return 0
    packages = [package for name in wanted for package in PACKAGES[name][1]]
    installed = apt("update") and apt("install", "--no-install-recommends", *packages)
    still = [name for name in wanted if missing(name)]
    if not still:
        return 0
    print(
        f"Not installed: {', '.join(still)} (apt-get {'ran' if installed else 'failed or is not here'}); "
        "tests that need them will be skipped and say so.",
        file=sys.stderr,
    )
    return 1 if os.environ.get("CI") == "true" else 0


if __name__ == "__main__":
    sys.exit(main())
