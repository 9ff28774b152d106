"""The embedded store: one SQLite file that one processor writes and any process reads (docs/store.md).

WAL, synchronous=FULL, one writing connection. A write is one transaction: all or none, and the same again changes
nothing, because every row has an identity.

    StoreWrite ─▶ names to numbers ─▶ blobs and rows ─▶ one transaction, fsync ─▶ version + 1
"""

import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from headwater.batch import Batch, DeadLetter
from headwater.errors import ConnectError, LimitError
from headwater.frame import Int64
from headwater.io.store_check import check_write
from headwater.io.store_sqlite_blob import encode
from headwater.io.store_sqlite_file import is_damage, lock, open_store, set_aside, translate
from headwater.io.store_sqlite_panes import encode_panes
from headwater.io.store_sqlite_retention import Retention, Sweeper
from headwater.io.store_sqlite_schema import (
    SEQ_BITS,
    SEQ_MASK,
    SPANS_US,
    STREAMS_MAX,
    WINDOW_ORDER,
    has_device,
    key_columns,
    signed,
    upsert,
)
from headwater.points import MEASUREMENT_FIELDS, DeviceAccount, PointTable, StoreWrite

CHANGES_MAX = 4096
INT64_MAX = (1 << 63) - 1

_FRAME = (
    "INSERT OR IGNORE INTO frame (id, device_id, span, start_us, end_us, received_us, readings, runs, times, scaled, "
    "exact, quality, summaries) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_LATEST = (
    "INSERT INTO latest VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET time_us = excluded.time_us, "
    "value = excluded.value, quality = excluded.quality WHERE excluded.time_us >= time_us"
)
_SEEN = "UPDATE device_name SET last_us = max(last_us, ?), received_us = max(received_us, ?), version = ? WHERE id = ?"
_ACCOUNT = "INSERT OR REPLACE INTO account VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_LETTER = "INSERT OR IGNORE INTO dead_letter VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_POSITION = (
    "INSERT INTO position VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
    "next_offset = max(next_offset, excluded.next_offset)"
)


class SqliteStore:
    """Writes the store; `headwater.ports.Store`. One at a time per file; safe to call from several threads.

    Attributes:
        set_aside: where a damaged file was moved when this one was opened or used, else None.
    """

    def __init__(self, path: Path | str, *, retention: Retention | None = None) -> None:
        self._path = Path(path)
        self._lock = threading.Lock()
        self._devices: dict[tuple[str, str], int] = {}
        self._names: dict[str, int] = {}
        self._streams: dict[tuple[int, int, int], int] = {}
        self._data_version = -1
        self._sweeper = Sweeper(retention or Retention())
        self._is_closed_by_damage = False
        self._right = lock(self._path)
        try:
            self._connection, self.set_aside = open_store(self._path)
        except BaseException:
            self._right.close()
            raise

    def write(self, write: StoreWrite) -> None:
        """Stores all of it or none; the same write again changes nothing.

        Raises:
            ConnectError: the file is busy, the disk is full or failing; the same write may be tried again.
            RejectedError: see `check_write`.
        """
        check_write(write)
        with self._lock, self._transaction("can't write") as connection:
            counted = "UPDATE meta SET value = value + 1 WHERE key = 'version' RETURNING value"
            number = int(connection.execute(counted).fetchall()[0][0])
            frame_ids = [self._write_frames(batch, number) for batch in write.telemetry if len(batch)]
            windows: dict[int, int] = {}
            for table in write.tables:
                self._write_points(table, number, windows)
            connection.executemany(_ACCOUNT, [self._account_row(account, number) for account in write.accounts])
            connection.executemany(_LETTER, _letter_rows(write.dead_letters, number))
            connection.executemany(_POSITION, [(*place, next_offset) for place, next_offset in write.positions.items()])
            changed = np.concatenate(frame_ids) if frame_ids else np.empty(0, np.int64)
            connection.execute(
                "INSERT INTO change VALUES (?, ?, ?)",
                (number, changed.astype("<i8").tobytes(), json.dumps(windows, separators=(",", ":"))),
            )
            if number % 64 == 0:
                connection.execute("DELETE FROM change WHERE version <= ?", (number - CHANGES_MAX,))

    def retain(self, now_us: int, budget_rows: int = 5_000) -> int:
        """Deletes at most about `budget_rows` rows that are older than their retention; returns how many.

        Call it now and then; it goes on where it stopped.
        """
        with self._lock, self._transaction("can't delete old rows") as connection:
            deleted = self._sweeper.sweep(connection, now_us, budget_rows)
        with self._lock:
            try:
                # As a script, because the module takes only the first step, and so one page, of a plain statement.
                self._connection.executescript("PRAGMA incremental_vacuum(256)")
            except sqlite3.Error as error:
                raise translate(error, self._path, "can't give pages back") from error
        return deleted

    def close(self) -> None:
        """Closes the file; everything written is in it."""
        with self._lock:
            self._connection.close()
            self._right.close()

    @contextmanager
    def _transaction(self, doing: str) -> Iterator[sqlite3.Connection]:
        if self._is_closed_by_damage:
            self._reopen()
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            seen = connection.execute("PRAGMA data_version").fetchone()[0]
            if seen != self._data_version:
                self._forget()
                self._data_version = seen
            yield connection
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._undo()
            if is_damage(error):
                connection.close()
                self._is_closed_by_damage = True
                self.set_aside = set_aside(self._path, error)
                self._reopen()
                raise ConnectError(
                    f"{self._path} was damaged and is replaced by an empty store: write again"
                ) from error
            raise translate(error, self._path, doing) from error
        except BaseException:
            self._undo()
            raise

    def _reopen(self) -> None:
        self._connection, aside = open_store(self._path)
        self.set_aside = aside or self.set_aside
        self._is_closed_by_damage = False

    def _undo(self) -> None:
        self._forget()
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _forget(self) -> None:
        # Numbers given out in a transaction that was undone, or by another writer, are no longer ours.
        self._devices.clear()
        self._names.clear()
        self._streams.clear()

    def _device_id(self, site: str, device: str) -> int:
        key = (site, device)
        if key not in self._devices:
            found = self._connection.execute("SELECT id FROM device_name WHERE site = ? AND device = ?", key).fetchone()
            if found is None:
                insert = "INSERT INTO device_name (site, device) VALUES (?, ?) RETURNING id"
                found = self._connection.execute(insert, key).fetchone()
            self._devices[key] = int(found[0])
        return self._devices[key]

    def _name_ids(self, texts: Iterable[str]) -> Int64:
        ids = []
        for text in texts:
            if text not in self._names:
                found = self._connection.execute("SELECT id FROM name WHERE text = ?", (text,)).fetchone()
                if found is None:
                    found = self._connection.execute(
                        "INSERT INTO name (text) VALUES (?) RETURNING id", (text,)
                    ).fetchone()
                self._names[text] = int(found[0])
            ids.append(self._names[text])
        return np.array(ids, np.int64)

    def _stream_id(self, device_id: int, epoch: int, seq_high: int) -> int:
        key = (device_id, epoch, seq_high)
        if key not in self._streams:
            where = "SELECT id FROM stream WHERE device_id = ? AND epoch = ? AND seq_high = ?"
            found = self._connection.execute(where, key).fetchone()
            if found is None:
                insert = "INSERT INTO stream (device_id, epoch, seq_high) VALUES (?, ?, ?) RETURNING id"
                found = self._connection.execute(insert, key).fetchone()
            if found[0] >= STREAMS_MAX:
                raise LimitError(f"{self._path} holds {STREAMS_MAX} epochs, the most it can: start a new store")
            self._streams[key] = int(found[0])
        return self._streams[key]

    def _write_frames(self, batch: Batch, version: int) -> Int64:
        connection = self._connection
        device_ids = np.array([self._device_id(*key) for key in batch.devices], np.int64)
        metric_ids = self._name_ids(batch.metrics)
        device = device_ids[batch.device]
        pane_metric_ids = self._name_ids(batch.summaries.metrics)
        panes, pane_start, pane_end = encode_panes(batch, pane_metric_ids)
        held = np.diff(batch.reading_start)
        is_empty = (held == 0) & (np.diff(batch.summary_start) == 0)
        blobs = encode(batch, metric_ids, np.where(is_empty, batch.created_us, pane_start))
        start_us = blobs.start_us
        end_us = np.where(is_empty, batch.created_us + 1, np.maximum(blobs.end_us, pane_end))
        span = np.searchsorted(np.array(SPANS_US), end_us - start_us)
        ids = self._frame_ids(batch, device)
        connection.executemany(
            _FRAME,
            zip(
                ids.tolist(), device.tolist(), span.tolist(), start_us.tolist(), end_us.tolist(),
                batch.received_us.tolist(), held.tolist(), blobs.runs, blobs.times, blobs.scaled, blobs.exact,
                blobs.quality, panes, strict=True,
            ),
        )  # fmt: skip
        self._write_gaps(batch, device)
        last = blobs.run_last
        self._write_latest(
            np.concatenate((device[blobs.run_frame], np.repeat(device, np.diff(batch.summary_start)))),
            np.concatenate((blobs.run_metric, pane_metric_ids[batch.summaries.metric])),
            np.concatenate((batch.time_us[last], batch.summaries.last_us)),
            np.concatenate((batch.value[last], batch.summaries.last)),
            np.concatenate((batch.quality[last], np.zeros(len(batch.summaries), np.uint8))),
        )
        self._write_seen(device, end_us - 1, batch.received_us, version)
        return ids

    def _write_gaps(self, batch: Batch, device: Int64) -> None:
        gaps = [
            (int(device[row]), signed(gap.epoch), gap.from_seq, gap.to_seq, gap.reason, gap.readings, gap.declared_us)
            for row, gap in batch.gaps
        ]
        self._connection.executemany("INSERT OR IGNORE INTO gap VALUES (?, ?, ?, ?, ?, ?, ?)", gaps)

    def _write_seen(self, device: Int64, last_us: Int64, received_us: Int64, version: int) -> None:
        order = np.argsort(device, kind="stable")
        heads = np.flatnonzero(np.diff(device[order], prepend=-1))
        self._connection.executemany(
            _SEEN,
            zip(
                np.maximum.reduceat(last_us[order], heads).tolist(),
                np.maximum.reduceat(received_us[order], heads).tolist(),
                [version] * len(heads),
                device[order][heads].tolist(),
                strict=True,
            ),
        )

    def _frame_ids(self, batch: Batch, device: Int64) -> Int64:
        epoch, high = batch.epoch.view(np.int64), batch.seq >> SEQ_BITS
        keys = zip(device.tolist(), epoch.tolist(), high.tolist(), strict=True)
        stream = np.fromiter((self._streams.get(key) or self._stream_id(*key) for key in keys), np.int64, len(batch))
        ids = (stream << SEQ_BITS) | (batch.seq & SEQ_MASK)
        for row in np.flatnonzero(epoch == 0).tolist():
            ids[row] = self._foreign_id(batch, row, self._stream_id(int(device[row]), 0, 0))
        return ids

    def _foreign_id(self, batch: Batch, row: int, stream: int) -> int:
        """A foreign frame has no number of its own: its content is its identity."""
        lo, hi = int(batch.reading_start[row]), int(batch.reading_start[row + 1])
        names = [batch.metrics[code] for code in batch.metric[lo:hi].tolist()]
        digest = hashlib.blake2b("\0".join(names).encode(), digest_size=16)
        for column in (batch.time_us, batch.value, batch.quality):
            digest.update(np.ascontiguousarray(column[lo:hi]).tobytes())
        key = (stream, digest.digest())
        where = "SELECT frame_id FROM foreign_frame WHERE stream_id = ? AND digest = ?"
        found = self._connection.execute(where, key).fetchone()
        if found is None:
            first, last = stream << SEQ_BITS, (stream << SEQ_BITS) | SEQ_MASK
            newest = "SELECT max(frame_id) FROM foreign_frame WHERE frame_id BETWEEN ? AND ?"
            highest = self._connection.execute(newest, (first, last)).fetchone()[0]
            found = (first + 1 if highest is None else highest + 1,)
            self._connection.execute("INSERT INTO foreign_frame VALUES (?, ?, ?)", (*key, found[0]))
        return int(found[0])

    def _write_latest(
        self, device: Int64, metric: Int64, time_us: Int64, value: np.ndarray, quality: np.ndarray
    ) -> None:
        order = np.lexsort((time_us, metric, device))
        device, metric = device[order], metric[order]
        final = np.append((device[1:] != device[:-1]) | (metric[1:] != metric[:-1]), True) if len(order) else order > 0
        picked = order[final]
        columns = (device[final], metric[final], time_us[picked], value[picked], quality[picked])
        self._connection.executemany(_LATEST, zip(*(column.tolist() for column in columns), strict=True))

    def _write_points(self, table: PointTable, version: int, windows: dict[int, int]) -> None:
        n, name = len(table), table.measurement
        if not n:
            return
        keys: list[Int64] = []
        if has_device(name):
            site, device = table.tags["site"], table.tags["device"]
            pairs, row = np.unique(site.code.astype(np.int64) << 32 | device.code, return_inverse=True)
            names = [(site.dictionary[pair >> 32], device.dictionary[pair & 0xFFFFFFFF]) for pair in pairs.tolist()]
            numbers = np.array([self._device_id(*pair) for pair in names], np.int64)
            keys.append(numbers[row])
            if name == "window":
                for number in set(numbers.tolist()):
                    oldest = int(table.time_us[keys[0] == number].min())
                    windows[number] = min(oldest, windows.get(number, oldest))
        keys += [
            self._name_ids(tag.dictionary)[tag.code] for key, tag in table.tags.items() if key not in ("site", "device")
        ]
        keys.append(table.time_us)
        # Rows in the order of the table's tree cost half as much as in any other.
        named = dict(zip(key_columns(name), keys, strict=True))
        order = np.lexsort(
            [named[column] for column in (WINDOW_ORDER if name == "window" else key_columns(name))[::-1]]
        )
        none: list[object] = [None] * n
        columns = [key[order].tolist() for key in keys]
        columns += [
            table.fields[field][order].tolist() if field in table.fields else none for field in MEASUREMENT_FIELDS[name]
        ]
        self._connection.executemany(upsert(name), zip(*columns, [version] * n, strict=True))

    def _account_row(self, account: DeviceAccount, version: int) -> tuple[object, ...]:
        return (
            self._device_id(account.site, account.device), signed(account.epoch), account.contiguous,
            json.dumps(account.ranges, separators=(",", ":")), account.assigned, account.stored, account.dead_lettered,
            account.gap, account.in_flight, account.unknown, account.readings_stored, account.acquired,
            account.suppressed, account.aggregated, account.dropped, account.duplicates, version,
        )  # fmt: skip


def _letter_rows(letters: tuple[DeadLetter, ...], version: int) -> Iterator[tuple[object, ...]]:
    """Rows with the content as identity; equal letters in one write are told apart by their number in it."""
    seen: dict[bytes, int] = {}
    for letter in letters:
        # What came from outside may hold half a surrogate pair, which no database takes.
        texts = (letter.reason, letter.stage, letter.source, letter.detail, letter.site, letter.device)
        fields = (
            letter.at_us, *(str(text).encode("utf-8", "replace").decode() for text in texts), signed(letter.epoch), max(-INT64_MAX, min(letter.seq, INT64_MAX)), letter.readings,
        )  # fmt: skip
        content = json.dumps(fields).encode() + b"\0" + letter.payload
        plain = hashlib.blake2b(content, digest_size=16).digest()
        nth = seen[plain] = seen.get(plain, -1) + 1
        digest = hashlib.blake2b(plain + nth.to_bytes(4, "little"), digest_size=16).digest()
        yield digest, *fields, letter.payload, version
