"""Files that are written once and hold secrets: private from the first byte, whole or not there, never over another."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from headwater.errors import SettingsError

SECRET_MODE = 0o600
PUBLIC_MODE = 0o644
FOLDER_MODE = 0o700
_SECRET_SUFFIXES = frozenset({".key", ".token", ".password"})


def write_new(files: Mapping[Path, bytes]) -> None:
    """Writes all of the files or, where one of them is there already, none.

    Keys, tokens and passwords, and all that is in a folder named `secrets`, only their owner can read.

    Raises:
        SettingsError: a file is there, or a folder can't be written.
    """
    there = [path for path in files if path.exists() or path.is_symlink()]
    if there:
        raise SettingsError(f"{', '.join(map(str, there))} is there already: nothing is ever overwritten")
    try:
        for path in files:
            path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        for path, content in files.items():
            with _opened(path, SECRET_MODE if is_secret(path) else PUBLIC_MODE) as file:
                file.write(content)
    except OSError as error:
        raise SettingsError(f"{error.filename}: {error.strerror}") from error


def append(path: Path, more: bytes) -> None:
    """Writes a file anew with more at its end: readers see the old one or the new one.

    Raises:
        SettingsError: it can't be read or written.
    """
    try:
        before, mode = path.read_bytes(), path.stat().st_mode & 0o777
        new = path.with_name(f"{path.name}.new")
        new.unlink(missing_ok=True)
        with _opened(new, mode) as file:
            file.write(before + more)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        raise SettingsError(f"{error.filename}: {error.strerror}") from error


def is_secret(path: Path) -> bool:
    """Tells whether only its owner may read a file."""
    return (
        path.suffix in _SECRET_SUFFIXES or path.parent.name == "secrets" or path.name in {"acl", "passwd", "users.toml"}
    )


def _opened(path: Path, mode: int) -> BinaryIO:
    """Makes a file that was not there, with its mode from the beginning."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode), "wb")
