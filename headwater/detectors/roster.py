"""Which row of a state table belongs to which metric, and state as a struct of arrays over metrics."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from headwater.errors import CorruptStateError
from headwater.frame import Int64
from headwater.metric import Metric

Rows = slice | Int64
Array = npt.NDArray[Any]


class Roster:
    """Gives every metric a row, in the order of first appearance.

    >>> roster = Roster([Metric("a"), Metric("b"), Metric("c")])
    >>> roster.rows(("b", "c")), roster.rows(("c", "a")).tolist()
    (slice(1, 3, None), [2, 0])
    """

    def __init__(self, metrics: Sequence[Metric] = ()) -> None:
        self.metrics: list[Metric] = []
        self._row: dict[str, int] = {}
        self._cache: dict[tuple[str, ...], Rows] = {}
        self.add(metrics)

    def __len__(self) -> int:
        return len(self.metrics)

    def add(self, metrics: Sequence[Metric]) -> None:
        """Adds the metrics that have no row yet; known names keep their first description."""
        for metric in metrics:
            if metric.name not in self._row:
                self._row[metric.name] = len(self.metrics)
                self.metrics.append(metric)

    def row(self, name: str) -> int | None:
        """Row of one metric; None if it has none."""
        return self._row.get(name)

    def rows(self, names: tuple[str, ...]) -> Rows:
        """Rows of a block's metrics: a slice where they lie side by side, so that state is read as a view.

        A name that nobody described gets a row with the defaults of `Metric`.
        """
        cached = self._cache.get(names)
        if cached is not None:
            return cached
        self.add([Metric(name) for name in names])
        index = np.array([self._row[name] for name in names], np.int64)
        rows: Rows = index
        if len(index) and bool((np.diff(index) == 1).all()):
            rows = slice(int(index[0]), int(index[-1]) + 1)
        if len(self._cache) >= 1_024:  # Blocks with ever new sets of metrics must not grow this without bound.
            self._cache.clear()
        self._cache[names] = rows
        return rows


@dataclass(frozen=True, slots=True)
class Field:
    """One column of a state table: its dtype, what a new row starts with, and how many values a row holds (0 = one)."""

    dtype: type[np.generic]
    start: float
    width: int = 0


class StateTable:
    """Columns of state, one row per metric; grows with the roster and goes to bytes and back.

    >>> table = StateTable({"mean": Field(np.float64, 0.0)})
    >>> table.grow(2)
    >>> table["mean"].tolist()
    [0.0, 0.0]
    """

    def __init__(self, fields: Mapping[str, Field]) -> None:
        self._fields = dict(fields)
        self._columns: dict[str, Array] = {
            name: np.full(field.width and (0, field.width), field.start, field.dtype) for name, field in fields.items()
        }

    def __getitem__(self, name: str) -> Array:
        return self._columns[name]

    def grow(self, rows: int) -> None:
        """Appends fresh rows until there are `rows`."""
        for name, field in self._fields.items():
            column = self._columns[name]
            missing = rows - len(column)
            if missing > 0:
                shape: tuple[int, ...] = (missing, field.width) if field.width else (missing,)
                self._columns[name] = np.concatenate([column, np.full(shape, field.start, field.dtype)])

    def columns(self) -> dict[str, Array]:
        """All columns by name."""
        return dict(self._columns)

    def load(self, columns: Mapping[str, Array]) -> None:
        """Takes over columns that `columns` returned.

        Raises:
            CorruptStateError: they are not of this table.
        """
        if set(columns) != set(self._fields):
            raise CorruptStateError(f"state has columns {sorted(columns)}, expected {sorted(self._fields)}")
        lengths = {len(column) for column in columns.values()}
        for name, field in self._fields.items():
            column = columns[name]
            tail = (field.width,) if field.width else ()
            if column.dtype != np.dtype(field.dtype) or column.shape[1:] != tail or len(lengths) != 1:
                raise CorruptStateError(f"state column {name} is {column.dtype} {column.shape}")
        self._columns = {name: np.array(columns[name]) for name in self._fields}


def slot_pieces(position: Int64, steps: int, slot: int) -> Iterator[tuple[slice | Int64, int, int, bool]]:
    """Cuts `steps` time steps of the rows at the ends of their slots, so that results don't depend on block sizes.

    Yields (rows within `position`, start, stop, slot complete) in time order; rows that are at different places of
    their slots come separately, rows of one source never do.

    >>> list(slot_pieces(np.array([3, 3]), 4, 5))
    [(slice(None, None, None), 0, 2, True), (slice(None, None, None), 2, 4, False)]
    """
    if len(position) == 0:
        return
    first = int(position[0])
    groups: list[tuple[slice | Int64, int]] = [(slice(None), first)]
    if len(position) > 1 and bool((position != first).any()):
        groups = [(np.flatnonzero(position == value), int(value)) for value in np.unique(position)]
    for rows, at in groups:
        start = 0
        while start < steps:
            stop = min(steps, start + slot - (at + start) % slot)
            yield rows, start, stop, (at + stop) % slot == 0
            start = stop
