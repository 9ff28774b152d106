"""Options of a source: validated by a table of settings, with an error that tells how to fix it."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import ValidationError

from headwater.errors import SettingsError
from headwater.settings import Table

TableType = TypeVar("TableType", bound=Table)


def read_options(table: type[TableType], options: Mapping[str, Any], source: str) -> TableType:
    """Returns the options as a table.

    Raises:
        SettingsError: an option is unknown or has a value that it can't have.
    """
    try:
        return table.model_validate(dict(options))
    except ValidationError as error:
        raise SettingsError(f"source {source}: {_explain(table, error)}") from error


def _explain(table: type[Table], error: ValidationError) -> str:
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = [field.alias or name for name, field in table.model_fields.items()]
        close = get_close_matches(str(problem["loc"][-1]), known, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(sorted(known))}"
        return f"unknown option {where!r}; {hint}"
    return f"option {where!r}: {problem['msg']}" if where else str(problem["msg"])


def metric_name(*parts: str) -> str:
    """Makes a valid metric name of foreign words: whatever may not stand in one becomes "_".

    >>> metric_name("Living Room", "temperature °C")
    'Living_Room/temperature_C'
    """
    words = ("".join(c if c.isascii() and (c.isalnum() or c in "_.:-/") else " " for c in part) for part in parts)
    name = "/".join("_".join(word.split()).strip("_/") for word in words).strip("/_.:-")
    return name[:128] or "value"
