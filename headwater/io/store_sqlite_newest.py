"""The newest points of the SQLite store, found by hops along an index instead of scans over history."""

import sqlite3
from typing import Any

from headwater.io.store_sqlite_schema import field_columns

HOUR_US = 3_600_000_000
COMPONENTS_MAX = 1_000


def newest_health(connection: sqlite3.Connection, device_id: int) -> list[dict[str, Any]]:
    """Returns the newest `health` point of each component of a device: time_us, component and the fields."""
    columns = ("time_us", "component", *field_columns("health"))
    shown = ", ".join(("r.time_us", "n.text", *(f"r.{name}" for name in field_columns("health"))))
    newest = (
        f"SELECT {shown} FROM health_row r JOIN name n ON n.id = r.component_id "  # noqa: S608 — constants.
        "WHERE r.device_id = ? AND r.component_id = ? ORDER BY r.time_us DESC LIMIT 1"
    )
    points: list[dict[str, Any]] = []
    component = -1
    while len(points) < COMPONENTS_MAX:
        hop = "SELECT min(component_id) FROM health_row WHERE device_id = ? AND component_id > ?"
        found = connection.execute(hop, (device_id, component)).fetchone()[0]
        if found is None:
            break
        component = found
        row = connection.execute(newest, (device_id, component)).fetchone()
        points.append(dict(zip(columns, row, strict=True)))
    return points


def recent_anomalies(connection: sqlite3.Connection) -> dict[int, int]:
    """Counts each device's anomalies in the last hour before the newest event or receipt, whichever is earlier.

    So neither one device with a clock in the future nor a replay of old data empties the count.
    """
    row = connection.execute("SELECT max(last_us), max(received_us) FROM device_name").fetchone()
    if row[0] is None:
        return {}
    counted = "SELECT device_id, count(*) FROM anomaly_row WHERE time_us >= ? GROUP BY +device_id"
    return dict(connection.execute(counted, (min(row) - HOUR_US,)).fetchall())
