"""What a request may cost, and the protocol of what the engine reads from; pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from dashboards.influxql.errors import QueryError
from headwater.frame import Int64 as Ints
from headwater.point_columns import Bools, Column, Points, Schema, Tags, absent

__all__ = ["Bools", "Budget", "Column", "Ints", "PointReader", "Points", "Schema", "Tags", "absent"]


@dataclass(slots=True)
class Budget:
    """What one request may cost, all of its statements together; `is_over` tells whether its time is up or nobody waits for it any more.

    Attributes:
        points_max: points read from the store.
        values_max: values in the answer; also those between, of one statement.
        series_max: series that one statement looks at.
        points, values: what it has cost so far.
    """

    points_max: int
    values_max: int
    series_max: int
    is_over: Callable[[], bool]
    points: int = 0
    values: int = 0

    def check(self) -> None:
        """Raises QueryError when the time is up."""
        if self.is_over():
            raise QueryError("query interrupted: it took longer than page.influxql_time, or was given up")

    def take_points(self, n: int) -> None:
        """Counts points that were read.

        Raises:
            QueryError: they are too many.
        """
        self.points += n
        if self.points > self.points_max:
            raise QueryError(
                f"max-select-point limit exceeed: ({self.points}/{self.points_max}): narrow the time range, or name "
                "device and metric"
            )
        self.check()

    def take_values(self, n: int) -> None:
        """Counts values that are answered.

        Raises:
            QueryError: they are too many.
        """
        self.values += n
        self.check_values(self.values)

    def check_values(self, n: int) -> None:
        """Refuses answers that are too long."""
        if n > self.values_max:
            raise QueryError(
                f"max-select-buckets limit exceeded: ({n}/{self.values_max}): take a longer GROUP BY time() interval, "
                "a shorter time range, or a LIMIT"
            )

    def check_series(self, n: int) -> None:
        """Refuses to look at too many series."""
        if n > self.series_max:
            raise QueryError(f"max-select-series limit exceeded: ({n}/{self.series_max}): narrow by tags")


class PointReader(Protocol):
    """Gives the engine points; `headwater.io.store_sqlite_influxql.InfluxqlReader` is one.

    Every method may block and may raise ConnectError.
    """

    def schemas(self) -> Mapping[str, Schema]:
        """The measurements that hold points, by name."""

    def series(self, measurement: str, series_max: int) -> Sequence[Tags]:
        """Tag values of the series of a measurement in the order of its tags, sorted; at most `series_max` + 1."""

    def points(
        self,
        measurement: str,
        series: Sequence[Tags],
        fields: Sequence[str],
        start_ns: int,
        end_ns: int,
        take_points: Callable[[int], None],
    ) -> Points:
        """All points of these series with `start_ns` <= time <= `end_ns` that have one of the fields.

        A series and time come once. Calls `take_points(n)` as it reads, which may raise to end it.
        """
