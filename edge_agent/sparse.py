"""What the error-bounded reducers work on: a rectangle of readings with holes, and what they keep of it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headwater.frame import Float64, Int64, UInt8

Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Readings of m metrics in w columns; every metric has times of its own.

    Attributes:
        time_us: int64 (m, w), ascending along a row wherever `present`.
        value: float64 (m, w).
        quality: uint8 (m, w).
        present: bool (m, w), False for a hole.
        forced: bool (m, w), True where the reading has to be kept exactly as it is.
        burst: bool (m, w), True where it is forced because it lies around an anomaly.
    """

    time_us: Int64
    value: Float64
    quality: UInt8
    present: Bool
    forced: Bool
    burst: Bool


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """What a reducer keeps.

    Attributes:
        cells: what it looked at, readings held back before included.
        keep: bool (m, w), readings that are sent.
        value: float64 (m, w), the values to send.
        suppressed: readings now known to be left out.
    """

    cells: Cells
    keep: Bool
    value: Float64
    suppressed: int


class Audit:
    """Largest error so far of each metric, and how many readings were kept of how many seen."""

    def __init__(self, rows: int) -> None:
        self.error_max = np.zeros(rows)
        self.kept = np.zeros(rows, np.int64)
        self.seen = np.zeros(rows, np.int64)
