"""Which engine stands behind each URL of the `[pipeline]` table: the one place that knows all adapters.

log    sqlite:///PATH
state  sqlite:///PATH
store  sqlite:///PATH, influxdb://HOST:PORT or influxdbs://… with its books in DATA/store.db (docs/influxdb.md)
"""

import logging
from collections.abc import Callable
from pathlib import Path

from headwater.cli.influx_settings import InfluxSettings
from headwater.cli.pipeline import PipelineSettings
from headwater.errors import ConnectError, SettingsError
from headwater.io.checkpoints_sqlite import SqliteCheckpoints
from headwater.io.clock_system import SystemClock
from headwater.io.log_sqlite import SqliteLog, SqliteLogReader
from headwater.io.store_influx_options import SCHEMES
from headwater.io.store_sqlite import SqliteStore
from headwater.io.store_sqlite_books import Books
from headwater.io.store_sqlite_query import StoreReader
from headwater.ports import KeptLog, KeptStore, Log

SQLITE = "sqlite:///"

_messages = logging.getLogger(__name__)


def url_of(pipeline: PipelineSettings, what: str) -> str:
    """Returns the URL of "log", "state" or "store"; where none is set, a SQLite file of that name in the data folder."""
    return str(getattr(pipeline, what)) or f"{SQLITE}{pipeline.folder / what}.db"


def file_of(pipeline: PipelineSettings, what: str) -> Path:
    """Returns the SQLite file behind "log", "state" or "store"; of a store on InfluxDB, its books.

    Raises:
        SettingsError: the URL is not one that this version has an adapter for.
    """
    url = url_of(pipeline, what)
    if what == "store" and is_influx(pipeline):
        return pipeline.folder / "store.db"
    if not url.startswith(SQLITE):
        also = " and influxdb://HOST:PORT" if what == "store" else ""
        raise SettingsError(f"[pipeline] {what} = {url!r}: this version knows sqlite:///PATH{also}")
    return Path(url.removeprefix(SQLITE))


def is_influx(pipeline: PipelineSettings) -> bool:
    """Tells whether the store is an InfluxDB, or what takes its line protocol."""
    return url_of(pipeline, "store").partition("://")[0] in SCHEMES


def open_log(pipeline: PipelineSettings) -> KeptLog:
    """Opens the log to append to it, and to read it; makes it where there is none."""
    path = file_of(pipeline, "log")
    path.parent.mkdir(parents=True, exist_ok=True)
    return SqliteLog(path)


def open_log_reader(pipeline: PipelineSettings) -> Log:
    """Opens the log only to read it; it may come later than its reader."""
    return SqliteLogReader(file_of(pipeline, "log"))


def open_store(pipeline: PipelineSettings, influx: InfluxSettings) -> tuple[KeptStore, SqliteCheckpoints]:
    """Opens the store to write it, and the checkpoints that go with it; makes them where there are none.

    Raises:
        SettingsError: a URL that no adapter knows, or the adapter's client is not installed.
    """
    paths = [file_of(pipeline, what) for what in ("store", "state")]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
    on_influx = _on_influx(pipeline, influx) if is_influx(pipeline) else None
    sqlite = (SqliteStore if on_influx is None else Books)(paths[0], retention=pipeline.retention)
    store: KeptStore = sqlite if on_influx is None else on_influx(sqlite)
    checkpoints = SqliteCheckpoints(paths[1])
    if sqlite.set_aside is not None:
        # A new store under an old checkpoint would miss what was set aside: replay all that the log still holds.
        _messages.warning("the store was damaged and is now %s: replaying the log into a new one", sqlite.set_aside)
        checkpoints.forget()
    return store, checkpoints


def _on_influx(pipeline: PipelineSettings, influx: InfluxSettings) -> Callable[[SqliteStore], KeptStore]:
    """Returns what makes a store on InfluxDB of its books, after all that may be wrong with it was looked at."""
    options = influx.options(url_of(pipeline, "store"), pipeline.folder)
    try:
        from headwater.io.store_influx import InfluxStore  # noqa: PLC0415  its client is in the extra `influx`
    except ImportError as error:
        raise SettingsError(f"a store on InfluxDB needs a client: pip install 'headwater[influx]' ({error})") from error
    return lambda books: InfluxStore(options, books, SystemClock())


def open_reader(pipeline: PipelineSettings) -> StoreReader:
    """Opens the store only to ask it; it may come later than its reader."""
    return StoreReader(file_of(pipeline, "store"))


def expect(pipeline: PipelineSettings, what: str) -> None:
    """Tells apart "not there" and "there, but empty" before a tool looks at "log" or "store".

    Raises:
        ConnectError: it is not there.
    """
    path = file_of(pipeline, what)
    if not path.exists():
        raise ConnectError(f"{path} is not there: is the pipeline running with this data folder? (--data DIR)")
