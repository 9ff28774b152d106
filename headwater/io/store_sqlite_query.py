"""Answers what the page and the gateway ask the SQLite store; read-only, from any process (docs/store.md)."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headwater.io.store_sqlite_changes import read_changes
from headwater.io.store_sqlite_connection import ReadConnections
from headwater.io.store_sqlite_newest import newest_health, recent_anomalies
from headwater.io.store_sqlite_schema import EPOCH_MASK, SEQ_BITS, field_columns, select
from headwater.io.store_sqlite_series import find_series, read_chart, read_raw, window_rows
from headwater.points import MEASUREMENT_FIELDS
from headwater.ports import FrontierRow

Row = dict[str, Any]
RAW_MAX = 1_000_000
ROWS_MAX = 100_000
POINTS_MAX = 20_000
# The fields of a device are gathered from so many of its newest points.
DEVICE_POINTS = 16

_ACCOUNT_COUNTS = (
    "assigned", "stored", "dead_lettered", "gap", "in_flight", "unknown", "readings_stored", "acquired",
    "suppressed", "aggregated", "dropped", "duplicates",
)  # fmt: skip


class StoreReader:
    """Reads the store while another connection writes it; `headwater.ports.Frontiers` and the page's reader.

    Times are int64 µs, intervals `[start_us, end_us)`, rows newest first, columns numpy arrays in ascending time.
    Every method blocks and may be called from any thread; ConnectError while there is no store to read.
    """

    def __init__(self, path: Path | str) -> None:
        self._store = ReadConnections(path)

    def close(self) -> None:
        """Closes the file."""
        self._store.close()

    def version(self) -> int:
        """Counts the writes; grows by one with each."""
        return int(self._store.query("SELECT value FROM meta WHERE key = 'version'")[0][0])

    def changed(self, since: int) -> tuple[int, list[FrontierRow]]:
        """Returns (version, frontiers that changed after version `since`).

        0 returns all, and so does a version that this store hasn't reached: it replaced another one.
        """
        with self._store.snapshot() as connection:
            version = int(connection.execute("SELECT value FROM meta WHERE key = 'version'").fetchone()[0])
            if since == version:
                return version, []
            rows = connection.execute(
                "SELECT d.site, d.device, a.epoch, a.contiguous, a.ranges FROM account a "
                "JOIN device_name d ON d.id = a.device_id WHERE a.version > ?",
                (0 if since > version else since,),
            ).fetchall()
        return version, [
            FrontierRow(site, device, epoch & EPOCH_MASK, contiguous, tuple((lo, hi) for lo, hi in json.loads(ranges)))
            for site, device, epoch, contiguous, ranges in rows
        ]

    def changes(self, since: int, readings_max: int = 20_000) -> Row:
        """Returns what came after version `since`, for a stream to a page; see `store_sqlite_changes.read_changes`."""
        with self._store.snapshot() as connection:
            return read_changes(connection, since, readings_max)

    def devices(self) -> list[Row]:
        """One row a device, by name.

        site, device, last_us (newest event time), received_us, metrics, health (the lowest component's, None if
        unknown), anomalies (in the last hour), agent, and the newest fields of its `device` points: state, online,
        lat, lon, buffered, skew_ms, unknown, firmware (None where never told; lat and lon where not told in the newest).
        `metrics` maps a name to {"last_us", "value", "quality"}.
        """
        return self._devices("", ())

    def device(self, site: str, device: str) -> Row | None:
        """The same row for one device; None if it is unknown."""
        rows = self._devices("WHERE site = ? AND device = ?", (site, device))
        return rows[0] if rows else None

    def _devices(self, where: str, parameters: Sequence[str]) -> list[Row]:
        fields = field_columns("device")
        newest = f"SELECT {', '.join(fields)} FROM device_row WHERE device_id = ? ORDER BY time_us DESC LIMIT ?"  # noqa: S608 — constants.
        found = f"SELECT id, site, device, last_us, received_us FROM device_name {where} ORDER BY site, device"  # noqa: S608 — constants.
        rows: list[Row] = []
        with self._store.snapshot() as connection:
            anomalies = recent_anomalies(connection)
            for number, site, device, last_us, received_us in connection.execute(found, parameters).fetchall():
                row: Row = {"site": site, "device": device, "last_us": last_us, "received_us": received_us}
                points = connection.execute(newest, (number, DEVICE_POINTS)).fetchall()
                for at, field in enumerate(fields):
                    # Where it stands is as the newest point has it: it may have ceased to say so.
                    told = points[:1] if field in ("lat", "lon") else points
                    row[field] = next((point[at] for point in told if point[at] is not None), None)
                row["online"] = None if row["online"] is None else bool(row["online"])
                row["agent"] = row["firmware"] or ""
                row["metrics"] = {
                    name: {"last_us": time_us, "value": value, "quality": quality}
                    for name, time_us, value, quality in connection.execute(
                        "SELECT n.text, l.time_us, l.value, l.quality FROM latest l JOIN name n ON n.id = l.metric_id "
                        "WHERE l.device_id = ? ORDER BY n.text",
                        (number,),
                    )
                }
                healths = [point["health"] for point in newest_health(connection, number)]
                row["health"] = min((health for health in healths if health is not None), default=None)
                row["anomalies"] = anomalies.get(number, 0)
                rows.append(row)
        return rows

    def series(self, site: str, device: str, metric: str, start_us: int, end_us: int, points_max: int) -> Row:
        """At most `points_max` buckets of equal width that hold usable readings.

        time_us (the bucket's start), mean, min, max, count; `source` is "readings" or, for a long range,
        "window <tag>"; `truncated` is True if the range was too long even so.
        """
        points = max(1, min(points_max, POINTS_MAX))
        with self._store.snapshot() as connection:
            found = find_series(connection, site, device, metric)
            if found is None or end_us <= start_us:
                return {
                    "time_us": np.empty(0, np.int64),
                    **{name: np.empty(0) for name in ("mean", "min", "max")},
                    "count": np.empty(0, np.int64),
                    "source": "readings",
                    "truncated": False,
                }
            return read_chart(connection, found, start_us, end_us, points)

    def raw(self, site: str, device: str, metric: str, start_us: int, end_us: int, limit: int) -> Row:
        """The oldest `limit` readings that the edge kept, bad ones too, ascending: time_us, value, quality."""
        with self._store.snapshot() as connection:
            found = find_series(connection, site, device, metric)
            if found is None or limit < 1:
                return {"time_us": np.empty(0, np.int64), "value": np.empty(0), "quality": np.empty(0, np.uint8)}
            return read_raw(connection, found, start_us, end_us, min(limit, RAW_MAX))

    def windows(
        self, site: str, device: str, metric: str, window: str, start_us: int, end_us: int, limit: int = ROWS_MAX
    ) -> Row:
        """The oldest `limit` reported windows that begin in the interval, ascending.

        time_us and the fields of `window`; NaN where a field was not told.
        """
        fields = MEASUREMENT_FIELDS["window"]
        columns = ", ".join(f"r.{name}" for name in ("time_us", *fields))
        with self._store.snapshot() as connection:
            found = find_series(connection, site, device, metric)
            kind = connection.execute("SELECT id FROM name WHERE text = ?", (window,)).fetchone()
            rows = []
            if found is not None and kind is not None:
                rows = window_rows(connection, found, kind[0], columns, start_us, end_us, min(limit, ROWS_MAX))
        kinds = {"time_us": "int", **fields}
        if not rows:
            return {name: np.empty(0, np.int64 if kind == "int" else np.float64) for name, kind in kinds.items()}
        return {
            name: np.array([0 if cell is None else cell for cell in column], np.int64)
            if kind == "int"
            else np.array(column, np.float64)
            for (name, kind), column in zip(kinds.items(), zip(*rows, strict=True), strict=True)
        }

    def anomalies(
        self,
        start_us: int,
        end_us: int,
        limit: int,
        *,
        site: str | None = None,
        device: str | None = None,
        metric: str | None = None,
        severity: str | None = None,
    ) -> list[Row]:
        """Anomalies: time_us, site, device, metric, detector, severity, score, value, expected, lo, hi, message."""
        tags = {"d.site": site, "d.device": device, "metric_name.text": metric, "severity_name.text": severity}
        return self._points("anomaly", start_us, end_us, limit, tags)

    def alerts(self, limit: int, start_us: int = 0, end_us: int = 1 << 62) -> list[Row]:
        """Alerts: time_us, site, device, rule, severity, state, value, message."""
        return self._points("alert", start_us, end_us, limit, {})

    def pipeline(self, limit: int, start_us: int = 0, end_us: int = 1 << 62) -> list[Row]:
        """The stages' own counters: time_us, stage, instance and the fields of `pipeline`."""
        return self._points("pipeline", start_us, end_us, limit, {})

    def health_history(self, site: str, device: str, start_us: int, end_us: int, limit: int = ROWS_MAX) -> list[Row]:
        """Health of one device in an interval: time_us, site, device, component and the fields of `health`."""
        return self._points("health", start_us, end_us, limit, {"d.site": site, "d.device": device})

    def device_history(self, site: str, device: str, start_us: int, end_us: int, limit: int = ROWS_MAX) -> list[Row]:
        """The `device` points of one device in an interval."""
        return self._points("device", start_us, end_us, limit, {"d.site": site, "d.device": device})

    def _points(
        self, measurement: str, start_us: int, end_us: int, limit: int, tags: dict[str, str | None]
    ) -> list[Row]:
        asked = {column: value for column, value in tags.items() if value is not None}
        where = "".join(f" AND {column} = ?" for column in asked)
        sql = f"{select(measurement)} WHERE r.time_us >= ? AND r.time_us < ?{where} ORDER BY r.time_us DESC LIMIT ?"
        return self._rows(sql, (start_us, end_us, *asked.values(), max(0, min(limit, ROWS_MAX))))

    def health(self, site: str | None = None, device: str | None = None) -> list[Row]:
        """The newest row per device and component: time_us, site, device, component and the fields of `health`."""
        with self._store.snapshot() as connection:
            rows = [
                {"time_us": point["time_us"], "site": name[0], "device": name[1], **point}
                for number, *name in connection.execute("SELECT id, site, device FROM device_name").fetchall()
                if site in (None, name[0]) and device in (None, name[1])
                for point in newest_health(connection, number)
            ]
        return sorted(rows, key=lambda row: row["time_us"], reverse=True)

    def accounts(self) -> list[Row]:
        """One row a device and epoch, by name: the fields of `headwater.points.DeviceAccount`."""
        rows = self._rows(
            "SELECT d.site, d.device, a.* FROM account a JOIN device_name d ON d.id = a.device_id "
            "ORDER BY d.site, d.device, a.epoch"
        )
        for row in rows:
            row["epoch"] &= EPOCH_MASK
            row["ranges"] = [tuple(pair) for pair in json.loads(row["ranges"])]
            del row["device_id"], row["version"]
        return rows

    def account_total(self) -> dict[str, int]:
        """The accounts' sums: assigned = stored + dead_lettered + gap + in_flight + unknown."""
        sums = ", ".join(f"coalesce(sum({name}), 0)" for name in _ACCOUNT_COUNTS)
        row = self._store.query(f"SELECT {sums} FROM account")[0]  # noqa: S608 — constants.
        return dict(zip(_ACCOUNT_COUNTS, row, strict=True))

    def frames_doubled(self) -> int:
        """Frames with an identity that the store holds beyond those that the accounts call stored; 0 or a defect."""
        held = "SELECT count(*) FROM frame f JOIN stream s ON s.id = f.id >> ? WHERE s.epoch != 0"
        with self._store.snapshot() as connection:
            frames = connection.execute(held, (SEQ_BITS,)).fetchone()[0]
            stored = connection.execute("SELECT coalesce(sum(stored), 0) FROM account WHERE epoch != 0").fetchone()[0]
        return max(0, int(frames) - int(stored))

    def gaps(self, limit: int) -> list[Row]:
        """Declared gaps: declared_us, site, device, epoch, from_seq, to_seq, reason, readings."""
        rows = self._rows(
            "SELECT g.declared_us, d.site, d.device, g.epoch, g.from_seq, g.to_seq, g.reason, g.readings FROM gap g "
            "JOIN device_name d ON d.id = g.device_id ORDER BY g.declared_us DESC LIMIT ?",
            (max(0, min(limit, ROWS_MAX)),),
        )
        for row in rows:
            row["epoch"] &= EPOCH_MASK
        return rows

    def dead_letters(self, limit: int) -> list[Row]:
        """Dead letters, the fields of `headwater.batch.DeadLetter`."""
        rows = self._rows(
            "SELECT at_us, reason, stage, source, detail, site, device, epoch, seq, readings, payload FROM dead_letter "
            "ORDER BY at_us DESC, id DESC LIMIT ?",
            (max(0, min(limit, ROWS_MAX)),),
        )
        for row in rows:
            row["epoch"] &= EPOCH_MASK
        return rows

    def newest_us(self) -> int:
        """The newest event time in the store; 0 if it is empty."""
        return int(self._store.query("SELECT coalesce(max(last_us), 0) FROM device_name")[0][0])

    def positions(self) -> dict[tuple[str, str, int], int]:
        """Returns {(log incarnation, log topic, partition): next offset} as the processor wrote it."""
        return {row[:3]: row[3] for row in self._store.query("SELECT * FROM position")}

    def counts(self) -> dict[str, int]:
        """How much there is: devices, frames, readings, anomalies, alerts, gaps, dead_letters, size_bytes."""
        counted = {"devices": "device_name", "anomalies": "anomaly_row", "alerts": "alert_row", "gaps": "gap"}
        counted["dead_letters"] = "dead_letter"
        with self._store.snapshot() as connection:
            sums = "SELECT coalesce(sum(stored), 0), coalesce(sum(readings_stored), 0) FROM account"
            frames, readings = connection.execute(sums).fetchone()
            counts = {"frames": frames, "readings": readings}
            for name, table in counted.items():
                counts[name] = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608 — constants.
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            counts["size_bytes"] = pages * connection.execute("PRAGMA page_size").fetchone()[0]
        return counts

    def _rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        with self._store.snapshot() as connection:
            cursor = connection.execute(sql, parameters)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor]
