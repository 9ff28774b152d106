"""What holds for every frame: lossless coding, the batch path equal to the frame path, Arrow there and back."""

from contextlib import suppress
from dataclasses import replace

import numpy as np
from frame_strategies import T0, exact, frames, without_what_is_missing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.batch import Batch, DeadLetter, DeviceStatus
from headwater.batch_arrow import batch_from_arrow, batch_to_arrow
from headwater.batch_build import batch_from_frames, concat_batches, count_not_finite, take_frames
from headwater.codec import decode_frame, encode_frame
from headwater.codec_batch import Arrival, decode_batch
from headwater.columns import decode_integers, encode_columns, integers_of, lay_out, starts_of, values_of
from headwater.errors import DecodeError
from headwater.frame import Frame
from headwater.location import Location
from headwater.reasons import DeadLetterReason

FAR_US = 1 << 60
slow = settings(
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], max_examples=40, deadline=None
)


@slow
@given(frames())
def test_decoding_gives_back_every_bit(frame: Frame) -> None:
    for level in (0, 6):
        decoded = decode_frame(encode_frame(frame, compress_level=level))
        assert exact(decoded) == exact(without_what_is_missing(frame))


tables = st.integers(1, 5).flatmap(
    lambda columns: st.integers(1, 9).flatmap(
        lambda rows: st.lists(
            st.lists(st.integers(-300, 300) | st.integers(-(1 << 63), (1 << 63) - 1), min_size=rows, max_size=rows),
            min_size=columns,
            max_size=columns,
        )
    )
)


@settings(deadline=None)
@given(st.lists(tables, max_size=5))
def test_many_tables_decode_as_they_were_coded(many: list[list[list[int]]]) -> None:
    coded = [encode_columns(np.array(table, np.int64), np.zeros(len(table), np.uint8)) for table in many]
    columns = np.array([len(table) for table in many], np.int64)
    rows = np.array([len(table[0]) for table in many], np.int64)
    size = np.array(list(map(len, coded)), np.int64)
    # Other bytes may lie between the tables.
    data = b"".join(b"\xff" * (place % 3) + part for place, part in enumerate(coded))
    start = starts_of(size)[:-1] + np.cumsum(np.arange(len(coded)) % 3)
    layout = lay_out(data, start, size, columns, rows)
    assert not layout.bad.any()
    assert decode_integers(layout).tolist() == [number for table in many for column in table for number in column]


@settings(deadline=None)
@given(st.lists(st.floats(width=64), min_size=1, max_size=20))
def test_any_column_of_floats_keeps_its_bits(values: list[float]) -> None:
    value = np.array([values])
    integer, form = integers_of(value)
    assert values_of(integer[0], form, np.array([len(values)])).tobytes() == value.tobytes()


def arrivals_of(many: list[Frame]) -> list[Arrival]:
    return [Arrival(frame.site, frame.device, encode_frame(frame), T0 + place) for place, frame in enumerate(many)]


def batch_of(many: list[Frame]) -> Batch:
    return decode_batch(arrivals_of(many), shard=3, made_us=T0, future_max_us=FAR_US)[0]


@slow
@given(st.lists(frames(), max_size=5))
def test_a_batch_is_what_its_frames_give_one_by_one(many: list[Frame]) -> None:
    arrivals = arrivals_of(many)
    batch, rejects = decode_batch(arrivals, shard=3, made_us=T0, future_max_us=FAR_US)
    items = [(decode_frame(arrival.payload), arrival.received_us, len(arrival.payload)) for arrival in arrivals]
    assert exact(batch) == exact(batch_from_frames(items, shard=3, made_us=T0))
    lost = {place: count_not_finite(frame) for place, frame in enumerate(many) if count_not_finite(frame)}
    assert {reject.index: reject.readings for reject in rejects} == lost
    assert all(reject.reason == DeadLetterReason.NOT_FINITE for reject in rejects)
    assert batch.reading_count + sum(lost.values()) == sum(frame.reading_count for frame in many)


@slow
@given(st.lists(frames(), min_size=1, max_size=4), st.data())
def test_damaged_payloads_cost_their_neighbours_nothing(many: list[Frame], data: st.DataObject) -> None:
    arrivals = arrivals_of(many)
    damaged = []
    for arrival in arrivals:
        payload = bytearray(arrival.payload)
        if data.draw(st.booleans()):
            payload[data.draw(st.integers(0, len(payload) - 1))] ^= data.draw(st.integers(1, 255))
        damaged.append(arrival._replace(payload=bytes(payload)))
    good = []
    expected: dict[int, DeadLetterReason] = {}
    for place, arrival in enumerate(damaged):
        try:
            good.append((decode_frame(arrival.payload), arrival.received_us, len(arrival.payload)))
        except DecodeError as error:
            expected[place] = error.reason
    batch, rejects = decode_batch(damaged, shard=3, made_us=T0, future_max_us=FAR_US)
    assert exact(batch) == exact(batch_from_frames(good, shard=3, made_us=T0))
    assert {r.index: r.reason for r in rejects if r.reason != DeadLetterReason.NOT_FINITE} == expected


LETTER = DeadLetter(T0, "schema", "gateway", "hw/1/a/b/frame", "why ✗", "a", "b", (1 << 64) - 1, 4, 5, b"\x00\xff")
STATUS = DeviceStatus("a", "b", T0, online=True, epoch=(1 << 64) - 1, assigned=3, buffered=2, agent="0.1")
HERE = replace(STATUS, location=Location(47.5, -8.1))


@slow
@given(st.lists(frames(), max_size=4), st.sampled_from([None, "lz4", "zstd"]))
def test_arrow_gives_back_every_bit_of_a_batch(many: list[Frame], compression: str | None) -> None:
    batch = replace(batch_of(many), dead_letters=(LETTER,), statuses=(STATUS, HERE, STATUS), low_watermark_us=T0 - 1)
    data = batch_to_arrow(batch, compression=compression)  # type: ignore[arg-type]
    assert exact(batch_from_arrow(data)) == exact(batch)
    assert exact(batch_from_arrow(memoryview(data))) == exact(batch)


@slow
@given(st.lists(frames(finite=True), min_size=1, max_size=4), st.data())
def test_taking_frames_is_building_with_them_only(many: list[Frame], data: st.DataObject) -> None:
    items = [(frame, T0 + place, 10) for place, frame in enumerate(many)]
    places = data.draw(st.lists(st.integers(0, len(many) - 1), unique=True))
    taken = take_frames(batch_from_frames(items, shard=1, made_us=T0), np.array(places, np.int64))
    built = batch_from_frames([items[place] for place in places], shard=1, made_us=T0)
    assert [taken.metrics[code] for code in taken.metric] == [built.metrics[code] for code in built.metric]
    assert [taken.devices[code] for code in taken.device] == [built.devices[code] for code in built.device]
    for name in ("seq", "reading_start", "summary_start", "time_us", "value", "quality", "ledger", "anomalies", "gaps"):
        assert exact(getattr(taken, name)) == exact(getattr(built, name)), name
    for name in ("start_us", "mean", "sketch_start", "sketch_key", "sketch_count"):
        assert exact(getattr(taken.summaries, name)) == exact(getattr(built.summaries, name)), name


@slow
@given(st.lists(frames(finite=True), min_size=1, max_size=4), st.data())
def test_joining_parts_of_a_batch_gives_the_batch(many: list[Frame], data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, len(many)))
    items = [(frame, T0 + place, 10) for place, frame in enumerate(many)]
    parts = [batch_from_frames(part, shard=1, made_us=T0) for part in (items[:cut], items[cut:])]
    assert exact(concat_batches(parts)) == exact(batch_from_frames(items, shard=1, made_us=T0))


def test_taking_all_frames_is_the_batch_itself() -> None:
    frame = Frame("a", "b", 1, 1, T0, 3)  # type: ignore[arg-type]
    batch = batch_from_frames([(frame, T0, 1)] * 3, shard=1, made_us=T0)
    assert take_frames(batch, np.ones(3, bool)) is batch


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_are_refused_and_nothing_else_happens(payload: bytes) -> None:
    for head in (b"", b"H\x10", b"H\x11"):
        with suppress(DecodeError):
            decode_frame(head + payload)
    batch, rejects = decode_batch([Arrival("a", "b", payload, T0)], shard=0, made_us=T0)
    assert len(batch) + len(rejects) == 1
