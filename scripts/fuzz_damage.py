"""Ways to damage sample inputs for `scripts/fuzz.py`, and what a decoder under it is."""

import random
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from headwater.envelope import STORED, unseal
from headwater.errors import DecodeError

NUMBERS = (0, 1, 2, 7, 127, 128, 255, 65_535, 65_536, 1 << 31, (1 << 31) - 1, (1 << 32) - 1, 1 << 62, (1 << 63) - 1)

Mutate = Callable[[random.Random, list[bytes]], bytes]


def damage(draw: random.Random, seeds: list[bytes]) -> bytes:
    """A seed with a few bytes changed, cut, repeated or taken from another seed; now and then only noise."""
    if draw.random() < 0.05:
        return draw.randbytes(draw.randrange(200))
    data = bytearray(draw.choice(seeds))
    for _ in range(draw.choice((1, 1, 1, 2, 3, 8))):
        at = draw.randrange(len(data) + 1)
        match draw.randrange(7):
            case 0 if at < len(data):
                data[at] ^= 1 << draw.randrange(8)
            case 1 if at < len(data):
                data[at] = draw.choice((0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)))
            case 2:
                data[at:at] = draw.randbytes(draw.randrange(1, 9))
            case 3:
                del data[at : at + draw.choice((1, 2, 8, 64))]
            case 4:
                data[at:at] = data[at : at + draw.randrange(1, 33)] * draw.choice((1, 2, 50))
            case 5:
                other = draw.choice(seeds)
                start = draw.randrange(len(other) + 1)
                data[at : at + 16] = other[start : start + draw.randrange(1, 65)]
            case _:
                number = draw.choice(NUMBERS).to_bytes(8, "little")[: draw.choice((1, 2, 4, 8))]
                data[at : at + len(number)] = number
    return bytes(data)


def sealed(body: bytes) -> bytes:
    """A payload with a right CRC around any message, so that damage reaches the layers behind it."""
    body += b"\x7d"
    return bytes((ord("H"), STORED)) + body + zlib.crc32(body).to_bytes(4, "little")


def damage_frame(draw: random.Random, seeds: list[bytes]) -> bytes:
    """A damaged payload, a damaged message in a sound envelope, or a sound message with wild fields."""
    choice = draw.random()
    if choice < 0.3:
        return damage(draw, seeds)
    message = unseal(draw.choice(seeds))
    message.ClearField("crc32")
    if choice < 0.6:
        return sealed(damage(draw, [message.SerializeToString()]))
    for _ in range(draw.choice((1, 1, 2, 3))):
        wild(draw, message)
    return sealed(message.SerializeToString())


def wild(draw: random.Random, message: Any) -> None:
    """Changes one field of a message, or of a message within it."""
    fields = [(described.name, value) for described, value in message.ListFields()]
    if not fields:
        return
    name, value = draw.choice(fields)
    if isinstance(value, str | bytes | bool | int | float):
        try:
            setattr(message, name, wild_value(draw, value))
        except ValueError:  # The field is unsigned or has 32 bits.
            setattr(message, name, draw.choice((0, 1, 0x7FFF_FFFF)))
    elif hasattr(value, "ListFields"):
        wild(draw, value)
    elif draw.random() < 0.2:
        value.add().CopyFrom(draw.choice(value))
    else:
        wild(draw, draw.choice(value))


def wild_value(draw: random.Random, value: str | bytes | bool | float) -> str | bytes | bool | float:
    """Another value of the same type, seldom a good one."""
    match value:
        case str():
            return draw.choice(("", "a", "A b", "x" * 300, "\0", "é"))
        case bytes():
            return draw.choice((b"", value + value, damage(draw, [value]), damage(draw, [value])))
        case bool():
            return not value
        case int():
            return draw.choice((*NUMBERS, value + 1, value - 1, -1, -(1 << 62)))
        case float():
            return draw.choice((0.0, -1.0, 1e-300, 1e6, float("inf"), float("nan")))


@dataclass(frozen=True)
class Target:
    """A decoder, what it may raise, and how its seeds are damaged."""

    run: Callable[[bytes], object]
    seeds: list[bytes]
    allowed: tuple[type[Exception], ...] = (DecodeError,)
    mutate: Mutate = field(default=damage)


def damage_words(draw: random.Random, seeds: list[bytes]) -> bytes:
    """A query with words dropped, doubled, swapped or taken from another one; sometimes damaged byte by byte."""
    if draw.random() < 0.2:
        return damage(draw, seeds)
    words = re.findall(rb"\w+|\s+|[^\w\s]", draw.choice(seeds))
    for _ in range(draw.choice((1, 1, 2, 3, 6))):
        at, other = draw.randrange(len(words)), draw.choice(re.findall(rb"\w+|[^\w\s]", draw.choice(seeds)))
        match draw.randrange(4):
            case 0:
                words[at] = other
            case 1:
                words.insert(at, other + b" ")
            case 2 if len(words) > 1:
                del words[at]
            case _:
                words[at] = draw.choice(
                    (b"0", b"-1", b"99999999999999999999", b"1e9", b"''", b"*", b"/a/", b"1w", b"time", b"now()")
                )
    return b"".join(words)
