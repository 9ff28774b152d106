"""What Grafana puts into a query before it reaches the database: variables and the macros of time and interval."""

import re
from collections.abc import Iterator, Mapping, Sequence

ALL = ".*"
MACROS = ("timeFilter", "interval", "__interval", "__interval_ms")

_VARIABLE = re.compile(r"\$\{(?P<braced>\w+)(?::(?P<format>\w+))?\}|\$(?P<bare>\w+)")
_SPECIAL = re.compile(r"[\\^$*+?.()|\[\]{}/]")


def escape_regex(text: str) -> str:
    r"""Escapes a value as Grafana's format `regex` does, the slash that would end an InfluxQL regex included.

    >>> escape_regex("1m/10s")
    '1m\\/10s'
    """
    return _SPECIAL.sub(lambda found: "\\" + found[0], text)


def names_in(text: str) -> Iterator[str]:
    """Yields every variable and macro that a query, a title or a link uses, in order, macros and Grafana's own included.

    >>> list(names_in("a $timeFilter b ${site:regex} $__interval"))
    ['timeFilter', 'site', '__interval']
    """
    for found in _VARIABLE.finditer(text):
        yield found["braced"] or found["bare"]


def substitute(
    text: str, values: Mapping[str, str | Sequence[str]], *, from_ms: int, to_ms: int, interval_ms: int
) -> str:
    """Returns the query that Grafana would send for these values.

    Args:
        text: raw InfluxQL with variables and macros.
        values: {variable: value, or values where many are chosen}; ALL stands for the choice "All".
        from_ms: start of the time range, ms since the epoch.
        to_ms: its end; both ends are inclusive, as Grafana has it.
        interval_ms: the interval that Grafana computed from range, width and minimum.

    Raises:
        KeyError: a variable has no value.

    >>> substitute('x =~ /^${site:regex}$/ AND $timeFilter', {"site": ["a", "b"]}, from_ms=1, to_ms=2, interval_ms=1000)
    'x =~ /^(a|b)$/ AND time >= 1ms and time <= 2ms'
    """
    macros = {
        "timeFilter": f"time >= {from_ms}ms and time <= {to_ms}ms",
        "interval": interval_text(interval_ms),
        "__interval": interval_text(interval_ms),
        "__interval_ms": str(interval_ms),
    }

    def put(found: re.Match[str]) -> str:
        name = found["braced"] or found["bare"]
        if name in macros:
            return macros[name]
        value = values[name]
        if isinstance(value, str):
            return escape_regex(value) if found["format"] == "regex" and value != ALL else value
        if found["format"] != "regex":
            return "(" + "|".join(value) + ")"
        return "(" + "|".join(map(escape_regex, value)) + ")" if len(value) > 1 else escape_regex(value[0])

    return _VARIABLE.sub(put, text)


def interval_text(interval_ms: int) -> str:
    """Writes an interval in the largest unit that leaves no rest.

    >>> interval_text(60_000), interval_text(1_500)
    ('1m', '1500ms')
    """
    for size_ms, unit in ((3_600_000, "h"), (60_000, "m"), (1_000, "s")):
        if interval_ms % size_ms == 0:
            return f"{interval_ms // size_ms}{unit}"
    return f"{interval_ms}ms"
