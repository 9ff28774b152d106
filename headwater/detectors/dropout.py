"""Finds metrics that have fallen silent: no reading for several of their own sampling intervals."""

import numpy as np
import numpy.typing as npt

from headwater.detectors.roster import Field, Roster, Rows, StateTable
from headwater.frame import Int64
from headwater.instant import US_PER_S

Bool = npt.NDArray[np.bool_]

INTERVALS_MISSED = 3  # Beside metrics that still report, so many missing readings are a dropout.
INTERVALS_SILENT = 6  # Without any news it takes longer: transport may stutter.
SILENT_MIN_US = 3 * US_PER_S
LEARN_FROM = 32
NEVER = np.iinfo(np.int64).min // 4
UNKNOWN = np.iinfo(np.int64).max // 16


class Silences:
    """Remembers when each metric last reported and how often it does."""

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self.table = StateTable(
            {
                "last_us": Field(np.int64, NEVER),
                "first_us": Field(np.int64, NEVER),
                "every_us": Field(np.int64, UNKNOWN),
                "readings": Field(np.int64, 0),
                "silent": Field(np.bool_, 0),
            }
        )

    def grow(self, rows: int) -> None:
        """Makes room for so many metrics."""
        known = len(self.table["last_us"])
        self.table.grow(rows)
        for row, metric in enumerate(self._roster.metrics[known:], known):
            if metric.every_us:
                self.table["every_us"][row] = metric.every_us

    def step(self, rows: Rows, time_us: Int64, present: Bool | None) -> list[tuple[int, int, bool]]:
        """Takes n times and which readings came; returns (row within the block, column, is_onset), in time order."""
        table = self.table
        edges: list[tuple[int, int, bool]] = []
        silent = table["silent"][rows]
        if present is None:
            if silent.any():
                edges = [(int(row), 0, False) for row in np.flatnonzero(silent)]
                table["silent"][rows] = False
            last_us = np.full(len(silent), time_us[-1])
            readings: Int64 | int = len(time_us)
            first_us = np.full(len(silent), time_us[0])
        else:
            columns = np.arange(len(time_us))
            at = np.maximum.accumulate(np.where(present, columns, -1), axis=1)
            seen_us = np.where(at < 0, table["last_us"][rows][:, None], time_us[np.maximum(at, 0)])
            late = time_us - seen_us >= INTERVALS_MISSED * table["every_us"][rows][:, None]
            late &= (seen_us > NEVER) & ~present
            for row in np.flatnonzero(late.any(axis=1) | silent).tolist():
                edges += _switches(row, late[row], present[row], bool(silent[row]))
            for row, _, is_onset in edges:
                silent[row] = is_onset
            table["silent"][rows] = silent
            last_us = seen_us[:, -1]
            readings = np.count_nonzero(present, axis=1)
            first_us = np.where(present.any(axis=1), time_us[present.argmax(axis=1)], NEVER)
        table["first_us"][rows] = np.where(table["first_us"][rows] == NEVER, first_us, table["first_us"][rows])
        table["readings"][rows] += readings
        table["last_us"][rows] = last_us
        return sorted(edges, key=lambda edge: edge[1])

    def silence(self, now_us: int) -> list[int]:
        """Returns the rows that have been silent for too long at `now_us` and weren't before."""
        table = self.table
        unknown = (table["every_us"] == UNKNOWN) & (table["readings"] > LEARN_FROM)
        if unknown.any():
            mean_us = (table["last_us"] - table["first_us"]) // np.maximum(table["readings"] - 1, 1)
            table["every_us"][unknown] = np.maximum(mean_us[unknown], 1)
        wait_us = np.maximum(INTERVALS_SILENT * table["every_us"], SILENT_MIN_US)
        rows = np.flatnonzero(~table["silent"] & (table["last_us"] > NEVER) & (now_us - table["last_us"] > wait_us))
        table["silent"][rows] = True
        return [int(row) for row in rows]


def _switches(row: int, late: Bool, present: Bool, silent: bool) -> list[tuple[int, int, bool]]:
    """Follows one metric through a block: silence begins at a late column and ends at the next reading."""
    edges = []
    for column in np.flatnonzero(late | present).tolist():
        if bool(late[column]) != silent:
            silent = not silent
            edges.append((row, column, silent))
    return edges
