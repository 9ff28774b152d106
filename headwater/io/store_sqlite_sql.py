"""A connection to the SQLite store for people who want SQL over single readings."""

import json
import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import quote

from headwater.io.store_sqlite_blob import decode

_VIEW = """
CREATE TEMP VIEW telemetry AS
SELECT d.site, d.device, n.text AS metric, j.value ->> 1 AS time_us, j.value ->> 2 AS value, j.value ->> 3 AS quality,
    f.received_us, f.id AS frame_id, f.device_id
FROM frame f
JOIN device_name d ON d.id = f.device_id
JOIN json_each(frame_readings(f.start_us, f.readings, f.runs, f.times, f.scaled, f.exact, f.quality)) j
JOIN name n ON n.id = j.value ->> 0
"""


def frame_readings(*row: Any) -> str:
    """Decodes one row of `frame` into JSON rows [metric number, time_us, value, quality]."""
    columns = decode([row])
    rows = zip(*(getattr(columns, name).tolist() for name in ("metric", "time_us", "value", "quality")), strict=True)
    return json.dumps(list(rows))


def connect(path: Path | str) -> sqlite3.Connection:
    """Opens a store read-only, with a view `telemetry`: site, device, metric, time_us, value, quality, received_us.

    It decodes every frame it meets, a few µs per reading: narrow it by site and device. SQLite reads the values back
    from text, so the last bit may differ; `StoreReader.raw` is exact.
    """
    connection = sqlite3.connect(f"file:{quote(str(Path(path).absolute()))}?mode=ro", uri=True, isolation_level=None)
    connection.create_function("frame_readings", 7, frame_readings, deterministic=True)
    connection.execute(_VIEW)
    return connection
