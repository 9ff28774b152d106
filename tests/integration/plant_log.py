"""A log as a plant of a few machines fills it through agents' chains: for tests of what stands behind a processor."""

from collections.abc import Iterator

from edge_agent.chain import Chain
from edge_agent.outline import numbered
from headwater import log_topics
from headwater.batch import DeadLetter, DeviceStatus
from headwater.batch_arrow import batch_to_arrow
from headwater.batch_build import batch_from_frames
from headwater.frame import Frame
from headwater.instant import US_PER_S
from headwater.io.log_memory import MemoryLog
from headwater.ports import LogRecord
from headwater.reasons import ClockQuality, DeadLetterReason
from simulators.faults import Fault
from simulators.plant import Machine, Plant

START_US = 1_760_000_000 * US_PER_S
STEP_US = 10 * US_PER_S
PARTITIONS = 2


def plant_log(minutes: int, *, devices: int = 4, silent_minutes: int = 5) -> tuple[MemoryLog, Plant]:
    """Returns a log of `minutes` of a plant and the plant.

    All machines but the second say at the beginning where they stand. The first machine gets faults that detectors see,
    the last falls silent for the last `silent_minutes`, after it said goodbye; a dead letter came by in the middle.
    """
    plant = Plant(7, devices, start_us=START_US, wear_speed=2000.0, faults_per_day=0.0)
    log = MemoryLog("plant")
    chains = {machine.device: Chain(machine.metrics) for machine in plant.machines}
    seqs = dict.fromkeys(chains, 1)
    end_us = START_US + minutes * 60 * US_PER_S
    gone_us = end_us - silent_minutes * 60 * US_PER_S
    last = plant.machines[-1]
    for now_us in range(START_US + STEP_US, end_us + 1, STEP_US):
        frames: list[Frame] = []
        for machine in plant.machines:
            if machine is last and now_us > gone_us:
                continue
            frames += _frames(plant, machine, chains[machine.device], seqs, now_us)
        log.append(list(_records(plant, frames, now_us, said_goodbye=last if now_us == gone_us else None)))
    return log, plant


def _frames(plant: Plant, machine: Machine, chain: Chain, seqs: dict[str, int], now_us: int) -> list[Frame]:
    live = []
    if machine is plant.machines[0]:
        at_s = START_US // US_PER_S + 1_500
        metric = next(metric.name for metric in machine.metrics if "temp" in metric.name)
        live = [Fault("f1", machine.site, machine.device, metric, "bias", at_s, at_s + 120, 40.0)]
    for block in plant.readings(machine, now_us - STEP_US, now_us, live):
        chain.push(block)
    drafts = chain.seal(now_us, ClockQuality.SYNCED)
    found = [frame for frame, _ in numbered(drafts, machine.site, machine.device, seqs[machine.device])]
    seqs[machine.device] += len(found)
    return found


def _records(plant: Plant, frames: list[Frame], now_us: int, *, said_goodbye: Machine | None) -> Iterator[LogRecord]:
    shard_of = {machine.device: machine.index % PARTITIONS for machine in plant.machines}
    for shard in range(PARTITIONS):
        made_us = now_us + 200_000
        own = [(frame, made_us - 50_000, 400) for frame in frames if shard_of[frame.device] == shard]
        batch = batch_from_frames(own, shard=shard, made_us=made_us)
        if now_us == START_US + STEP_US:
            located = [
                machine for machine in plant.machines if shard_of[machine.device] == shard and machine.index != 1
            ]
            births = tuple(
                DeviceStatus(one.site, one.device, now_us, online=True, agent="1.0.0", location=one.location)
                for one in located
            )
            object.__setattr__(batch, "statuses", births)
        if said_goodbye is not None and shard_of[said_goodbye.device] == shard:
            status = DeviceStatus(said_goodbye.site, said_goodbye.device, made_us, False, 1, 500, 3, "1.0.0")
            object.__setattr__(batch, "statuses", (status,))
        if now_us == START_US + 600 * US_PER_S and shard == 0:
            letter = DeadLetter(made_us, DeadLetterReason.CHECKSUM, "gateway", "test", "not a frame", payload=b"x")
            object.__setattr__(batch, "dead_letters", (letter,))
        value = batch_to_arrow(batch)
        yield LogRecord(log_topics.READINGS, shard, str(shard).encode(), value, now_us - 6 * US_PER_S)
