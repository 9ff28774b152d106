"""The book of sequences: which frames of each device and epoch have come, and where all others are.

It deduplicates by a frontier that never expires, takes declared gaps and dead letters in, and tells what is in flight
and what is unknown. Frames in order cost a few array operations for all devices together; holes cost Python per frame.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from headwater.batch import Batch
from headwater.column_order import group_starts, grown, stable_order
from headwater.frame import Gap, Int64, UInt8
from headwater.frontier import RANGES_MAX, Frontier
from headwater.points import DeviceAccount
from headwater.watermark import ABOVE_HOLE, DUPLICATE, FILLS_HOLE, IN_SEQUENCE

# Separate ranges of one device and epoch beyond which frames are refused (and stay in the device's spool).
RANGES_REFUSED_AT = 16 * RANGES_MAX

_COLUMNS = (  # noqa: SIM905 — a row of names.
    "device contiguous assigned oldest stored dead gap readings acquired suppressed aggregated dropped duplicates gap_from unknown foreign"
).split()


@dataclass(slots=True)
class Admission:
    """What the book says of k frames.

    Attributes:
        standing: uint8 (k,), DUPLICATE, ABOVE_HOLE, FILLS_HOLE or IN_SEQUENCE.
        entry: int64 (k,), the book's entry of each frame.
        touched: entries whose account changed.
        refused: frames (rows) that found more holes than the book takes: the device keeps them and sends again.
    """

    standing: UInt8
    entry: Int64
    touched: Int64
    refused: list[int] = field(default_factory=list)


class SequenceBook:
    """One entry per device number and epoch; foreign frames (epoch 0) are counted in an entry and pass."""

    def __init__(self) -> None:
        self._entry_of: dict[tuple[int, int], int] = {}
        self._epochs: list[int] = []
        self._frontiers: dict[int, Frontier] = {}
        self._columns = {name: np.zeros(0, np.int64) for name in _COLUMNS}
        self._current_epoch = np.zeros(0, np.uint64)
        self._current_entry = np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self._epochs)

    def admit(self, batch: Batch, device: Int64, devices: Iterable[int]) -> Admission:
        """Enters the frames, gaps, dead letters and statuses of a batch.

        Args:
            batch: all frames that came.
            device: int64 (k,), device numbers of the frames.
            devices: device numbers of `batch.dead_letters` and then of `batch.statuses`, -1 where there is none.
        """
        entry = self._entries(device, batch.epoch)
        gaps = [(row, self._entry(int(device[row]), gap.epoch), gap) for row, gap in batch.gaps]
        touched = [entry, np.array([e for _, e, _ in gaps], np.int64)]
        numbers = iter(devices)
        slow = {e for _, e, _ in gaps} | {int(entry[row]) for row, _, _ in gaps}
        for letter, number in zip(batch.dead_letters, numbers, strict=False):
            if number >= 0 and letter.epoch and letter.seq > 0:
                at = self._entry(number, letter.epoch)
                slow.add(at)
                touched.append(np.array([at]))
                self._raise_to("assigned", at, letter.seq)
                if self._frontier(at).add(letter.seq):
                    self._columns["dead"][at] += 1
        for status, number in zip(batch.statuses, numbers, strict=False):
            if status.epoch:
                at = self._entry(number, status.epoch)
                touched.append(np.array([at]))
                self._raise_to("assigned", at, status.assigned)
        admission = Admission(np.zeros(len(batch), np.uint8), entry, np.unique(np.concatenate(touched)))
        np.maximum.at(self._columns["assigned"], entry, batch.seq)
        np.maximum.at(self._columns["oldest"], entry, batch.oldest_seq)
        self._admit_in_order(batch, admission, slow)
        self._admit_others(batch, admission, gaps)
        self._settle(admission)
        self._count(batch, admission)
        self._columns["unknown"][admission.touched] = self._unknown(admission.touched)
        return admission

    def _admit_in_order(self, batch: Batch, admission: Admission, slow: set[int]) -> None:
        """Admits the frames of entries that have no hole and whose frames come in sequence."""
        if not len(batch):
            return
        order = stable_order(admission.entry)
        entry, seq = admission.entry[order], batch.seq[order]
        starts = group_starts(entry)
        length = np.diff(np.append(starts, len(order)))
        rank = np.arange(len(order)) - np.repeat(starts, length)
        contiguous = self._columns["contiguous"]
        fits = (seq == contiguous[entry] + 1 + rank) | (batch.epoch[order] == 0)
        whole = np.logical_and.reduceat(fits, starts)
        if slow or self._frontiers:
            holes = np.array(sorted(slow | self._frontiers.keys()), np.int64)
            whole &= ~np.isin(entry[starts], holes)
        admission.standing[order[np.repeat(whole, length)]] = IN_SEQUENCE
        moved = whole & (batch.epoch[order[starts]] != 0)
        contiguous[entry[starts[moved]]] += length[moved]

    def _admit_others(self, batch: Batch, admission: Admission, gaps: list[tuple[int, int, Gap]]) -> None:
        """Admits what is left, frame by frame in the order of arrival."""
        declared: dict[int, list[tuple[int, Gap]]] = {}
        for row, at, gap in gaps:
            declared.setdefault(row, []).append((at, gap))
        for row in np.flatnonzero(admission.standing == DUPLICATE).tolist():
            at, seq = int(admission.entry[row]), int(batch.seq[row])
            if batch.epoch[row]:
                frontier = self._frontier(at)
                if frontier.range_count >= RANGES_REFUSED_AT and seq not in frontier and seq != frontier.contiguous + 1:
                    admission.refused.append(row)
                    continue
                if not frontier.add(seq):
                    continue
                above = FILLS_HOLE if seq <= frontier.contiguous else ABOVE_HOLE
                admission.standing[row] = above if frontier.range_count else IN_SEQUENCE
            else:
                admission.standing[row] = IN_SEQUENCE
            for declared_at, gap in declared.get(row, ()):
                self._declare(declared_at, gap)

    def _declare(self, at: int, gap: Gap) -> None:
        if gap.to_seq == 0:
            earlier = int(self._columns["gap_from"][at])
            self._columns["gap_from"][at] = min(gap.from_seq, earlier or gap.from_seq)
        else:
            self._raise_to("assigned", at, gap.to_seq)
            self._columns["gap"][at] += _add_range(self._frontier(at), gap.from_seq, gap.to_seq)

    def _settle(self, admission: Admission) -> None:
        """Closes open-ended gaps up to what is known to be assigned, and forgets frontiers without holes."""
        columns = self._columns
        for at in admission.touched[columns["gap_from"][admission.touched] > 0].tolist():
            assigned, low = int(columns["assigned"][at]), int(columns["gap_from"][at])
            if assigned >= low:
                columns["gap"][at] += _add_range(self._frontier(at), low, assigned)
        for at, frontier in list(self._frontiers.items()):
            columns["contiguous"][at] = frontier.contiguous
            if not frontier.range_count:
                del self._frontiers[at]

    def _count(self, batch: Batch, admission: Admission) -> None:
        columns, entry, k = self._columns, admission.entry, len(batch)
        is_new = admission.standing != DUPLICATE
        if is_new.all():
            new, rows = entry, slice(None)
        else:
            refused = np.zeros(k, bool)
            refused[admission.refused] = True
            np.add.at(columns["duplicates"], entry[~is_new & ~refused], 1)
            new, rows = entry[is_new], is_new
        np.add.at(columns["stored"], new, 1)
        np.add.at(columns["readings"], new, np.diff(batch.reading_start)[rows])
        for number, name in enumerate(("acquired", "suppressed", "aggregated", "dropped")):
            np.add.at(columns[name], new, batch.ledger[rows, number])

    def _entries(self, device: Int64, epoch: npt.NDArray[np.uint64]) -> Int64:
        """int64 (k,), the entries of k frames, new ones where they are new."""
        size = int(device.max()) + 1 if len(device) else 0
        self._current_epoch = grown(self._current_epoch, size, 0)
        self._current_entry = grown(self._current_entry, size, -1)
        entry = self._current_entry[device]
        misses = np.flatnonzero((self._current_epoch[device] != epoch) | (entry < 0))
        if not len(misses):
            return entry
        # Most misses are devices seen for the first time: one look per device settles all their frames.
        _, first = np.unique(device[misses], return_index=True)
        for row in misses[np.sort(first)].tolist():
            number = int(device[row])
            self._current_entry[number] = self._entry(number, int(epoch[row]))
            self._current_epoch[number] = epoch[row]
        entry[misses] = self._current_entry[device[misses]]
        for row in misses[self._current_epoch[device[misses]] != epoch[misses]].tolist():
            entry[row] = self._entry(int(device[row]), int(epoch[row]))
        return entry

    def _entry(self, device: int, epoch: int) -> int:
        at = self._entry_of.get((device, epoch))
        if at is None:
            at = self._entry_of[device, epoch] = len(self._epochs)
            self._epochs.append(epoch)
            if at >= len(self._columns["device"]):
                self._columns = {name: grown(column, at + 1, 0) for name, column in self._columns.items()}
            self._columns["device"][at] = device
            self._columns["foreign"][at] = epoch == 0
        return at

    def _frontier(self, at: int) -> Frontier:
        frontier = self._frontiers.get(at)
        if frontier is None:
            frontier = self._frontiers[at] = Frontier(int(self._columns["contiguous"][at]))
        return frontier

    def _raise_to(self, name: str, at: int, value: int) -> None:
        self._columns[name][at] = max(int(self._columns[name][at]), value)

    def unknown_per_device(self, count: int) -> Int64:
        """int64 (count,), frames of each device that nobody can explain; must be 0."""
        found = np.zeros(count, np.int64)
        size = len(self._epochs)
        np.add.at(found, self._columns["device"][:size], self._columns["unknown"][:size])
        return found

    def wide_devices(self, count: int) -> npt.NDArray[np.bool_]:
        """Bool (count,), devices with `RANGES_MAX` holes or more: kept all the same, but worth an alert."""
        found = np.zeros(count, bool)
        for at, frontier in self._frontiers.items():
            if frontier.is_full:
                found[self._columns["device"][at]] = True
        return found

    def _unknown(self, entries: Int64) -> Int64:
        """int64 per entry: frames below the oldest one in the spool that no one can explain; must be 0.

        A declaration may itself be in flight: while a frame at or above the oldest is missing, nothing is unknown.
        """
        columns = self._columns
        contiguous, assigned = columns["contiguous"][entries], columns["assigned"][entries]
        below = np.minimum(columns["oldest"][entries] - 1, assigned)
        unknown = np.where(assigned <= below, np.maximum(below - contiguous, 0), 0)
        holes = np.array(sorted(self._frontiers), np.int64)
        for i in np.flatnonzero(np.isin(entries, holes)).tolist() if len(holes) else ():
            at = int(entries[i])
            frontier = self._frontiers[at]
            missing = [*frontier.missing(), (frontier.highest + 1, int(assigned[i]))]
            limit = int(columns["oldest"][at])
            lost = sum(max(min(hi, limit - 1) - lo + 1, 0) for lo, hi in missing)
            in_flight = sum(max(hi - max(lo, limit) + 1, 0) for lo, hi in missing)
            unknown[i] = 0 if in_flight else lost
        unknown[columns["foreign"][entries] > 0] = 0
        return unknown

    def accounts(self, entries: Int64, names: list[tuple[str, str]]) -> tuple[DeviceAccount, ...]:
        """The accounts of some entries as they stand now."""
        rows = zip(entries.tolist(), *(self._columns[name][entries].tolist() for name in _COLUMNS), strict=True)
        found = []
        for at, device, contiguous, assigned, _, stored, dead, gap, readings, *ledger, duplicates, _, lost, _ in rows:
            site, name = names[device]
            frontier = self._frontiers.get(at)
            ranges = tuple(frontier.ranges) if frontier else ()
            epoch = self._epochs[at]
            total = assigned if epoch else stored
            acquired, suppressed, aggregated, dropped = ledger
            found.append(
                DeviceAccount(
                    site, name, epoch, contiguous, ranges, total, stored, dead, gap,
                    total - stored - dead - gap - lost, lost, readings, acquired, suppressed, aggregated, dropped,
                    duplicates,
                )
            )  # fmt: skip
        return tuple(found)

    def state(self) -> dict[str, Any]:
        """What `restore` needs, for a snapshot."""
        size = len(self._epochs)
        ranges = {str(at): frontier.ranges for at, frontier in self._frontiers.items()}
        return {
            "epochs": np.array(self._epochs, np.uint64),
            "ranges": {at: [list(pair) for pair in pairs] for at, pairs in ranges.items()},
            **{name: column[:size] for name, column in self._columns.items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Becomes what `state` describes."""
        self._epochs = state["epochs"].tolist()
        self._columns = {name: state[name] for name in _COLUMNS}
        devices = self._columns["device"].tolist()
        self._entry_of = {pair: at for at, pair in enumerate(zip(devices, self._epochs, strict=True))}
        contiguous = self._columns["contiguous"]
        self._frontiers = {
            int(at): Frontier(int(contiguous[int(at)]), [(lo, hi) for lo, hi in pairs])
            for at, pairs in state["ranges"].items()
        }
        self._current_epoch, self._current_entry = np.zeros(0, np.uint64), np.zeros(0, np.int64)


def _add_range(frontier: Frontier, lo: int, hi: int) -> int:
    """Adds an inclusive range and returns how many numbers of it are new."""
    before = _size(frontier)
    frontier.add_range(lo, hi)
    return _size(frontier) - before


def _size(frontier: Frontier) -> int:
    return frontier.contiguous + sum(hi - lo + 1 for lo, hi in frontier.ranges)
