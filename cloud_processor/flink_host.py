"""One shard's task as Apache Flink hosts it: a framed record in, a results record out, state as bytes; no Flink in here.

    headwater.readings ─▶ frame (Java) ─▶ ShardHost.step ─▶ results ─▶ headwater.results ─▶ sink ─▶ store
                                               ▲    │
                            state and offsets  └────┘ snapshot, only where Flink cuts a checkpoint

Flink keeps state and offsets of one moment together, so a restored host gets the very records that follow its state and
gives the same results again, byte for byte. A record from before them tells that the log went back, and is refused.
"""

import struct
from collections.abc import Mapping
from typing import Any, Final

from cloud_processor.gathered import Gathered
from cloud_processor.host_alerts import log_replaced, log_trimmed
from cloud_processor.settings import ProcessorSettings
from cloud_processor.topology import build_task
from headwater import log_topics
from headwater.errors import CorruptStateError
from headwater.ports import LogRecord
from headwater.results import Results
from headwater.results_arrow import results_to_arrow
from headwater.snapshot import pack, unpack

STATE_VERSION: Final = 1
# What stands in front of a record's value and of its results: shard, offset, timestamp_us.
FRAME: Final = struct.Struct(">iqq")


def record_from_frame(framed: bytes) -> LogRecord:
    """Reads a record of `headwater.readings` as the Java source frames it.

    >>> record_from_frame(FRAME.pack(3, 41, 1700) + b"value").offset
    41
    """
    shard, offset, timestamp_us = FRAME.unpack_from(framed)
    return LogRecord(log_topics.READINGS, shard, b"", framed[FRAME.size :], timestamp_us, offset=offset)


def host_for(settings: Mapping[str, Any], framed: bytes) -> "ShardHost":
    """Makes the host of the shard that a framed record belongs to.

    Args:
        settings: {"processor": the table `[processor]`, "incarnation", "run", "instance"}, as JSON has it.
        framed: any of its records.
    """
    shard = FRAME.unpack_from(framed)[0]
    processor = ProcessorSettings.model_validate(settings["processor"])
    return ShardHost(
        processor, shard, incarnation=settings["incarnation"], run=settings["run"], instance=settings["instance"]
    )


class ShardHost:
    """Drives the task of one shard.

    Args:
        settings: of the processor; a restored state keeps its own history.
        shard: the partition.
        incarnation: of the log that the job reads.
        run: random text of the job's first start; a restored state keeps its own.
        instance: names the job in its own alerts.
    """

    def __init__(
        self, settings: ProcessorSettings, shard: int, *, incarnation: str, run: str, instance: str = "flink"
    ) -> None:
        self._task = build_task(settings, shard)
        self._incarnation = incarnation
        self._replaced = ""
        self._run = run
        self._instance = instance
        self._has_begun = False

    @property
    def position(self) -> int:
        """Offset of the record that it expects next."""
        return self._task.position

    def step(self, record: LogRecord) -> list[bytes]:
        """Takes in one record and returns its results as Arrow.

        Raises:
            CorruptStateError: the record lies before those that the state holds.
        """
        task, found = self._task, Gathered()
        if self._replaced:
            found.tables.append(
                log_replaced(self._instance, max(record.timestamp_us, 0), self._replaced, self._incarnation)
            )
            self._replaced = ""
        elif self._has_begun and record.offset < task.position:
            raise CorruptStateError(
                f"shard {task.shard}: record {record.offset} came where {task.position} was expected: the log was replaced "
                "or lost its end; headwater flink stop, then submit (--fresh if it goes on to fail)"
            )
        elif self._has_begun and record.offset > task.position:
            found.tables.append(log_trimmed(self._instance, task.shard, task.position, record))
        self._has_begun = True
        stepped = found.step(task, record, self._incarnation)
        source = (self._incarnation, record.log_topic, record.partition)
        results = Results(found.write(), source, task.position, 0, self._run, stepped.made_us, stepped.counters)
        return results_to_arrow(results, (record.value,) if stepped.is_whole else None)

    def step_frame(self, framed: bytes) -> list[bytes]:
        """The same for a framed record; each of its results comes with the same frame in front."""
        return [framed[: FRAME.size] + results for results in self.step(record_from_frame(framed))]

    def snapshot(self) -> bytes:
        """All of its state."""
        return pack(
            STATE_VERSION,
            {
                "incarnation": self._replaced or self._incarnation,
                "run": self._run,
                "begun": self._has_begun,
                "task": self._task.snapshot(),
            },
        )

    def restore(self, data: bytes) -> None:
        """Becomes the host that gave `data`; if that read another log, this one begins where its first record is.

        Raises:
            CorruptStateError: the bytes fail their checks.
        """
        state = unpack(data, STATE_VERSION)
        self._task.restore(state["task"])
        self._run, self._has_begun = state["run"], state["begun"]
        if state["incarnation"] != self._incarnation:
            self._replaced = state["incarnation"]
