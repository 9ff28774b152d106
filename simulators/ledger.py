"""The device's own account, written beside the pipeline, that the store is held against (docs/ledger.md)."""

import json
import os
import threading
import time
import zlib
from pathlib import Path

import numpy as np

from headwater.frame import Block, Frame
from headwater.quality import MISSING

_PENDING_MAX = 65_536


def crc_of(blocks: tuple[Block, ...]) -> int:
    """Returns the CRC-32 of a frame's canonical readings as docs/ledger.md defines them; 0 if there are none.

    >>> block = Block(("a",), np.array([1]), np.array([[2.0]]))
    >>> crc_of((block,)) == crc_of((Block(("a",), np.array([1]), np.array([[2.0]]), np.array([[0]], np.uint8)),))
    True
    """
    rows: dict[bytes, list[tuple[Block, int]]] = {}
    for block in blocks:
        for row, metric in enumerate(block.metrics):
            rows.setdefault(metric.encode(), []).append((block, row))
    crc = 0
    for name in sorted(rows):
        times, values, qualities = [], [], []
        for block, row in rows[name]:
            quality = np.zeros(len(block.time_us), np.uint8) if block.quality is None else block.quality[row]
            taken = quality != MISSING
            times.append(block.time_us[taken])
            values.append(block.value[row][taken])
            qualities.append(quality[taken])
        time_us, value, quality = np.concatenate(times), np.concatenate(values), np.concatenate(qualities)
        if len(time_us) == 0:
            continue
        order = np.lexsort((quality, value.view(np.uint64), time_us))
        crc = zlib.crc32(name + b"\0", crc)
        crc = zlib.crc32(time_us[order].astype("<i8").tobytes(), crc)
        crc = zlib.crc32(value[order].astype("<f8").tobytes(), crc)
        crc = zlib.crc32(quality[order].tobytes(), crc)
    return crc


class Ledger:
    """Appends `offered` and `accepted` lines to a file of its own in `folder`, for all devices of this process.

    `offered` and `accepted` reach the system before they return, so a killed process has told what it did; `flush`
    makes them survive a power cut too. Safe to call from several threads.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"ledger.{os.getpid()}.{time.time_ns()}.jsonl"
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._pending: dict[tuple[str, str, int, int], bytes] = {}
        self._lock = threading.Lock()
        self._is_synced = True

    def offered(self, frame: Frame, payload: bytes) -> None:
        """Notes a frame before it goes to the spool; `payload` is what would be sent."""
        assert payload
        tail = _tail(frame)
        with self._lock:
            # A frame that was offered and never accepted must not be remembered for ever.
            if len(self._pending) >= _PENDING_MAX:
                del self._pending[next(iter(self._pending))]
            self._pending[_identity(frame)] = tail
            self._write(b'{"e":"offered",' + tail)

    def accepted(self, frame: Frame, payload: bytes) -> None:
        """Notes that the spool's commit of an offered frame returned."""
        assert payload
        with self._lock:
            tail = self._pending.pop(_identity(frame), None)
            self._write(b'{"e":"accepted",' + (tail or _tail(frame)))

    def _write(self, line: bytes) -> None:
        written = os.write(self._descriptor, line)
        assert written == len(line), "a ledger line was cut: the disk is full"
        self._is_synced = False

    def flush(self) -> None:
        """Makes all lines durable."""
        with self._lock:
            if not self._is_synced:
                os.fsync(self._descriptor)
                self._is_synced = True

    def close(self) -> None:
        """Flushes and closes the file."""
        self.flush()
        os.close(self._descriptor)


def _identity(frame: Frame) -> tuple[str, str, int, int]:
    return frame.site, frame.device, frame.epoch, frame.seq


def _tail(frame: Frame) -> bytes:
    about = {
        "site": frame.site,
        "device": frame.device,
        "epoch": str(frame.epoch),
        "seq": frame.seq,
        "readings": frame.reading_count,
        "summaries": len(frame.summaries),
        "crc": crc_of(frame.blocks),
    }
    return json.dumps(about, separators=(",", ":"))[1:].encode() + b"\n"
