"""What an operator is given: the readings that arrived in one record, and how far event time has come since.

Readings lie in runs of one series, so an operator works per run and not per reading (`headwater.batch`).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headwater.batch import Batch
from headwater.column_order import group_starts
from headwater.frame import Float64, Int32, Int64, Summaries
from headwater.series import Directory

NEVER_US = -(1 << 62)

Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Progress:
    """Where event time stands after a record.

    Attributes:
        directory: names of devices, metrics and series.
        watermark_us: int64 (devices,), per device; NEVER_US before its first reading; never smaller than before.
        highest_us: int64 (devices,), highest event time of a frame in sequence.
        is_silent: bool (devices,), not heard of for `max_offline`: nothing is waited for.
        has_holes: bool (devices,), frames are missing below newer ones.
        is_wide: bool (devices,), so many holes that something is wrong with the device or its network.
        unknown: int64 (devices,), frames that nobody can explain; must be 0.
        now_us: highest `made_us` of the shard: processing time as data.
    """

    directory: Directory
    watermark_us: Int64
    highest_us: Int64
    is_silent: Bool
    has_holes: Bool
    is_wide: Bool
    unknown: Int64
    now_us: int


@dataclass(frozen=True, slots=True, eq=False)
class Arrivals:
    """The admitted frames of one record and, of their readings, those that may enter statistics.

    Attributes:
        batch: the admitted frames with all their readings.
        directory: names of devices, metrics and series.
        device: int64 (k,), device numbers of the frames.
        time_us, value: int64, float64 (n,), readings of usable quality that are not too late.
        run_start: int64 (r,), where each run of one series begins; runs are not empty and cover all n readings.
        run_series: int32 (r,), series numbers.
        is_late: bool (n,), behind the device's watermark; None if none is.
        summaries: panes that are not too late.
        summary_series: int32 (p,), series numbers.
        is_summary_late: bool (p,).
    """

    batch: Batch
    directory: Directory
    device: Int64
    time_us: Int64
    value: Float64
    run_start: Int64
    run_series: Int32
    is_late: Bool | None
    summaries: Summaries
    summary_series: Int32
    is_summary_late: Bool

    @property
    def run_length(self) -> Int64:
        """int64 (r,), readings in each run."""
        return np.diff(self.run_start, append=len(self.time_us))


def runs_of(batch: Batch) -> Int64:
    """int64 (r,), where the readings of a batch change frame or metric; O(n).

    A run is ascending in time unless a frame repeats a metric in neighbouring blocks.
    """
    n = batch.reading_count
    if n == 0:
        return np.empty(0, np.int64)
    is_start = np.empty(n, bool)
    np.not_equal(batch.metric[1:], batch.metric[:-1], out=is_start[1:])
    starts = batch.reading_start[:-1]
    is_start[starts[starts < batch.reading_start[1:]]] = True
    return np.flatnonzero(is_start)


def keep_readings(run_start: Int64, n: int, keep: Bool) -> tuple[Int64, Int64]:
    """Returns (run_start, which runs are left) of the readings where `keep` (n,) is True."""
    run = np.repeat(np.arange(len(run_start)), np.diff(run_start, append=n))[keep]
    starts = group_starts(run)
    return starts, run[starts]
