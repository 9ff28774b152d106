"""Settings: one `headwater.toml`, a table per package; flag > environment > file > default.

Each package defines its table as a `Table` in its `settings.py`; `headwater.cli` gathers them. Core code takes
values, never settings.
"""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

from headwater.errors import SettingsError
from headwater.instant import parse_duration_us


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
