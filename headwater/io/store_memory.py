"""A store in memory: a full peer of the others for tests and experiments, and the plain statement of what they do."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headwater.batch import Batch, DeadLetter
from headwater.frame import Gap
from headwater.io.store_check import check_write
from headwater.points import MEASUREMENT_TAGS, DeviceAccount, PointTable, StoreWrite
from headwater.ports import FrontierRow

Reading = tuple[str, int, float, int]
FrameKey = tuple[str, str, int, int]
PointKey = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class StoredFrame:
    """A frame as it was kept: readings as (metric, time_us, value, quality), and how many summaries."""

    received_us: int
    readings: tuple[Reading, ...]
    summaries: int


class MemoryStore:
    """Keeps what it is given; `headwater.ports.Store` and `Frontiers`.

    Attributes:
        frames: by (site, device, epoch, seq); a foreign frame has epoch 0 and a seq made of its content.
        points: per measurement, fields by (tags in their order, time_us).
        accounts: by (site, device, epoch).
        gaps: by (site, device, epoch, from_seq, to_seq).
        dead_letters: in order, equal ones of one write apart.
        positions: {(log incarnation, log topic, partition): next offset}.
        version: how many writes it took.
        failures: exceptions to raise from the next writes, first one first, before anything is stored.
    """

    def __init__(self) -> None:
        self.frames: dict[FrameKey, StoredFrame] = {}
        self.points: dict[str, dict[PointKey, dict[str, Any]]] = {
            name: {} for name in MEASUREMENT_TAGS if name != "telemetry"
        }
        self.accounts: dict[tuple[str, str, int], DeviceAccount] = {}
        self.gaps: dict[tuple[str, str, int, int, int], Gap] = {}
        self.positions: dict[tuple[str, str, int], int] = {}
        self.version = 0
        self.failures: list[Exception] = []
        self._letters: dict[tuple[DeadLetter, int], None] = {}
        self._account_versions: dict[tuple[str, str, int], int] = {}

    @property
    def dead_letters(self) -> list[DeadLetter]:
        """The dead letters in the order in which they came."""
        return [letter for letter, _ in self._letters]

    def write(self, write: StoreWrite) -> None:
        """Stores all of it or none; the same write again changes nothing but the version."""
        if self.failures:
            raise self.failures.pop(0)
        check_write(write)
        self.version += 1
        for batch in write.telemetry:
            self._take_frames(batch)
        for table in write.tables:
            self._take_points(table)
        for account in write.accounts:
            key = (account.site, account.device, account.epoch)
            self.accounts[key] = account
            self._account_versions[key] = self.version
        seen: dict[DeadLetter, int] = {}
        for letter in write.dead_letters:
            nth = seen[letter] = seen.get(letter, -1) + 1
            self._letters.setdefault((letter, nth))
        for place, next_offset in write.positions.items():
            self.positions[place] = max(next_offset, self.positions.get(place, 0))

    def changed(self, since: int) -> tuple[int, list[FrontierRow]]:
        """Returns (version, frontiers that changed after version `since`)."""
        return self.version, [
            FrontierRow(account.site, account.device, account.epoch, account.contiguous, account.ranges)
            for key, account in self.accounts.items()
            if self._account_versions[key] > since
        ]

    def close(self) -> None:
        """Keeps everything, so that a test may look."""

    def _take_frames(self, batch: Batch) -> None:
        for row in range(len(batch)):
            lo, hi = int(batch.reading_start[row]), int(batch.reading_start[row + 1])
            names = [batch.metrics[code] for code in batch.metric[lo:hi].tolist()]
            columns = (batch.time_us[lo:hi], batch.value[lo:hi], batch.quality[lo:hi])
            readings = tuple(zip(names, *(column.tolist() for column in columns), strict=True))
            epoch, seq = int(batch.epoch[row]), int(batch.seq[row])
            if epoch == 0:
                seq = hash(readings)
            site, device = batch.devices[batch.device[row]]
            summaries = int(batch.summary_start[row + 1] - batch.summary_start[row])
            frame = StoredFrame(int(batch.received_us[row]), readings, summaries)
            self.frames.setdefault((site, device, epoch, seq), frame)
        for row, gap in batch.gaps:
            site, device = batch.devices[batch.device[row]]
            self.gaps.setdefault((site, device, gap.epoch, gap.from_seq, gap.to_seq), gap)

    def _take_points(self, table: PointTable) -> None:
        kept = self.points[table.measurement]
        tags = [tag.strings() for tag in table.tags.values()]
        columns = {name: column.tolist() for name, column in table.fields.items()}
        for row, key in enumerate(zip(*tags, table.time_us.tolist(), strict=True)):
            fields = {name: column[row] for name, column in columns.items()}
            new = {name: field for name, field in fields.items() if field is not None and field == field}  # noqa: PLR0124 — NaN.
            old: Mapping[str, Any] = kept.get(key, {})
            if table.measurement != "window":
                kept[key] = {**old, **new}
            elif new.get("revision", 0) >= old.get("revision", 0):
                kept[key] = new
