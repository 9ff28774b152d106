"""The kill matrix: one victim at a time among real engines under load, then the independent checker judges.

    python scripts/chaos.py                                     every victim, 10 rounds each
    python scripts/chaos.py --victims broker kafka --rounds 3 --seed 7

    headwater simulate, headwater agent ─▶ Mosquitto ─▶ headwater gateway ─▶ Kafka ─▶ headwater processor ─▶ SQLite store
                                                                              Kafka ─▶ Flink ─▶ Kafka ─▶ headwater sink ─▶ store

Victims: agent, broker (kill -9 and its data wiped), gateway, kafka (kill -9), kafka-pause (SIGSTOP for a minute), processor;
with Flink in its place (`headwater flink install` first) flink-worker, its Python process, and flink-taskmanager, its Java process. A
campaign has its own folder, brokers and ledger. In each round the victim dies at a random moment of a fixed slot and comes
back; the load lasts as long as all slots. Then everything drains, and a campaign passes if each frame that a device
accepted is in the store once, no frame is unknown, and nothing ended by itself. Every figure is printed; the exit code is
1 if a campaign failed.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crash import BUSY, HEADWATER, ROOT, free_port, judge, kill, start, stop
from kafka import Cluster, install

from headwater.io.flink_cluster import ClusterSizes, FlinkCluster
from headwater.io.flink_environment import FlinkEnvironment
from headwater.io.store_sqlite_query import StoreReader

READINGS_PER_DEVICE_S = 8  # Of the simulated plant, about.
PAUSE_S = 60.0
DRAIN_S = 300.0  # Patience: a machine that others use too may be far behind.
CONFIGURATION = """\
listener {port} 127.0.0.1
allow_anonymous true
persistence true
persistence_location {data}/
autosave_interval 1
max_inflight_messages 0
max_queued_messages 0
"""


class Broker:
    """A Mosquitto on loopback that loses everything when it is killed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = free_port()
        folder.mkdir()
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        data = self._folder / "data"
        data.mkdir(exist_ok=True)
        # As root it would become another user, who could not write here.
        user = "user root\n" if os.geteuid() == 0 else ""
        settings = self._folder / "mosquitto.conf"
        settings.write_text(CONFIGURATION.format(port=self.port, data=data) + user, encoding="utf-8")
        program = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin")
        if program is None:
            sys.exit("mosquitto is not installed: python scripts/install_servers.py mosquitto")
        with (self._folder / "messages.txt").open("ab") as sink:
            return subprocess.Popen([program, "-c", str(settings)], stdout=sink, stderr=sink, start_new_session=True)

    def kill(self) -> bool:
        """SIGKILL, and its data is gone; False if it had ended by itself."""
        alive = kill(self._process)
        shutil.rmtree(self._folder / "data")
        return alive

    def restart(self) -> None:
        """Comes back empty."""
        self._process = self._start()

    def stop(self) -> None:
        """Ends it."""
        stop(self._process, 10)


@dataclass
class Plant:
    """A running pipeline over real engines.

    Attributes:
        data: the folder of everything.
        running: the headwater processes, by name.
        flink: the cluster that hosts the tasks, None where our processor does.
        early: how many victims had ended by themselves.
    """

    data: Path
    kafka: Cluster
    broker: Broker
    commands: dict[str, list[str]]
    flink: FlinkCluster | None = None
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    early: int = 0

    def begin(self, name: str) -> None:
        """Starts one of the commands."""
        self.running[name] = start(self.commands[name], self.data / f"{name}.txt")

    def kill(self, name: str) -> None:
        """Kills one of them."""
        self.early += not kill(self.running[name])


def start_flink(plant: Plant) -> None:
    """Starts a cluster on loopback and submits the job; what it can't start is said by the commands themselves."""
    plant.flink = FlinkCluster(plant.data / "flink", FlinkEnvironment(ROOT / ".venv-flink"))
    plant.flink.start(ClusterSizes())
    command = ["flink", "submit", "--fresh", "--data", str(plant.data), "--log", plant.kafka.url]
    command += ["--url", plant.flink.url]
    subprocess.run([*HEADWATER, *command], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def brokers(data: Path, readings_per_s: int, load_s: float, *, with_flink: bool) -> Plant:
    """Starts Kafka and Mosquitto, and knows how the stages, an agent and the load are started."""
    install()
    kafka = Cluster(data / "kafka")
    kafka.start()
    broker = Broker(data / "mosquitto")
    mqtt, log, ledger = f"mqtt://127.0.0.1:{broker.port}", kafka.url, str(data / "truth" / "ledger")
    common = ["--data", str(data), "--log", log]
    return Plant(data, kafka, broker, {
        "gateway": ["gateway", *common, "--mqtt", mqtt],
        "processor": ["sink" if with_flink else "processor", *common],
        "agent": [
            "agent", "--data", str(data), "--ledger", ledger, "--set", f"agent.gateway={mqtt}",
            "--set", "agent.site=chaos", "--set", "agent.device=machine-0", *BUSY,
            "--source", "simulated", "--option", "index=0", "--option", "seed=11", "--option", "devices=1",
        ],
        "load": [
            "simulate", "--devices", str(max(readings_per_s // READINGS_PER_DEVICE_S, 1)), "--gateway", mqtt,
            "--for", f"{load_s:.0f}s", "--frames-every", "1s", "--connections", "16", "--ledger", ledger,
            "--set", f"simulator.drain={DRAIN_S:.0f}s", "--set", "simulator.unacked_max=1024", "--json",
        ],
    })  # fmt: skip


def begin(plant: Plant, *, with_flink: bool) -> None:
    """Starts the stages, the agent and the load."""
    plant.begin("gateway")
    if with_flink:
        said = plant.data / "gateway.txt"
        _wait_for(lambda: "log kafka" in said.read_text(encoding="utf-8"), "the gateway and its topics")
        start_flink(plant)
    for name in ("processor", "agent", "load"):
        plant.begin(name)


def _wait_for(holds: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline_s:
            sys.exit(f"waited {timeout_s:.0f} s for {what}")
        time.sleep(0.1)


def kill_process(name: str) -> Callable[[Plant, random.Random], None]:
    """A victim that is one of our own processes."""

    def strike(plant: Plant, chance: random.Random) -> None:
        plant.kill(name)
        time.sleep(chance.uniform(0.0, 2.0))
        plant.begin(name)

    return strike


def wipe_broker(plant: Plant, chance: random.Random) -> None:
    """Mosquitto dies and forgets sessions, queues and retained messages."""
    plant.early += not plant.broker.kill()
    time.sleep(chance.uniform(0.0, 2.0))
    plant.broker.restart()


def kill_kafka(plant: Plant, chance: random.Random) -> None:
    """Kafka dies and comes back on its own records."""
    plant.kafka.kill(1)
    time.sleep(chance.uniform(0.0, 2.0))
    plant.kafka.start()


def pause_kafka(plant: Plant, _chance: random.Random) -> None:
    """Kafka keeps its connections and says nothing for a minute."""
    plant.kafka.suspend(1)
    time.sleep(PAUSE_S)
    plant.kafka.resume()


def _workers(plant: Plant) -> list[int]:
    """The Python workers of the running tasks, once there are some."""
    flink = plant.flink
    assert flink is not None
    _wait_for(lambda: bool(flink.workers()), "a Python worker of Flink", 120.0)
    return flink.workers()


def kill_flink_worker(plant: Plant, chance: random.Random) -> None:
    """One of Flink's Python processes dies; Flink starts another."""
    os.kill(chance.choice(_workers(plant)), signal.SIGKILL)


def kill_task_manager(plant: Plant, chance: random.Random) -> None:
    """The TaskManager dies with all its tasks; another one comes a moment later."""
    assert plant.flink is not None
    _workers(plant)  # The tasks run, so that there is something to lose.
    (manager,) = plant.flink.pids("taskmanager")
    os.kill(manager, signal.SIGKILL)
    time.sleep(chance.uniform(0.0, 2.0))
    plant.flink.add_task_manager()


@dataclass(frozen=True)
class Victim:
    """How to strike it, and the slot of a round: within it, it dies and is back and has worked for a while."""

    strike: Callable[[Plant, random.Random], None]
    slot_s: float
    with_flink: bool = False


VICTIMS: dict[str, Victim] = {
    "agent": Victim(kill_process("agent"), 8.0),
    "broker": Victim(wipe_broker, 8.0),
    "gateway": Victim(kill_process("gateway"), 10.0),
    "kafka": Victim(kill_kafka, 20.0),
    "kafka-pause": Victim(pause_kafka, PAUSE_S + 15.0),
    "processor": Victim(kill_process("processor"), 10.0),
    "flink-worker": Victim(kill_flink_worker, 25.0, with_flink=True),
    "flink-taskmanager": Victim(kill_task_manager, 45.0, with_flink=True),
}


def campaign(name: str, data: Path, rounds: int, readings_per_s: int, chance: random.Random) -> dict[str, Any]:
    """Runs the rounds of one victim, drains, and returns every figure."""
    victim = VICTIMS[name]
    warm_s = 12.0
    plant = brokers(data, readings_per_s, warm_s + rounds * victim.slot_s, with_flink=victim.with_flink)
    try:
        begin(plant, with_flink=victim.with_flink)
        began_s = time.monotonic() + warm_s
        for turn in range(rounds):
            at_s = began_s + turn * victim.slot_s + chance.uniform(0.0, 3.0)
            time.sleep(max(at_s - time.monotonic(), 0.0))
            victim.strike(plant, chance)
            print(f"  {name}: round {turn + 1}/{rounds}", flush=True)
        code = plant.running["load"].wait(rounds * victim.slot_s + 2 * DRAIN_S)
        codes = {"load": code, "agent": stop(plant.running["agent"], 90)}
        codes |= {stage: stop(plant.running[stage], 90) for stage in ("gateway", "processor")}
    finally:
        for process in plant.running.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
            process.wait()
        if plant.flink is not None:
            plant.flink.stop()
        plant.broker.stop()
        plant.kafka.stop()
    reader = StoreReader(data / "store.db")
    account = reader.account_total()
    reader.close()
    return {
        "victim": name,
        "rounds": rounds,
        "ended_early": plant.early,
        "bad_exits": {stage: code for stage, code in codes.items() if code},
        "load": last_object(data / "load.txt"),
        "account": account,
        **judge(data, data / "truth" / "ledger", data, with_log=False),
    }


def last_object(path: Path) -> dict[str, Any]:
    """What a command with --json said at its end."""
    text = path.read_text(encoding="utf-8", errors="replace")
    begin = text.rfind("\n{") + 1
    try:
        found: dict[str, Any] = json.loads(text[begin:])
    except json.JSONDecodeError:
        return {"error": text[-1000:]}
    return found


def is_good(report: dict[str, Any]) -> bool:
    """Tells whether a campaign passed."""
    return (
        report.get("exit") == 0
        and not report["ended_early"]
        and not report["bad_exits"]
        and report["account"]["unknown"] == 0
        and report.get("accepted", 0) > 0
    )


def main() -> int:
    """Runs the campaigns that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--victims", nargs="+", choices=list(VICTIMS), default=list(VICTIMS))
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--readings-per-s", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4)))
    parser.add_argument("--keep", action="store_true", help="keep the data folders")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    passed = failed = 0
    for name in options.victims:
        data = Path(tempfile.mkdtemp(prefix=f"headwater-chaos-{name}-"))
        print(f"{name}: {options.rounds} rounds, seed {options.seed}, data in {data}", flush=True)
        report = campaign(name, data, options.rounds, options.readings_per_s, chance)
        good = is_good(report)
        print(json.dumps(report, indent=2), flush=True)
        passed, failed = passed + good, failed + (not good)
        if good and not options.keep:
            shutil.rmtree(data)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
