"""Which measurements there are under the one name of the database, and which of them a source means."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dashboards.influxql.errors import QueryError
from dashboards.influxql.points import PointReader
from dashboards.influxql.regex import Regex
from dashboards.influxql.sources import Stored
from dashboards.influxql.syntax import Measurement, Pattern

BUCKETS = ("raw", "windows", "events")
POLICY = "autogen"


@dataclass(frozen=True, slots=True)
class Catalog:
    """One database.

    Attributes:
        reader: where the points are.
        database: the name under which they are asked for.
    """

    reader: PointReader
    database: str

    def resolve(self, sources: Sequence[Measurement], database: str) -> list[Stored]:
        """Returns the measurements that sources name, each once, by name.

        Raises:
            QueryError: a source is in another database or retention policy.
        """
        for source in sources:
            self.check_database(source.database or database)
            if source.policy not in ("", POLICY):
                raise QueryError(f"retention policy not found: {source.policy}")
        if not sources:
            return []
        schemas = self.reader.schemas()
        names = {name for source in sources for name in _named(source, schemas)}
        return [Stored(name, schemas[name], self.reader) for name in sorted(names)]

    def check_database(self, name: str) -> None:
        """Refuses another database; the buckets of a store on InfluxDB (docs/influxdb.md) are other names of this one."""
        if not name:
            raise QueryError("database name required")
        if name != self.database and name not in BUCKETS:
            raise QueryError(f"database not found: {name}")


def _named(source: Measurement, schemas: Mapping[str, object]) -> list[str]:
    if isinstance(source.name, Pattern):
        regex = Regex(source.name.text)
        return [name for name in schemas if regex.search(name)]
    return [source.name] if source.name in schemas else []
