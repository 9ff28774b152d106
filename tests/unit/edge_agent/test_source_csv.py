import numpy as np
import pytest

from edge_agent.sources.csv_file import CsvSource
from headwater.errors import SettingsError
from headwater.instant import format_utc
from headwater.quality import MISSING
from headwater.testing import ManualClock

OPEN = []


@pytest.fixture(autouse=True)
def _closed():
    yield
    while OPEN:
        OPEN.pop().close()


def make(tmp_path, text, **options):
    path = tmp_path / "given.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    clock = ManualClock()
    source = CsvSource({"path": str(path), "speed": 0, "rebase": False, **options}, clock)
    OPEN.append(source)
    source.open()
    return source, clock


def drain(source, clock):
    blocks = []
    while not source.is_exhausted:
        blocks += source.read(clock.now_us())
    return blocks


def test_a_file_with_a_header_and_commas(tmp_path):
    source, clock = make(tmp_path, "timestamp,value\n2015-02-26 21:42:53,7\n2015-02-26 21:47:53,4.5\n")
    (block,) = drain(source, clock)
    assert [metric.name for metric in source.metrics] == ["value"]
    assert [format_utc(t) for t in block.time_us.tolist()] == [
        "2015-02-26T21:42:53.000000Z",
        "2015-02-26T21:47:53.000000Z",
    ]
    assert block.value.tolist() == [[7, 4.5]]


def test_semicolons_and_label_columns(tmp_path):
    text = "datetime;Volume Flow RateRMS;anomaly;changepoint\n2020-02-08 13:30:47;122.6;0.0;0.0\n"
    source, _ = make(tmp_path, text)
    assert [metric.name for metric in source.metrics] == ["Volume_Flow_RateRMS"]
    labelled, _ = make(tmp_path, text, exclude=[])
    assert len(labelled.metrics) == 3


@pytest.mark.parametrize(
    "stamp",
    [
        "2020-02-08T13:30:47",
        "2020-02-08T14:30:47+01:00",
        "2020-02-08 13:30:47.000",
        "08.02.2020 13:30:47",
        "02/08/2020 13:30:47",
        "1581168647",
        "1581168647000",
        "1581168647.0",
    ],
)
def test_times_in_many_spellings(tmp_path, stamp):
    source, clock = make(tmp_path, f"x\tt\n1\t{stamp}\n", time_column="t")
    (block,) = drain(source, clock)
    assert block.time_us.tolist() == [1_581_168_647_000_000]


def test_a_file_without_a_header(tmp_path):
    source, clock = make(tmp_path, "1581168647,1\n1581168648,2\n")
    (block,) = drain(source, clock)
    assert block.metrics == ("column_1",)
    assert block.value.tolist() == [[1, 2]]


def test_rubbish_is_counted_and_never_a_crash(tmp_path):
    text = b"t,a,b\n2020-01-01 00:00:00,1,2\nnonsense\n\x00\xff\xfe,,\n2020-01-01 00:00:01,x,\n,,\n"
    text += b'"2020-01-01 00:00:02,1,2\n' + b"9" * 70_000 + b"\n2020-01-01 00:00:03,3,4,5,6\n"
    source, clock = make(tmp_path, text)
    (block,) = drain(source, clock)
    assert block.time_us.shape == (3,)
    assert block.quality.tolist() == [[0, MISSING, 0], [0, MISSING, 0]]
    assert source.rubbish == 5
    assert source.unreadable == 1


def test_random_bytes_are_refused_or_skipped(tmp_path):
    rng = np.random.default_rng(3)
    for _ in range(60):
        text = b"t,a\n2020-01-01 00:00:00,1\n" + rng.bytes(400)
        source, clock = make(tmp_path, text)
        blocks = drain(source, clock)
        assert sum(len(block.time_us) for block in blocks) >= 1
        source.close()


def test_a_replay_keeps_the_pace_of_the_file(tmp_path):
    rows = "".join(f"{1_581_168_647 + i},{i}\n" for i in range(100))
    source, clock = make(tmp_path, "t,a\n" + rows, speed=10, rebase=True)
    assert source.read(clock.now_us())[0].time_us.tolist() == [clock.now_us()]
    clock.advance(1_000_000)
    (block,) = source.read(clock.now_us())
    assert block.value.tolist() == [[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]]
    assert np.diff(block.time_us).tolist() == [1_000_000] * 9


def test_times_that_run_back_come_in_a_block_of_their_own(tmp_path):
    source, clock = make(tmp_path, "t,a\n1581168647,1\n1581168646,2\n1581168648,3\n")
    assert [block.value.tolist() for block in drain(source, clock)] == [[[1]], [[2, 3]]]


def test_blocks_are_bounded(tmp_path):
    rows = "".join(f"{1_581_168_647 + i},{i}\n" for i in range(100))
    source, clock = make(tmp_path, "t,a\n" + rows, block_samples_max=30)
    assert [len(block.time_us) for block in drain(source, clock)] == [30, 30, 30, 10]


def test_a_file_can_be_repeated_with_times_going_on(tmp_path):
    source, clock = make(tmp_path, "t,a\n1581168647,1\n1581168648,2\n", repeat=True, block_samples_max=5)
    (block,) = source.read(clock.now_us())
    assert block.value.tolist() == [[1, 2, 1, 2, 1]]
    assert np.diff(block.time_us).tolist() == [1_000_000] * 4
    assert not source.is_exhausted


def test_columns_of_one_name_are_told_apart(tmp_path):
    source, _ = make(tmp_path, "t,a,a\n1581168647,1,2\n")
    assert [metric.name for metric in source.metrics] == ["a", "a_2"]


@pytest.mark.parametrize(
    ("text", "options", "says"),
    [
        ("", {}, "empty"),
        ("a,b\n1,2\n", {}, "no column of times"),
        ("t,a\n1581168647,1\n", {"time_column": "when"}, "has no column 'when'"),
        ("t\n1581168647\n", {}, "no column of readings"),
        ("t,a\n1581168647,1\n", {"sped": 2}, "did you mean 'speed'"),
        ("t,a\n1581168647,1\n", {"speed": -1}, "speed"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(tmp_path, text, options, says):
    with pytest.raises(SettingsError, match=says):
        make(tmp_path, text, **options)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"nowhere\.csv"):
        CsvSource({"path": str(tmp_path / "nowhere.csv")}, ManualClock()).open()
