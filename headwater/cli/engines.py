"""Which engine stands behind each URL of the `[pipeline]` table: the one place that knows all adapters.

log    sqlite:///PATH
state  sqlite:///PATH
store  sqlite:///PATH
"""

import logging
from pathlib import Path

from headwater.cli.pipeline import PipelineSettings
from headwater.errors import ConnectError, SettingsError
from headwater.io.checkpoints_sqlite import SqliteCheckpoints
from headwater.io.log_sqlite import SqliteLog, SqliteLogReader
from headwater.io.store_sqlite import SqliteStore
from headwater.io.store_sqlite_query import StoreReader
from headwater.ports import KeptLog, KeptStore, Log

SQLITE = "sqlite:///"

_messages = logging.getLogger(__name__)


def url_of(pipeline: PipelineSettings, what: str) -> str:
    """Returns the URL of "log", "state" or "store"; where none is set, a SQLite file of that name in the data folder."""
    return str(getattr(pipeline, what)) or f"{SQLITE}{pipeline.folder / what}.db"


def file_of(pipeline: PipelineSettings, what: str) -> Path:
    """Returns the SQLite file behind "log", "state" or "store".

    Raises:
        SettingsError: the URL is not one that this version has an adapter for.
    """
    url = url_of(pipeline, what)
    if not url.startswith(SQLITE):
        raise SettingsError(f"[pipeline] {what} = {url!r}: this version knows sqlite:///PATH")
    return Path(url.removeprefix(SQLITE))


def open_log(pipeline: PipelineSettings) -> KeptLog:
    """Opens the log to append to it, and to read it; makes it where there is none."""
    path = file_of(pipeline, "log")
    path.parent.mkdir(parents=True, exist_ok=True)
    return SqliteLog(path)


def open_log_reader(pipeline: PipelineSettings) -> Log:
    """Opens the log only to read it; it may come later than its reader."""
    return SqliteLogReader(file_of(pipeline, "log"))


def open_store(pipeline: PipelineSettings) -> tuple[KeptStore, SqliteCheckpoints]:
    """Opens the store to write it, and the checkpoints that go with it; makes them where there are none."""
    paths = [file_of(pipeline, what) for what in ("store", "state")]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
    store, checkpoints = SqliteStore(paths[0], retention=pipeline.retention), SqliteCheckpoints(paths[1])
    if store.set_aside is not None:
        # A new store under an old checkpoint would miss what was set aside: replay all that the log still holds.
        _messages.warning("the store was damaged and is now %s: replaying the log into a new one", store.set_aside)
        checkpoints.forget()
    return store, checkpoints


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
