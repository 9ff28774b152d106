"""A real Apache Kafka on loopback, for the developer and for tests: `make kafka`.

    python scripts/kafka.py install                     fetches the jars by Maven; needs java and mvn
    python scripts/kafka.py start [--nodes 1|3] [--port 9092] [--data DIR]      prints its kafka:// URL
    python scripts/kafka.py status [--data DIR]
    python scripts/kafka.py stop [--data DIR] [--delete]

A node is broker and controller in one process (KRaft). Nodes listen on 127.0.0.1 only, keep what they have in DIR,
are waited for by Kafka's own protocol, and are ended by the process ids that DIR names. Starting again on the same
DIR starts the same cluster with the same ports and records. Tests use the class `Cluster` directly.
"""

import argparse
import base64
import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kafka_ports import brokers_known_at, free_ports

ROOT = Path(__file__).resolve().parents[1]
VERSION = "4.3.1"
JARS = {"org.apache.kafka:kafka_2.13": VERSION, "org.apache.logging.log4j:log4j-slf4j-impl": "2.25.2"}
LIBS = ROOT / ".headwater" / f"kafka-{VERSION}"
DATA = ROOT / ".headwater" / "kafka-data"
PORT = 9092
START_S = 90.0
STOP_S = 30.0
# Every node of a test cluster shares two cores with the others: small heap, one collector thread, quick compiler.
JVM = ("-Xms96m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
LOGGING = """\
rootLogger.level = WARN
rootLogger.appenderRef.out.ref = OUT
appender.out.type = Console
appender.out.name = OUT
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %p %m (%c)%n
"""


class KafkaError(Exception):
    """Kafka can't be installed, started or found; the message says why."""


def lacking(libs: Path = LIBS) -> str:
    """Says what keeps a node from being started, "" if nothing does."""
    if shutil.which("java") is None:
        return "java is not installed (Debian package default-jre-headless)"
    return "" if (libs / "complete").exists() else "its jars are not here: python scripts/kafka.py install"


def install(libs: Path = LIBS) -> None:
    """Fetches the jars, once; several may call it at a time.

    Raises:
        KafkaError: Maven is not here or could not fetch them.
    """
    if (libs / "complete").exists():
        return
    if shutil.which("mvn") is None:
        raise KafkaError("mvn is not installed (Debian package maven)")
    libs.parent.mkdir(parents=True, exist_ok=True)
    with (libs.parent / f"{libs.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (libs / "complete").exists():
            return
        shutil.rmtree(libs, ignore_errors=True)
        libs.mkdir()
        (libs / "pom.xml").write_text(_pom(), encoding="utf-8")
        command = ["mvn", "-q", "-B", "-f", str(libs / "pom.xml"), "dependency:copy-dependencies"]
        done = subprocess.run([*command, f"-DoutputDirectory={libs}"], capture_output=True, text=True, check=False)
        if done.returncode:
            raise KafkaError(f"mvn failed:\n{(done.stdout + done.stderr)[-2000:]}")
        (libs / "complete").touch()


def _pom() -> str:
    dependencies = ""
    for name, version in JARS.items():
        group, _, artifact = name.partition(":")
        dependencies += f"<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>"
        dependencies += f"<version>{version}</version></dependency>"
    head = '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
    head += "<groupId>headwater</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>"
    return f"{head}<dependencies>{dependencies}</dependencies></project>\n"


@dataclass(frozen=True)
class Node:
    """One broker and controller: its number from 1, and where clients, other controllers and strangers connect."""

    number: int
    port: int
    controller_port: int
    secure_port: int = 0


@dataclass(frozen=True)
class Secure:
    """A listener of every node with TLS and SASL, for one user.

    Attributes:
        pem: a file with the nodes' private key and certificate.
        username, password: who may connect, by PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.
    """

    pem: Path
    username: str
    password: str


class Cluster:
    """One or three nodes over one folder; made anew there, or found as it was left.

    Nodes outlive the process that starts them, unless they are tied to it: then even its SIGKILL ends them.

    Raises:
        KafkaError: there is something else in the folder, or another number of nodes.
    """

    def __init__(
        self,
        folder: Path,
        nodes: int = 1,
        *,
        port: int = 0,
        is_tied: bool = False,
        secure: Secure | None = None,
        libs: Path = LIBS,
    ) -> None:
        self.folder, self._libs, self._secure = folder.resolve(), libs, secure
        self._tie = ["setpriv", "--pdeathsig", "KILL"] if is_tied and shutil.which("setpriv") else []
        book = self.folder / "cluster.json"
        if book.exists():
            known = json.loads(book.read_text(encoding="utf-8"))
            self.id, self.nodes = str(known["id"]), [Node(**node) for node in known["nodes"]]
            if len(self.nodes) != nodes:
                raise KafkaError(
                    f"{folder} holds a cluster of {len(self.nodes)} nodes: stop --delete, or another --data"
                )
            return
        if self.folder.exists() and any(self.folder.iterdir()):
            raise KafkaError(f"{folder} is not empty and holds no cluster")
        ports = free_ports(3 * nodes)
        clients = range(port, port + nodes) if port else ports[:nodes]
        self.id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A", 1)
        secures = ports[2 * nodes :] if secure else [0] * nodes
        self.nodes = [Node(at + 1, clients[at], ports[nodes + at], secures[at]) for at in range(nodes)]
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "log4j2.properties").write_text(LOGGING, encoding="utf-8")
        self._format()
        book.write_text(json.dumps({"id": self.id, "nodes": [vars(node) for node in self.nodes]}), encoding="utf-8")

    @property
    def url(self) -> str:
        """What `[pipeline] log` takes."""
        return "kafka://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def start(self, numbers: Sequence[int] = (), *, wait: bool = True) -> None:
        """Starts the named nodes, or all, where they don't run; returns when every running node knows every other.

        Raises:
            KafkaError: a node ended or did not answer in time.
        """
        named = [node for node in self.nodes if not numbers or node.number in numbers]
        for node in named:
            if not self.runs(node.number):
                self._start(node)
        if wait:
            self.wait([node.number for node in named])

    def wait(self, numbers: Sequence[int]) -> None:
        """Returns when each of these and of all other running nodes says that all of them are in the cluster.

        Raises:
            KafkaError: one of these ended or did not answer in time.
        """
        wanted = [node for node in self.nodes if node.number in numbers or self.runs(node.number)]
        deadline_s = time.monotonic() + START_S
        for node in wanted:
            while not {other.port for other in wanted} <= brokers_known_at(node.port):
                if not self.runs(node.number):
                    raise KafkaError(f"node {node.number} ended: {self.last_words(node.number)}")
                if time.monotonic() > deadline_s:
                    raise KafkaError(f"node {node.number} is not ready: {self.last_words(node.number)}")
                time.sleep(0.05)

    def stop(self) -> None:
        """Ends all nodes, cleanly first, and returns when they are gone."""
        self.resume()
        running = [node.number for node in self.nodes if self.runs(node.number)]
        for number in running:
            self._signal(number, signal.SIGTERM)
        deadline_s = time.monotonic() + STOP_S
        for number in running:
            while self.runs(number) and time.monotonic() < deadline_s:
                time.sleep(0.05)
            self.kill(number)

    def kill(self, number: int) -> None:
        """SIGKILL; returns when the node is gone."""
        while self.runs(number):
            self._signal(number, signal.SIGKILL)
            time.sleep(0.01)

    def suspend(self, number: int) -> None:
        """SIGSTOP: the node keeps its connections and says nothing."""
        self._signal(number, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT to all nodes."""
        for node in self.nodes:
            self._signal(node.number, signal.SIGCONT)

    def runs(self, number: int) -> bool:
        """Tells whether the node's process is there; a process that only has the same id is another."""
        pid = self._pid(number)
        try:
            state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False
        if state == "Z":
            with contextlib.suppress(ChildProcessError):  # The child of another process is not ours to reap.
                os.waitpid(pid, os.WNOHANG)
            return False
        # While a process becomes another program it has no command line.
        return not command or str(self._file(number, "server.properties")).encode() in command

    def last_words(self, number: int) -> str:
        """The end of what the node said."""
        path = self._file(number, "messages.txt")
        return path.read_text(encoding="utf-8", errors="replace")[-2000:] if path.exists() else ""

    def _file(self, number: int, name: str) -> Path:
        return self.folder / f"node-{number}" / name

    def _pid(self, number: int) -> int:
        try:
            return int(self._file(number, "pid").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return 0

    def _signal(self, number: int, what: signal.Signals) -> None:
        if self.runs(number):
            os.kill(self._pid(number), what)

    def _java(self, *arguments: str) -> list[str]:
        logging = f"-Dlog4j2.configurationFile={self.folder / 'log4j2.properties'}"
        return ["java", *JVM, logging, "-cp", f"{self._libs}/*", *arguments]

    def _format(self) -> None:
        """Writes each node's settings and makes its folders, all with one cluster id."""
        running = []
        for node in self.nodes:
            settings = self._file(node.number, "server.properties")
            settings.parent.mkdir()
            settings.write_text(self._settings(node), encoding="utf-8")
            command = self._java(
                "kafka.tools.StorageTool", "format", "-t", self.id, "-c", str(settings), *self._users()
            )
            running.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        said = [process.communicate()[0] for process in running]
        failed = [text for process, text in zip(running, said, strict=True) if process.returncode]
        if failed:
            shutil.rmtree(self.folder)
            raise KafkaError(f"formatting failed:\n{failed[0][-2000:]}")

    def _users(self) -> list[str]:
        if self._secure is None:
            return []
        who = f'=[name="{self._secure.username}",password="{self._secure.password}"]'
        return [part for name in ("SCRAM-SHA-256", "SCRAM-SHA-512") for part in ("--add-scram", name + who)]

    def _secure_settings(self, node: Node, secure: Secure) -> dict[str, object]:
        listener, login = "listener.name.secure", "org.apache.kafka.common.security"
        user = f'user_{secure.username}="{secure.password}"'
        plain = f"127.0.0.1:{node.port},SECURE://127.0.0.1:{node.secure_port}"
        return {
            "listeners": f"PLAINTEXT://{plain},CONTROLLER://127.0.0.1:{node.controller_port}",
            "advertised.listeners": f"PLAINTEXT://{plain}",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SECURE:SASL_SSL",
            f"{listener}.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
            f"{listener}.plain.sasl.jaas.config": f"{login}.plain.PlainLoginModule required {user};",
            f"{listener}.scram-sha-256.sasl.jaas.config": f"{login}.scram.ScramLoginModule required;",
            f"{listener}.scram-sha-512.sasl.jaas.config": f"{login}.scram.ScramLoginModule required;",
            f"{listener}.ssl.keystore.type": "PEM",
            f"{listener}.ssl.keystore.location": secure.pem,
        }

    def _settings(self, node: Node) -> str:
        copies = min(len(self.nodes), 3)
        least = max(copies - 1, 1)
        settings: dict[str, object] = {
            "process.roles": "broker,controller",
            "node.id": node.number,
            "controller.quorum.voters": ",".join(f"{n.number}@127.0.0.1:{n.controller_port}" for n in self.nodes),
            "listeners": f"PLAINTEXT://127.0.0.1:{node.port},CONTROLLER://127.0.0.1:{node.controller_port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{node.port}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": self._file(node.number, "records"),
            "auto.create.topics.enable": "false",
            "default.replication.factor": copies,
            "min.insync.replicas": least,
            "offsets.topic.num.partitions": 1,
            "group.initial.rebalance.delay.ms": 0,
            "num.network.threads": 2,
            "num.io.threads": 4,
            # A dead node is noticed in three seconds instead of nine.
            "broker.session.timeout.ms": 3000,
            "broker.heartbeat.interval.ms": 500,
            "replica.lag.time.max.ms": 5000,
            "controlled.shutdown.max.retries": 1,
        }
        for topic in ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic"):
            settings[f"{topic}.replication.factor"] = copies
        for topic in ("transaction.state.log", "share.coordinator.state.topic"):
            settings[f"{topic}.min.isr"] = least
        if self._secure is not None:
            settings |= self._secure_settings(node, self._secure)
        return "".join(f"{name}={value}\n" for name, value in settings.items())

    def _start(self, node: Node) -> None:
        settings = self._file(node.number, "server.properties")
        with self._file(node.number, "messages.txt").open("ab") as sink:
            process = subprocess.Popen(
                [*self._tie, *self._java("kafka.Kafka", str(settings))], stdin=subprocess.DEVNULL, stdout=sink, stderr=sink,
                start_new_session=True,
            )  # fmt: skip
        self._file(node.number, "pid").write_text(str(process.pid), encoding="utf-8")
        # Whoever reads the pid file ends it.
        process.returncode = 0


# The command line.


def main() -> int:
    """Does what the first argument says."""
    parser = argparse.ArgumentParser(description="A real Apache Kafka on loopback.")
    parser.add_argument("what", choices=["install", "start", "stop", "status"])
    parser.add_argument("--nodes", type=int, choices=[1, 3], default=1, help="for a new folder")
    parser.add_argument("--port", type=int, default=PORT, help="of the first node of a new folder; 0: any free ones")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the cluster")
    parser.add_argument("--delete", action="store_true", help="stop: and delete the folder with all records")
    options = parser.parse_args()
    try:
        return _do(options)
    except KafkaError as error:
        print(f"kafka: {error}", file=sys.stderr)
        return 1


def _do(options: argparse.Namespace) -> int:
    if options.what == "install":
        install()
        print(f"Kafka {VERSION} in {LIBS.relative_to(ROOT)}")
        return 0
    if options.what == "start":
        install()
        if lacking():
            raise KafkaError(lacking())
        cluster = Cluster(options.data, options.nodes, port=options.port)
        cluster.start()
        print(cluster.url)
        return 0
    book = options.data / "cluster.json"
    if not book.exists():
        print(f"no cluster in {options.data}")
        return 1
    cluster = Cluster(options.data, len(json.loads(book.read_text(encoding="utf-8"))["nodes"]))
    if options.what == "stop":
        cluster.stop()
        if options.delete:
            shutil.rmtree(options.data)
        return 0
    running = [node for node in cluster.nodes if cluster.runs(node.number)]
    for node in cluster.nodes:
        print(f"node {node.number} on 127.0.0.1:{node.port}: {'runs' if node in running else 'is down'}")
    print(cluster.url)
    return 0 if running else 1


if __name__ == "__main__":
    sys.exit(main())
