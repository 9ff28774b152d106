"""The devices of the demo: simulated machines or real sources, each with an agent, a spool and a network that can be cut.

Plant ─▶ SimulatedSource ─▶ Agent ─▶ spool ─▶ site's network (proxy) ─▶ gateway
│                           └─▶ ledger (offered, accepted)
└─▶ truth: what really happened; neither file is ever read by the pipeline
"""

import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_agent.agent import Agent, AgentHost
from edge_agent.registry import make_source
from edge_agent.settings import AgentSettings
from headwater.embedded import LoopThread
from headwater.errors import SettingsError
from headwater.frame import Anomaly
from headwater.instant import US_PER_S
from headwater.ports import Clock, Source
from simulators.control import Control
from simulators.ledger import Ledger
from simulators.network import NetworkEmulator
from simulators.plant import Plant
from simulators.score import Score, score_detections
from simulators.source import SimulatedSource
from simulators.truth import to_lines, truth_of

PLANT_FILE = "plant.json"
HISTORY_S = 300  # A new plant begins with so much past, so that charts and detectors don't start empty.


@dataclass(frozen=True, slots=True)
class PlantPlan:
    """What makes a plant; kept in the data folder so that a restart goes on with the same machines."""

    seed: int
    devices: int
    start_us: int
    wear_speed: float
    faults_per_day: float

    def build(self) -> Plant:
        """Makes the plant."""
        return Plant(
            self.seed,
            self.devices,
            start_us=self.start_us,
            wear_speed=self.wear_speed,
            faults_per_day=self.faults_per_day,
            duty_slot_s=1_200,
        )


def plan_of(folder: Path, wanted: PlantPlan) -> tuple[PlantPlan, bool]:
    """Returns the folder's plan and whether it is new; a folder without one keeps `wanted`.

    Raises:
        SettingsError: the folder holds another plant.
    """
    path = folder / PLANT_FILE
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        fields = {name: getattr(wanted, name) for name in PlantPlan.__slots__}
        path.write_text(json.dumps(fields), encoding="utf-8")
        return wanted, True
    kept = PlantPlan(**json.loads(path.read_text(encoding="utf-8")))
    if (kept.seed, kept.devices) != (wanted.seed, wanted.devices):
        raise SettingsError(
            f"{folder} holds the plant of --seed {kept.seed} --devices {kept.devices}: use the same, or another --data DIR"
        )
    return kept, False


class Fleet:
    """Agents in one process, ticked by one host thread."""

    def __init__(self, agents: list[Agent]) -> None:
        self.agents = agents
        self._host = AgentHost(agents)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._host.run, args=(self._stop,), name="agents", daemon=True)

    def start(self) -> None:
        """Starts sampling and sending."""
        self._thread.start()

    def stop(self, drain_max_us: int) -> None:
        """Stops sampling, sends what the spools hold for at most `drain_max_us`, says goodbye."""
        self._host.drain_max_us = drain_max_us
        self._stop.set()
        self._thread.join()

    @property
    def is_exhausted(self) -> bool:
        """True when no source will deliver anything more."""
        return all(agent.is_exhausted for agent in self.agents)

    def counters(self) -> dict[str, Any]:
        """Sums over all agents, and a row a device."""
        each = {f"{agent.site}/{agent.device}": agent.counters() for agent in self.agents}
        names = ("sampled", "published", "published_bytes", "buffered", "assigned", "dropped")
        sums = {name: sum(int(row[name]) for row in each.values()) for name in names}
        online = sum(bool(row["online"]) for row in each.values())
        return {**sums, "online": online, "agents": len(each), "devices": each}


class SimulatedFleet(Fleet):
    """Agents on simulated machines, with a network per site that can be cut, ground truth and a ledger."""

    def __init__(
        self, data: Path, plan: PlantPlan, settings: AgentSettings, clock: Clock, loop: LoopThread, mqtt_port: int
    ) -> None:
        self._truth = data / "truth"
        self.plan, self.is_new = plan_of(self._truth, plan)
        self.plant = self.plan.build()
        self._clock = clock
        self.started_us = clock.now_us()
        self._watched_us = self.started_us - (HISTORY_S * US_PER_S if self.is_new else 0)
        self._loop = loop
        self._network = NetworkEmulator("127.0.0.1", mqtt_port, seed=plan.seed)
        self.control = Control(self.plant, clock, self._network.switch)
        self._ledger = Ledger(self._truth / "ledger")
        ports = {site: loop.call(self._network.start_site(site)) for site in self.plant.sites}
        spools = data / "spools"
        spools.mkdir(parents=True, exist_ok=True)
        agents = []
        for machine in self.plant.machines:
            options = {"plant": self.plant, "index": machine.index, "control": self.control}
            options |= {"history_s": HISTORY_S if self.is_new else 0, "sample_every_us": settings.sample_every_us}
            # Each machine stands where the plant has it.
            own = settings.model_copy(
                update={
                    "gateway": f"mqtt://127.0.0.1:{ports[machine.site]}",
                    **dict.fromkeys(("latitude", "longitude")),
                }
            )
            agents.append(
                Agent(
                    machine.site,
                    machine.device,
                    SimulatedSource(options, clock),
                    own,
                    clock,
                    spools / f"agent-{machine.index:05d}.db",
                    on_offered=self._ledger.offered,
                    on_accepted=self._ledger.accepted,
                )
            )
        super().__init__(agents)

    def stop(self, drain_max_us: int) -> None:
        """Restores every site's network, drains, and writes the ground truth."""
        for site in self.plant.sites:
            self.control.set_online(site, True)
        super().stop(drain_max_us)
        self._loop.call(self._network.close())
        self._ledger.close()
        truth = truth_of(self.plant, self._watched_us, self._clock.now_us(), tuple(self.control.injected()))
        (self._truth / f"truth-{self._watched_us}.jsonl").write_text(to_lines(truth), encoding="utf-8")

    def now_us(self) -> int:
        """The plant's time."""
        return self._clock.now_us()

    def score(self, anomalies: list[tuple[str, str, Anomaly]]) -> Score:
        """Compares what the agents reported in this run with what really happened in it."""
        truth = truth_of(self.plant, self._watched_us, self._clock.now_us(), tuple(self.control.injected()))
        return score_detections(truth, anomalies)


@dataclass(frozen=True, slots=True)
class RealSource:
    """A source that is not simulated, and the device that stands for it."""

    name: str
    device: str
    source: Source


def real_source(spec: str, settings: AgentSettings, clock: Clock) -> RealSource:
    """Makes "host", "csv:FILE" or any other source by its entry point; touches nothing yet.

    Raises:
        SettingsError: there is no such source, or its options are wrong.
    """
    name, _, argument = spec.partition(":")
    options: dict[str, Any] = dict(settings.options)
    if name == "csv":
        if not argument:
            raise SettingsError("--source csv:FILE needs a file")
        # All at once and with its own times: what a file says is shown as it was, not as if it happened now.
        options = {"speed": 0.0, "rebase": False} | options | {"path": argument}
    elif argument:
        raise SettingsError(f"--source {spec}: only csv takes an argument; set options in [agent.options]")
    source = make_source(name, options, clock, settings.sample_every_us)
    return RealSource(name, "this-host" if name == "host" else f"{name}-1", source)


class RealFleet(Fleet):
    """One agent on a real source."""

    def __init__(self, real: RealSource, data: Path, settings: AgentSettings, clock: Clock, mqtt_port: int) -> None:
        spools = data / "spools"
        spools.mkdir(parents=True, exist_ok=True)
        self._ledger = Ledger(data / "truth" / "ledger")
        agent = Agent(
            "local",
            real.device,
            real.source,
            settings.model_copy(update={"gateway": f"mqtt://127.0.0.1:{mqtt_port}"}),
            clock,
            spools / f"agent-{real.name}.db",
            on_offered=self._ledger.offered,
            on_accepted=self._ledger.accepted,
        )
        super().__init__([agent])

    def stop(self, drain_max_us: int) -> None:
        """Drains and closes the ledger."""
        super().stop(drain_max_us)
        self._ledger.close()
