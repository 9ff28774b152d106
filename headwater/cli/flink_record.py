"""What the job of a cluster of ours was told, kept in the cluster's folder: by it a job that died with it is submitted again.

It is written when a job is submitted and removed when one is stopped. It names files of secrets, not what is in them, but
for what `[flink] client` says, so only its owner may read it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from headwater.cli.shared import table_classes
from headwater.errors import SettingsError
from headwater.settings import Table

NAME: Final = "submitted.json"
TABLES: Final = ("pipeline", "gateway", "processor", "kafka", "flink")


def keep_job(folder: Path, settings: Mapping[str, Table]) -> None:
    """Keeps the settings of a job that was just submitted.

    Args:
        folder: of the cluster.
        settings: all tables.
    """
    told = {name: settings[name].model_dump(mode="json", by_alias=True) for name in TABLES}
    # Paths depend on the folder that a command is called in.
    for values in told.values():
        for key, value in values.items():
            if value and (key.endswith("_file") or key == "environment"):
                values[key] = str(Path(value).absolute())
    path = folder / NAME
    fresh = path.with_suffix(".new")
    fresh.touch(mode=0o600)
    fresh.write_text(json.dumps(told), encoding="utf-8")
    fresh.replace(path)


def forget_job(folder: Path) -> None:
    """Forgets it: the job was stopped on purpose."""
    (folder / NAME).unlink(missing_ok=True)


def job_of(folder: Path) -> dict[str, Table] | None:
    """Returns all tables of the job that this cluster had; None if it had none, or it was stopped.

    Raises:
        SettingsError: what was kept is not readable as settings of this version.
    """
    path = folder / NAME
    try:
        told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        told["pipeline"]["data"] = str(folder.parent)  # It may have been moved.
        return {name: kind.model_validate(told.get(name, {})) for name, kind in table_classes().items()}
    except FileNotFoundError:
        return None
    except (ValueError, LookupError, TypeError) as error:
        raise SettingsError(
            f"{path} is of another version or damaged: remove it, then headwater flink submit"
        ) from error
