"""The books: what a store of series can't hold in transactions, in a SQLite store without frames and windows.

Accounts and frontiers, gaps, dead letters, positions, the newest reading of each metric, and the small tables of events
are here, so a `StoreReader` on this file answers the gateway, doctor, trace and the page; readings and windows are elsewhere.
"""

import numpy as np

from headwater.batch import Batch
from headwater.frame import Int64
from headwater.io.store_sqlite import SqliteStore
from headwater.io.store_sqlite_blob import run_bounds


class Books(SqliteStore):
    """A SqliteStore that keeps nothing of a frame but its gaps and what is newest in it."""

    def _write_frames(self, batch: Batch, version: int) -> Int64:
        device_ids = np.array([self._device_id(*key) for key in batch.devices], np.int64)
        device = device_ids[batch.device]
        self._write_gaps(batch, device)
        metric, panes = self._name_ids(batch.metrics)[batch.metric], batch.summaries
        begin, length, frame = run_bounds(batch, metric)
        last = begin + length - 1
        pane_frame = np.repeat(np.arange(len(batch)), np.diff(batch.summary_start))
        self._write_latest(
            np.concatenate((device[frame], device[pane_frame])),
            np.concatenate((metric[last], self._name_ids(panes.metrics)[panes.metric])),
            np.concatenate((batch.time_us[last], panes.last_us)),
            np.concatenate((batch.value[last], panes.last)),
            np.concatenate((batch.quality[last], np.zeros(len(panes), np.uint8))),
        )
        last_us = np.full(len(batch), np.iinfo(np.int64).min)
        np.maximum.at(last_us, frame, batch.time_us[last])
        np.maximum.at(last_us, pane_frame, panes.start_us + panes.width_us - 1)
        is_empty = last_us == np.iinfo(np.int64).min
        self._write_seen(device, np.where(is_empty, batch.created_us, last_us), batch.received_us, version)
        return np.empty(0, np.int64)
