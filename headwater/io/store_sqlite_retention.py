"""How long the SQLite store keeps its rows, and the sweeper that deletes older ones in small slices."""

import sqlite3
from dataclasses import dataclass

from headwater.io.store_sqlite_schema import POINT_MEASUREMENTS, SPANS_US, WINDOW_ORDER, key_columns

_DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True)
class Retention:
    """Ages beyond which rows go; 0 keeps them for ever. Of every series the newest point is kept whatever its age.

    Attributes:
        telemetry_us: frames of readings.
        window_us: windows.
        event_us: anomalies, health, device, alert and pipeline points.
        dead_letter_us: dead letters.
    """

    telemetry_us: int = 30 * _DAY_US
    window_us: int = 365 * _DAY_US
    event_us: int = 365 * _DAY_US
    dead_letter_us: int = 30 * _DAY_US


class Sweeper:
    """Deletes what is older than its retention, a slice at a time, going on where it stopped."""

    def __init__(self, retention: Retention) -> None:
        self._retention = retention
        self._device = -1

    def sweep(self, connection: sqlite3.Connection, now_us: int, budget_rows: int) -> int:
        """Deletes up to about `budget_rows` rows within the caller's transaction; returns how many."""
        keep, left = self._retention, budget_rows
        if keep.telemetry_us:
            left -= self._sweep_frames(connection, now_us - keep.telemetry_us, left)
        if keep.window_us:
            left -= _sweep_windows(connection, now_us - keep.window_us, left)
        if keep.event_us:
            for name in POINT_MEASUREMENTS:
                if name != "window":
                    left -= _sweep_points(connection, name, now_us - keep.event_us, left)
        if keep.dead_letter_us:
            left -= connection.execute(
                "DELETE FROM dead_letter WHERE id IN (SELECT id FROM dead_letter WHERE at_us < ? ORDER BY at_us LIMIT ?)",
                (now_us - keep.dead_letter_us, max(left, 0)),
            ).rowcount
        return budget_rows - left

    def _sweep_frames(self, connection: sqlite3.Connection, before_us: int, budget: int) -> int:
        """Goes once round the devices at the most, from the one after the last."""
        deleted = 0
        devices = [row[0] for row in connection.execute("SELECT id FROM device_name ORDER BY id")]
        later = [number for number in devices if number > self._device]
        for device in later + [number for number in devices if number <= self._device]:
            for span in range(len(SPANS_US) + 1):
                if deleted >= budget:
                    return deleted
                old = (
                    "SELECT id FROM frame WHERE device_id = ? AND span = ? AND start_us < ? AND end_us <= ? "
                    "ORDER BY start_us LIMIT ?"
                )
                key = (device, span, before_us, before_us, budget - deleted)
                ids = connection.execute(old, key).fetchall()
                connection.executemany("DELETE FROM frame WHERE id = ?", ids)
                connection.executemany("DELETE FROM foreign_frame WHERE frame_id = ?", ids)
                deleted += len(ids)
            self._device = device
        return deleted


def _sweep_windows(connection: sqlite3.Connection, before_us: int, budget: int) -> int:
    """Deletes from the old end of each kind of window; a kind costs one hop along the clustered key."""
    deleted, kind = 0, -1
    while deleted < budget:
        row = connection.execute("SELECT min(window_id) FROM window_row WHERE window_id > ?", (kind,)).fetchone()
        if row[0] is None:
            break
        kind = row[0]
        old = "SELECT * FROM window_row WHERE window_id = ? AND time_us < ? ORDER BY time_us LIMIT ?"
        keys = f"SELECT {', '.join(WINDOW_ORDER)} FROM ({old})"  # noqa: S608 — constants.
        rows = connection.execute(keys, (kind, before_us, budget - deleted)).fetchall()
        where = " AND ".join(f"{column} = ?" for column in WINDOW_ORDER)
        connection.executemany(f"DELETE FROM window_row WHERE {where}", rows)  # noqa: S608 — constants.
        deleted += len(rows)
    return deleted


def _sweep_points(connection: sqlite3.Connection, name: str, before_us: int, budget: int) -> int:
    same = " AND ".join(f"n.{column} = o.{column}" for column in key_columns(name) if column != "time_us")
    old = (
        f"SELECT o.id FROM {name}_row o WHERE o.time_us < ? AND EXISTS "  # noqa: S608 — names of our own tables.
        f"(SELECT 1 FROM {name}_row n WHERE {same} AND n.time_us > o.time_us) ORDER BY o.time_us LIMIT ?"
    )
    ids = connection.execute(old, (before_us, max(budget, 0))).fetchall()
    connection.executemany(f"DELETE FROM {name}_row WHERE id = ?", ids)  # noqa: S608 — names of our own tables.
    return len(ids)
