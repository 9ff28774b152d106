"""Ground truth: what was really wrong with the plant and when, and how detections compare with it.

Truth never enters the pipeline. Its file holds JSON lines: `{"e":"truth"}` with the interval, `{"e":"episode"}` per
fault or benign event, `{"e":"life"}` per life of a component that overlaps the interval.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any

from headwater.instant import US_PER_S
from simulators import duty
from simulators.catalogue import KINDS as MACHINE_KINDS
from simulators.faults import Fault
from simulators.plant import Machine, Plant

BENIGN_KINDS = ("setpoint_change", "stop", "start")


@dataclass(frozen=True, slots=True)
class Episode:
    """A fault or a benign event in `[start_us, end_us)` of true time.

    Attributes:
        id: unique in the plant.
        site, device: where.
        metric: which one; "" for the whole machine.
        kind: of `simulators.faults.KINDS`, or of `BENIGN_KINDS`.
        start_us, end_us: from the first changed sample to the first sound one.
        severity: in sigmas, seconds for clock jumps, 0 for benign ones.
        is_benign: True where an alarm is a false one.
        cause: "schedule", "live" or "duty".
    """

    id: str
    site: str
    device: str
    metric: str
    kind: str
    start_us: int
    end_us: int
    severity: float
    is_benign: bool
    cause: str


@dataclass(frozen=True, slots=True)
class ComponentLife:
    """One life of a component; its remaining life at t is `failure_us - t`."""

    site: str
    device: str
    component: str
    begin_us: int
    onset_us: int
    failure_us: int
    repaired_us: int
    growth: float


@dataclass(frozen=True, slots=True)
class Truth:
    """Everything true about `[start_us, end_us)`."""

    start_us: int
    end_us: int
    episodes: tuple[Episode, ...]
    lives: tuple[ComponentLife, ...]


def truth_of(plant: Plant, start_us: int, end_us: int, live: tuple[Fault, ...] = ()) -> Truth:
    """Returns the truth about a plant; `live` are faults that were injected by hand. A pure function.

    >>> truth = truth_of(Plant(1, 4, start_us=1_700_000_000_000_000), 1_700_000_000_000_000, 1_700_086_400_000_000)
    >>> all(episode.start_us < episode.end_us for episode in truth.episodes)
    True
    """
    episodes: list[Episode] = []
    lives: list[ComponentLife] = []
    start_s, stop_s = start_us // US_PER_S, -(-end_us // US_PER_S)
    for machine in plant.machines:
        own = [fault for fault in live if (fault.site, fault.device) == (machine.site, machine.device)]
        episodes += [_fault_episode(machine, fault) for fault in plant.faults(machine, start_s, stop_s) + own]
        episodes += _benign_episodes(plant, machine, start_s, stop_s)
        lives += [
            ComponentLife(
                machine.site,
                machine.device,
                life.component,
                life.begin_s * US_PER_S,
                life.onset_s * US_PER_S,
                life.failure_s * US_PER_S,
                life.repaired_s * US_PER_S,
                life.growth,
            )
            for some in plant.lives(machine, start_s, stop_s).values()
            for life in some
        ]
    inside = [episode for episode in episodes if episode.start_us < end_us and episode.end_us > start_us]
    ordered = sorted(inside, key=lambda episode: (episode.start_us, episode.id))
    return Truth(start_us, end_us, tuple(ordered), tuple(lives))


def _fault_episode(machine: Machine, fault: Fault) -> Episode:
    return Episode(
        fault.id,
        fault.site,
        fault.device,
        fault.metric,
        fault.kind,
        fault.start_s * US_PER_S + machine.phase_us,
        fault.stop_s * US_PER_S + machine.phase_us,
        fault.severity,
        is_benign=False,
        cause=fault.cause,
    )


def _benign_episodes(plant: Plant, machine: Machine, start_s: int, stop_s: int) -> list[Episode]:
    """Returns set-point changes, stops and starts, each until the machine has settled."""
    settling = plant.duty_slot_s // 20
    setpoint = next(c.name for c in MACHINE_KINDS[machine.kind].channels if c.state == "setpoint")
    events: list[tuple[str, str, int]] = []
    for slot in duty.slots_between(plant.seed, machine.device, plant.duty_slot_s, start_s - settling, stop_s):
        if slot.level != slot.level_before:
            events.append(("setpoint_change", setpoint, slot.change_s))
        if slot.stop_s < slot.restart_s:
            events += [("stop", "", slot.stop_s), ("start", "", slot.restart_s)]
    return [
        Episode(
            f"{machine.device}-{at_s}-{kind}",
            machine.site,
            machine.device,
            metric,
            kind,
            at_s * US_PER_S + machine.phase_us,
            (at_s + settling) * US_PER_S + machine.phase_us,
            0.0,
            is_benign=True,
            cause="duty",
        )
        for kind, metric, at_s in events
    ]


def to_lines(truth: Truth) -> str:
    """Writes truth as JSON lines.

    >>> to_lines(Truth(0, 1, (), ())).rstrip()
    '{"e":"truth","start_us":0,"end_us":1}'
    """
    rows: list[dict[str, Any]] = [{"e": "truth", "start_us": truth.start_us, "end_us": truth.end_us}]
    rows += [{"e": "episode"} | asdict(episode) for episode in truth.episodes]
    rows += [{"e": "life"} | asdict(life) for life in truth.lives]
    return "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows)


def from_lines(text: str) -> Truth:
    """Reads what `to_lines` wrote.

    >>> from_lines(to_lines(Truth(0, 1, (), ())))
    Truth(start_us=0, end_us=1, episodes=(), lives=())

    Raises:
        ValueError: the text is something else.
    """
    span: tuple[int, int] | None = None
    episodes, lives = [], []
    for line in text.splitlines():
        row = json.loads(line)
        match row.pop("e", None):
            case "truth":
                span = (row["start_us"], row["end_us"])
            case "episode":
                episodes.append(Episode(**row))
            case "life":
                lives.append(ComponentLife(**row))
            case other:
                raise ValueError(f"{other!r} is not a kind of truth line")
    if span is None:
        raise ValueError("the truth file has no line that tells its interval")
    return Truth(*span, tuple(episodes), tuple(lives))
