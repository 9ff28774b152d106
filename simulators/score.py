"""Compares what detectors reported with the ground truth: what was found, how soon, and what was cried for nothing."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median

from headwater.frame import Anomaly
from headwater.instant import US_PER_S
from simulators.truth import ComponentLife, Episode, Truth

BEFORE_US = 2 * US_PER_S  # Clocks and block boundaries blur the onset by this much.
AFTER_US: dict[str, int] = {"spike": 10 * US_PER_S, "dropout": 60 * US_PER_S, "clock_jump": 60 * US_PER_S}
AFTER_DEFAULT_US = 30 * US_PER_S
RECOVERY_US = 180 * US_PER_S  # The way back from a fault is a change too: an alarm there is neither hit nor false.
DAMAGED_SHARE = 0.5  # From this share of the way from onset to failure on, an alarm on a worn machine is no false one.


@dataclass(frozen=True, slots=True)
class KindScore:
    """What became of the faults of one kind."""

    injected: int = 0
    detected: int = 0
    delay_median_s: float | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """The result of a comparison.

    Attributes:
        injected: faults that began in the interval, early enough to be found in it.
        detected: those with at least one onset reported in time.
        false_alarms: onsets that nothing explains; those on benign events included.
        benign_alarms: those of the false alarms that lie on a benign event.
        wear_alarms: onsets on machines that were about to fail or had failed; right, and not counted elsewhere.
        device_weeks: length of the interval times machines seen in the truth.
        per_kind: by kind of fault.
    """

    injected: int
    detected: int
    false_alarms: int
    benign_alarms: int
    wear_alarms: int
    device_weeks: float
    per_kind: dict[str, KindScore] = field(default_factory=dict)

    @property
    def recall(self) -> float:
        """Share of the injected faults that were detected; 1 if there were none."""
        return self.detected / self.injected if self.injected else 1.0

    @property
    def false_alarms_per_device_week(self) -> float:
        """False alarms, by device and week."""
        return self.false_alarms / self.device_weeks if self.device_weeks else 0.0


def score_detections(
    truth: Truth, detections: Iterable[tuple[str, str, Anomaly]], until_us: int | None = None
) -> Score:
    """Scores reported anomalies (site, device, anomaly); only onsets count. A pure function.

    An onset hits a fault of its device if its metric is the fault's (any metric for faults of the whole machine, any
    fault for a report without metric) and it lies between two seconds before the fault's begin and a little after its
    end. `until_us` is where watching stopped, the end of the truth if None.
    """
    end_us = truth.end_us if until_us is None else min(until_us, truth.end_us)
    by_device: dict[tuple[str, str], list[Episode]] = defaultdict(list)
    for episode in truth.episodes:
        by_device[episode.site, episode.device].append(episode)
    lives: dict[tuple[str, str], list[ComponentLife]] = defaultdict(list)
    for life in truth.lives:
        lives[life.site, life.device].append(life)
    first_hit: dict[str, int] = {}
    false_alarms = benign_alarms = wear_alarms = 0
    for site, device, anomaly in sorted(detections, key=lambda row: row[2].time_us):
        if not anomaly.is_onset or not truth.start_us <= anomaly.time_us < end_us + AFTER_DEFAULT_US:
            continue
        episodes = by_device.get((site, device), [])
        hits = [episode for episode in episodes if not episode.is_benign and _is_hit(episode, anomaly)]
        for episode in hits:
            first_hit.setdefault(episode.id, anomaly.time_us)
        if hits or any(_is_aftermath(episode, anomaly) for episode in episodes):
            continue
        if any(_is_worn(life, anomaly.time_us) for life in lives.get((site, device), [])):
            wear_alarms += 1
            continue
        false_alarms += 1
        benign_alarms += any(e.is_benign and e.start_us - BEFORE_US <= anomaly.time_us < e.end_us for e in episodes)
    kinds: dict[str, list[Episode]] = defaultdict(list)
    for episode in truth.episodes:
        if not episode.is_benign and truth.start_us <= episode.start_us and _due_us(episode) <= end_us:
            kinds[episode.kind].append(episode)
    per_kind = {kind: _kind_score(some, first_hit) for kind, some in sorted(kinds.items())}
    devices = {(life.site, life.device) for life in truth.lives} | set(by_device)
    return Score(
        injected=sum(one.injected for one in per_kind.values()),
        detected=sum(one.detected for one in per_kind.values()),
        false_alarms=false_alarms,
        benign_alarms=benign_alarms,
        wear_alarms=wear_alarms,
        device_weeks=len(devices) * (end_us - truth.start_us) / (7 * 86_400 * US_PER_S),
        per_kind=per_kind,
    )


def _blur_us(episode: Episode) -> int:
    """A wrong clock stamps its own readings wrongly."""
    return round(abs(episode.severity) * US_PER_S) if episode.kind == "clock_jump" else 0


def _due_us(episode: Episode) -> int:
    """Returns the time from which on the fault must have been found."""
    return episode.end_us if episode.kind != "clock_jump" else episode.start_us + AFTER_US["clock_jump"]


def _is_hit(episode: Episode, anomaly: Anomaly) -> bool:
    if episode.metric and anomaly.metric and episode.metric != anomaly.metric:
        return False
    blur_us = _blur_us(episode)
    after_us = AFTER_US.get(episode.kind, AFTER_DEFAULT_US)
    return episode.start_us - BEFORE_US - blur_us <= anomaly.time_us < episode.end_us + after_us + blur_us


def _is_aftermath(episode: Episode, anomaly: Anomaly) -> bool:
    """Tells whether an onset lies on the way back from a fault."""
    if episode.is_benign or (episode.metric and anomaly.metric and episode.metric != anomaly.metric):
        return False
    return episode.end_us <= anomaly.time_us < episode.end_us + RECOVERY_US + _blur_us(episode)


def _is_worn(life: ComponentLife, at_us: int) -> bool:
    """Tells whether a component was near its failure, down, or just repaired (the start afterwards included)."""
    worn_us = life.onset_us + DAMAGED_SHARE * (life.failure_us - life.onset_us)
    return worn_us <= at_us < life.repaired_us + RECOVERY_US


def _kind_score(episodes: list[Episode], first_hit: dict[str, int]) -> KindScore:
    delays = [max(0, first_hit[e.id] - e.start_us) / US_PER_S for e in episodes if e.id in first_hit]
    return KindScore(len(episodes), len(delays), round(median(delays), 3) if delays else None)
