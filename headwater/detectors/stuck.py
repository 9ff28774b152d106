"""Finds sensors that repeat one value for longer than they ever do when they work.

Quantised sensors repeat themselves, so the limit is learnt: from the share of repeats (a run of L repeats has
probability p ** L) and from the longest run that ended by itself. Counting is in whole numbers, so the result does
not depend on how the samples were cut into blocks.
"""

from math import log

import numpy as np
import numpy.typing as npt

from headwater.detectors.roster import Field, Roster, Rows, StateTable, slot_pieces
from headwater.frame import Float64, Int64

Bool = npt.NDArray[np.bool_]

SLOT = 256
RUN_MIN = 8
RUN_ODDS = 1e-9  # A run this improbable among independent repeats is not chance.
LEARN_WEIGHT = 0.125
STRIKES_MAX = 3  # After so many flagged runs that ended by themselves the long run counts as normal.
UNLIMITED = np.iinfo(np.int64).max // 4


class RunLimits:
    """Learns how many exact repeats in a row are normal for each metric.

    `observe` returns by how many repeats each sample continues the value before it, and the limit then in force.
    The first SLOT samples of a metric only teach; metrics with `is_state` are never limited, and neither are zero and
    the metric's lower limit: that is where sensors of a machine at rest stay.
    """

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self.table = StateTable(
            {
                "position": Field(np.int64, 0),
                "run": Field(np.int64, 0),
                "limit": Field(np.int64, UNLIMITED),
                "repeats": Field(np.int64, 0),
                "readings": Field(np.int64, 0),
                "longest": Field(np.int64, 0),
                "strikes": Field(np.int64, 0),
                "share": Field(np.float64, -1.0),
                "lo": Field(np.float64, -np.inf),
                "judged": Field(np.bool_, 1),
            }
        )

    def grow(self, rows: int) -> None:
        """Makes room for so many metrics."""
        known = len(self.table["lo"])
        self.table.grow(rows)
        for row, metric in enumerate(self._roster.metrics[known:], known):
            self.table["lo"][row], self.table["judged"][row] = metric.lo, not metric.is_state

    def observe(self, rows: Rows, value: Float64, before: Float64, present: Bool | None) -> tuple[Int64, Int64] | None:
        """Takes (m, n) readings and, in `before`, the reading that preceded each one.

        Returns:
            (run, limit), int64 (m, n) and (m, n); None if no reading repeated another and no run was open.
        """
        table, steps = self.table, value.shape[1]
        same = (
            (value == before) & table["judged"][rows][:, None] & (value != 0.0) & (value != table["lo"][rows][:, None])
        )
        if present is not None:
            same &= present
        position = table["position"][rows]
        alone = not same.any() and not table["run"][rows].any()
        if alone and bool(((position % SLOT) + steps < SLOT).all()):
            # Nothing repeats and no slot ends: there is only something to count.
            table["position"][rows] += steps
            table["readings"][rows] += steps if present is None else np.count_nonzero(present, axis=1)
            return None
        if steps == 1 and present is None and not ((position + 1) % SLOT == 0).any():
            return self._tick(rows, same[:, 0])
        run = np.zeros(value.shape, np.int64)
        limit = np.zeros(value.shape, np.int64)
        index = np.arange(len(self._roster))[rows]
        for part, start, stop, complete in slot_pieces(position, steps, SLOT):
            here = index[part]
            cells = (part, slice(start, stop))
            run[cells] = self._piece(here, same[cells], None if present is None else present[cells])
            limit[cells] = table["limit"][here][:, None]
            if complete:
                self._teach(here)
        table["position"][rows] += steps
        return run, limit

    def _tick(self, rows: Rows, same: Bool) -> tuple[Int64, Int64]:
        """Does what `_piece` does for one sample of every metric inside a slot."""
        table = self.table
        carried, limit = table["run"][rows], table["limit"][rows]
        run = np.where(same, carried + 1, 0)
        ended = np.where(same, 0, carried)
        normal = ended < limit
        table["longest"][rows] = np.maximum(table["longest"][rows], np.where(normal, ended, 0))
        if not normal.all():
            self._strike(np.arange(len(self._roster))[rows], (ended * ~normal)[:, None])
        usual = same & (run < limit)
        table["run"][rows] = run
        table["repeats"][rows] += usual
        table["readings"][rows] += usual | ~same
        table["position"][rows] += 1
        return run[:, None], limit[:, None]

    def _piece(self, rows: Int64, same: Bool, present: Bool | None) -> Int64:
        """Counts the repeats within one slot and remembers what they teach."""
        table = self.table
        carried, limit = table["run"][rows], table["limit"][rows]
        change = ~same if present is None else present & ~same
        if same.shape[1] == 1:
            run = np.where(change, 0, carried[:, None] + same)
            ended = np.where(change, carried[:, None], 0)
        else:
            total = np.cumsum(same, axis=1)
            run = total - np.maximum.accumulate(np.where(change, total, -carried[:, None]), axis=1)
            ended = np.where(change, np.concatenate([carried[:, None], run[:, :-1]], axis=1), 0)
        normal = ended < limit[:, None]
        table["longest"][rows] = np.maximum(table["longest"][rows], np.where(normal, ended, 0).max(axis=1))
        flagged = ended * ~normal
        if flagged.any():
            self._strike(rows, flagged)
        table["run"][rows] = run[:, -1]
        usual = same & (run < limit[:, None])
        table["repeats"][rows] += np.count_nonzero(usual, axis=1)
        table["readings"][rows] += np.count_nonzero(usual | change, axis=1)
        return run

    def _strike(self, rows: Int64, flagged: Int64) -> None:
        strikes = self.table["strikes"]
        strikes[rows] += np.count_nonzero(flagged, axis=1)
        known = strikes[rows] >= STRIKES_MAX
        longest = self.table["longest"][rows]
        self.table["longest"][rows] = np.where(known, np.maximum(longest, flagged.max(axis=1)), longest)
        strikes[rows] = np.where(known, 0, strikes[rows])

    def _teach(self, rows: Int64) -> None:
        """Renews the limits at the end of a slot."""
        table = self.table
        for row in rows.tolist():
            repeats, readings = int(table["repeats"][row]), int(table["readings"][row])
            if readings < SLOT // 4 or self._roster.metrics[row].is_state:
                continue
            share, before = (repeats + 1) / (readings + 2), float(table["share"][row])
            share = share if before < 0 else max(share, before + LEARN_WEIGHT * (share - before))
            table["share"][row] = share
            by_chance = log(RUN_ODDS) / log(share)
            table["limit"][row] = max(RUN_MIN, int(by_chance) + 1, 2 * int(table["longest"][row]) + 2)
            table["repeats"][row] = table["readings"][row] = 0
