"""A snapshot's bytes: named arrays and plain values, versioned and checked; no pickle.

    "HWS1" | header length u32 | header JSON | arrays, one after another, little-endian | CRC-32 of all before

Every dtype is restored bit for bit; plain values are what JSON holds without floats (floats travel in arrays).
"""

import json
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from headwater.errors import CorruptStateError

MAGIC = b"HWS1"
_LENGTH = struct.Struct("<I")
_DTYPES = frozenset({"|b1", "|u1", "<i4", "<u4", "<i8", "<u8", "<f8"})


def pack(
    version: int, values: Mapping[str, npt.NDArray[Any] | bytes | int | str | list[Any] | dict[str, Any]]
) -> bytes:
    """Writes named values as one snapshot of a format `version`.

    >>> unpack(pack(1, {"a": np.arange(2), "b": "x"}), 1)
    {'a': array([0, 1]), 'b': 'x'}
    """
    arrays: list[bytes] = []
    header: dict[str, Any] = {"version": version, "arrays": {}, "bytes": {}, "plain": {}}
    for name, value in values.items():
        if isinstance(value, np.ndarray):
            array = np.ascontiguousarray(value)
            assert array.dtype.str in _DTYPES, f"{name}: {array.dtype} has no place in a snapshot"
            header["arrays"][name] = [array.dtype.str, list(array.shape)]
            arrays.append(array.tobytes())
    for name, value in values.items():
        if isinstance(value, bytes):
            header["bytes"][name] = len(value)
            arrays.append(value)
        elif not isinstance(value, np.ndarray):
            header["plain"][name] = value
    head = json.dumps(header, separators=(",", ":"), allow_nan=False).encode()
    body = b"".join([MAGIC, _LENGTH.pack(len(head)), head, *arrays])
    return body + _LENGTH.pack(zlib.crc32(body))


def unpack(data: bytes, version: int) -> dict[str, Any]:
    """Reads a snapshot of exactly this format version; arrays are fresh and writable.

    Raises:
        CorruptStateError: the bytes fail their checks or have another version.
    """
    if len(data) < 12 or data[:4] != MAGIC or zlib.crc32(data[:-4]) != _LENGTH.unpack(data[-4:])[0]:
        raise CorruptStateError("a snapshot fails its checksum: remove the state to rebuild it from the log")
    at = 8 + _LENGTH.unpack(data[4:8])[0]
    header = json.loads(data[8:at])
    if header["version"] != version:
        raise CorruptStateError(f"a snapshot has version {header['version']}, this program reads {version}")
    values: dict[str, Any] = {}
    for name, (dtype, shape) in header["arrays"].items():
        count = int(np.prod(shape, dtype=np.int64))
        values[name] = np.frombuffer(data, dtype, count, at).reshape(shape).copy()
        at += count * np.dtype(dtype).itemsize
    for name, size in header["bytes"].items():
        values[name] = data[at : at + size]
        at += size
    values.update(header["plain"])
    return values
