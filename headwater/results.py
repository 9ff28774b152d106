"""Results: what one record of the log gave a task that some cluster engine hosts, on its way to the store."""

from dataclasses import dataclass, field

from headwater.points import StoreWrite
from headwater.task import StepCounters


@dataclass(frozen=True, slots=True, eq=False)
class Results:
    """What one record of `headwater.readings` gave, or a part of it where it is large.

    By `run`, `source`, `position` and `part` a sink knows again what it has already stored.

    Attributes:
        write: rows, telemetry, accounts and dead letters; positions only in the last part.
        source: the record's log incarnation, log topic and partition.
        position: offset after the record.
        part: 0, 1, … of the same record.
        run: random text drawn when a job begins without state. Results of one run at one position are the same bit for
            bit however often the job was restored; another run may have had other settings.
        made_us: the gateway's time of the record's batch; 0 if it could not be read.
        counters: what the record held; in the first part.
    """

    write: StoreWrite
    source: tuple[str, str, int]
    position: int
    part: int = 0
    run: str = ""
    made_us: int = 0
    counters: StepCounters = field(default_factory=StepCounters)
