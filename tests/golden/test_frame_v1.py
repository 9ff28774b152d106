"""Frames of version 1 as they were once sent: they stay readable for ever, whatever the encoder does today.

A case is `frame_v1/<name>.hex`, the payload, and `frame_v1/<name>.json`, what is in it. Never change one; add some.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headwater.codec import decode_frame, encode_frame
from headwater.frame import Frame

CASES = sorted(path.stem for path in (Path(__file__).parent / "frame_v1").glob("*.hex"))


def folder() -> Path:
    return Path(__file__).parent / "frame_v1"


def plain(thing: Any) -> Any:
    """Anything in a frame as JSON; floats as Python writes them, which is exact, and NaN by its bits."""
    if isinstance(thing, np.ndarray):
        return [plain(item) for item in thing.tolist()]
    if isinstance(thing, float):
        return repr(thing) if thing == thing else np.float64(thing).tobytes().hex()
    if isinstance(thing, tuple | list):
        return [plain(item) for item in thing]
    if isinstance(thing, dict):
        return {str(key): plain(value) for key, value in thing.items()}
    if hasattr(thing, "__slots__") and hasattr(thing, "__dataclass_fields__"):
        return {name: plain(getattr(thing, name)) for name in thing.__dataclass_fields__}
    return thing if thing is None or isinstance(thing, bool) else int(thing) if isinstance(thing, int) else str(thing)


def read(name: str) -> Frame:
    return decode_frame(bytes.fromhex((folder() / f"{name}.hex").read_text()))


@pytest.mark.parametrize("name", CASES)
def test_a_frame_of_version_1_reads_as_it_did(name: str) -> None:
    assert plain(read(name)) == json.loads((folder() / f"{name}.json").read_text())


@pytest.mark.parametrize("name", CASES)
def test_coding_it_again_gives_the_same_frame(name: str) -> None:
    assert plain(decode_frame(encode_frame(read(name)))) == plain(read(name))


def test_the_cases_are_there() -> None:
    assert len(CASES) >= 6
