"""Hysteresis: single hits become episodes that begin once and clear after a quiet stretch."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from headwater.detectors.roster import Field, Rows, StateTable

Bool = npt.NDArray[np.bool_]


class Edge(NamedTuple):
    """An episode of row `row` (within the block) begins or clears at column `column`."""

    row: int
    column: int
    is_onset: bool


class Episodes:
    """Turns hits into onsets and clearings, per metric.

    Args:
        clear_after: so many columns in a row without a hit end an episode; a new hit before that prolongs it.

    >>> episodes = Episodes(2)
    >>> episodes.grow(1)
    >>> episodes.step(slice(0, 1), np.array([[False, True, True, False, False, False]]))
    [Edge(row=0, column=1, is_onset=True), Edge(row=0, column=4, is_onset=False)]
    """

    def __init__(self, clear_after: int) -> None:
        self._clear_after = clear_after
        self.table = StateTable({"active": Field(np.bool_, 0), "quiet": Field(np.int64, 0)})

    def grow(self, rows: int) -> None:
        """Makes room for so many metrics."""
        self.table.grow(rows)

    def active(self, rows: Rows) -> Bool:
        """Tells which of the rows are inside an episode."""
        return self.table["active"][rows]

    def step(self, rows: Rows, hit: Bool | None) -> list[Edge]:
        """Takes bool (m, n) hits in time order (None: no hit in n columns is the caller's `quiet`); returns the edges."""
        active = self.table["active"][rows]
        if hit is None or not (active.any() or hit.any()):
            return []
        index = np.arange(len(self.table["active"]))[rows]
        edges: list[Edge] = []
        for local in np.flatnonzero(active | hit.any(axis=1)).tolist():
            edges += self._row(local, int(index[local]), hit[local])
        return edges

    def _row(self, local: int, row: int, hit: Bool) -> list[Edge]:
        active, quiet, steps = self.table["active"], self.table["quiet"], len(hit)
        columns = np.flatnonzero(hit)
        edges: list[Edge] = []
        # A stretch of hits ends where the next hit is more than clear_after columns away.
        starts = columns[np.flatnonzero(np.diff(columns, prepend=-steps - self._clear_after - 1) > self._clear_after)]
        stops = columns[
            np.flatnonzero(
                np.diff(columns, append=steps + columns[-1:].sum() + self._clear_after + 1) > self._clear_after
            )
        ]
        if active[row]:
            clears_at = self._clear_after - int(quiet[row]) - 1
            if len(columns) and int(columns[0]) <= clears_at:
                starts = starts[1:]  # The first stretch goes on with the open episode.
            elif clears_at < steps:
                edges.append(Edge(local, clears_at, is_onset=False))
                active[row] = False
            else:
                quiet[row] += steps
                return edges
        edges += [Edge(local, int(start), is_onset=True) for start in starts]
        edges += [
            Edge(local, int(stop) + self._clear_after, is_onset=False)
            for stop in stops
            if int(stop) + self._clear_after < steps
        ]
        if len(stops):
            rest = steps - 1 - int(stops[-1])
            active[row], quiet[row] = rest < self._clear_after, rest
        return sorted(edges, key=lambda edge: edge.column)
