"""Random shards for tests of tasks: frames of several devices with disorder, backlogs, duplicates and summaries."""

from dataclasses import dataclass

import numpy as np

from headwater.batch import Batch
from headwater.batch_build import batch_from_frames
from headwater.frame import Anomaly, Block, Frame, Ledger, Summaries
from headwater.io.store_memory import MemoryStore
from headwater.points import StoreWrite
from headwater.reasons import ClockQuality, Severity
from headwater.sketch import count_buckets
from headwater.task import StepResult, Task

T0_US = 1_700_000_000_000_000
S = 1_000_000
METRICS = ("flow", "temp", "vibration:x")


@dataclass(frozen=True)
class Sent:
    """A frame and when it is received."""

    frame: Frame
    received_us: int


def summary(rng: np.random.Generator, start_us: int, width_us: int) -> Summaries:
    n = int(rng.integers(1, 9))
    values = rng.normal(10, 3, n)
    at = np.sort(rng.integers(0, width_us, n)) + start_us
    edges, keys, counts = count_buckets(np.zeros(n, np.int64), values, 1)
    one = [np.array([x]) for x in (values.mean(), ((values - values.mean()) ** 2).sum(), values.min(), values.max())]
    return Summaries(
        ("power",), np.zeros(1, np.int32), np.array([start_us]), np.array([width_us]), np.array([n]), *one,
        values[:1], values[-1:], at[:1], at[-1:], edges, keys, counts,
    )  # fmt: skip


def device_frames(rng: np.random.Generator, name: str, frames: int, epoch: int) -> list[Sent]:
    """Frames of one device in order of seq, received in that order, with event times out of order by up to 2 s."""
    sent = []
    at = T0_US + int(rng.integers(0, 5 * S))
    for seq in range(1, frames + 1):
        blocks = []
        for _ in range(int(rng.integers(1, 3))):
            n = int(rng.integers(1, 12))
            metrics = tuple(rng.permutation(METRICS)[: int(rng.integers(1, 4))].tolist())
            time = at + np.unique(rng.integers(-2 * S, 8 * S, n))
            value = rng.normal(50, 5, (len(metrics), len(time)))
            quality = rng.choice(np.array([0, 1, 65, 255], np.uint8), value.shape, p=[0.8, 0.1, 0.05, 0.05])
            blocks.append(Block(metrics, time, value, quality if rng.random() < 0.5 else None))
        panes = summary(rng, at // (10 * S) * 10 * S, 10 * S) if rng.random() < 0.3 else Summaries.empty()
        onset = rng.random() < 0.5
        anomaly = Anomaly("temp", at, "level", Severity.WARNING, onset, 1.5, 60.0, 50.0, 40.0, 58.0, "too warm")
        readings = sum(block.reading_count for block in blocks)
        frame = Frame(
            "north", name, epoch, seq, at + 8 * S, ClockQuality.SYNCED, 1, tuple(blocks), panes,
            (anomaly,) if rng.random() < 0.1 else (), (), Ledger(readings + 3, 1, 1, {"overload": 1}),
        )  # fmt: skip
        at += int(rng.integers(5, 12)) * S
        sent.append(Sent(frame, at))
    return sent


def random_log(rng: np.random.Generator, devices: int = 3, frames: int = 24) -> list[Sent]:
    """All frames in order of arrival: some devices send a backlog behind live frames, some frames come twice."""
    arriving: list[tuple[int, int, Sent]] = []
    for number in range(devices):
        sent = device_frames(rng, f"pump-{number}", frames, epoch=100 + number)
        if rng.random() < 0.6:
            low, high = sorted(rng.integers(0, frames, 2).tolist())
            back_us = sent[high].received_us
            for i in range(low, high):
                sent[i] = Sent(sent[i].frame, back_us + S + i)
        for i, one in enumerate(sent):
            arriving.append((one.received_us, i, one))
            if rng.random() < 0.15:
                again_us = one.received_us + int(rng.integers(0, 60 * S))
                arriving.append((again_us, i, Sent(one.frame, again_us)))
    arriving.sort(key=lambda entry: (entry[0], entry[2].frame.device, entry[1]))
    return [one for _, _, one in arriving]


def records(rng: np.random.Generator, sent: list[Sent], frames_max: int) -> list[Batch]:
    """Cuts a log into batches at random and ends it with heartbeats that close everything."""
    batches, at = [], 0
    while at < len(sent):
        some = sent[at : at + int(rng.integers(1, frames_max + 1))]
        at += len(some)
        batches.append(batch_of(some))
    end_us = max(one.received_us for one in sent)
    return [*batches, heartbeat(end_us + 30 * S), heartbeat(end_us + 3600 * S)]


def batch_of(sent: list[Sent]) -> Batch:
    made_us = max((one.received_us for one in sent), default=0)
    return batch_from_frames([(one.frame, one.received_us, 100) for one in sent], shard=0, made_us=made_us)


def heartbeat(made_us: int) -> Batch:
    return batch_from_frames([], shard=0, made_us=made_us)


def written(task: Task, result: StepResult) -> StoreWrite:
    return StoreWrite(
        (result.telemetry,),
        result.tables,
        task.accounts(result.touched),
        result.dead_letters,
        {("a", "b", 0): result.position},
    )


def stored(task: Task, batches: list[Batch], store: MemoryStore | None = None) -> MemoryStore:
    """Steps all batches and returns what a store then holds."""
    store = store or MemoryStore()
    for offset, batch in enumerate(batches):
        store.write(written(task, task.step(batch, offset)))
    return store


def fingerprint(task: Task, result: StepResult) -> str:
    """Everything a step gives, floats by their bits."""
    tables = [
        (
            table.measurement,
            table.time_us.tobytes(),
            [tag.strings() for tag in table.tags.values()],
            [
                (name, column.tolist() if column.dtype == object else column.tobytes())
                for name, column in table.fields.items()
            ],
        )
        for table in result.tables
    ]
    return repr((tables, task.accounts(result.touched), result.dead_letters, result.counters, result.position))
