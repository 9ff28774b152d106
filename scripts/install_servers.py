"""Installs what tests need: Debian packages, Kafka's jars by Maven, peers and Flink by pip; says so where it can't, fails under CI=true.

python scripts/install_servers.py [mosquitto] [chromium] [kafka] [flink] [influxdb] [victoria-metrics] [pysparkplug]

All of them when none is named.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {
    "systemd": (["systemd-analyze"], ["systemd"]),
    "mosquitto": (["mosquitto", "mosquitto_pub"], ["mosquitto", "mosquitto-clients"]),
    "chromium": (["chromium"], ["chromium", "fonts-inter"]),
    "kafka": (["java", "mvn"], ["default-jre-headless", "maven"]),
    "flink": (["javac"], ["default-jdk-headless"]),
    "influxdb": (["influxd"], ["influxdb"]),
    "victoria-metrics": (["victoria-metrics"], ["victoria-metrics"]),
    "pysparkplug": ([], []),
}
# What a server needs beyond its packages.
SCRIPTS = {
    "kafka": [str(ROOT / "scripts" / "kafka.py"), "install"],
    "flink": ["-m", "headwater", "flink", "install"],
    "pysparkplug": [str(ROOT / "scripts" / "peers.py"), "pysparkplug"],
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


def fetch(name: str) -> bool:
    """Runs the server's own installation, which does nothing when all is there."""
    command = [sys.executable, *SCRIPTS[name]]
    return subprocess.run(command, check=False, stdout=subprocess.DEVNULL, cwd=ROOT).returncode == 0


def main() -> int:
    """Installs what is missing of the named servers."""
    named = sys.argv[1:] or list(PACKAGES)
    wanted = [name for name in named if missing(name)]
    if wanted:
        packages = [package for name in wanted for package in PACKAGES[name][1]]
        if not (apt("update") and apt("install", "--no-install-recommends", *packages)):
            print("apt-get failed or is not here", file=sys.stderr)
    still = [name for name in named if missing(name) or (name in SCRIPTS and not fetch(name))]
    if not still:
        return 0
    print(f"Not installed: {', '.join(still)}; tests that need them will be skipped and say so.", file=sys.stderr)
    return 1 if os.environ.get("CI") == "true" else 0


if __name__ == "__main__":
    sys.exit(main())
