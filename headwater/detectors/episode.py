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

    An episode begins at a strong hit and lasts while weak hits come.

    Args:
        clear_after: so many columns in a row without a weak hit end an episode.

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

    def step(self, rows: Rows, strong: Bool, weak: Bool | None = None) -> list[Edge]:
        """Takes bool (m, n) hits in time order (`weak` holds where `strong` does, and more); returns the edges."""
        active = self.table["active"][rows]
        concerned = active | strong.any(axis=1)
        if not concerned.any():
            return []
        index = np.arange(len(self.table["active"]))[rows]
        weak = strong if weak is None else weak | strong
        edges: list[Edge] = []
        for local in np.flatnonzero(concerned).tolist():
            edges += self._row(local, int(index[local]), strong[local], weak[local])
        return edges

    def _row(self, local: int, row: int, strong: Bool, weak: Bool) -> list[Edge]:
        active, quiet, steps = self.table["active"], self.table["quiet"], len(weak)
        edges: list[Edge] = []
        at, is_active, last = 0, bool(active[row]), -1 - int(quiet[row])
        weak_at, strong_at = np.flatnonzero(weak), np.flatnonzero(strong)
        while True:
            if not is_active:
                ahead = strong_at[np.searchsorted(strong_at, at) :]
                if not len(ahead):
                    break
                at = last = int(ahead[0])
                is_active = True
                edges.append(Edge(local, at, is_onset=True))
            # Follow the weak hits until one is too far from the one before.
            ahead = weak_at[np.searchsorted(weak_at, at) :]
            far = np.flatnonzero(np.diff(ahead, prepend=last) > self._clear_after)
            if len(far):
                last = int(ahead[far[0] - 1]) if far[0] else last
            elif len(ahead):
                last = int(ahead[-1])
            at = last + self._clear_after
            if at >= steps:
                break
            edges.append(Edge(local, at, is_onset=False))
            is_active = False
            at += 1
        active[row], quiet[row] = is_active, steps - 1 - last if is_active else 0
        return edges
