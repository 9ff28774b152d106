"""Heads read all at once are those read one by one; what one of them can't take, the other says why."""

from dataclasses import fields, replace

import numpy as np
import pytest
from frame_strategies import T0, frames
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater import codec_batch
from headwater.batch_arrow import batch_to_arrow
from headwater.codec import encode_frame
from headwater.codec_batch import Arrival, Portion, decode_portions
from headwater.envelope import open_body, parse_body, seal
from headwater.frame import Block, Frame
from headwater.frame_heads import BlockHeads, Heads, gather, read_head
from headwater.frame_scan import scan_heads
from headwater.reasons import ClockQuality, DeadLetterReason

slow = settings(
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], max_examples=60, deadline=None
)


def scanned(payloads: list[bytes]) -> tuple[Heads, BlockHeads] | None:
    messages = [parse_body(open_body(payload)) for payload in payloads]
    return scan_heads([open_body(payload) for payload in payloads], [(m.site, m.device) for m in messages])


def same(one: Heads | BlockHeads, other: Heads | BlockHeads) -> None:
    for field in fields(one):
        if field.name in {"data", "coded_start"}:
            continue
        left, right = getattr(one, field.name), getattr(other, field.name)
        if isinstance(left, np.ndarray):
            assert left.dtype == right.dtype
            assert left.tolist() == right.tolist(), field.name
        elif field.name == "notes":
            assert repr(dict(left)) == repr(dict(right))
        else:
            assert list(left) == list(right), field.name


def coded(blocks: BlockHeads) -> list[bytes]:
    return [
        blocks.data[start : start + size]
        for start, size in zip(blocks.coded_start.tolist(), blocks.coded_size.tolist(), strict=True)
    ]


@slow
@given(st.lists(frames(), min_size=1, max_size=8), st.data())
def test_all_at_once_reads_what_one_by_one_reads(many: list[Frame], data: st.DataObject) -> None:
    payloads = [encode_frame(frame) for frame in many]
    got = scanned(payloads)
    assert got is not None
    heads = [read_head(parse_body(open_body(payload))) for payload in payloads]
    lo = data.draw(st.integers(0, len(many) - 1))
    hi = data.draw(st.integers(lo + 1, len(many)))
    for (ours, our_blocks), part in ((got, slice(0, len(many))), ((got[0][lo:hi], got[1][lo:hi]), slice(lo, hi))):
        theirs, their_blocks = gather(heads[part])
        same(ours, theirs)
        same(our_blocks, their_blocks)
        assert coded(our_blocks) == coded(their_blocks)


@slow
@given(st.lists(frames(), min_size=1, max_size=4), st.data())
def test_changed_messages_are_left_to_the_other_reader_or_read_the_same(many: list[Frame], data: st.DataObject) -> None:
    bodies = [bytearray(open_body(encode_frame(frame))) for frame in many]
    devices = [(frame.site, frame.device) for frame in many]
    for _ in range(data.draw(st.integers(1, 3))):
        body = data.draw(st.sampled_from(bodies))
        body[data.draw(st.integers(0, len(body) - 6))] = data.draw(st.integers(0, 255))
    whole = [bytes(body) for body in bodies]
    got = scan_heads(whole, devices)
    if got is None:
        return
    heads = [read_head(parse_body(body)) for body in whole]
    theirs, their_blocks = gather(heads)
    same(got[0], theirs)
    same(got[1], their_blocks)
    assert coded(got[1]) == coded(their_blocks)


def frame(seq: int, rows: int = 3, device: str = "pump-1") -> Frame:
    time_us = T0 + 1_000_000 * np.arange(rows)
    block = Block(("flow", "power"), time_us, np.arange(2.0 * rows).reshape(2, rows))
    return Frame("north", device, 7, seq, T0, ClockQuality.SYNCED, 1, (block,))


def odd(one: Frame) -> bytes:
    """The same frame from a writer that puts a field of a later version first."""
    message = parse_body(open_body(encode_frame(one)))
    message.ClearField("crc32")
    raw = b"\xa0\x06\x05" + message.SerializeToString()
    return seal(type(message).FromString(raw), 0)


def unordered(one: Frame) -> bytes:
    """The same frame with its fields in another order, as no writer is forbidden to put them."""

    class Raw:
        def SerializeToString(self) -> bytes:  # noqa: N802
            message = parse_body(open_body(encode_frame(one)))
            message.ClearField("crc32")
            whole = bytes(message.SerializeToString())
            site = whole[: 2 + len(one.site)]
            return whole[len(site) :] + site

    return seal(Raw(), 0)


def portions(payloads: list[bytes], **more: int) -> list[Portion]:
    arrivals = [Arrival("north", "pump-1", payload, T0 + 100_000_000) for payload in payloads]
    return list(decode_portions(arrivals, shard=0, made_us=T0, **more))


@pytest.fixture(params=[1, 1 << 60], ids=["all at once", "one by one"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec_batch, "SCAN_MIN", request.param)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("strange", [odd, unordered])
def test_a_frame_that_another_writer_made_is_as_good(strange) -> None:
    payloads = [encode_frame(frame(n)) for n in range(1, 6)]
    expected = batch_to_arrow(portions(payloads)[0].batch)
    payloads[2] = strange(frame(3))
    (portion,) = portions(payloads)
    sizes = portions([encode_frame(frame(n)) for n in range(1, 6)])[0].batch.payload_bytes
    assert portion.rejects == []
    assert batch_to_arrow(replace(portion.batch, payload_bytes=sizes)) == expected


@pytest.mark.usefixtures("way")
def test_bad_payloads_cost_no_other_one_its_place() -> None:
    payloads = [encode_frame(frame(n)) for n in range(1, 9)]
    payloads[1] = b"rubbish"
    payloads[3] = encode_frame(frame(4, device="pump-2"))
    payloads[6] = encode_frame(replace(frame(7), blocks=(Block(("flow",), np.array([1]), np.array([[1.0]])),)))
    (portion,) = portions(payloads)
    assert portion.batch.seq.tolist() == [1, 3, 5, 6, 8]
    assert [(r.index, r.reason) for r in portion.rejects] == [
        (1, DeadLetterReason.PARSE),
        (3, DeadLetterReason.IDENTITY),
        (6, DeadLetterReason.TIME_RANGE),
    ]


@pytest.mark.usefixtures("way")
def test_portions_hold_what_they_may_claim_and_keep_order_and_places() -> None:
    payloads = [encode_frame(frame(n)) for n in range(1, 9)]
    payloads[4] = b"rubbish"
    got = portions(payloads, cells_max=13)
    assert [portion.batch.seq.tolist() for portion in got] == [[1, 2], [3, 4], [6, 7], [8]]
    assert [portion.taken for portion in got] == [2, 3, 2, 1]
    assert [[reject.index for reject in portion.rejects] for portion in got] == [[], [2], [], []]
    assert [portion.batch.seq.tolist() for portion in portions(payloads, cells_max=1)] == [
        [n] for n in (1, 2, 3, 4, 6, 7, 8)
    ]


@pytest.mark.usefixtures("way")
def test_messages_are_held_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec_batch, "BODIES_BYTES_MAX", 300)
    got = portions([encode_frame(frame(n)) for n in range(1, 21)])
    assert len(got) > 2
    assert [seq for portion in got for seq in portion.batch.seq.tolist()] == list(range(1, 21))
    assert sum(portion.taken for portion in got) == 20
