"""The durable acknowledgement that the gateway sends to a device (contracts §5), as data and as JSON."""

import json
from dataclasses import dataclass
from typing import Any, Literal

from headwater.errors import DecodeError
from headwater.reasons import DeadLetterReason

AckLevel = Literal["backbone", "store"]
MISSING_MAX = 16
SIZE_MAX_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Ack:
    """All frames of `epoch` up to `contiguous` are durable; `missing` ranges above it should be sent again.

    Attributes:
        epoch: the spool's random 64-bit number.
        contiguous: highest seq with nothing missing below it; 0 if seq 1 is not here.
        missing: inclusive ranges above `contiguous` that are not here, at most `MISSING_MAX`.
        level: where the frames are durable.
        log: the log's incarnation; another one means that the log was replaced.
        resync: a number that changes when a broker lost what was on its way: all that is not durable should be sent
            again. 0 says nothing, and so do acks of gateways that don't know this field.
    """

    epoch: int
    contiguous: int
    missing: tuple[tuple[int, int], ...]
    level: AckLevel
    log: str
    resync: int = 0

    def to_json(self) -> bytes:
        """Encodes for the `ack` topic; the epoch is a string because JSON numbers stop at 2^53."""
        return json.dumps(
            {
                "epoch": str(self.epoch),
                "contiguous": self.contiguous,
                "missing": [list(pair) for pair in self.missing[:MISSING_MAX]],
                "level": self.level,
                "log": self.log,
            }
            | ({"resync": self.resync} if self.resync else {}),
            separators=(",", ":"),
        ).encode()


def parse_ack(payload: bytes) -> Ack:
    """Decodes an acknowledgement strictly.

    >>> ack = Ack(epoch=7, contiguous=3, missing=((5, 6),), level="store", log="a1")
    >>> parse_ack(ack.to_json()) == ack
    True

    Raises:
        DecodeError: the payload is not one.
    """
    if len(payload) > SIZE_MAX_BYTES:
        raise DecodeError(DeadLetterReason.TOO_LARGE, f"ack of {len(payload)} bytes")
    try:
        data: Any = json.loads(payload)
        ack = Ack(
            epoch=int(data["epoch"]),
            contiguous=data["contiguous"],
            missing=tuple((lo, hi) for lo, hi in data["missing"]),
            level=data["level"],
            log=data["log"],
            resync=data.get("resync", 0),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DecodeError(DeadLetterReason.PARSE, f"ack: {error}") from error
    numbers = [ack.contiguous, ack.resync, *(n for pair in ack.missing for n in pair)]
    if (
        not all(type(n) is int and 0 <= n < 1 << 63 for n in numbers)
        or not 0 <= ack.epoch < 1 << 64
        or ack.level not in ("backbone", "store")
        or type(ack.log) is not str
        or any(not ack.contiguous < lo <= hi for lo, hi in ack.missing)
    ):
        raise DecodeError(DeadLetterReason.SCHEMA, "ack fields out of range")
    return ack
