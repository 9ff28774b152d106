"""Lines that make a server fail: told from a server that fails, and given up only then."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from influx_rig import T0_US, WRITE, Rig, batch, rig
from influx_script import Say, Scripted

from headwater.errors import ConnectError
from headwater.io.store_influx import SEARCH_AFTER_US, SEARCH_AGAIN_AFTER_US
from headwater.points import StoreWrite

pytestmark = pytest.mark.integration

PANIC = Say(500, "panic: runtime error")
OK = Say(204)


def value_of(line: bytes) -> int:
    return int(line.split(b"value=")[1].split()[0])


def fails_on(*values: int) -> Callable[[list[bytes]], Say]:
    return lambda lines: PANIC if any(value_of(line) in values for line in lines) else OK


def keep_trying(it: Rig, write: StoreWrite, for_us: int, every_us: int = 1_000_000) -> int:
    """Writes every second until it is stored or the time is over; returns how long that took."""
    passed_us = 0
    while not it.is_stored(write) and passed_us <= for_us:
        with suppress(ConnectError):
            it.store.write(write)
        it.clock.advance(every_us)
        passed_us += every_us
    return passed_us


def values(server: Scripted) -> set[int]:
    return set(map(value_of, server.stored))


HOUR_US = 3_600_000_000


@pytest.mark.parametrize("poison", [0, 5, 15])
def test_a_line_on_which_alone_a_server_fails_for_minutes_is_a_dead_letter(tmp_path: Path, poison: int) -> None:
    with Scripted() as server, rig(server.url, tmp_path) as it:
        server.answer = fails_on(poison)
        took_us = keep_trying(it, WRITE, HOUR_US)
        assert SEARCH_AFTER_US <= took_us < SEARCH_AFTER_US + 30_000_000
        (letter,) = it.letters()
        assert (letter.at_us, letter.reason, letter.stage) == (T0_US + poison * 1_000_000, "refused", "store")
        assert letter.detail == "the server fails on it: 500 panic: runtime error"
        assert values(server) == set(range(16)) - {poison}
        counters = it.store.counters()
        assert (counters["points"], counters["refused"]) == (15, 1)
        assert counters["requests"] == len(server.requests)


def test_the_next_such_line_is_found_sooner(tmp_path: Path) -> None:
    with Scripted() as server, rig(server.url, tmp_path) as it:
        server.answer = fails_on(5)
        keep_trying(it, WRITE, HOUR_US)
        again = StoreWrite((batch(start_us=T0_US + 10**9),), positions={("log", "headwater.readings", 3): 10})
        took_us = keep_trying(it, again, HOUR_US)
        assert SEARCH_AGAIN_AFTER_US <= took_us < SEARCH_AGAIN_AFTER_US + 30_000_000
        assert len(it.letters()) == 2


@pytest.mark.parametrize("status", [500, 502, 503])
def test_a_server_that_fails_on_everything_costs_no_reading_and_few_requests(tmp_path: Path, status: int) -> None:
    first = StoreWrite((batch(4),), positions={("log", "headwater.readings", 3): 8})
    with Scripted() as server, rig(server.url, tmp_path) as it:
        it.store.write(first)  # There is a line that it took once.
        server.answer = lambda _: Say(status, "engine: closed")
        keep_trying(it, WRITE, 2 * HOUR_US)
        assert it.letters() == []
        assert len(server.requests) < 2 * 3_600 / 10 * 1.5, "a try every ten seconds, and a search now and then"
        server.answer = lambda _: OK
        keep_trying(it, WRITE, 30_000_000)
        assert values(server) == set(range(16))
        assert it.letters() == []


def test_a_server_that_fails_on_large_bodies_gets_small_ones(tmp_path: Path) -> None:
    with Scripted() as server, rig(server.url, tmp_path) as it:
        server.answer = lambda lines: Say(500, "timeout") if len(lines) > 3 else OK
        keep_trying(it, WRITE, HOUR_US)
        assert it.is_stored(WRITE)
        assert (values(server), it.letters()) == (set(range(16)), [])


def test_many_lines_on_which_it_fails_are_the_servers_trouble(tmp_path: Path) -> None:
    with Scripted() as server, rig(server.url, tmp_path) as it:
        server.answer = fails_on(3, 4, 5, 6)  # As if one of its shards were broken.
        keep_trying(it, WRITE, HOUR_US)
        assert not it.is_stored(WRITE)
        assert it.letters() == []
        server.answer = lambda _: OK
        keep_trying(it, WRITE, 30_000_000)
        assert (values(server), it.letters()) == (set(range(16)), [])


def test_a_line_is_not_given_up_while_others_fail_too(tmp_path: Path) -> None:
    """The server fails for good as soon as it has met the line alone."""
    alone = 0

    def answer(lines: list[bytes]) -> Say:
        nonlocal alone
        alone += [value_of(line) for line in lines] == [5]
        return PANIC if alone or any(value_of(line) == 5 for line in lines) else OK

    with Scripted() as server, rig(server.url, tmp_path) as it:
        server.answer = answer
        keep_trying(it, WRITE, HOUR_US)
        assert alone > 0
        assert it.letters() == []


@pytest.mark.parametrize("good_after", [1, 2, 3])
def test_a_line_that_is_taken_after_all_is_stored(tmp_path: Path, good_after: int) -> None:
    alone = 0

    def answer(lines: list[bytes]) -> Say:
        nonlocal alone
        alone += [value_of(line) for line in lines] == [5]
        return PANIC if any(value_of(line) == 5 for line in lines) and alone <= good_after else OK

    with Scripted() as server, rig(server.url, tmp_path) as it:
        server.answer = answer
        keep_trying(it, WRITE, HOUR_US)
        assert it.is_stored(WRITE)
        assert (values(server), it.letters()) == (set(range(16)), [])


def test_an_outage_in_between_starts_the_wait_anew(tmp_path: Path) -> None:
    with Scripted() as server, rig(server.url, tmp_path) as it:
        server.answer = fails_on(5)
        keep_trying(it, WRITE, SEARCH_AFTER_US - 10_000_000)
        server.answer = lambda _: Say(0)
        keep_trying(it, WRITE, 20_000_000)
        server.answer = fails_on(5)
        assert keep_trying(it, WRITE, HOUR_US) >= SEARCH_AFTER_US
        assert len(it.letters()) == 1


def test_lines_that_are_refused_and_lines_that_make_it_fail_are_found_in_one_body(tmp_path: Path) -> None:
    def answer(lines: list[bytes]) -> Say:
        found = set(map(value_of, lines))
        return Say(400, "unable to parse") if 3 in found else PANIC if 5 in found else OK

    with Scripted() as server, rig(server.url, tmp_path) as it:
        server.answer = answer
        keep_trying(it, WRITE, HOUR_US)
        assert [(letter.at_us - T0_US) // 1_000_000 for letter in it.letters()] == [3, 5]
        assert values(server) == set(range(16)) - {3, 5}


def test_a_line_alone_is_compared_with_what_was_taken_before_and_waits_where_there_is_nothing(tmp_path: Path) -> None:
    alone = StoreWrite((batch(1),), positions={("log", "headwater.readings", 3): 11})
    with Scripted() as server, rig(server.url, tmp_path) as it:
        server.answer = fails_on(0)
        keep_trying(it, alone, HOUR_US)
        assert (it.is_stored(alone), it.letters()) == (False, [])
        other = batch(2, T0_US + 10**9)
        other.value[:] = 7.0
        it.clock.advance(HOUR_US)
        it.store.write(StoreWrite((other,)))
        keep_trying(it, alone, HOUR_US)
        assert (it.is_stored(alone), len(it.letters())) == (True, 1)
        assert values(server) == {7}


def test_a_process_that_died_in_between_gives_up_no_line_twice(tmp_path: Path) -> None:
    with Scripted() as server:
        server.answer = fails_on(5)
        for offset in range(2):
            again = StoreWrite(WRITE.telemetry, positions={("log", "headwater.readings", 3): offset})
            with rig(server.url, tmp_path) as it:
                keep_trying(it, again, SEARCH_AFTER_US + 30_000_000)
                assert it.is_stored(again)
                assert len(it.letters()) == 1
        assert values(server) == set(range(16)) - {5}
