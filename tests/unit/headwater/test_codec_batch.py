"""Many payloads to a batch: what is refused, why, and what stays."""

import tracemalloc
import zlib
from dataclasses import replace

import numpy as np
import pytest

from headwater.batch_arrow import batch_from_arrow, batch_to_arrow
from headwater.batch_build import batch_from_frames, take_frames
from headwater.codec import decode_frame, encode_frame
from headwater.codec_batch import FUTURE_MAX_US, Arrival, decode_batch
from headwater.envelope import STORED, unseal
from headwater.errors import DecodeError, LimitError
from headwater.frame import READINGS_MAX, Anomaly, Block, Frame, Gap, Ledger, Summaries
from headwater.frame_records import MESSAGE_CHARS_MAX, RECORDS_MAX
from headwater.panes import PANES_MAX
from headwater.reasons import ClockQuality, DeadLetterReason, GapReason, Severity
from headwater.summary import summarize

T0 = 1_700_000_000_000_000
ANOMALY = Anomaly("m", T0, "level", Severity.INFO, True, 1.0, 1.0, 1.0, 1.0, 1.0, "")


def frame_of(value: list[float], *, seq: int = 1, start_us: int = T0, device: str = "pump-1") -> Frame:
    time_us = start_us + 1_000_000 * np.arange(len(value))
    block = Block(("m",), time_us, np.array([value]))
    return Frame("north", device, 7, seq, T0, ClockQuality.SYNCED, 1, (block,), ledger=Ledger(acquired=len(value)))


def arrival(frame: Frame, *, device: str = "pump-1", received_us: int = T0) -> Arrival:
    return Arrival("north", device, encode_frame(frame), received_us)


def decode(*arrivals: Arrival, future_max_us: int = FUTURE_MAX_US):
    return decode_batch(arrivals, shard=2, made_us=T0, future_max_us=future_max_us)


def test_nothing_gives_an_empty_batch() -> None:
    batch, rejects = decode()
    assert (len(batch), batch.reading_count, rejects) == (0, 0, [])
    assert batch.ledger.shape == (0, 4)


def test_a_payload_of_another_device_is_refused_with_its_identity() -> None:
    batch, rejects = decode(arrival(frame_of([1.0, 2.0], seq=4)), arrival(frame_of([1.0]), device="pump-2"))
    assert len(batch) == 1
    assert [(r.index, r.reason, r.epoch, r.seq, r.readings) for r in rejects] == [
        (1, DeadLetterReason.IDENTITY, 7, 1, 1)
    ]


@pytest.mark.parametrize("start_us", [0, 946_684_799_999_999, T0 + FUTURE_MAX_US, 4_102_444_800_000_000])
def test_event_times_before_2000_or_far_ahead_of_receipt_are_refused(start_us: int) -> None:
    batch, rejects = decode(arrival(frame_of([1.0])), arrival(frame_of([1.0, 2.0], seq=2, start_us=start_us)))
    assert batch.seq.tolist() == [1]
    assert [(r.index, r.reason, r.seq, r.readings) for r in rejects] == [(1, DeadLetterReason.TIME_RANGE, 2, 2)]


def test_how_far_ahead_is_a_parameter_and_inclusive() -> None:
    ahead = arrival(frame_of([1.0], start_us=T0 + 10))
    assert not decode(ahead, future_max_us=10)[1]
    assert decode(ahead, future_max_us=9)[1]


def test_times_of_anomalies_and_panes_count_too() -> None:
    early = replace(frame_of([1.0]), anomalies=(replace(ANOMALY, time_us=1),))
    panes = summarize(("m",), np.zeros(1, np.int32), np.array([5]), np.array([1.0]), width_us=10)
    old = replace(frame_of([1.0]), summaries=panes)
    _, rejects = decode(arrival(early), arrival(old))
    assert [r.reason for r in rejects] == [DeadLetterReason.TIME_RANGE] * 2


def test_readings_that_are_not_finite_are_left_out_and_counted_and_the_rest_stays() -> None:
    batch, rejects = decode(arrival(frame_of([1.0, np.nan, np.inf, 2.0])), arrival(frame_of([3.0], seq=2)))
    assert batch.value.tolist() == [1.0, 2.0, 3.0]
    assert batch.time_us.tolist() == [T0, T0 + 3_000_000, T0]
    assert batch.reading_start.tolist() == [0, 2, 3]
    assert [(r.index, r.reason, r.readings) for r in rejects] == [(0, DeadLetterReason.NOT_FINITE, 2)]


def test_rubbish_among_good_frames_costs_only_itself() -> None:
    good = [arrival(frame_of([float(seq)], seq=seq)) for seq in (1, 2, 3)]
    bad = good[0]._replace(payload=b"H\x10rubbish")
    batch, rejects = decode(bad, good[0], bad, good[1], good[2], bad)
    assert batch.value.tolist() == [1.0, 2.0, 3.0]
    assert [(r.index, r.reason, r.epoch) for r in rejects] == [(n, DeadLetterReason.CHECKSUM, 0) for n in (0, 2, 5)]


def test_many_large_frames_are_decoded_in_portions_and_in_order() -> None:
    frame = frame_of([0.0] * 60_000)
    arrivals = [arrival(replace(frame, seq=seq)) for seq in range(1, 13)]
    batch, rejects = decode(*arrivals, future_max_us=1 << 40)
    assert not rejects
    assert batch.seq.tolist() == list(range(1, 13))
    assert np.diff(batch.reading_start).tolist() == [60_000] * 12


def resealed(frame: Frame, change: object) -> bytes:
    message = unseal(encode_frame(frame))
    message.ClearField("crc32")
    change(message)  # type: ignore[operator]
    body = message.SerializeToString() + b"\x7d"
    return bytes((ord("H"), STORED)) + body + zlib.crc32(body).to_bytes(4, "little")


def set_rows(message) -> None:
    message.blocks[0].rows = 1_000_000_000


def set_panes(message) -> None:
    message.notes.panes.rows = 1_000_000_000


def set_buckets(message) -> None:
    message.notes.panes.buckets = 1_000_000_000


@pytest.mark.parametrize("change", [set_rows, set_panes, set_buckets])
def test_a_claim_of_a_billion_constant_rows_is_refused_without_memory_for_it(change: object) -> None:
    panes = summarize(("m",), np.zeros(1, np.int32), np.array([T0]), np.array([1.0]), width_us=10, with_sketch=True)
    payload = resealed(replace(frame_of([1.0, 1.0]), summaries=panes), change)
    tracemalloc.start()
    with pytest.raises(DecodeError) as caught:
        decode_frame(payload)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.reason == DeadLetterReason.LIMIT
    assert peak < 1_000_000


def test_the_largest_frame_of_constant_columns_takes_a_few_megabytes() -> None:
    payload = encode_frame(frame_of([1.0] * READINGS_MAX))
    assert len(payload) < 200
    tracemalloc.start()
    decode_frame(payload)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8_000_000


def change_panes(**columns: object) -> bytes:
    panes = summarize(("m",), np.zeros(4, np.int32), T0 + np.arange(4), np.arange(4.0), width_us=2, with_sketch=True)
    return encode_frame(replace(frame_of([1.0]), summaries=replace(panes, **columns)))


@pytest.mark.parametrize(
    "columns",
    [
        {"metric": np.array([0, 1], np.int32)},
        {"count": np.array([0, 2])},
        {"count": np.array([3, 2])},
        {"width_us": np.array([2, 0])},
        {"mean": np.array([np.nan, 1.0])},
        {"m2": np.array([-1.0, 1.0])},
        {"max": np.array([1.0, -np.inf])},
        {"min": np.array([0.5, 2.5])},
        {"first_us": np.array([T0 + 2, T0 + 2])},
        {"last_us": np.array([T0 + 2, T0 + 2])},
        {"sketch_key": np.array([1, 0, 5, 6], np.int32)},
        {"sketch_count": np.array([1, 1, 1, -1])},
        {"sketch_start": np.array([0, 2, 3])},
    ],
)
def test_a_pane_that_contradicts_itself_is_refused(columns: dict[str, object]) -> None:
    decode_frame(change_panes())
    with pytest.raises(DecodeError) as caught:
        decode_frame(change_panes(**columns))
    assert caught.value.reason == DeadLetterReason.SCHEMA


def test_more_records_than_a_frame_holds_are_refused_on_both_sides() -> None:
    with pytest.raises(LimitError):
        encode_frame(replace(frame_of([1.0]), anomalies=(ANOMALY,) * (RECORDS_MAX + 1)))
    with pytest.raises(LimitError):
        encode_frame(replace(frame_of([1.0]), anomalies=(replace(ANOMALY, message="x" * (MESSAGE_CHARS_MAX + 1)),)))
    rows = PANES_MAX + 1
    panes = summarize(("m",), np.zeros(rows, np.int32), T0 + np.arange(rows), np.ones(rows), width_us=1)
    with pytest.raises(LimitError):
        encode_frame(replace(frame_of([1.0]), summaries=panes))

    def repeat(message) -> None:
        for _ in range(RECORDS_MAX + 1):
            message.notes.gaps.add(from_seq=1)

    with pytest.raises(DecodeError) as caught:
        decode_frame(resealed(frame_of([1.0]), repeat))
    assert caught.value.reason == DeadLetterReason.LIMIT


def test_values_that_do_not_compress_are_refused_above_the_size_of_a_payload() -> None:
    noise = np.random.default_rng(1).integers(0, 1 << 62, 60_000).view(float).tolist()
    with pytest.raises(LimitError, match="send fewer"):
        encode_frame(frame_of(noise))


def test_anomalies_gaps_and_panes_follow_their_frames() -> None:
    gap = Gap(7, 1, 2, GapReason.PURGED, -1, T0)
    panes = summarize(("m",), np.zeros(2, np.int32), T0 + np.arange(2), np.ones(2), width_us=1)
    rich = replace(frame_of([1.0], seq=2), anomalies=(ANOMALY,), gaps=(gap,), summaries=panes)
    frames = [(frame_of([1.0]), T0, 1), (rich, T0, 1), (frame_of([2.0], seq=3), T0, 1)]
    batch = batch_from_frames(frames, shard=0, made_us=0)
    assert batch.summary_start.tolist() == [0, 0, 2, 2]
    taken = take_frames(batch, np.array([False, True, True]))
    assert (taken.anomalies, taken.gaps) == (((0, ANOMALY),), ((0, gap),))
    assert taken.summary_start.tolist() == [0, 2, 2]
    assert taken.value.tolist() == [1.0, 2.0]
    assert len(take_frames(batch, np.zeros(3, bool)).summaries) == 0


def arrow_of(**changes: object) -> bytes:
    batch = batch_from_frames([(frame_of([1.0, 2.0]), T0, 1)], shard=0, made_us=0)
    return batch_to_arrow(replace(batch, **changes))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"rubbish",
        arrow_of()[:200],
        arrow_of(value=np.array([1.0, np.nan])),
        arrow_of(metrics=("bad name",)),
        arrow_of(devices=(("North", "b"),)),
        arrow_of(metric=np.array([0, 1], np.int32)),
    ],
)
def test_bytes_that_are_no_batch_are_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        batch_from_arrow(data)


def test_arrays_read_from_arrow_are_views_of_the_bytes() -> None:
    data = arrow_of()
    value = batch_from_arrow(data).value
    assert not value.flags.owndata
    assert not value.flags.writeable


def test_any_arrow_reader_sees_frames_with_nested_readings() -> None:
    pa = pytest.importorskip("pyarrow")
    with pa.ipc.open_stream(arrow_of()) as stream:
        rows = stream.read_all().to_pylist()
    assert rows[0]["site"] == "north"
    assert rows[0]["readings"][1] == {"metric": "m", "time_us": T0 + 1_000_000, "value": 2.0, "quality": 0}
    assert rows[0]["summaries"] == []


def test_empty_summaries_have_no_rows() -> None:
    assert len(decode_frame(encode_frame(frame_of([1.0]))).summaries) == len(Summaries.empty()) == 0
