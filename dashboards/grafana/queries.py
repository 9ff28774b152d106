"""Pieces of InfluxQL that many panels share; the dialect that InfluxDB 1, 2 and 3 and the live page answer."""

from dataclasses import dataclass

SITE = '"site" =~ /^${site:regex}$/'
DEVICE = '"device" =~ /^${device:regex}$/'
METRIC = '"metric" =~ /^${metric:regex}$/'
WINDOW = '"window" =~ /^${window:regex}$/'
# Readings and windows lie in buckets (1.x: databases) of their own (docs/influxdb.md), told by hidden variables;
# everything else lies in the data source's default database, that of events.
TELEMETRY = '"${raw}".."telemetry"'
WINDOWED = '"${windows}".."window"'
INSTANCE = '"instance" =~ /^${instance:regex}$/'


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel.

    Attributes:
        text: raw InfluxQL with Grafana's variables and macros.
        alias: names its series (`$tag_device`, `$col`); "" for a table.
        columns: the columns that the panel shows; a test asks real databases for them.
    """

    text: str
    alias: str
    columns: tuple[str, ...]

    @property
    def is_table(self) -> bool:
        """Tells that the panel wants rows, not series."""
        return not self.alias


def where(*conditions: str) -> str:
    """Joins conditions with the time range that the dashboard shows.

    >>> where('"a" = 1')
    'WHERE "a" = 1 AND $timeFilter'
    """
    return "WHERE " + " AND ".join([*conditions, "$timeFilter"])


def series(text: str, alias: str, *columns: str) -> Query:
    """A query whose answer is drawn over time."""
    return Query(text, alias, columns)


def table(text: str, *columns: str) -> Query:
    """A query whose answer is shown as rows, or as one number."""
    return Query(text, "", columns)


def latest(fields: dict[str, str], measurement: str, *by: str, conditions: tuple[str, ...] = ()) -> str:
    """The newest point of each series as a subquery; the first field must always be there, the others may be absent.

    A selector takes the other fields along from its own point. `last` of each would be wrong: where a newest point
    lacks a field, it would answer an older one's.

    >>> latest({"state": "s"}, "device", "device")
    '(SELECT last("state") AS "s" FROM "device" WHERE $timeFilter GROUP BY "device")'
    """
    return f"({newest(fields, measurement, *by, conditions=conditions)})"


def newest(fields: dict[str, str], measurement: str, *by: str, conditions: tuple[str, ...] = ()) -> str:
    """The newest point of each series as a query; see `latest`.

    >>> newest({"health": "h", "rul_lo": "lo"}, "health", "device")
    'SELECT last("health") AS "h", "rul_lo" AS "lo" FROM "health" WHERE $timeFilter GROUP BY "device"'
    """
    (first, name), *others = fields.items()
    selected = [f'last("{first}") AS "{name}"', *(f'"{field}" AS "{alias}"' for field, alias in others)]
    tags = ", ".join(f'"{tag}"' for tag in by)
    return f'SELECT {", ".join(selected)} FROM "{measurement}" {where(*conditions)} GROUP BY {tags}'


def same(*fields: str) -> dict[str, str]:
    """Fields that keep their names."""
    return dict(zip(fields, fields, strict=True))
