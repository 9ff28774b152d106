"""Settings: one `headwater.toml`, a table per package; flag > environment > file > default.

Each package defines its table as a `Table` in its `settings.py`; `headwater.cli` gathers them. Core code takes
values, never settings. This module is pure: it gets the file's text and the environment as arguments.
"""

import difflib
import json
import tomllib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from headwater.errors import SettingsError
from headwater.instant import format_duration, parse_duration_us

ENVIRONMENT_PREFIX = "HEADWATER_"


def _duration(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return parse_duration_us(value)
        except SettingsError as error:
            raise ValueError(str(error)) from error
    return value


DurationUs = Annotated[int, BeforeValidator(_duration)]


class Table(BaseModel):
    """A table of settings: frozen, unknown keys refused; a field `x_us: DurationUs` is written `x = "5s"`.

    Every field has a default and a `description` (they make `headwater config`).
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=lambda name: name.removesuffix("_us"),
        populate_by_name=True,
    )


def load_settings(
    tables: Mapping[str, type[Table]],
    *,
    text: str = "",
    where: str = "headwater.toml",
    environment: Mapping[str, str] | None = None,
    flags: Sequence[str] = (),
) -> dict[str, Table]:
    """Builds every table from the file's text, the environment and `table.key=value` flags, the last ones winning.

    Args:
        tables: {name of the table: its model}.
        text: TOML.
        where: how messages name the file.
        environment: variables such as HEADWATER_GATEWAY__PORT=1883; others are ignored.
        flags: "gateway.port=1883".

    Raises:
        SettingsError: what is wrong, where, and what may have been meant.
    """
    try:
        raw: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{where}: not TOML: {error}") from error
    origin: dict[tuple[str, ...], str] = {}
    for name, value in sorted((environment or {}).items()):
        path = name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")
        if name.startswith(ENVIRONMENT_PREFIX) and len(path) > 1:
            _put(raw, path, _parse_value(value))
            origin[tuple(path)] = name
    for flag in flags:
        key, equals, value = flag.partition("=")
        path = key.strip().split(".")
        if not equals or len(path) < 2:
            raise SettingsError(f"--set {flag!r}: write table.key=value, such as --set gateway.port=1884")
        _put(raw, path, _parse_value(value.strip()))
        origin[tuple(path)] = f"--set {key}"
    for name in raw:
        if name not in tables:
            raise SettingsError(f"{where}: [{name}] is not a table of settings{_did_you_mean(name, tables)}")
    return {name: _build(name, table, raw.get(name, {}), where, origin) for name, table in tables.items()}


def sample_settings(tables: Mapping[str, type[Table]]) -> str:
    """Writes the commented sample file: every key with its default, its meaning above it.

    >>> from pydantic import Field
    >>> class Demo(Table):
    ...     port: int = Field(1883, description="TCP port.")
    >>> print(sample_settings({"demo": Demo}))
    # Settings of Headwater. Every key is shown with its default; remove the "#" to change it.
    # Flag (--set table.key=value) > environment (HEADWATER_TABLE__KEY) > this file > default.
    <BLANKLINE>
    [demo]
    # TCP port.
    # port = 1883
    <BLANKLINE>
    """
    lines = [
        '# Settings of Headwater. Every key is shown with its default; remove the "#" to change it.',
        "# Flag (--set table.key=value) > environment (HEADWATER_TABLE__KEY) > this file > default.",
    ]
    for name, table in tables.items():
        lines += ["", f"[{name}]"]
        for field_name, field in table.model_fields.items():
            lines += [f"# {line}" for line in (field.description or "").split("\n") if line]
            lines.append(f"# {field.alias} = {_toml_value(field_name, field)}")
    return "\n".join(lines) + "\n"


def _toml_value(name: str, field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if name.endswith("_us") and isinstance(value, int):
        value = format_duration(value)
    if isinstance(value, BaseModel):
        value = value.model_dump(by_alias=True)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {json.dumps(item)}" for key, item in value.items()) + "}"
    return '""' if value is None else json.dumps(value, default=list)


def _parse_value(text: str) -> Any:
    """Reads a value as TOML where it is one, else as the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _put(raw: dict[str, Any], path: Sequence[str], value: Any) -> None:
    at = raw
    for key in path[:-1]:
        below = at.setdefault(key, {})
        if not isinstance(below, dict):
            raise SettingsError(f"{'.'.join(path)}: {key} is a value, not a table")
        at = below
    at[path[-1]] = value


def _did_you_mean(name: str, known: Mapping[str, Any] | Sequence[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f'; did you mean "{close[0]}"?' if close else f"; known are {', '.join(sorted(known))}"


def _build(name: str, table: type[Table], raw: Any, where: str, origin: Mapping[tuple[str, ...], str]) -> Table:
    if not isinstance(raw, dict):
        raise SettingsError(f"{where}: {name} must be a table: write [{name}]")
    try:
        return table.model_validate(raw)
    except ValidationError as error:
        lines = []
        for item in error.errors():
            location = tuple(str(part) for part in item["loc"])
            place = origin.get((name, *location), f"{where}: [{name}] {'.'.join(location)}")
            if item["type"] == "extra_forbidden":
                known = [cast("str", field.alias) for field in table.model_fields.values()]
                lines.append(f"{place}: unknown key{_did_you_mean(location[-1], known)}")
            else:
                lines.append(f"{place}: {item['msg']} (got {item['input']!r})")
        raise SettingsError("\n".join(lines)) from error
