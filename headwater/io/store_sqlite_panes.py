"""A frame's summaries as one blob, and back (format: docs/store.md)."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headwater.batch import Batch
from headwater.errors import CorruptStateError
from headwater.frame import Float64, Int64, Summaries

_INTS = ("start_us", "width_us", "count", "first_us", "last_us")
_FLOATS = ("mean", "m2", "min", "max", "first", "last")
_ROW_BYTES = 4 + 8 * (len(_INTS) + len(_FLOATS)) + 4
BYTES_MAX = 16 * 1024 * 1024
_NEVER = np.iinfo(np.int64)


def encode_panes(batch: Batch, metric_ids: Int64) -> tuple[list[bytes | None], Int64, Int64]:
    """Returns each frame's summaries (None if it has none), and int64 (k,), (k,): the time that they cover.

    The time of a frame without summaries is the largest int64 for its start and the smallest for its end.
    """
    k, rows, starts = len(batch), batch.summaries, batch.summary_start
    blobs: list[bytes | None] = [None] * k
    start, end = np.full(k, _NEVER.max), np.full(k, _NEVER.min)
    if not len(rows):
        return blobs, start, end
    metric = metric_ids[rows.metric].astype("<i4")
    for row in np.flatnonzero(np.diff(starts)).tolist():
        lo, hi = int(starts[row]), int(starts[row + 1])
        sketch = rows.sketch_start[lo : hi + 1]
        first, last = int(sketch[0]), int(sketch[-1])
        parts = [
            np.array([hi - lo], "<u4"),
            metric[lo:hi],
            *(getattr(rows, name)[lo:hi].astype("<i8") for name in _INTS),
            *(getattr(rows, name)[lo:hi].astype("<f8") for name in _FLOATS),
            np.diff(sketch).astype("<u4"),
            rows.sketch_key[first:last].astype("<i4"),
            rows.sketch_count[first:last].astype("<i8"),
        ]
        blobs[row] = zlib.compress(b"".join(part.tobytes() for part in parts), 1)
        start[row] = rows.start_us[lo:hi].min()
        end[row] = (rows.start_us[lo:hi] + rows.width_us[lo:hi]).max()
    return blobs, start, end


@dataclass(frozen=True, slots=True, eq=False)
class PaneColumns:
    """Summaries of several frames, a row each; `frame` is the index of the blob, `metric` the store's number."""

    frame: Int64
    metric: Int64
    start_us: Int64
    width_us: Int64
    count: Int64
    mean: Float64
    m2: Float64
    min: Float64
    max: Float64


def _columns(blob: bytes) -> tuple[bytes, int]:
    stream = zlib.decompressobj()
    raw = stream.decompress(blob, BYTES_MAX)
    n = int.from_bytes(raw[:4], "little")
    if not stream.eof or len(raw) < 4 + n * _ROW_BYTES:
        raise CorruptStateError("the summaries of a frame are cut")
    return raw, n


def decode_panes(blobs: Sequence[bytes]) -> PaneColumns:
    """Decodes what a chart needs of the summaries of several frames.

    Raises:
        CorruptStateError: a blob is cut.
    """
    parts: list[tuple[Int64, ...]] = []
    floats: list[tuple[Float64, ...]] = []
    for number, blob in enumerate(blobs):
        raw, n = _columns(blob)
        metric = np.frombuffer(raw, "<i4", n, 4).astype(np.int64)
        ints = [np.frombuffer(raw, "<i8", n, 4 + n * (4 + 8 * at)) for at in range(3)]
        base = 4 + n * (4 + 8 * len(_INTS))
        mean, m2, low, high = (np.frombuffer(raw, "<f8", n, base + n * 8 * at) for at in range(4))
        parts.append((np.full(n, number), metric, *ints))
        floats.append((mean, m2, low, high))
    if not parts:
        none, empty = np.empty(0, np.int64), np.empty(0)
        return PaneColumns(none, none, none, none, none, empty, empty, empty, empty)
    return PaneColumns(
        *(np.concatenate(column) for column in zip(*parts, strict=True)),
        *(np.concatenate(column) for column in zip(*floats, strict=True)),
    )


def decode_summaries(blob: bytes, names: dict[int, str]) -> Summaries:
    """Decodes one frame's summaries whole; `names` maps the store's numbers to metrics.

    Raises:
        CorruptStateError: the blob is cut.
    """
    raw, n = _columns(blob)
    metric = np.frombuffer(raw, "<i4", n, 4)
    known, code = np.unique(metric, return_inverse=True)
    at = 4 + 4 * n
    ints = {name: np.frombuffer(raw, "<i8", n, at + 8 * n * place) for place, name in enumerate(_INTS)}
    at += 8 * n * len(_INTS)
    floats = {name: np.frombuffer(raw, "<f8", n, at + 8 * n * place) for place, name in enumerate(_FLOATS)}
    at += 8 * n * len(_FLOATS)
    sizes = np.frombuffer(raw, "<u4", n, at)
    start = np.concatenate(([0], np.cumsum(sizes, dtype=np.int64)))
    at += 4 * n
    buckets = int(start[-1])
    if len(raw) != at + 12 * buckets:
        raise CorruptStateError("the sketches of a frame are cut")
    return Summaries(
        metrics=tuple(names[number] for number in known.tolist()),
        metric=code.astype(np.int32),
        sketch_start=start,
        sketch_key=np.frombuffer(raw, "<i4", buckets, at),
        sketch_count=np.frombuffer(raw, "<i8", buckets, at + 4 * buckets),
        **ints,
        **floats,
    )
