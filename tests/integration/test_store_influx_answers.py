"""What the store on InfluxDB does with each answer of a server, and with none."""

import socket
import subprocess
import threading
from contextlib import nullcontext, suppress
from itertools import pairwise
from pathlib import Path

import pytest
from influx_rig import T0_US, WRITE, batch, rig
from influx_script import Say, Scripted
from influx_server import Influx1, free_port, need

from headwater.errors import ConnectError
from headwater.io.store_influx_http import InfluxHttp
from headwater.io.store_influx_options import InfluxAddress, InfluxOptions
from headwater.points import StoreWrite

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("status", [429, 503, 500, 502, 504, 408])
def test_a_server_that_can_not_now_gets_the_same_bytes_again(tmp_path: Path, status: int) -> None:
    with Scripted([Say(status, "later")]) as server, rig(server.url, tmp_path) as it:
        with pytest.raises(ConnectError, match=f"{status} later"):
            it.store.write(WRITE)
        assert not it.is_stored(WRITE)
        it.store.write(WRITE)
        assert it.is_stored(WRITE)
        assert [request[1] for request in server.requests] == [server.requests[0][1]] * 2
        assert len(server.stored) == 16
        assert it.letters() == []


@pytest.mark.parametrize(("told", "seconds"), [("7", 7.0), ("0.5", 0.5), ("1e9", 300.0)])
def test_retry_after_is_honoured_and_bounded(tmp_path: Path, told: str, seconds: float) -> None:
    with Scripted([Say(429, "slow down", told)]) as server, rig(server.url, tmp_path) as it:
        with pytest.raises(ConnectError):
            it.store.write(WRITE)
        it.clock.advance(round(seconds * 1e6) - 1)
        with pytest.raises(ConnectError, match="slow down; tried again in"):
            it.store.write(WRITE)
        assert len(server.requests) == 1
        it.clock.advance(1)
        it.store.write(WRITE)
        assert it.is_stored(WRITE)


@pytest.mark.parametrize("told", ["soon", "nan", "-5", "Thu, 01 Jan 1970 00:00:00 GMT", "inf"])
def test_a_retry_after_that_means_nothing_costs_nothing(tmp_path: Path, told: str) -> None:
    with Scripted([Say(503, "no", told)]) as server, rig(server.url, tmp_path) as it:
        with pytest.raises(ConnectError):
            it.store.write(WRITE)
        it.store.write(WRITE)
        assert it.is_stored(WRITE)


def test_a_dead_server_is_left_alone_longer_and_longer(tmp_path: Path) -> None:
    with Scripted([Say(503, "no")] * 7) as server, rig(server.url, tmp_path) as it:
        tries, second = [], 0
        while not it.is_stored(WRITE):
            before = len(server.requests)
            with suppress(ConnectError):
                it.store.write(WRITE)
            tries += [second] * (len(server.requests) - before)
            it.clock.advance(1_000_000)
            second += 1
        assert [later - earlier for earlier, later in pairwise(tries)] == [1, 1, 1, 1, 2, 4, 8]


def test_a_connection_that_is_reset_after_the_commit_doubles_nothing(tmp_path: Path) -> None:
    with Scripted([Say(0, stores=True)]) as server, rig(server.url, tmp_path) as it:
        with pytest.raises(ConnectError):
            it.store.write(WRITE)
        it.store.write(WRITE)
        assert len(server.stored) == 32
        assert len(set(server.stored)) == 16  # The same points, so the same rows.
        assert it.is_stored(WRITE)


def test_a_time_out_after_the_commit_doubles_nothing(tmp_path: Path) -> None:
    may_end = threading.Event()
    slow = Say(204, after=lambda: may_end.wait(30))
    with Scripted([slow]) as server, rig(server.url, tmp_path, answer_us=200_000) as it:
        with pytest.raises(ConnectError, match="timed out"):
            it.store.write(WRITE)
        may_end.set()
        it.store.write(WRITE)
        assert len(set(server.stored)) == 16
        assert it.is_stored(WRITE)


def test_nobody_at_the_port_is_a_lost_connection(tmp_path: Path) -> None:
    with rig(f"http://127.0.0.1:{free_port()}", tmp_path) as it, pytest.raises(ConnectError, match="refused"):
        it.store.write(WRITE)


def test_a_peer_that_is_no_http_server_is_a_lost_connection(tmp_path: Path) -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def talk() -> None:
        peer, _ = listener.accept()
        with peer:
            peer.recv(100)
            peer.sendall(b"220 mail.example ESMTP\r\n" * 100)

    thread = threading.Thread(target=talk)
    thread.start()
    with rig(f"http://127.0.0.1:{listener.getsockname()[1]}", tmp_path) as it, pytest.raises(ConnectError):
        it.store.write(WRITE)
    thread.join()
    listener.close()


@pytest.mark.parametrize(
    ("status", "mend"),
    [
        (401, "token_file"),
        (403, "token_file"),
        (404, "influx setup"),
        (405, "pipeline.store"),
        (302, "pipeline.store"),
    ],
)
def test_a_server_that_does_not_let_us_costs_no_reading(tmp_path: Path, status: int, mend: str) -> None:
    with Scripted([Say(status, "no")] * 3) as server, rig(server.url, tmp_path) as it:
        for _ in range(3):
            with pytest.raises(ConnectError, match=mend):
                it.store.write(WRITE)
        assert len(server.requests) == 3
        assert it.letters() == []
        it.store.write(WRITE)
        assert it.is_stored(WRITE)


@pytest.mark.parametrize("poison", [set(), {3}, {0, 15}, {4, 5, 6}, set(range(16))])
@pytest.mark.parametrize("status", [400, 422])
def test_poison_is_found_line_by_line_and_all_else_is_stored(tmp_path: Path, poison: set[int], status: int) -> None:
    def answer(lines: list[bytes]) -> Say:
        bad = [line for line in lines if int(line.split(b"value=")[1].split()[0]) in poison]
        return Say(status, f"unable to parse {len(bad)} lines") if bad else Say(204)

    with Scripted() as server, rig(server.url, tmp_path) as it:
        server.answer = answer
        it.store.write(WRITE)
        letters = it.letters()
        assert [letter.at_us for letter in letters] == [T0_US + row * 1_000_000 for row in sorted(poison)]
        for letter in letters:
            assert (letter.reason, letter.stage, letter.source) == ("refused", "store", "influxdb/telemetry")
            assert (letter.site, letter.device, letter.readings) == ("north", "pump-1", 1)
            assert letter.detail == "unable to parse 1 lines"
            assert letter.payload.startswith(b"telemetry,site=north,device=pump-1,metric=flow value=")
        assert len(server.stored) == 16 - len(poison)
        assert it.is_stored(WRITE)
        it.store.write(StoreWrite(WRITE.telemetry))
        assert it.letters() == letters


@pytest.mark.parametrize(
    "nothing", [Say(400, "Please provide either orgID or org"), Say(404, "no"), Say(503, "now not"), Say(0)]
)
def test_a_request_that_is_refused_whatever_it_holds_costs_no_reading(tmp_path: Path, nothing: Say) -> None:
    with Scripted() as server, rig(server.url, tmp_path) as it:
        server.nothing = nothing
        server.answer = lambda _: Say(400, "Please provide either orgID or org")
        with pytest.raises(ConnectError):
            it.store.write(WRITE)
        assert (len(server.requests), it.letters()) == (1, [])
        server.answer, server.nothing = lambda _: Say(204), Say(204)
        it.store.write(WRITE)
        assert it.is_stored(WRITE)


def test_a_server_that_calls_a_write_of_nothing_empty_is_believed_about_lines(tmp_path: Path) -> None:
    with Scripted([Say(400, "bad line")]) as server, rig(server.url, tmp_path) as it:
        server.nothing = Say(400, "incoming write was empty")
        it.store.write(StoreWrite((batch(1),)))
        assert [letter.detail for letter in it.letters()] == ["bad line"]


def test_when_a_server_says_that_it_dropped_all_no_line_is_asked_for_alone(tmp_path: Path) -> None:
    say = Say(400, "partial write: field type conflict: input field value dropped=16")
    with Scripted([say]) as server, rig(server.url, tmp_path) as it:
        it.store.write(WRITE)
        assert len(server.requests) == 1
        assert len(it.letters()) == 16


def test_a_break_in_the_middle_of_the_search_for_poison_goes_on_and_counts_no_letter_twice(tmp_path: Path) -> None:
    def answer(lines: list[bytes]) -> Say:
        if len(lines) == 1 and breaks:
            return breaks.pop()
        return Say(400, "bad") if any(b"value=5 " in line for line in lines) else Say(204)

    breaks = [Say(503, "now not")]
    with Scripted() as server, rig(server.url, tmp_path) as it:
        server.answer = answer
        with pytest.raises(ConnectError):
            it.store.write(WRITE)
        it.store.write(WRITE)
        assert len(it.letters()) == 1
        counters = it.store.counters()
        assert (counters["points"], counters["refused"], counters["retries"]) == (15, 1, 1)
        assert counters["requests"] == len(server.requests)
        assert it.is_stored(WRITE)


def test_a_body_that_is_too_large_is_cut_and_only_a_line_alone_is_given_up(tmp_path: Path) -> None:
    with Scripted() as server, rig(server.url, tmp_path) as it:
        server.answer = lambda lines: Say(413, "too large") if len(lines) > 3 else Say(204)
        it.store.write(WRITE)
        assert (len(server.stored), it.letters()) == (16, [])
        server.answer = lambda _: Say(413, "too large")
        it.store.write(StoreWrite((batch(1),)))
        assert [letter.detail for letter in it.letters()] == ["too large"]


def test_bodies_keep_to_their_bounds_and_a_retry_goes_on_behind_what_was_taken(tmp_path: Path) -> None:
    script = [Say(204), Say(204), Say(503, "no")]
    with Scripted(script) as server, rig(server.url, tmp_path, lines_max=5, gzip_level=0) as it:
        with pytest.raises(ConnectError):
            it.store.write(WRITE)
        it.store.write(WRITE)
        assert [body.count(b"\n") for _, body, _ in server.requests] == [5, 5, 5, 5, 1]
        assert server.requests[2][1] == server.requests[3][1]
        assert [line.split(b"value=")[1].split()[0] for line in server.stored] == [b"%d" % row for row in range(16)]


def test_the_token_is_read_anew_for_each_request_and_goes_nowhere_else(tmp_path: Path) -> None:
    token = tmp_path / "token"
    with Scripted([Say(401, "unauthorized access")]) as server, rig(server.url, tmp_path, token_file=token) as it:
        with pytest.raises(ConnectError, match="token_file"):
            it.store.write(WRITE)
        token.write_text("first\n")
        with pytest.raises(ConnectError, match="401 unauthorized access") as error:
            it.store.write(WRITE)
        assert "first" not in str(error.value)
        token.write_text("second\n")
        it.store.write(WRITE)
        assert [headers["Authorization"] for _, _, headers in server.requests] == ["Token first", "Token second"]


@pytest.mark.parametrize(
    "raw", [b"[" * 60_000, b"\xff\xfe", b'{"message": {"a": [1]}}', b"[1]", b"x" * 100_000, b"null"]
)
@pytest.mark.parametrize("status", [400, 500])
def test_rubbish_as_an_explanation_changes_nothing(tmp_path: Path, raw: bytes, status: int) -> None:
    with Scripted([Say(status, raw=raw)]) as server, rig(server.url, tmp_path) as it:
        one = StoreWrite((batch(1),), positions=WRITE.positions)
        with pytest.raises(ConnectError) if status == 500 else nullcontext():
            it.store.write(one)
        it.store.write(one)
        assert it.is_stored(one)
        assert len(it.letters()) == (status == 400)
        assert all(len(letter.detail) <= 400 for letter in it.letters())


@pytest.mark.parametrize("raw", [b"", b"{}", b"[" * 60_000, b'{"results": 1}', b'{"results": [1]}', b"OK"])
def test_rubbish_as_an_answer_to_a_query_is_a_lost_connection(tmp_path: Path, raw: bytes) -> None:
    with Scripted([Say(200, raw=raw)]) as server:
        http = InfluxHttp(InfluxOptions(InfluxAddress(server.url)))
        with pytest.raises(ConnectError, match="not InfluxQL"):
            http.query("raw", "SHOW MEASUREMENTS")
        http.close()


def test_https_trusts_the_named_certificate_and_no_other(tmp_path: Path) -> None:
    certificate, key = tmp_path / "server.pem", tmp_path / "server.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    with Scripted(tls=(certificate, key)) as server:
        with rig(server.url, tmp_path) as it, pytest.raises(ConnectError, match="certificate"):
            it.store.write(WRITE)
        assert server.requests == []
        with rig(server.url, tmp_path, ca_file=str(certificate)) as it:
            it.store.write(WRITE)
            assert it.is_stored(WRITE)


@pytest.mark.parametrize(
    ("version", "path"),
    [
        ("1.8.10", "/write?db=raw"),
        ("v2.7.12", "/api/v2/write?org=&bucket=raw"),
        ("3.11.2", "/api/v2/write?org=&bucket=raw"),
    ],
)
def test_each_version_is_written_by_its_own_path(tmp_path: Path, version: str, path: str) -> None:
    with Scripted(version=version) as server, rig(server.url, tmp_path) as it:
        it.store.write(WRITE)
        assert server.requests[0][0] == f"{path}&precision=ns"


def test_influxdb_says_which_points_it_refuses_and_keeps_the_others(tmp_path: Path) -> None:
    need("influxd", "influxdb")
    with Influx1(tmp_path / "influx") as server, rig(server.url, tmp_path) as it:
        server.make("windows", "events")
        server.query("", 'CREATE DATABASE "raw" WITH DURATION 1h')
        old = batch(5)  # Years beyond retention.
        it.store.write(StoreWrite((old,)))
        it.store.write(StoreWrite((batch(3),)))  # Some of them again, in another body.
        assert [(letter.reason, letter.readings) for letter in it.letters()] == [("expired", 1)] * 5
        server.query("", 'CREATE DATABASE "other"')
        (tmp_path / "two").mkdir()
        with rig(server.url, tmp_path / "two", raw="other") as two:
            server.write("other", b"telemetry,site=north,device=pump-1,metric=flow value=1i 1700000003000000000\n")
            two.store.write(StoreWrite((batch(4),)))
            two.store.write(StoreWrite((batch(2),)))
            assert [letter.reason for letter in two.letters()] == ["refused"] * 4
            assert "already exists as type integer" in two.letters()[0].detail
