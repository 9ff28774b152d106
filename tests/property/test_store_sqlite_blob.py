"""Blobs of the SQLite store give back every bit."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from headwater.errors import CorruptStateError
from headwater.io.store_sqlite_blob import decode, encode, from_varints, to_varints
from headwater.io.store_sqlite_panes import decode_panes, decode_summaries, encode_panes

sys.path.insert(0, str(Path(__file__).parents[1] / "contract"))

import store_writes

NEVER = np.iinfo(np.int64)


@given(arrays(np.int64, st.integers(0, 50)))
def test_varints_come_back(numbers: np.ndarray) -> None:
    data, begin = to_varints(numbers)
    assert from_varints(data).tolist() == numbers.tolist()
    for at, number in enumerate(numbers.tolist()):
        assert from_varints(data[begin[at] : begin[at + 1]]).tolist() == [number]


@given(st.binary(max_size=40))
def test_any_bytes_decode_to_numbers_or_to_a_clear_error(data: bytes) -> None:
    try:
        numbers = from_varints(data)
    except CorruptStateError:
        return
    assert len(numbers) == sum(byte < 128 for byte in data)


def rows_of(batch, blobs):
    held = np.diff(batch.reading_start).tolist()
    columns = (blobs.runs, blobs.times, blobs.scaled, blobs.exact, blobs.quality)
    return list(zip(blobs.start_us.tolist(), held, *columns, strict=True))


def encoded(batch):
    return encode(batch, np.arange(7, 7 + len(batch.metrics)) ** 2, np.full(len(batch), NEVER.max))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 1 << 32))
def test_readings_come_back_bit_for_bit_together_and_frame_by_frame(seed: int) -> None:
    batch = store_writes.batch(np.random.default_rng(seed), {}, 9)
    blobs = encoded(batch)
    rows = rows_of(batch, blobs)
    found = decode(rows)
    assert found.frame.tolist() == batch.frame_of_reading.tolist()
    assert found.metric.tolist() == ((batch.metric + 7) ** 2).tolist()
    assert found.time_us.tolist() == batch.time_us.tolist()
    assert found.value.tobytes() == batch.value.tobytes()
    assert found.quality.tolist() == batch.quality.tolist()
    for number, row in enumerate(rows):
        alone = decode([row])
        assert alone.value.tobytes() == found.value[found.frame == number].tobytes()
        assert alone.time_us.tolist() == found.time_us[found.frame == number].tolist()


@given(
    arrays(
        np.float64,
        st.integers(1, 30),
        elements=st.floats(allow_nan=False, allow_infinity=False)
        | st.decimals(-(10**6), 10**6, places=3, allow_nan=False).map(float)
        | st.sampled_from([0.0, -0.0, 0.1, 2.0**53, 2.0**53 - 1, 5e-324]),
    ),
)
def test_any_finite_values_come_back_bit_for_bit(value: np.ndarray) -> None:
    base = store_writes.batch(np.random.default_rng(0), {}, 1)
    n = len(value)
    batch = type(base)(
        **{name: getattr(base, name) for name in base.__slots__}
        | {
            "reading_start": np.array([0, n]), "metric": np.zeros(n, np.int32), "value": value,
            "time_us": np.arange(n) * 3 - 5, "quality": np.zeros(n, np.uint8),
        }
    )  # fmt: skip
    found = decode(rows_of(batch, encoded(batch)))
    assert found.value.tobytes() == value.tobytes()
    assert found.time_us.tolist() == batch.time_us.tolist()


@settings(max_examples=200)
@given(st.integers(0, 1 << 32), st.data())
def test_a_spoilt_blob_is_told_or_decodes_to_as_many_readings(seed: int, data: st.DataObject) -> None:
    batch = store_writes.batch(np.random.default_rng(seed), {}, 2)
    rows = [list(row) for row in rows_of(batch, encoded(batch))]
    places = [(row, column) for row in range(2) for column in range(2, 7) if rows[row][column]]
    if not places:
        return
    row, column = data.draw(st.sampled_from(places))
    blob = bytearray(rows[row][column])
    blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    rows[row][column] = bytes(blob[: data.draw(st.integers(0, len(blob)))])
    try:
        found = decode([tuple(row) for row in rows])
    except CorruptStateError:
        return
    assert len(found.value) == batch.reading_count


def test_summaries_come_back_bit_for_bit() -> None:
    for seed in range(20):
        batch = store_writes.batch(np.random.default_rng(seed), {}, 9)
        blobs, start, end = encode_panes(batch, np.arange(4) + 3)
        names = {number + 3: name for number, name in enumerate(batch.metrics)}
        for row, blob in enumerate(blobs):
            lo, hi = batch.summary_start[row : row + 2]
            assert (blob is None) == (lo == hi)
            if blob is None:
                assert (start[row], end[row]) == (NEVER.max, NEVER.min)
                continue
            whole, mine = decode_summaries(blob, names), batch.summaries
            assert [whole.metrics[code] for code in whole.metric] == [mine.metrics[code] for code in mine.metric[lo:hi]]
            for name in ("start_us", "width_us", "count", "first_us", "last_us", "mean", "m2", "min", "max", "first"):
                assert getattr(whole, name).tobytes() == getattr(mine, name)[lo:hi].tobytes()
            assert whole.sketch_start.tolist() == (mine.sketch_start[lo : hi + 1] - mine.sketch_start[lo]).tolist()
            sketch = slice(mine.sketch_start[lo], mine.sketch_start[hi])
            assert whole.sketch_key.tolist() == mine.sketch_key[sketch].tolist()
            assert whole.sketch_count.tolist() == mine.sketch_count[sketch].tolist()
            part = decode_panes([blob])
            assert part.mean.tobytes() == whole.mean.tobytes()
            assert part.max.tobytes() == whole.max.tobytes()
            assert part.count.tolist() == whole.count.tolist()
            with pytest.raises(CorruptStateError):
                decode_panes([blob[:-6]])
