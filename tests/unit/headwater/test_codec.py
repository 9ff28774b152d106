"""One frame to bytes and back."""

import zlib

import numpy as np
import pytest

from headwater.codec import decode_frame, encode_frame
from headwater.envelope import STORED, unseal
from headwater.errors import DecodeError, LimitError
from headwater.frame import READINGS_MAX, Block, Frame
from headwater.frame_schema import FrameMessage
from headwater.quality import Quality
from headwater.reasons import ClockQuality, DeadLetterReason

T0 = 1_700_000_000_000_000


def frame_of(*blocks: Block) -> Frame:
    return Frame("north", "pump-1", 7, 3, T0, ClockQuality.SYNCED, 2, blocks)


def block_of(value: list[list[float]], **fields: object) -> Block:
    table = np.array(value, float)
    time_us = T0 + 1_000_000 * np.arange(table.shape[1])
    return Block(tuple(f"m{i}" for i in range(len(table))), time_us, table, **fields)  # type: ignore[arg-type]


def bits(value: np.ndarray) -> list[int]:
    return value.view(np.int64).ravel().tolist()


def test_signed_zeros_infinities_and_nan_payloads_keep_their_bits() -> None:
    odd = np.array([0x7FF8_0000_0000_1234, 0x7FF0_0000_0000_0001], np.uint64).view(float)
    block = block_of([[1.5, -0.0, 0.0], [np.inf, 1e300, -np.inf], [odd[0], odd[1], 5e-324]])
    decoded = decode_frame(encode_frame(frame_of(block)))
    assert bits(decoded.blocks[0].value) == bits(block.value)


def test_what_stands_under_missing_becomes_nan_and_costs_nothing() -> None:
    quality = np.array([[0, Quality.MISSING, Quality.BAD_RANGE]], np.uint8)
    decoded = decode_frame(encode_frame(frame_of(block_of([[1.0, 7.7, 2.0]], quality=quality))))
    assert decoded.blocks[0].quality is not None
    assert decoded.blocks[0].quality.tolist() == quality.tolist()
    assert np.isnan(decoded.blocks[0].value[0, 1])
    assert decoded.reading_count == 2


def test_a_waveform_keeps_its_rate_and_times() -> None:
    time_us = T0 + np.floor(np.arange(5) * 1e6 / 3200.0).astype(np.int64)
    block = Block(("v",), time_us, np.arange(5.0)[None], rate_hz=3200.0)
    decoded = decode_frame(encode_frame(frame_of(block))).blocks[0]
    assert decoded.rate_hz == 3200.0
    assert decoded.time_us.tolist() == time_us.tolist()


def test_more_cells_than_a_frame_holds_are_refused_before_they_are_coded() -> None:
    with pytest.raises(LimitError, match="at most"):
        encode_frame(frame_of(block_of([[0.0] * (READINGS_MAX + 1)])))


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", DeadLetterReason.PARSE),
        (b"garbage", DeadLetterReason.PARSE),
        (b"H\x20", DeadLetterReason.VERSION),
        (b"H\x1f", DeadLetterReason.PARSE),
        (b"H\x11\xff\xff", DeadLetterReason.INFLATE),
        (b"H\x10", DeadLetterReason.CHECKSUM),
        (b"H\x11" + zlib.compress(bytes(1 << 21), wbits=-15), DeadLetterReason.TOO_LARGE),
        (bytes(256 * 1024 + 1), DeadLetterReason.TOO_LARGE),
    ],
)
def test_bytes_that_are_no_frame_are_refused_with_a_reason(payload: bytes, reason: DeadLetterReason) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_frame(payload)
    assert caught.value.reason == reason


def resealed(change: object) -> bytes:
    """A frame whose message was changed and whose CRC is right again."""
    message = unseal(encode_frame(frame_of(block_of([[1.0, 2.0], [3.0, 3.0]]))))
    change(message)  # type: ignore[operator]
    message.ClearField("crc32")
    body = message.SerializeToString() + b"\x7d"
    return bytes((ord("H"), STORED)) + body + zlib.crc32(body).to_bytes(4, "little")


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("site", "North", DeadLetterReason.NAME),
        ("device", "", DeadLetterReason.NAME),
        ("epoch", 0, DeadLetterReason.SCHEMA),
        ("seq", 0, DeadLetterReason.SCHEMA),
        ("seq", 1 << 63, DeadLetterReason.SCHEMA),
        ("oldest_seq", 4, DeadLetterReason.SCHEMA),
        ("created_us", -1, DeadLetterReason.SCHEMA),
        ("clock", 4, DeadLetterReason.SCHEMA),
        ("acquired", (1 << 64) - 1, DeadLetterReason.SCHEMA),
    ],
)
def test_a_field_out_of_range_is_refused(field: str, value: object, reason: DeadLetterReason) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_frame(resealed(lambda message: setattr(message, field, value)))
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("metrics", b"m0\0m0", DeadLetterReason.SCHEMA),
        ("metrics", b"m0\0", DeadLetterReason.NAME),
        ("metrics", b"m0", DeadLetterReason.SCHEMA),
        ("rows", 0, DeadLetterReason.SCHEMA),
        ("rows", 3, DeadLetterReason.SCHEMA),
        ("rows", 4_000_000_000, DeadLetterReason.LIMIT),
        ("step", 0, DeadLetterReason.SCHEMA),
        ("unit_us", 1 << 63, DeadLetterReason.SCHEMA),
        ("columns", b"", DeadLetterReason.SCHEMA),
        ("columns", b"\x99\x00" * 3, DeadLetterReason.SCHEMA),
        ("quality", b"\0", DeadLetterReason.SCHEMA),
        ("reductions", b"raw", DeadLetterReason.SCHEMA),
        ("reductions", b"raw\0<b>", DeadLetterReason.SCHEMA),
        ("rate_hz", 1e9, DeadLetterReason.SCHEMA),
        ("rate_hz", float("nan"), DeadLetterReason.SCHEMA),
        ("rate_hz", 1.0, DeadLetterReason.SCHEMA),
    ],
)
def test_a_block_that_contradicts_itself_is_refused(field: str, value: object, reason: DeadLetterReason) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_frame(resealed(lambda message: setattr(message.blocks[0], field, value)))
    assert caught.value.reason == reason


def test_a_wrong_checksum_is_found() -> None:
    payload = bytearray(encode_frame(frame_of(block_of([[1.0, 2.0]])), compress_level=0))
    payload[5] ^= 1
    with pytest.raises(DecodeError) as caught:
        decode_frame(bytes(payload))
    assert caught.value.reason == DeadLetterReason.CHECKSUM


def test_the_message_is_plain_protobuf_with_the_checksum_as_its_last_field() -> None:
    body = encode_frame(frame_of(block_of([[1.0, 2.0]])), compress_level=0)[2:]
    assert FrameMessage.FromString(body).crc32 == zlib.crc32(body[:-4])
