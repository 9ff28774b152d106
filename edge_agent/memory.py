"""Keeps what detectors have learnt beside the spool, so that a restart does not begin to learn anew."""

import os
import zlib
from contextlib import suppress
from pathlib import Path

MAGIC = b"HwLt1"
SIZE_MAX_BYTES = 16 * 1024 * 1024


class Memory:
    """A file that holds one value, replaced whole; what can't be read or written is simply not remembered."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.errors = 0

    def load(self) -> bytes | None:
        """Returns what was saved last, None if there is nothing or it is damaged."""
        try:
            with self._path.open("rb") as file:
                content = file.read(SIZE_MAX_BYTES)
        except FileNotFoundError:
            return None
        except OSError:
            self.errors += 1
            return None
        head = len(MAGIC) + 4
        value = content[head:]
        if content[: len(MAGIC)] != MAGIC or zlib.crc32(value) != int.from_bytes(content[len(MAGIC) : head], "big"):
            self.errors += 1
            return None
        return value

    def save(self, value: bytes) -> None:
        """Replaces what is there, atomically."""
        draft = self._path.with_name(self._path.name + ".new")
        try:
            with draft.open("wb") as file:
                file.write(MAGIC + zlib.crc32(value).to_bytes(4, "big") + value)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._path)
        except OSError:
            self.errors += 1
            with suppress(OSError):
                draft.unlink()
