"""What a log refuses as too large: smaller records with the same in them, down to a dead letter."""

from collections import deque
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sessions import NOW_US, Client, make_broker

from gateway.admit import Admission, Admitted
from gateway.batcher import Group
from gateway.foreign_json import RecentContent
from gateway.inbound import Foreign, Inbound, Note
from gateway.pieces import Origins, halves
from headwater import log_topics
from headwater.batch import Batch, DeadLetter, DeviceStatus
from headwater.batch_arrow import batch_from_arrow
from headwater.batch_build import batch_from_frames
from headwater.codec import encode_frame
from headwater.errors import RejectedError
from headwater.frame import Anomaly, Block, Frame
from headwater.io.log_memory import MemoryLog
from headwater.names import DeviceTopic
from headwater.ports import LogRecord
from headwater.reasons import ClockQuality, Severity

SESSION = Client(make_broker()).session
RNG = np.random.default_rng(1)


def made_frame(seq: int, rows: int = 10, epoch: int = 7) -> Frame:
    block = Block(("a",), NOW_US - 100_000 + np.arange(rows), RNG.normal(size=(1, rows)))
    return Frame("n", "d", epoch, seq, NOW_US, ClockQuality.SYNCED, blocks=(block,))


def letter(number: int, size: int = 0) -> DeadLetter:
    return DeadLetter(NOW_US, "parse", "gateway", "t", str(number), payload=bytes(size))


def status(number: int) -> DeviceStatus:
    return DeviceStatus("n", f"d{number}", NOW_US, online=True, epoch=1)


def message(payload: bytes, leaf: str = "frame") -> Inbound:
    return Inbound(DeviceTopic("n", "d", leaf), f"hw/1/n/d/{leaf}", 0, payload, NOW_US, SESSION, -1)


def group(*messages: Inbound, notes: tuple[Note, ...] = ()) -> Group:
    return Group(NOW_US, {0: list(messages)}, {0: list(notes)})


def make(letters_max: int = 100) -> Admission:
    return Admission(
        partitions=1,
        readings_max=100_000,
        max_bytes=10_000_000,
        letters_max=letters_max,
        letter_max_bytes=60_000,
        recent=RecentContent(1_000_000, 100),
        compression="none",
    )


def appended(admission: Admission, made: Group, record_max_bytes: int) -> tuple[MemoryLog, list[Admitted]]:
    """Appends a group as the gateway does; also returns what the log refused for good."""
    log, given_up, origins = MemoryLog(record_max_bytes=record_max_bytes), [], Origins(made)
    waiting = deque(admission.admit(made, NOW_US))
    while waiting:
        part = waiting.popleft()
        try:
            log.append(part.records)
        except RejectedError as error:
            smaller = admission.smaller(part, origins, str(error), NOW_US)
            waiting.extendleft(reversed(smaller))
            if not smaller:
                given_up.append(part)
    return log, given_up


def of(log: MemoryLog, log_topic: str) -> list[LogRecord]:
    return log.read(log_topic, 0, 0, 10_000)


def batches(log: MemoryLog) -> list[Batch]:
    return [batch_from_arrow(record.value) for record in of(log, log_topics.READINGS)]


def seqs(log: MemoryLog) -> list[int]:
    return [seq for batch in batches(log) for seq in batch.seq.tolist()]


@given(st.integers(0, 6), st.integers(0, 6), st.integers(0, 6))
def test_halves_of_halves_hold_the_whole_in_order_and_each_thing_once(statuses: int, frames: int, letters: int) -> None:
    items = [(made_frame(n + 1), NOW_US, 5) for n in range(frames)]
    whole = replace(
        batch_from_frames(items, shard=3, made_us=NOW_US),
        statuses=tuple(status(n) for n in range(statuses)),
        dead_letters=tuple(letter(n) for n in range(letters)),
        low_watermark_us=NOW_US,
    )
    leaves, waiting = [], deque([whole])
    while waiting:
        batch = waiting.popleft()
        parts = halves(batch)
        waiting.extendleft(reversed(parts))
        if not parts:
            leaves.append(batch)
    assert tuple(one for leaf in leaves for one in leaf.statuses) == whole.statuses
    assert tuple(one for leaf in leaves for one in leaf.dead_letters) == whole.dead_letters
    assert [seq for leaf in leaves for seq in leaf.seq.tolist()] == whole.seq.tolist()
    assert np.array_equal(np.concatenate([leaf.value for leaf in leaves]), whole.value)
    assert len(leaves) == max(statuses + frames + letters, 1)
    assert [leaf.low_watermark_us for leaf in leaves] == [-1] * (len(leaves) - 1) + [NOW_US]


def test_a_record_that_is_too_large_goes_into_the_log_in_smaller_ones() -> None:
    made = group(*[message(encode_frame(made_frame(seq, rows=50))) for seq in range(1, 41)])
    log, given_up = appended(make(), made, 10_000)
    assert given_up == []
    assert seqs(log) == list(range(1, 41))
    assert len(batches(log)) > 1
    assert of(log, log_topics.DEAD_LETTERS) == []


def test_a_frame_that_is_too_large_alone_is_a_dead_letter_with_its_bytes_and_the_others_are_in_the_log() -> None:
    admission = make()
    payloads = [encode_frame(made_frame(seq, rows=2000 if seq == 3 else 10)) for seq in range(1, 6)]
    log, given_up = appended(admission, group(*map(message, payloads)), 20_000)
    assert given_up == []
    assert seqs(log) == [1, 2, 4, 5]
    (told,) = [one for batch in batches(log) for one in batch.dead_letters]
    assert (told.reason, told.site, told.device, told.epoch, told.seq, told.readings) == (
        "too_large", "n", "d", 7, 3, 2000,
    )  # fmt: skip
    assert "20000 are allowed" in told.detail
    (record,) = of(log, log_topics.DEAD_LETTERS)
    assert (record.value, record.headers["source"]) == (payloads[2], "hw/1/n/d/frame")
    assert admission.letters.by_reason == {"too_large": 1}


def test_frames_alike_in_length_and_time_are_told_apart_by_their_seq() -> None:
    frames = [replace(made_frame(1, rows=2000), seq=seq) for seq in (1, 2, 3)]
    payloads = [encode_frame(frame, compress_level=0) for frame in frames]
    assert len({len(payload) for payload in payloads}) == 1
    log, _ = appended(make(), group(message(bytes(len(payloads[0]))), *map(message, payloads)), 20_000)
    of_frames = [one for one in of(log, log_topics.DEAD_LETTERS) if one.headers["reason"] == "too_large"]
    assert [one.value for one in of_frames] == payloads


@pytest.mark.parametrize("is_note", [False, True])
def test_a_foreign_frame_that_is_too_large_is_a_dead_letter_too(is_note: bool) -> None:
    text = ('{"ts": 1600000000, "values": {' + ", ".join(f'"m{n}": {n}' for n in range(1000)) + "}}").encode()
    if is_note:
        made = group(notes=(Note(0, Foreign(made_frame(1, rows=2000, epoch=0), text, NOW_US, True, False)),))
    else:
        made = group(message(text, "json"))
    log, given_up = appended(make(), made, 20_000)
    assert given_up == []
    (record,) = of(log, log_topics.DEAD_LETTERS)
    source = "n/d" if is_note else "hw/1/n/d/json"
    assert (record.value, record.headers["reason"], record.headers["source"]) == (text, "too_large", source)


def test_many_dead_letters_and_changes_of_presence_are_spread_over_records() -> None:
    notes = [Note(0, letter(n, size=500)) for n in range(60)] + [Note(0, status(n)) for n in range(60)]
    log, given_up = appended(make(letters_max=1000), group(notes=tuple(notes)), 20_000)
    assert given_up == []
    assert [one.detail for batch in batches(log) for one in batch.dead_letters] == [str(n) for n in range(60)]
    assert [one.device for batch in batches(log) for one in batch.statuses] == [f"d{n}" for n in range(60)]
    assert len(of(log, log_topics.DEAD_LETTERS)) == len(of(log, log_topics.EVENTS)) == 60


def test_a_dead_letter_whose_bytes_are_too_many_keeps_what_fits() -> None:
    log, given_up = appended(make(), group(notes=(Note(0, letter(1, size=50_000)),)), 20_000)
    assert given_up == []
    (record,) = of(log, log_topics.DEAD_LETTERS)
    assert (len(record.value), record.headers["bytes"]) == (12_500, "cut: the log takes no more")


def test_an_entry_of_the_registry_that_is_too_large_is_a_dead_letter() -> None:
    log, given_up = appended(make(), group(notes=(Note(0, (b"n/d/config", bytes(30_000))),)), 20_000)
    assert given_up == []
    assert of(log, log_topics.DEVICES) == []
    (told,) = [one for batch in batches(log) for one in batch.dead_letters]
    assert (told.reason, told.source, told.site, told.device) == ("too_large", log_topics.DEVICES, "n", "d")


def test_the_anomalies_of_a_frame_that_is_refused_are_events_all_the_same() -> None:
    anomaly = Anomaly("a", NOW_US, "level", Severity.WARNING, True, 2.0, 5.0, 1.0, 0.0, 3.0)
    log, _ = appended(make(), group(message(encode_frame(replace(made_frame(1, 2000), anomalies=(anomaly,))))), 20_000)
    assert len(of(log, log_topics.EVENTS)) == 1


def test_a_log_that_takes_next_to_nothing_is_told_so() -> None:
    _, given_up = appended(make(), group(message(b"junk")), 10)
    assert [record.log_topic for part in given_up for record in part.records] == [log_topics.READINGS]
