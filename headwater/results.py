"""Results: what one record of the log gave a task that some cluster engine hosts, on its way to the store."""

from dataclasses import dataclass, field

from headwater.points import StoreWrite
from headwater.task import StepCounters


@dataclass(frozen=True, slots=True, eq=False)
class Results:
    """What goes into one record of `headwater.results`; `headwater.results_arrow` writes it as Arrow.

    The write's positions say up to where its shard was read; by them a sink knows again what it has already stored.

    Attributes:
        write: rows, telemetry, accounts, dead letters and positions.
        run: random text drawn when a job begins without state. Results of one run at one position are the same bit for
            bit however often the job was restored; another run may have had other settings.
        made_us: the gateway's time of the record's batch; 0 if it could not be read.
        counters: what the record held.
    """

    write: StoreWrite
    run: str = ""
    made_us: int = 0
    counters: StepCounters = field(default_factory=StepCounters)
