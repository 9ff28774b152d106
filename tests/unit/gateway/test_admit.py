"""From a group of messages to records: batches, dead letters, events, registry; bounds and duplicates."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sessions import NOW_US, Client, make_broker

from gateway.admit import FRAMES_AT_ONCE_MAX, Admission, Admitted
from gateway.batcher import Group
from gateway.bridge import decode_apart
from gateway.foreign_json import RecentContent
from gateway.inbound import Inbound, Note
from headwater import log_topics
from headwater.batch import Batch, DeadLetter, DeviceStatus
from headwater.batch_arrow import batch_from_arrow
from headwater.codec import encode_frame
from headwater.codec_batch import Arrival, Portion, decode_portions
from headwater.frame import Anomaly, Block, Frame, Gap
from headwater.location import Location
from headwater.names import DeviceTopic
from headwater.ports import LogRecord
from headwater.reasons import ClockQuality, GapReason, Severity

SESSION = Client(make_broker()).session


def make(**more: Any) -> Admission:
    values: dict[str, Any] = {
        "partitions": 4,
        "readings_max": 100,
        "max_bytes": 10_000,
        "letters_max": 100,
        "letter_max_bytes": 5000,
    }
    return Admission(recent=RecentContent(1_000_000, 100), **(values | more))


def admit(admission: Admission, made: Group, now_us: int) -> Admitted:
    """What goes into the one append of an ordinary group."""
    (admitted,) = admission.admit(made, now_us)
    return admitted


def frame(seq: int, rows: int = 10, **more: object) -> bytes:
    block = Block(("a",), NOW_US - 1000 + np.arange(rows), np.full((1, rows), float(seq)))
    return encode_frame(Frame("n", "d", 7, seq, NOW_US, ClockQuality.SYNCED, blocks=(block,), **more))  # type: ignore[arg-type]


def message(payload: bytes, leaf: str = "frame", *, is_repeated: bool = False) -> Inbound:
    topic = DeviceTopic("n", "d", leaf)
    return Inbound(topic, f"hw/1/n/d/{leaf}", 0, payload, NOW_US, SESSION, -1, is_repeated)


def group(*messages: Inbound, notes: tuple[Note, ...] = ()) -> Group:
    made = Group(NOW_US)
    if messages:
        made.inbound[0] = list(messages)
    for note in notes:
        made.notes.setdefault(note.shard, []).append(note)
    return made


def of(records: list[LogRecord], log_topic: str) -> list[LogRecord]:
    return [record for record in records if record.log_topic == log_topic]


def batches(records: list[LogRecord]) -> list[Batch]:
    return [batch_from_arrow(record.value) for record in of(records, log_topics.READINGS)]


def test_frames_and_json_of_a_shard_are_one_batch() -> None:
    admission = make()
    admitted = admit(admission, group(message(frame(1)), message(b'{"b": 2}', "json"), message(frame(2))), NOW_US)
    (batch,) = batches(admitted.records)
    assert (batch.seq.tolist(), batch.reading_count, batch.made_us) == ([1, 2, 0], 21, NOW_US)
    assert batch.low_watermark_us == admitted.records[0].timestamp_us == NOW_US
    assert admission.counters["foreign_frames"] == 1


def test_a_batch_is_cut_at_frames_by_its_readings() -> None:
    admitted = admit(make(), group(*[message(frame(seq, rows=40)) for seq in range(1, 8)]), NOW_US)
    got = batches(admitted.records)
    assert [batch.seq.tolist() for batch in got] == [[1, 2], [3, 4], [5, 6], [7]]
    assert [batch.reading_count for batch in got] == [80, 80, 80, 40]


def test_one_frame_larger_than_a_batch_is_a_batch() -> None:
    admitted = admit(make(), group(message(frame(1, rows=300)), message(frame(2))), NOW_US)
    assert [batch.seq.tolist() for batch in batches(admitted.records)] == [[1], [2]]


def test_many_frames_are_decoded_in_portions() -> None:
    count = FRAMES_AT_ONCE_MAX + 3
    admission = make(readings_max=100_000, max_bytes=1_000_000)
    made = group(*[message(frame(n + 1, rows=1)) for n in range(count)])
    got = batches(admit(admission, made, NOW_US).records)
    assert [len(batch) for batch in got] == [FRAMES_AT_ONCE_MAX, 3]
    assert [seq for batch in got for seq in batch.seq.tolist()] == list(range(1, count + 1))


def test_frames_that_claim_much_in_few_bytes_never_stand_in_memory_together() -> None:
    times = NOW_US - 60_000 + np.arange(60_000)
    wide = encode_frame(
        Frame("n", "d", 7, 1, NOW_US, ClockQuality.SYNCED, blocks=(Block(("a",), times, np.zeros((1, 60_000))),))
    )
    assert len(wide) < 1000
    parts = list(make(readings_max=65_536, max_bytes=1 << 20).admit(group(*[message(wide)] * 24), NOW_US))
    assert [sum(batch.reading_count for batch in part.batches) for part in parts] == [
        9 * 60_000,
        9 * 60_000,
        6 * 60_000,
    ]
    assert all(batch.reading_count == 60_000 for part in parts for batch in part.batches)


def test_bad_frames_behind_the_last_good_portion_are_letters_all_the_same() -> None:
    made = group(message(frame(1, rows=100)), message(frame(2, rows=100)), message(b"junk"))
    got = batches(admit(make(), made, NOW_US).records)
    assert [batch.seq.tolist() for batch in got] == [[1], [2]]
    assert [len(batch.dead_letters) for batch in got] == [0, 1]


def test_a_bad_frame_is_a_letter_in_the_batch_and_a_whole_one_in_the_log() -> None:
    junk = b"junk" * 1000
    admitted = admit(make(), group(message(frame(1)), message(junk), message(frame(2))), NOW_US)
    (batch,) = batches(admitted.records)
    assert batch.seq.tolist() == [1, 2]
    (letter,) = batch.dead_letters
    assert (letter.reason, letter.site, letter.device, len(letter.payload)) == ("parse", "n", "d", 1024)
    (record,) = of(admitted.records, log_topics.DEAD_LETTERS)
    assert (record.value, record.key, record.headers["reason"]) == (junk, b"n/d", "parse")


def test_an_identity_that_does_not_match_keeps_the_seq_it_claims_in_the_letter() -> None:
    block = Block(("a",), np.array([NOW_US]), np.zeros((1, 1)))
    other = encode_frame(Frame("n", "e", 9, 4, NOW_US, ClockQuality.SYNCED, blocks=(block,)))
    (batch,) = batches(admit(make(), group(message(other)), NOW_US).records)
    assert len(batch) == 0
    assert [letter.reason for letter in batch.dead_letters] == ["identity"]


def test_presence_refusals_and_births_travel_with_the_batch_of_their_shard() -> None:
    status = DeviceStatus("n", "d", NOW_US, online=True, epoch=1 << 63)
    letter = DeadLetter(NOW_US, "topic", "gateway", "x", "no", payload=b"p")
    admitted = admit(make(), group(notes=(Note(2, status), Note(2, letter), Note(2, (b"n/d", b"{}")))), NOW_US)
    (batch,) = batches(admitted.records)
    assert (batch.shard, batch.statuses, batch.dead_letters) == (2, (status,), (letter,))
    (event,) = [json.loads(record.value) for record in of(admitted.records, log_topics.EVENTS)]
    assert (event["kind"], event["epoch"], event["online"]) == ("status", str(1 << 63), True)
    assert [(r.key, r.value) for r in of(admitted.records, log_topics.DEVICES)] == [(b"n/d", b"{}")]


def test_an_event_of_presence_says_where_the_device_stands_if_that_is_known() -> None:
    status = DeviceStatus("n", "d", NOW_US, online=True)
    both = (Note(0, status), Note(0, replace(status, location=Location(47.5, 8.25))))
    events = [
        json.loads(record.value) for record in of(admit(make(), group(notes=both), NOW_US).records, log_topics.EVENTS)
    ]
    plain = {"kind": "status", "site": "n", "device": "d", "time_us": NOW_US, "online": True, "epoch": "0"}
    plain |= {"assigned": 0, "buffered": 0, "agent": ""}
    assert events == [plain, plain | {"lat": 47.5, "lon": 8.25}]


def test_a_heartbeat_is_a_batch_without_frames_that_tells_the_low_watermark() -> None:
    admission = make()
    admit(admission, group(message(frame(1))), NOW_US)
    beat = Group(NOW_US)
    beat.heartbeats.add(0)
    (batch,) = batches(admit(admission, beat, NOW_US + 1_000_000).records)
    assert (len(batch), batch.made_us, batch.low_watermark_us) == (0, NOW_US + 1_000_000, NOW_US - 991)


def test_the_low_watermark_forgets_a_device_after_a_day() -> None:
    admission = make()
    admit(admission, group(message(frame(1))), NOW_US)
    beat = Group(NOW_US)
    beat.heartbeats.add(0)
    (batch,) = batches(admit(admission, beat, NOW_US + 25 * 3_600_000_000).records)
    assert batch.low_watermark_us == -1


def test_anomalies_and_gaps_are_events_too() -> None:
    anomaly = Anomaly("a", NOW_US, "level", Severity.WARNING, True, 2.0, 5.0, 1.0, float("-inf"), 3.0)
    gap = Gap(1 << 60, 3, 5, GapReason.SPOOL_FULL, 10, NOW_US)
    admitted = admit(make(), group(message(frame(9, anomalies=(anomaly,), gaps=(gap,)))), NOW_US)
    first, second = [json.loads(record.value) for record in of(admitted.records, log_topics.EVENTS)]
    assert (first["kind"], first["lo"], first["hi"], first["seq"]) == ("anomaly", None, 3.0, 9)
    assert (second["kind"], second["gap_epoch"], second["epoch"], second["reason"]) == (
        "gap",
        str(1 << 60),
        "7",
        "spool_full",
    )


@pytest.mark.parametrize(
    ("text", "is_repeated", "duplicates"),
    [
        (b'{"a": 1}', False, 0),
        (b'{"a": 1}', True, 1),
        (b'{"ts": 1600000000, "values": {"a": 1}}', False, 1),
    ],
)
def test_json_is_a_duplicate_if_its_content_tells_its_time_or_mqtt_says_so(
    text: bytes, is_repeated: bool, duplicates: int
) -> None:
    admission = make()
    admit(admission, group(message(text, "json"), message(text, "json", is_repeated=is_repeated)), NOW_US)
    assert admission.counters["foreign_duplicates"] == duplicates
    assert admission.counters["foreign_frames"] == 2 - duplicates


def test_letters_beyond_the_allowed_number_are_bundled_with_their_count_and_seqs() -> None:
    admission = make(letters_max=1)
    letters = [Note(0, DeadLetter(NOW_US, "parse", "gateway", "t", "d", "n", "d", 7, n, 0, b"x")) for n in range(1, 11)]
    admitted = admit(admission, group(notes=tuple(letters)), NOW_US)
    records = of(admitted.records, log_topics.DEAD_LETTERS)
    assert [record.value for record in records] == [b"x", b"x", b""]
    assert records[2].headers["count"] == "8"
    assert records[2].headers["seqs"] == " ".join(f"7:{n}" for n in range(3, 11))
    (batch,) = batches(admitted.records)
    assert len(batch.dead_letters) == 10


def test_a_decoder_that_fails_costs_only_the_payload_that_finds_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fragile(arrivals: list[Arrival], *, shard: int, made_us: int, cells_max: int) -> Iterator[Portion]:
        if any(arrival.payload == b"poison" for arrival in arrivals):
            raise IndexError("a fault")
        yield from decode_portions(arrivals, shard=shard, made_us=made_us, cells_max=cells_max)

    monkeypatch.setattr("gateway.bridge.decode_portions", fragile)
    payloads = [frame(1), b"poison", frame(2), b"junk", frame(3)]
    admission = make(decode=decode_apart)
    records = admit(admission, group(*map(message, payloads)), NOW_US).records
    assert [seq for batch in batches(records) for seq in batch.seq.tolist()] == [1, 2, 3]
    letters = [letter for batch in batches(records) for letter in batch.dead_letters]
    assert [(letter.payload, letter.reason) for letter in letters] == [(b"poison", "parse"), (b"junk", "parse")]
    assert "the decoder failed" in caplog.text
