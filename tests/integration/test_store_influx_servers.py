"""The store on real servers: what is written is what is read, by our bytes and by those of an unmodified client."""

import stat
import struct
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from influx_server import Influx1, Influx2, Victoria, http
from influx_toy import ToyInflux2
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS

from headwater.batch import Batch
from headwater.errors import ConnectError, RejectedError
from headwater.io.store_influx import InfluxStore
from headwater.io.store_influx_options import InfluxAddress, InfluxOptions
from headwater.io.store_influx_query import InfluxReader
from headwater.io.store_influx_setup import Wish, set_up
from headwater.io.store_sqlite_books import Books
from headwater.io.store_sqlite_query import StoreReader
from headwater.line_protocol import telemetry_lines
from headwater.points import PointTable, StoreWrite, tag_column
from headwater.testing import ManualClock

pytestmark = pytest.mark.integration

T0_US = 1_790_000_000_000_000  # In 2026, so that no retention reaches it in time.
VALUES = np.array([0.0, -0.0, 0.1, -21.5, 1 / 3, 5e-324, 1.7976931348623157e308, 2.0**53 + 2, 1e-7, 99999999.99999999])
TEXTS = ["plain", "with space", "a,b=c", 'quote"d', "back\\slash", "tail\\", "Öl °C", "two\nlines", "\\,", "=,= "]


def batch(values: np.ndarray = VALUES, start_us: int = T0_US) -> Batch:
    n, one = len(values), np.ones(1, np.int64)
    return Batch(
        0, (("north", "pump-1"),), ("flow/in:1",), np.zeros(1, np.int32), np.full(1, 7, np.uint64), one, one * T0_US,
        one * T0_US, np.zeros(1, np.uint8), one, np.array([0, n]), np.zeros(n, np.int32),
        start_us + np.arange(n) * 1_000_000, values, np.zeros(n, np.uint8), np.zeros(2, np.int64),
        np.zeros((1, 4), np.int64), np.zeros(1, np.int32), T0_US,
    )  # fmt: skip


def alerts() -> PointTable:
    """One alert a text, the text in a tag and in a string."""
    n = len(TEXTS)
    tags = {
        "site": tag_column(["north"] * n), "device": tag_column(["pump-1"] * n), "rule": tag_column(TEXTS),
        "severity": tag_column(["info"] * n),
    }  # fmt: skip
    fields = {"message": np.array(TEXTS, object), "value": np.arange(n) * 1.0}
    return PointTable("alert", T0_US + np.arange(n) * 1_000_000, tags, fields)


def window(time_us: int) -> PointTable:
    words = {"site": "north", "device": "pump-1", "metric": "flow", "window": "10s"}
    tags = {name: tag_column([word]) for name, word in words.items()}
    return PointTable("window", np.array([time_us]), tags, {"count": np.array([3])})


def shown(text: str) -> tuple[str, str]:
    """How a text is to be read back: as a tag and as a string."""
    plain = text.replace("\n", " ")
    return (plain[:-1] + "/" if plain.endswith("\\") else plain), plain


def bits(values: list[float]) -> list[bytes]:
    return [struct.pack("<d", value) for value in values]


def write(options: InfluxOptions, folder: Path, *writes: StoreWrite) -> list[dict[str, object]]:
    """Writes and returns the dead letters."""
    store, reader = InfluxStore(options, Books(folder / "store.db"), ManualClock()), StoreReader(folder / "store.db")
    try:
        for one in writes:
            store.write(one)
        return reader.dead_letters(100)
    finally:
        reader.close()
        store.close()


def test_influxdb_1_reads_back_every_bit_and_every_letter(tmp_path: Path) -> None:
    with Influx1(tmp_path / "influx") as server:
        server.make("raw", "windows", "events")
        assert write(InfluxOptions(InfluxAddress(server.url)), tmp_path, StoreWrite((batch(),), (alerts(),))) == []
        values = [float(row["value"]) for row in server.query("raw", 'SELECT "value" FROM "telemetry"')]
        assert bits(values) == bits(VALUES.tolist())
        rows = server.query("events", 'SELECT "rule", "message" FROM "alert"')
        assert [(row["rule"], row["message"]) for row in rows] == [shown(text) for text in TEXTS]


def test_victoria_metrics_holds_the_same_by_our_bytes_and_by_an_unmodified_client(tmp_path: Path) -> None:
    with Victoria(tmp_path / "victoria") as server:
        values = np.array([0.0, 0.1, -21.5, 1234.567, 1e-7, 99999999.5])
        here, there = batch(values), batch(values, T0_US + 3_600_000_000)
        assert write(InfluxOptions(InfluxAddress(server.url), gzip_level=6), tmp_path, StoreWrite((here,))) == []
        with InfluxDBClient(server.url, "none", org="-", enable_gzip=True) as client:
            api = client.write_api(write_options=SYNCHRONOUS)
            for chunk in telemetry_lines(there):
                api.write("raw", record=chunk)
            api.close()
        (series,) = server.export().items()
        assert series[0] == ("telemetry_value", "north", "pump-1", "flow/in:1")
        ours = [value for at, value in series[1].items() if at < (T0_US + 3_600_000_000) // 1_000]
        theirs = [value for at, value in series[1].items() if at >= (T0_US + 3_600_000_000) // 1_000]
        assert ours == theirs == values.tolist()


def as_administrator(server: Influx2 | ToyInflux2, tmp_path: Path) -> tuple[InfluxOptions, Wish]:
    secret = tmp_path / "admin"
    secret.write_text(server.token)
    wish = Wish({"raw": 0, "windows": 86_400_000_000, "events": 1}, tmp_path / "write.token", tmp_path / "read.token")
    return InfluxOptions(InfluxAddress(server.url), org="plant", token_file=secret), wish


@pytest.mark.parametrize("kind", ["toy", "real"])
def test_influxdb_2_is_set_up_with_tokens_that_may_no_more_than_they_must(kind: str, tmp_path: Path) -> None:
    with ToyInflux2() if kind == "toy" else Influx2(tmp_path / "influx2") as server:
        options, wish = as_administrator(server, tmp_path)
        assert [step.done for step in set_up(options, wish)] == ["made"] * 5
        assert [step.done for step in set_up(options, wish)] == ["kept"] * 5
        again = Wish({**wish.keep_us, "windows": 0}, wish.write_file, wish.read_file)
        assert [step.done for step in set_up(options, again)] == ["kept", "changed", "kept", "kept", "kept"]
        assert [stat.S_IMODE(path.stat().st_mode) for path in (wish.write_file, wish.read_file)] == [0o600] * 2
        writer, reader = (path.read_text().strip() for path in (wish.write_file, wish.read_file))
        line, url = b"m v=1 1790000000000000000", f"{server.url}/api/v2/write?org=plant&bucket="
        assert http("POST", f"{url}raw", line, Authorization=f"Token {writer}")[0] == 204
        assert http("POST", f"{url}first", line, Authorization=f"Token {writer}")[0] in {401, 403, 404}
        assert http("POST", f"{url}raw", line, Authorization=f"Token {reader}")[0] in {401, 403, 404}
        assert (
            http("GET", f"{server.url}/api/v2/authorizations", None, Authorization=f"Token {writer}")[1].count(b'"id"')
            == 0
        )
        if isinstance(server, Influx2):
            assert server.query(reader, "raw", "SELECT * FROM m")[0]["v"] == 1
        wish.write_file.write_text("lost\n")
        assert [step.done for step in set_up(options, again)] == ["kept", "kept", "kept", "made", "kept"]
        assert http("POST", f"{url}raw", line, Authorization=f"Token {writer}")[0] == 401


def test_what_an_administrator_has_to_mend_first_is_told(tmp_path: Path) -> None:
    with ToyInflux2(is_fresh=True) as fresh, pytest.raises(RejectedError, match="has no users yet"):
        set_up(*as_administrator(fresh, tmp_path))
    with ToyInflux2() as server:
        options, wish = as_administrator(server, tmp_path)
        with pytest.raises(RejectedError, match="'works'; the token sees plant"):
            set_up(replace(options, org="works"), wish)
        (tmp_path / "admin").write_text("guess")
        with pytest.raises(RejectedError, match="401") as error:
            set_up(options, wish)
        assert "guess" not in str(error.value)
        assert not wish.write_file.exists()


def test_influxdb_2_reads_back_every_bit_and_refuses_only_what_it_must(tmp_path: Path) -> None:
    with Influx2(tmp_path / "influx2") as server:
        options, wish = as_administrator(server, tmp_path)
        set_up(options, wish)
        mine = InfluxOptions(options.address, org="plant", token_file=wish.write_file)
        reader = wish.read_file.read_text().strip()
        for wrong in (replace(mine, org=""), replace(mine, org="works"), replace(mine, raw="nowhere")):
            with pytest.raises(ConnectError, match=r"influx\.org|influx setup"):
                write(wrong, tmp_path, StoreWrite((batch(),)))
        assert write(mine, tmp_path, StoreWrite((batch(),))) == []
        rows = server.query(reader, "raw", 'SELECT "value" FROM "telemetry"')
        values = [-0.0 if row["value"] == 0 and at == 1 else float(row["value"]) for at, row in enumerate(rows)]
        assert bits(values) == bits(VALUES.tolist())
        old = alerts()  # The bucket `events` keeps an hour, and these are of another year.
        for tables in ((old,), (old,), ()):
            letters = write(mine, tmp_path, StoreWrite(tables=tables))
            assert [(letter["reason"], letter["detail"]) for letter in letters] == [
                ("expired", "older than what the bucket keeps")
            ] * len(TEXTS)
        # A field that is a float already refuses integers, and only these.
        url, auth = f"{server.url}/api/v2/write?org=plant&bucket=windows", wish.write_file.read_text().strip()
        now_us = time.time_ns() // 1_000
        first = f"window,site=north,device=pump-1,metric=flow,window=10s count=1.5 {now_us}000".encode()
        assert http("POST", url, first, Authorization=f"Token {auth}")[0] == 204
        assert "type conflict" in str(write(mine, tmp_path, StoreWrite(tables=(window(now_us),)))[0]["detail"])
        page = InfluxReader(tmp_path / "store.db", replace(mine, token_file=wish.read_file))
        assert page.raw("north", "pump-1", "flow/in:1", T0_US, T0_US + 1, 9)["value"].tolist() == [0.0]
        assert page.series("north", "pump-1", "flow/in:1", T0_US, T0_US + 4_000_000, 1)["min"].tolist() == [-21.5]
        page.close()
        server.kill()
        server.start()
        assert len(server.query(reader, "raw", 'SELECT "value" FROM "telemetry"')) == len(VALUES)
