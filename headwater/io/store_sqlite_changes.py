"""What came into the SQLite store after a version, for streams to a page."""

import json
import sqlite3
from itertools import pairwise
from typing import Any

import numpy as np

from headwater.io.store_sqlite_schema import select
from headwater.io.store_sqlite_series import load

ROWS_MAX = 1_000
VERSIONS_MAX = 256
EVENTS = ("anomaly", "alert", "health", "device")


def read_changes(connection: sqlite3.Connection, since: int, readings_max: int) -> dict[str, Any]:
    """Returns what came after version `since`, oldest first, and the version to ask with next time.

    version: pass it as `since` next time; may be behind the newest if there is much to tell.
    reset: True if the store no longer knows (too long ago, or another store): draw everything anew; the rest is empty.
    readings: a dict a series, {site, device, metric, time_us, value, quality} as arrays, in order of arrival.
    anomaly, alert, health, device: rows with the names of contracts §8, at most ROWS_MAX each.
    windows: {site, device, from_us}: windows that begin there or later came or changed.
    """
    newest = int(connection.execute("SELECT value FROM meta WHERE key = 'version'").fetchone()[0])
    answer: dict[str, Any] = {"version": newest, "reset": False, "readings": [], "windows": []}
    answer |= {name: [] for name in EVENTS}
    if since == newest:
        return answer
    rows = connection.execute(
        "SELECT version, frames, windows FROM change WHERE version > ? ORDER BY version LIMIT ?", (since, VERSIONS_MAX)
    ).fetchall()
    if since > newest or not rows or rows[0][0] != since + 1:
        return {**answer, "reset": True}
    frames: list[int] = []
    windows: dict[str, int] = {}
    readings = 0
    reached = since
    for version, packed, windowed in rows:
        ids = np.frombuffer(packed, "<i8").tolist()
        size = sum(
            row[0] for number in ids for row in connection.execute("SELECT readings FROM frame WHERE id = ?", (number,))
        )
        if reached > since and readings + size > readings_max:
            break
        reached, readings = version, readings + size
        frames += ids
        for device, from_us in json.loads(windowed).items():
            windows[device] = min(from_us, windows.get(device, from_us))
    answer["version"] = reached
    answer["readings"] = _readings(connection, frames)
    answer["windows"] = [
        {"site": site, "device": device, "from_us": windows[str(number)]}
        for number, site, device in connection.execute("SELECT id, site, device FROM device_name")
        if str(number) in windows
    ]
    for name in EVENTS:
        cursor = connection.execute(
            f"{select(name)} WHERE r.version > ? AND r.version <= ? ORDER BY r.version, r.time_us LIMIT ?",
            (since, reached, ROWS_MAX),
        )
        names = [column[0] for column in cursor.description]
        answer[name] = [dict(zip(names, row, strict=True)) for row in cursor]
    return answer


def _readings(connection: sqlite3.Connection, ids: list[int]) -> list[dict[str, Any]]:
    """The readings of frames, series by series; a frame that was written twice meanwhile comes once."""
    devices = dict(
        row
        for number in dict.fromkeys(ids)
        for row in connection.execute("SELECT id, device_id FROM frame WHERE id = ?", (number,))
    )
    columns = load(connection, list(devices))
    if not len(columns.metric):
        return []
    device = np.fromiter(devices.values(), np.int64, len(devices))[columns.frame]
    order = np.lexsort((columns.metric, device))
    heads = np.flatnonzero(
        (np.diff(device[order], prepend=-1) != 0) | (np.diff(columns.metric[order], prepend=-1) != 0)
    )
    names = {
        number: connection.execute("SELECT text FROM name WHERE id = ?", (number,)).fetchone()[0]
        for number in np.unique(columns.metric).tolist()
    }
    owners = {
        number: connection.execute("SELECT site, device FROM device_name WHERE id = ?", (number,)).fetchone()
        for number in np.unique(device).tolist()
    }
    sorted_columns = [column[order] for column in (columns.time_us, columns.value, columns.quality)]
    owner, metric = device[order][heads].tolist(), columns.metric[order][heads].tolist()
    marks = [*heads.tolist(), len(order)]
    answer = []
    for at, (lo, hi) in enumerate(pairwise(marks)):
        time_us, value, quality = (column[lo:hi] for column in sorted_columns)
        site, name = owners[owner[at]]
        answer.append(
            {
                "site": site,
                "device": name,
                "metric": names[metric[at]],
                "time_us": time_us,
                "value": value,
                "quality": quality,
            }
        )
    return answer
