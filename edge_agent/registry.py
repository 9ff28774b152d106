"""Finds sources by name: the entry points of the group `headwater.sources`, ours and those of other packages."""

from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from headwater.errors import SettingsError
from headwater.instant import US_PER_S
from headwater.ports import Clock, Source

GROUP = "headwater.sources"


def available() -> dict[str, EntryPoint]:
    """{name: entry point} of all sources that are installed."""
    return {point.name: point for point in entry_points(group=GROUP)}


def make_source(name: str, options: dict[str, Any], clock: Clock, sample_every_us: int = US_PER_S) -> Source:
    """Makes the source `name` with its options; the world is not touched before its `open`.

    A source that keeps time itself (`takes_sample_every`) is told how often the agent samples.

    Raises:
        SettingsError: there is no such source, what it needs is not installed, or its options are wrong.
    """
    found = available()
    if name not in found:
        near = get_close_matches(name, found, 1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise SettingsError(f"agent.source: there is no source {name!r}{hint}; installed: {', '.join(sorted(found))}")
    try:
        factory = found[name].load()
    except ImportError as error:
        extra = f" install headwater[{name}]," if name in ("modbus", "i2c") else ""
        raise SettingsError(f"agent.source: {name!r} can't be loaded:{extra} {error}") from error
    if getattr(factory, "takes_sample_every", False):
        options = {"sample_every_us": sample_every_us} | options
    source: Source = factory(options, clock)
    return source
