"""Answers the page's questions where the store is on InfluxDB: series by InfluxQL, everything else from the books.

InfluxQL is the one query language of InfluxDB 1, 2 and 3. Names go as bound parameters, never as text of a query.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from headwater.io.store_influx_http import InfluxHttp
from headwater.io.store_influx_options import InfluxOptions
from headwater.io.store_sqlite_query import POINTS_MAX, RAW_MAX, ROWS_MAX, Row, StoreReader
from headwater.points import MEASUREMENT_FIELDS

_SERIES = '"site" = $site AND "device" = $device AND "metric" = $metric'
_CHART = (
    'SELECT mean("value"), min("value"), max("value"), count("value"), min("min"), max("max"), sum("count") '  # noqa: S608 — constants.
    f'FROM "telemetry" WHERE {_SERIES}'
)
_RAW = f'SELECT "value", "bad", "quality", "count" FROM "telemetry" WHERE {_SERIES}'  # noqa: S608 — constants.
_WINDOW_FIELDS = MEASUREMENT_FIELDS["window"]
_QUOTED = ", ".join(f'"{name}"' for name in _WINDOW_FIELDS)
_WINDOWS = f'SELECT {_QUOTED} FROM "window" WHERE {_SERIES} AND "window" = $window'  # noqa: S608 — constants.
_NEWEST = (
    "SELECT d.site, d.device, n.text AS metric, l.time_us, l.value, l.quality FROM device_name d "
    "JOIN latest l ON l.device_id = d.id JOIN name n ON n.id = l.metric_id "
    "WHERE d.version > ? AND d.version <= ? ORDER BY d.id, n.id LIMIT ?"
)


class InfluxReader(StoreReader):
    """Reads InfluxDB and the books; the same questions and answers as `StoreReader`.

    Every method may be called from any thread and raises ConnectError while the server or the books can't be read.
    """

    def __init__(self, books: Path | str, options: InfluxOptions) -> None:
        super().__init__(books)
        self._http = InfluxHttp(options)
        self._options = options

    def close(self) -> None:
        """Closes the connections and the books."""
        self._http.close()
        super().close()

    def series(self, site: str, device: str, metric: str, start_us: int, end_us: int, points_max: int) -> Row:
        """At most `points_max` buckets of equal width that hold usable readings.

        time_us (the bucket's start), mean, min, max, count. A pane counts with all its readings in `count`, `min` and
        `max`, but as one value in `mean`.
        """
        points = max(1, min(points_max, POINTS_MAX))
        width_us = max(1, -(-(end_us - start_us) // points))
        grouping = f" GROUP BY time({width_us}u, {start_us % width_us}u) fill(none)"
        rows = self._ask(self._options.raw, _CHART, start_us, end_us, grouping, site=site, device=device, metric=metric)
        at, mean, low, high, count, pane_low, pane_high, pane_count = (_column(rows, n) for n in range(8))
        counted = np.where(np.isnan(pane_count), count, pane_count)
        return {
            "time_us": at,
            "mean": mean,
            "min": np.fmin(low, pane_low),
            "max": np.fmax(high, pane_high),
            "count": counted.astype(np.int64),
            "source": "readings",
            "truncated": False,
        }

    def raw(self, site: str, device: str, metric: str, start_us: int, end_us: int, limit: int) -> Row:
        """The oldest `limit` readings that the edge kept, bad ones too, ascending: time_us, value, quality."""
        bound = f" ORDER BY time LIMIT {max(1, min(limit, RAW_MAX))}"
        rows = self._ask(self._options.raw, _RAW, start_us, end_us, bound, site=site, device=device, metric=metric)
        rows = [row for row in rows if row[4] is None] if limit > 0 else []
        value, bad, quality = (_column(rows, n) for n in (1, 2, 3))
        return {
            "time_us": _column(rows, 0),
            "value": np.where(np.isnan(value), bad, value),
            "quality": np.nan_to_num(quality).astype(np.uint8),
        }

    def windows(
        self, site: str, device: str, metric: str, window: str, start_us: int, end_us: int, limit: int = ROWS_MAX
    ) -> Row:
        """The oldest `limit` reported windows that begin in the interval, ascending.

        time_us and the fields of `window`; NaN where a field was not told.
        """
        names = {"site": site, "device": device, "metric": metric, "window": window}
        bound = f" ORDER BY time LIMIT {max(1, min(limit, ROWS_MAX))}"
        rows = self._ask(self._options.windows, _WINDOWS, start_us, end_us, bound, **names) if limit > 0 else []
        found: Row = {"time_us": _column(rows, 0)}
        for n, (name, kind) in enumerate(_WINDOW_FIELDS.items(), 1):
            column = _column(rows, n)
            found[name] = np.nan_to_num(column).astype(np.int64) if kind == "int" else column
        return found

    def changes(self, since: int, readings_max: int = 20_000) -> Row:
        """What came after version `since`, as `StoreReader` tells it, but of readings only the newest of each series.

        That is of the series of every device that a write touched, whether it came with that write or before.
        """
        answer = super().changes(since, readings_max)
        rows = [] if answer["reset"] else self._rows(_NEWEST, (since, answer["version"], readings_max))
        columns = (("time_us", np.int64), ("value", np.float64), ("quality", np.uint8))
        answer["readings"] = [row | {name: np.array([row[name]], kind) for name, kind in columns} for row in rows]
        return answer

    def _ask(self, bucket: str, text: str, start_us: int, end_us: int, rest: str, **names: str) -> list[list[Any]]:
        """Rows of one series in `[start_us, end_us)`, time in µs first."""
        if end_us <= start_us:
            return []
        between = f" AND time >= {start_us * 1_000} AND time < {end_us * 1_000}"
        series = self._http.query(bucket, text + between + rest, names)
        return [[row[0] // 1_000, *row[1:]] for row in series[0]["values"]] if series else []


def _column(rows: list[list[Any]], at: int) -> npt.NDArray[Any]:
    """A column of an answer: the times as int64, others as float64 with NaN for none."""
    cells = [row[at] for row in rows]
    return np.array(cells, np.int64) if at == 0 else np.array(cells, np.float64)
