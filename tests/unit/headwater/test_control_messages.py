"""Acknowledgements and status messages: strict in, exact out."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.ack import Ack, parse_ack
from headwater.errors import DecodeError
from headwater.instant import TIME_MAX_US, TIME_MIN_US, foreign_time_us, format_duration, parse_duration_us
from headwater.location import Location
from headwater.reasons import DeadLetterReason
from headwater.status import Status, parse_status

EPOCHS = st.integers(0, (1 << 64) - 1)


@given(EPOCHS, st.integers(0, 1 << 40), st.lists(st.integers(1, 50), max_size=20))
def test_an_ack_comes_back_as_it_was(epoch: int, contiguous: int, steps: list[int]) -> None:
    missing, at = [], contiguous
    for step in steps:
        missing.append((at + step, at + 2 * step))
        at += 2 * step
    ack = Ack(epoch, contiguous, tuple(missing[:16]), "store", "log-1")
    assert parse_ack(ack.to_json()) == ack


@pytest.mark.parametrize(
    "change",
    [
        {"epoch": "-1"}, {"epoch": str(1 << 64)}, {"contiguous": -1}, {"contiguous": 1.5}, {"contiguous": True},
        {"missing": [[1, 1]]}, {"missing": [[9, 8]]}, {"missing": [[6]]}, {"missing": 3}, {"level": "disk"}, {"log": 3},
        {"resync": -1}, {"resync": "1"}, {"resync": None}, {"resync": True},
    ],
)  # fmt: skip
def test_a_wrong_ack_is_refused(change: dict[str, object]) -> None:
    good = json.loads(Ack(7, 5, ((7, 8),), "store", "a").to_json())
    with pytest.raises(DecodeError):
        parse_ack(json.dumps(good | change).encode())


def test_an_ack_without_resync_is_written_and_read_as_before_there_was_one() -> None:
    old = b'{"epoch":"7","contiguous":5,"missing":[[7,8]],"level":"store","log":"a"}'
    assert parse_ack(old) == Ack(7, 5, ((7, 8),), "store", "a", resync=0)
    assert Ack(7, 5, ((7, 8),), "store", "a").to_json() == old
    assert parse_ack(Ack(7, 5, (), "store", "a", resync=9).to_json()).resync == 9


@given(st.binary(max_size=200))
def test_random_bytes_are_no_control_message(data: bytes) -> None:
    for parse in (parse_ack, parse_status):
        with pytest.raises(DecodeError):
            parse(data)


@given(st.booleans(), EPOCHS, st.integers(0, 1 << 40), st.integers(0, 1 << 30))
def test_a_status_comes_back_as_it_was(online: bool, epoch: int, assigned: int, buffered: int) -> None:
    status = Status(online, epoch, assigned, buffered, "0.1.0", {"flow": {"unit": "m3/h"}})
    assert parse_status(status.to_json()) == status


@given(st.floats(-90, 90), st.floats(-180, 180))
def test_a_location_comes_back_as_it_was(lat: float, lon: float) -> None:
    status = Status(online=True, epoch=7, agent="0.1.0", location=Location(lat, lon))
    assert parse_status(status.to_json()) == status


def test_a_status_without_a_location_is_written_and_read_as_before_there_was_one() -> None:
    old = b'{"online":true,"epoch":"7","assigned":3,"buffered":2,"agent":"0.1.0","metrics":null}'
    status = Status(online=True, epoch=7, assigned=3, buffered=2, agent="0.1.0")
    assert status.to_json() == old
    assert parse_status(old) == status
    assert parse_status(b'{"online":false}').location is None


def test_a_gateway_of_before_reads_what_it_knows_of_a_status_with_a_location() -> None:
    told = json.loads(Status(online=True, epoch=7, location=Location(47.5, 8.25)).to_json())
    assert (told.pop("lat"), told.pop("lon")) == (47.5, 8.25)
    assert told == json.loads(Status(online=True, epoch=7).to_json())


@pytest.mark.parametrize(
    "told",
    [
        '"lat":47.5', '"lon":8.5', '"lat":47.5,"lon":null', '"lat":90.001,"lon":0', '"lat":0,"lon":-180.5',
        '"lat":NaN,"lon":0', '"lat":0,"lon":Infinity', '"lat":"47.5","lon":"8.5"', '"lat":true,"lon":false',
        '"lat":[47.5],"lon":[8.5]', f'"lat":0,"lon":1{"0" * 400}', '"lat":1e999,"lon":0',
    ],
)  # fmt: skip
def test_a_wrong_location_makes_a_wrong_status(told: str) -> None:
    with pytest.raises(DecodeError) as caught:
        parse_status(f'{{"online":true,{told}}}'.encode())
    assert caught.value.reason == DeadLetterReason.SCHEMA


def test_a_location_may_be_of_whole_numbers() -> None:
    assert parse_status(b'{"online":true,"lat":90,"lon":-180}').location == Location(90.0, -180.0)


@given(st.integers(TIME_MIN_US, TIME_MAX_US - 1), st.sampled_from([1, 1_000, 1_000_000]))
def test_a_foreign_time_is_told_by_its_magnitude(time_us: int, unit_us: int) -> None:
    assert foreign_time_us(time_us // unit_us) == time_us // unit_us * unit_us


def test_a_foreign_time_in_nanoseconds_is_cut_to_microseconds() -> None:
    assert foreign_time_us(1_700_000_000_123_456_789) == 1_700_000_000_123_456


def test_a_number_that_is_no_time_is_none() -> None:
    assert [foreign_time_us(number) for number in (10**300, float("nan"), float("inf"), -1, 0)] == [None] * 5


@given(st.integers(1, 10**15))
def test_a_duration_is_read_as_it_was_written(duration_us: int) -> None:
    assert parse_duration_us(format_duration(duration_us)) == duration_us
