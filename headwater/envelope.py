"""The outside of a frame: magic, version, deflate, CRC-32, and the limits that come before any of it is believed."""

import zlib
from typing import Any, Final

from headwater.errors import DecodeError, LimitError
from headwater.frame import INFLATED_BYTES_MAX, RAW_BYTES_MAX
from headwater.frame_schema import FrameMessage, ProtobufError
from headwater.reasons import DeadLetterReason

MAGIC: Final = ord("H")
VERSION: Final = 1
STORED: Final = VERSION << 4
DEFLATED: Final = VERSION << 4 | 1
# Field 15 as fixed32: its tag stands before the CRC, which ends the message and covers the tag too. The CRC-32 of bytes
# that end with their own CRC-32 is a constant, so a check needs no slices.
_CRC_TAG: Final = b"\x7d"
_CRC_BYTES: Final = 4
CRC_FIELD_BYTES: Final = len(_CRC_TAG) + _CRC_BYTES
_RESIDUE: Final = 0x2144DF1C
_RAW_DEFLATE: Final = -15
_STORED_HEAD: Final = bytes((MAGIC, STORED))
_DEFLATED_HEAD: Final = bytes((MAGIC, DEFLATED))


def seal(message: Any, compress_level: int) -> bytes:
    """Turns a frame message without its CRC into the payload; deflated when that is smaller.

    Raises:
        LimitError: more than RAW_BYTES_MAX, or INFLATED_BYTES_MAX before deflate.
    """
    body: bytes = message.SerializeToString()
    body += _CRC_TAG
    body += zlib.crc32(body).to_bytes(_CRC_BYTES, "little")
    if len(body) > INFLATED_BYTES_MAX:
        raise LimitError(f"a frame of {len(body)} bytes is over {INFLATED_BYTES_MAX}: send fewer readings per frame")
    payload = _STORED_HEAD + body
    if compress_level:
        deflate = zlib.compressobj(compress_level, zlib.DEFLATED, _RAW_DEFLATE)
        small = b"".join((_DEFLATED_HEAD, deflate.compress(body), deflate.flush()))
        if len(small) < len(payload):
            payload = small
    if len(payload) > RAW_BYTES_MAX:
        raise LimitError(
            f"a frame of {len(payload)} coded bytes is over {RAW_BYTES_MAX}: send fewer readings per frame"
        )
    return payload


def unseal(payload: bytes) -> Any:
    """Returns the frame message in a payload after size, magic, version, inflate and checksum are in order.

    The checksum comes before the protobuf parser, so that only bytes which a sealer made reach it.

    Raises:
        DecodeError: TOO_LARGE, PARSE, VERSION, INFLATE or CHECKSUM.
    """
    return parse_body(open_body(payload))


def parse_body(body: bytes) -> Any:
    """Returns the frame message in the bytes that `open_body` gave.

    Raises:
        DecodeError: PARSE.
    """
    try:
        return FrameMessage.FromString(body)
    except ProtobufError as error:
        raise DecodeError(DeadLetterReason.PARSE, "not a frame message") from error


def open_body(payload: bytes) -> bytes:
    """Returns the message's bytes, CRC_FIELD_BYTES of checksum at their end included; see `unseal`.

    Raises:
        DecodeError: TOO_LARGE, PARSE, VERSION, INFLATE or CHECKSUM.
    """
    if len(payload) > RAW_BYTES_MAX:
        raise DecodeError(DeadLetterReason.TOO_LARGE, f"{len(payload)} bytes are over {RAW_BYTES_MAX}")
    if payload.startswith(_DEFLATED_HEAD):
        body = _inflate(payload)
    elif payload.startswith(_STORED_HEAD):
        body = payload[2:]
    elif len(payload) < 2 or payload[0] != MAGIC:
        raise DecodeError(DeadLetterReason.PARSE, "not a frame: it does not begin with H")
    elif payload[1] >> 4 != VERSION:
        raise DecodeError(DeadLetterReason.VERSION, f"frame version {payload[1] >> 4}, this reads {VERSION}")
    else:
        raise DecodeError(DeadLetterReason.PARSE, f"unknown coding {payload[1] & 15}")
    if zlib.crc32(body) != _RESIDUE or body[-1 - _CRC_BYTES : -_CRC_BYTES] != _CRC_TAG:
        raise DecodeError(DeadLetterReason.CHECKSUM, f"CRC-32 of {len(body)} bytes does not match")
    return body


def _inflate(payload: bytes) -> bytes:
    inflate = zlib.decompressobj(_RAW_DEFLATE)
    try:
        body = inflate.decompress(payload[2:], INFLATED_BYTES_MAX + 1)
    except zlib.error as error:
        raise DecodeError(DeadLetterReason.INFLATE, str(error)) from error
    if len(body) > INFLATED_BYTES_MAX:
        raise DecodeError(DeadLetterReason.TOO_LARGE, f"inflates to more than {INFLATED_BYTES_MAX} bytes")
    if not inflate.eof or inflate.unused_data:
        raise DecodeError(DeadLetterReason.INFLATE, "the deflate stream is cut off or followed by other bytes")
    return body
