"""Which engine stands behind each URL of the `[pipeline]` table: the one place that knows all adapters.

log    sqlite:///PATH  kafka://HOST:PORT[,HOST:PORT]
state  sqlite:///PATH
store  sqlite:///PATH, influxdb://HOST:PORT or influxdbs://… with its books in DATA/store.db (docs/influxdb.md)
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from gateway.settings import GatewaySettings
from headwater.cli.influx_settings import InfluxSettings
from headwater.cli.kafka_settings import KAFKA, KafkaSettings, check_batches, options_of
from headwater.cli.pipeline import PipelineSettings
from headwater.cli.shared import table
from headwater.errors import ConnectError, SettingsError
from headwater.io.checkpoints_sqlite import SqliteCheckpoints
from headwater.io.clock_system import SystemClock
from headwater.io.log_sqlite import SqliteLog, SqliteLogReader
from headwater.io.store_influx_options import SCHEMES, InfluxOptions
from headwater.io.store_sqlite import SqliteStore
from headwater.io.store_sqlite_books import Books
from headwater.io.store_sqlite_influxql import InfluxqlReader
from headwater.io.store_sqlite_query import StoreReader
from headwater.ports import KeptLog, KeptStore, Log
from headwater.settings import Table

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
        also = {"log": f" and {KAFKA}HOST:PORT", "store": " and influxdb://HOST:PORT"}.get(what, "")
        raise SettingsError(f"[pipeline] {what} = {url!r}: this version knows sqlite:///PATH{also}")
    return Path(url.removeprefix(SQLITE))


def is_influx(pipeline: PipelineSettings) -> bool:
    """Tells whether the store is an InfluxDB, or what takes its line protocol."""
    return url_of(pipeline, "store").partition("://")[0] in SCHEMES


def open_log(settings: Mapping[str, Table]) -> KeptLog:
    """Opens the log to append to it, and to read it; makes it where there is none.

    Raises:
        ConnectError: it can't be reached or written.
        SettingsError: it is another one than the settings say.
    """
    pipeline, gateway = table(settings, "pipeline", PipelineSettings), table(settings, "gateway", GatewaySettings)
    url = url_of(pipeline, "log")
    if url.startswith(KAFKA):
        from headwater.io.log_kafka import KafkaLog  # noqa: PLC0415 — the client is an extra.

        kafka = table(settings, "kafka", KafkaSettings)
        check_batches(kafka, gateway.batch_readings_max, gateway.batch_max_bytes)
        return KafkaLog(options_of(kafka, url, partitions=gateway.partitions, keep_us=pipeline.log_keep_us))
    path = file_of(pipeline, "log")
    path.parent.mkdir(parents=True, exist_ok=True)
    return SqliteLog(path)


def open_log_reader(settings: Mapping[str, Table], partitions: int = 0) -> Log:
    """Opens the log only to read it; it may come later than its reader.

    Where an engine knows how many partitions it has, another number than `partitions` is a SettingsError when the
    log is first looked at; 0 takes it as it is.
    """
    pipeline = table(settings, "pipeline", PipelineSettings)
    url = url_of(pipeline, "log")
    if url.startswith(KAFKA):
        from headwater.io.log_kafka import KafkaLogReader  # noqa: PLC0415 — the client is an extra.

        kafka = table(settings, "kafka", KafkaSettings)
        return KafkaLogReader(options_of(kafka, url, partitions=partitions, keep_us=pipeline.log_keep_us))
    return SqliteLogReader(file_of(pipeline, "log"))


def gateway_of(settings: Mapping[str, Table], log: KeptLog) -> GatewaySettings:
    """Returns the gateway's settings with an ack level that the log bears out (docs/decisions/0007-ack-level.md)."""
    gateway = table(settings, "gateway", GatewaySettings)
    is_replicated = bool(getattr(log, "is_replicated", False))
    if gateway.ack_level == "auto":
        return gateway.model_copy(update={"ack_level": "backbone" if is_replicated else "store"})
    if gateway.ack_level == "backbone" and not is_replicated:
        _messages.warning(
            "gateway.ack_level is backbone, but the log is not replicated: devices let go of frames that one disk holds"
        )
    return gateway


def open_store(settings: Mapping[str, Table], *, is_sink: bool = False) -> tuple[KeptStore, SqliteCheckpoints]:
    """Opens the store to write it, and the checkpoints that go with it; makes them where there are none.

    A sink's checkpoints lie beside the processor's: they are of another kind.

    Raises:
        SettingsError: a URL that no adapter knows.
    """
    pipeline = table(settings, "pipeline", PipelineSettings)
    paths = [file_of(pipeline, what) for what in ("store", "state")]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
    on_influx = _on_influx(settings) if is_influx(pipeline) else None
    sqlite = (SqliteStore if on_influx is None else Books)(paths[0], retention=pipeline.retention)
    store: KeptStore = sqlite if on_influx is None else on_influx(sqlite)
    checkpoints = SqliteCheckpoints(paths[1].with_name(f"{paths[1].stem}-sink.db") if is_sink else paths[1])
    if sqlite.set_aside is not None:
        # A new store under an old checkpoint would miss what was set aside: replay all that the log still holds.
        _messages.warning("the store was damaged and is now %s: replaying the log into a new one", sqlite.set_aside)
        checkpoints.forget()
    return store, checkpoints


def influx_options(settings: Mapping[str, Table]) -> InfluxOptions:
    """Returns where the InfluxDB of the store is, and how it is written.

    Raises:
        SettingsError: the store is none, or its URL is wrong.
    """
    pipeline = table(settings, "pipeline", PipelineSettings)
    return table(settings, "influx", InfluxSettings).options(url_of(pipeline, "store"), pipeline.folder)


def _on_influx(settings: Mapping[str, Table]) -> Callable[[SqliteStore], KeptStore]:
    """Returns what makes a store on InfluxDB of its books, after all that may be wrong with it was looked at."""
    options = influx_options(settings)
    from headwater.io.store_influx import InfluxStore  # noqa: PLC0415  its client is in the extra `influx`

    return lambda books: InfluxStore(options, books, SystemClock())


def open_reader(pipeline: PipelineSettings) -> StoreReader:
    """Opens the store's own file only to ask it; it may come later than its reader. Of InfluxDB, that is the books."""
    return StoreReader(file_of(pipeline, "store"))


def open_page_reader(settings: Mapping[str, Table]) -> StoreReader:
    """Opens the store to ask it for series too, wherever they are."""
    pipeline = table(settings, "pipeline", PipelineSettings)
    if not is_influx(pipeline):
        return open_reader(pipeline)
    from headwater.io.store_influx_query import InfluxReader  # noqa: PLC0415  its client is in the extra `influx`

    influx, options = table(settings, "influx", InfluxSettings), influx_options(settings)
    reading = influx.read_token(pipeline.folder)
    if influx.read_token_file or reading.exists():
        options = replace(options, token_file=reading)
    return InfluxReader(file_of(pipeline, "store"), options)


def open_points(settings: Mapping[str, Table]) -> InfluxqlReader | None:
    """Opens the store for InfluxQL; None where it is an InfluxDB, which answers that itself."""
    pipeline = table(settings, "pipeline", PipelineSettings)
    return None if is_influx(pipeline) else InfluxqlReader(file_of(pipeline, "store"))


def expect(pipeline: PipelineSettings, what: str) -> None:
    """Tells apart "not there" and "there, but empty" before a tool looks at "log" or "store".

    An engine that is a server tells by itself when it is asked.

    Raises:
        ConnectError: it is not there.
    """
    if what == "log" and url_of(pipeline, what).startswith(KAFKA):
        return
    path = file_of(pipeline, what)
    if not path.exists():
        raise ConnectError(f"{path} is not there: is the pipeline running with this data folder? (--data DIR)")
