"""Tables of the SQLite store: the measurements of contracts §8, and what the pipeline accounts for (docs/store.md).

A measurement's rows stand in `<measurement>_row` with numbers for names; a view with the measurement's own name shows
them with text tags. Telemetry is kept by frame in `frame`, columns in blobs (`store_sqlite_blob`).
"""

from headwater.points import MEASUREMENT_FIELDS, MEASUREMENT_TAGS

APPLICATION_ID = 0x48775374  # "HwSt"
SCHEMA_VERSION = 1

# A frame's row id is stream << SEQ_BITS | seq; a stream is one device, one epoch and the bits of seq above these.
SEQ_BITS = 40
SEQ_MASK = (1 << SEQ_BITS) - 1
STREAMS_MAX = 1 << (62 - SEQ_BITS)

# Frames are indexed by device, span class and start, so that a range query looks back no further than the class allows.
SPANS_US = (60_000_000, 3_600_000_000, 86_400_000_000)

WINDOW_ORDER = ("window_id", "time_us", "device_id", "metric_id")
POINT_MEASUREMENTS = tuple(name for name in MEASUREMENT_TAGS if name != "telemetry")
_SQL_TYPES = {"float": "REAL", "int": "INTEGER", "bool": "INTEGER", "string": "TEXT"}

_FIXED = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE device_name (
    id INTEGER PRIMARY KEY, site TEXT NOT NULL, device TEXT NOT NULL,
    last_us INTEGER NOT NULL DEFAULT 0, received_us INTEGER NOT NULL DEFAULT 0, version INTEGER NOT NULL DEFAULT 0,
    UNIQUE (site, device));
CREATE TABLE name (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE TABLE stream (
    id INTEGER PRIMARY KEY, device_id INTEGER NOT NULL, epoch INTEGER NOT NULL, seq_high INTEGER NOT NULL,
    UNIQUE (device_id, epoch, seq_high));
CREATE TABLE frame (
    id INTEGER PRIMARY KEY, device_id INTEGER NOT NULL, span INTEGER NOT NULL,
    start_us INTEGER NOT NULL, end_us INTEGER NOT NULL, received_us INTEGER NOT NULL, readings INTEGER NOT NULL,
    runs BLOB, times BLOB, scaled BLOB, exact BLOB, quality BLOB, summaries BLOB);
CREATE INDEX frame_time ON frame (device_id, span, start_us);
CREATE TABLE foreign_frame (
    stream_id INTEGER NOT NULL, digest BLOB NOT NULL, frame_id INTEGER NOT NULL,
    PRIMARY KEY (stream_id, digest)) WITHOUT ROWID;
CREATE INDEX foreign_frame_id ON foreign_frame (frame_id);
CREATE TABLE latest (
    device_id INTEGER NOT NULL, metric_id INTEGER NOT NULL, time_us INTEGER NOT NULL, value REAL, quality INTEGER,
    PRIMARY KEY (device_id, metric_id)) WITHOUT ROWID;
CREATE TABLE gap (
    device_id INTEGER NOT NULL, epoch INTEGER NOT NULL, from_seq INTEGER NOT NULL, to_seq INTEGER NOT NULL,
    reason TEXT NOT NULL, readings INTEGER NOT NULL, declared_us INTEGER NOT NULL,
    PRIMARY KEY (device_id, epoch, from_seq, to_seq)) WITHOUT ROWID;
CREATE TABLE account (
    device_id INTEGER NOT NULL, epoch INTEGER NOT NULL, contiguous INTEGER NOT NULL, ranges TEXT NOT NULL,
    assigned INTEGER NOT NULL, stored INTEGER NOT NULL, dead_lettered INTEGER NOT NULL, gap INTEGER NOT NULL,
    in_flight INTEGER NOT NULL, unknown INTEGER NOT NULL, readings_stored INTEGER NOT NULL,
    acquired INTEGER NOT NULL, suppressed INTEGER NOT NULL, aggregated INTEGER NOT NULL, dropped INTEGER NOT NULL,
    duplicates INTEGER NOT NULL, version INTEGER NOT NULL, PRIMARY KEY (device_id, epoch)) WITHOUT ROWID;
CREATE INDEX account_version ON account (version);
CREATE TABLE dead_letter (
    id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, at_us INTEGER NOT NULL, reason TEXT NOT NULL,
    stage TEXT NOT NULL, source TEXT NOT NULL, detail TEXT NOT NULL, site TEXT NOT NULL, device TEXT NOT NULL,
    epoch INTEGER NOT NULL, seq INTEGER NOT NULL, readings INTEGER NOT NULL, payload BLOB NOT NULL,
    version INTEGER NOT NULL);
CREATE INDEX dead_letter_time ON dead_letter (at_us);
CREATE TABLE position (
    log TEXT NOT NULL, log_topic TEXT NOT NULL, partition INTEGER NOT NULL, next_offset INTEGER NOT NULL,
    PRIMARY KEY (log, log_topic, partition)) WITHOUT ROWID;
CREATE TABLE change (version INTEGER PRIMARY KEY, frames BLOB NOT NULL, windows BLOB NOT NULL);
"""


def other_tags(measurement: str) -> tuple[str, ...]:
    """Returns the tags of a measurement apart from site and device.

    >>> other_tags("window")
    ('metric', 'window')
    """
    return tuple(tag for tag in MEASUREMENT_TAGS[measurement] if tag not in ("site", "device"))


def has_device(measurement: str) -> bool:
    """Tells whether the points of a measurement belong to a device."""
    return "device" in MEASUREMENT_TAGS[measurement]


def key_columns(measurement: str) -> tuple[str, ...]:
    """Returns the columns of a measurement's table that make a point's identity, time last.

    >>> key_columns("window")
    ('device_id', 'metric_id', 'window_id', 'time_us')
    """
    device = ("device_id",) if has_device(measurement) else ()
    return (*device, *(f"{tag}_id" for tag in other_tags(measurement)), "time_us")


def field_columns(measurement: str) -> tuple[str, ...]:
    """Returns a measurement's fields."""
    return tuple(MEASUREMENT_FIELDS[measurement])


def upsert(measurement: str) -> str:
    """Returns the statement that writes a point: parameters are key, fields, version.

    A window is replaced whole unless the row has a higher revision; elsewhere a field that is NULL keeps its old value.
    """
    key, fields = key_columns(measurement), field_columns(measurement)
    columns = (*key, *fields, "version")
    if measurement == "window":
        changes = ", ".join(f"{name} = excluded.{name}" for name in (*fields, "version"))
        changes += " WHERE coalesce(excluded.revision, 0) >= coalesce(revision, 0)"
    else:
        changes = ", ".join(f"{name} = coalesce(excluded.{name}, {name})" for name in fields)
        changes += ", version = excluded.version"
    return (
        f"INSERT INTO {measurement}_row ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))}) "  # noqa: S608 — names of our own tables.
        f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changes}"
    )


def _table(measurement: str) -> str:
    key = key_columns(measurement)
    columns = ", ".join(f"{name} INTEGER NOT NULL" for name in key)
    fields = ", ".join(f"{name} {_SQL_TYPES[kind]}" for name, kind in MEASUREMENT_FIELDS[measurement].items())
    if measurement == "window":
        # The one table with many rows: clustered by time, because clustered by series each row that comes would
        # dirty a page of its own.
        return (
            f"CREATE TABLE window_row ({columns}, {fields}, version INTEGER NOT NULL, "
            f"PRIMARY KEY ({', '.join(WINDOW_ORDER)})) WITHOUT ROWID;"
        )
    return (
        f"CREATE TABLE {measurement}_row (id INTEGER PRIMARY KEY, {columns}, {fields}, version INTEGER NOT NULL, "
        f"UNIQUE ({', '.join(key)}));"
        f"CREATE INDEX {measurement}_time ON {measurement}_row (time_us);"
        f"CREATE INDEX {measurement}_version ON {measurement}_row (version);"
    )


def select(measurement: str) -> str:
    """Returns the SELECT that shows a measurement's rows (alias `r`) with text tags, time first."""
    tags = other_tags(measurement)
    shown = ["r.time_us", *(["d.site", "d.device"] if has_device(measurement) else [])]
    shown += [f'{tag}_name.text AS "{tag}"' for tag in tags]
    shown += [f"r.{name}" for name in field_columns(measurement)]
    joins = " JOIN device_name d ON d.id = r.device_id" if has_device(measurement) else ""
    joins += "".join(f" JOIN name {tag}_name ON {tag}_name.id = r.{tag}_id" for tag in tags)
    return f"SELECT {', '.join(shown)} FROM {measurement}_row r{joins}"  # noqa: S608 — names of our own tables.


def schema() -> str:
    """Returns the statements that make an empty store."""
    tables = "\n".join(_table(name) for name in POINT_MEASUREMENTS)
    views = "\n".join(f'CREATE VIEW "{name}" AS {select(name)};' for name in POINT_MEASUREMENTS)
    return f"{_FIXED}\n{tables}\n{views}\n"


def signed(number: int) -> int:
    """Folds an unsigned 64-bit number into SQLite's signed one; `number & EPOCH_MASK` undoes it.

    >>> signed(2**64 - 1), signed(5)
    (-1, 5)
    """
    return ((number + (1 << 63)) & EPOCH_MASK) - (1 << 63)


EPOCH_MASK = (1 << 64) - 1
