"""What no store may hold, whatever its technology."""

import numpy as np

from headwater.errors import RejectedError
from headwater.points import StoreWrite


def check_write(write: StoreWrite) -> None:
    """Refuses what no store may hold.

    Raises:
        RejectedError: a reading or a summary is not finite, a field is infinite, or telemetry comes as points.
    """
    for batch in write.telemetry:
        rows = batch.summaries
        columns = (batch.value, rows.mean, rows.m2, rows.min, rows.max, rows.first, rows.last)
        if not all(np.isfinite(column).all() for column in columns):
            raise RejectedError("a reading or a summary is not finite", reason="not_finite")
    for table in write.tables:
        if table.measurement == "telemetry":
            raise RejectedError("telemetry is stored by frame, not as points", reason="schema")
        for name, column in table.fields.items():
            if column.dtype.kind == "f" and np.isinf(column).any():
                raise RejectedError(f"{table.measurement}.{name} is infinite", reason="not_finite")
