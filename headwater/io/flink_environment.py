"""The environment that Flink's Python needs: apache-flink and what it pins, the Kafka connector, and our Java side.

    .venv-flink/   python -m venv ─▶ pip: apache-flink, pydantic ─▶ mvn: connector ─▶ javac, jar: headwater-flink.jar

It is apart from Headwater's own, because PyFlink pins older pyarrow, numpy and protobuf. Our Python reaches the workers with
each job, so nothing of Headwater is installed here.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from headwater.errors import SettingsError

FLINK: Final = "2.3.0"
CONNECTOR: Final = "flink-sql-connector-kafka"
CONNECTOR_VERSION: Final = "5.0.0-2.2"
PYTHONS: Final = ((3, 11), (3, 12))  # Of ours and of PyFlink's range, both.
JAVA_MIN: Final = 11


class FlinkEnvironment:
    """One environment in a folder, there or not yet."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.root / "bin" / "python"

    @property
    def home(self) -> Path:
        """FLINK_HOME: the Flink that the wheel holds.

        Raises:
            SettingsError: it is not installed.
        """
        found = sorted((self.root / "lib").glob("python3*/site-packages/pyflink"))
        if not found:
            raise SettingsError(f"Flink is not installed in {self.root}: headwater flink install")
        return found[-1]

    @property
    def connector(self) -> Path:
        """The jar of Flink's Kafka connector."""
        return self.root / f"{CONNECTOR}-{CONNECTOR_VERSION}.jar"

    @property
    def own_jar(self) -> Path:
        """The jar of our Java side."""
        return self.root / "headwater-flink.jar"

    @property
    def shared_jars(self) -> list[Path]:
        """The jars that every job needs: Flink's own, its Python side, and the connector.

        Raises:
            SettingsError: it is not installed.
        """
        home = self.home
        return [
            *sorted((home / "lib").glob("*.jar")),
            *sorted((home / "opt").glob("flink-python-*.jar")),
            self.connector,
        ]

    def lacking(self, sources: Path) -> str:
        """Says what is missing before a cluster or a job can start; "" if nothing is.

        Args:
            sources: folder of our Java sources.
        """
        if java := _java_trouble("java"):
            return java
        again = "headwater flink install"
        if not self.python.exists() or not list((self.root / "lib").glob("python3*/site-packages/pyflink")):
            return f"Flink is not installed in {self.root}: {again}"
        found = _version_in(self.home)
        if found != FLINK:
            return f"{self.root} holds Flink {found}, this needs {FLINK}: remove it, then {again}"
        if not self.connector.exists():
            return f"{self.connector.name} is missing in {self.root}: {again}"
        if not self.own_jar.exists() or self._stamp.read_text(encoding="ascii") != _digest(sources):
            return f"{self.own_jar.name} in {self.root} is not that of this version: {again}"
        return ""

    def check(self, sources: Path) -> None:
        """Raises a SettingsError that says how to fix it, if something is missing."""
        if trouble := self.lacking(sources):
            raise SettingsError(trouble)

    def install(self, sources: Path) -> None:
        """Makes what is not there yet; several may call it at a time.

        Raises:
            SettingsError: Java, a compiler, Maven or a suitable Python is missing, or a download failed.
        """
        for tool in ("java", "javac"):
            if trouble := _java_trouble(tool):
                raise SettingsError(trouble)
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / "install.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not self.python.exists():
                _run([_suitable_python(), "-m", "venv", str(self.root)])
            if not list((self.root / "lib").glob("python3*/site-packages/apache_flink-*.dist-info")):
                pip = [str(self.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
                _run([*pip, f"apache-flink=={FLINK}", "pydantic>=2.7"])
            if not self.connector.exists():
                if shutil.which("mvn") is None:
                    raise SettingsError("mvn is not installed, which fetches the connector (Debian package maven)")
                artifact = f"-Dartifact=org.apache.flink:{CONNECTOR}:{CONNECTOR_VERSION}"
                _run(["mvn", "-q", "-B", "dependency:copy", artifact, f"-DoutputDirectory={self.root}"])
            if self.lacking(sources):
                self._build(sources)

    @property
    def _stamp(self) -> Path:
        return self.root / "headwater-flink.sha256"

    def _build(self, sources: Path) -> None:
        """Compiles our Java sources into a jar."""
        classes = self.root / "classes"
        shutil.rmtree(classes, ignore_errors=True)
        classes.mkdir()
        files = [str(path) for path in sorted(sources.glob("*.java"))]
        path = f"{self.home / 'lib'}/*:{self.connector}"
        _run(["javac", "--release", str(JAVA_MIN), "-nowarn", "-d", str(classes), "-cp", path, *files])
        _run(["jar", "--create", "--file", str(self.own_jar), "-C", str(classes), "."])
        self._stamp.write_text(_digest(sources), encoding="ascii")


def _digest(sources: Path) -> str:
    data = b"".join(path.read_bytes() for path in sorted(sources.glob("*.java")))
    return hashlib.sha256(data).hexdigest()


def _version_in(home: Path) -> str:
    jars = [path.name for path in (home / "lib").glob("flink-dist-*.jar")]
    return jars[0].removeprefix("flink-dist-").removesuffix(".jar") if jars else "of no known version"


def _java_trouble(tool: str) -> str:
    """Says what is wrong with Java here, "" if nothing is."""
    if shutil.which(tool) is None:
        package = "openjdk-17-jdk-headless" if tool == "javac" else "openjdk-17-jre-headless"
        return f"{tool} is not installed (Debian package {package}); Flink {FLINK} runs on Java {JAVA_MIN} or 17"
    done = subprocess.run([tool, "-version"], capture_output=True, text=True, check=False)
    found = re.search(r'(?:version "|javac )(\d+)', done.stdout + done.stderr)
    if found is None or int(found[1]) < JAVA_MIN:
        return f"{tool} is version {found[1] if found else 'unknown'}; Flink {FLINK} runs on Java {JAVA_MIN} or 17"
    return ""


def _suitable_python() -> str:
    if sys.version_info[:2] in PYTHONS:
        return sys.executable
    for major, minor in reversed(PYTHONS):
        if path := shutil.which(f"python{major}.{minor}"):
            return path
    raise SettingsError(f"PyFlink {FLINK} needs Python 3.11 or 3.12 (python3.11 or python3.12 on the PATH)")


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"PIP_NO_INPUT": "1"})
    if done.returncode:
        said = (done.stdout + done.stderr)[-2000:]
        raise SettingsError(f"{' '.join(command[:4])} … failed with {done.returncode}:\n{said}")
