"""Points of one measurement as columns, as a store gives them to who computes over them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from headwater.frame import Int64

Bools = npt.NDArray[np.bool_]
Tags = tuple[str, ...]

DTYPES: dict[str, Any] = {"float": np.float64, "int": np.int64, "bool": np.bool_, "string": np.object_}


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """n values of one kind ("float", "int", "bool", "string"), and bool (n,) which of them are there."""

    kind: str
    values: npt.NDArray[Any]
    valid: Bools

    def take(self, rows: Int64) -> "Column":
        """Picks rows; a row of -1 is not there.

        >>> Column("int", np.array([5, 6]), np.ones(2, np.bool_)).take(np.array([1, -1])).valid.tolist()
        [True, False]
        """
        if not len(self.values):
            return absent(self.kind, len(rows))
        return Column(self.kind, self.values[rows], self.valid[rows] & (rows >= 0))


def absent(kind: str, n: int) -> Column:
    """Returns a column of n values that are not there.

    >>> absent("float", 2).valid.tolist()
    [False, False]
    """
    return Column(kind, np.zeros(n, DTYPES[kind]), np.zeros(n, np.bool_))


@dataclass(frozen=True, slots=True)
class Schema:
    """The tags of a measurement in their order, and the kind of each field."""

    tags: Tags
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """n points of one measurement in any order.

    Attributes:
        series: int64 (n,), places in the list of series that was asked for.
        time_ns: int64 (n,).
        columns: the fields that were asked for.
    """

    series: Int64
    time_ns: Int64
    columns: Mapping[str, Column]
