"""What a job was told, kept in DATA/flink: by it a job that was lost is submitted again, and one that was stopped is not.

It is written when a job is submitted and marked when one is stopped. It names files of secrets, not what is in them, but
for what `[flink] client` says, so only its owner may read it.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from headwater.cli.shared import table_classes
from headwater.errors import SettingsError
from headwater.settings import Table

NAME: Final = "submitted.json"
TABLES: Final = ("pipeline", "gateway", "processor", "kafka", "flink")


def keep_job(folder: Path, settings: Mapping[str, Table], *, is_own: bool) -> None:
    """Keeps the settings of a job that was just submitted.

    Args:
        folder: DATA/flink.
        settings: all tables.
        is_own: it runs on the cluster of this folder.
    """
    told = {name: settings[name].model_dump(mode="json", by_alias=True) for name in TABLES}
    # Paths depend on the folder that a command is called in.
    for values in told.values():
        for key, value in values.items():
            if value and (key.endswith("_file") or key == "environment"):
                values[key] = str(Path(value).absolute())
    _write(folder, {"is_own": is_own, "is_stopped": False, "tables": told})


def mark_stopped(folder: Path) -> None:
    """Notes that there is to be no job until one is submitted again."""
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder, {"is_own": False, "is_stopped": True, "tables": {}})


def is_stopped(folder: Path) -> bool:
    """Tells whether the last that was said of a job is that it was stopped.

    Raises:
        SettingsError: what was kept is not readable.
    """
    return bool(_read(folder).get("is_stopped"))


@contextmanager
def stopping(folder: Path) -> Iterator[None]:
    """Notes it from before the job ends, so that nobody takes it for lost; takes it back where it could not be ended."""
    before = _read(folder)
    mark_stopped(folder)
    try:
        yield
    except BaseException:
        _write(folder, before)
        raise


def last_job(folder: Path) -> dict[str, Table] | None:
    """Returns all tables of the job that was submitted last; None if there was none, or it was stopped.

    Raises:
        SettingsError: what was kept is not readable as settings of this version.
    """
    told = _read(folder)
    if not told or told.get("is_stopped"):
        return None
    try:
        told["tables"]["pipeline"]["data"] = str(folder.parent)  # It may have been moved.
        return {name: kind.model_validate(told["tables"].get(name, {})) for name, kind in table_classes().items()}
    except (ValueError, LookupError, TypeError) as error:
        raise _unreadable(folder) from error


def lost_job(folder: Path) -> dict[str, Table] | None:
    """The same of a job on the cluster of this folder; None if it was on another.

    Raises:
        SettingsError: what was kept is not readable as settings of this version.
    """
    return last_job(folder) if _read(folder).get("is_own") else None


def _read(folder: Path) -> dict[str, Any]:
    try:
        told = json.loads((folder / NAME).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise _unreadable(folder) from error
    if not isinstance(told, dict):
        raise _unreadable(folder)
    return told


def _write(folder: Path, told: Mapping[str, Any]) -> None:
    fresh = (folder / NAME).with_suffix(".new")
    fresh.touch(mode=0o600)
    fresh.write_text(json.dumps(told), encoding="utf-8")
    fresh.replace(folder / NAME)


def _unreadable(folder: Path) -> SettingsError:
    return SettingsError(f"{folder / NAME} is of another version or damaged: remove it, then headwater flink submit")
