"""Tables of few rows, from Python values: anomalies, alerts, device states."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from headwater.points import MEASUREMENT_FIELDS, MEASUREMENT_TAGS, PointTable, tag_column

_DTYPES = {"float": np.dtype(np.float64), "int": np.dtype(np.int64), "bool": np.dtype(bool), "string": np.dtype(object)}


def event_table(
    measurement: str, time_us: Sequence[int], tags: Sequence[tuple[str, ...]], fields: dict[str, Sequence[Any]]
) -> list[PointTable]:
    """Makes one table of n rows; [] if there are none. Floats that are not finite become NaN: no such field.

    >>> len(event_table("alert", [5], [("s", "d", "r", "info")], {"state": ["firing"], "value": [1.0]})[0])
    1
    """
    if not len(time_us):
        return []
    columns = zip(MEASUREMENT_TAGS[measurement], zip(*tags, strict=True), strict=True)
    return [
        PointTable(
            measurement,
            np.array(time_us, np.int64),
            {name: tag_column(list(column)) for name, column in columns},
            {name: _column(MEASUREMENT_FIELDS[measurement][name], values) for name, values in fields.items()},
        )
    ]


def _column(kind: str, values: Sequence[Any]) -> npt.NDArray[Any]:
    column = np.array(values, _DTYPES[kind])
    if kind == "float":
        column[~np.isfinite(column)] = np.nan
    return column
