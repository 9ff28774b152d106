"""Answers a request: its statements one by one, each with its own error, in the shape of InfluxDB 1.x."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dashboards.influxql.answers import select_series
from dashboards.influxql.catalog import Catalog
from dashboards.influxql.errors import QueryError
from dashboards.influxql.execute import run_plan
from dashboards.influxql.parser import parse
from dashboards.influxql.plan import Outer, Plan, make_plan, union
from dashboards.influxql.points import Budget, PointReader
from dashboards.influxql.show import show_series
from dashboards.influxql.sources import Derived, Origin, Table
from dashboards.influxql.syntax import Measurement, Select, Show, Statement


@dataclass(frozen=True, slots=True)
class Engine:
    """Answers queries from one store.

    Attributes:
        reader: where the points are.
        database: the one name under which they are asked for.
        make_budget: gives each request what it may cost.
    """

    reader: PointReader
    database: str
    make_budget: Callable[[], Budget]

    @property
    def _catalog(self) -> Catalog:
        return Catalog(self.reader, self.database)

    def answer(
        self, text: str, *, database: str, epoch: str, now_ns: int, parameters: Mapping[str, object] | None = None
    ) -> dict[str, Any]:
        """Returns {"results": […]}, one entry a statement.

        Args:
            text: statements with `;` between them.
            database: the request's `db`.
            epoch: "ns", "u", "ms", "s", "m" or "h" for numbers; "" for RFC 3339.
            now_ns: what now() is.
            parameters: values of `$name`.

        Raises:
            ParseError: the text isn't in the grammar.
            ConnectError: the store can't be read.
        """
        results = []
        budget = self.make_budget()
        for number, statement in enumerate(parse(text, parameters)):
            try:
                series = self.series(statement, database, epoch, now_ns, budget)
            except QueryError as error:
                results.append({"statement_id": number, "error": str(error)})
                continue
            results.append({"statement_id": number, **({"series": series} if series else {})})
        return {"results": results}

    def series(
        self, statement: Statement, database: str, epoch: str, now_ns: int, budget: Budget
    ) -> list[dict[str, Any]]:
        """Answers one statement.

        Raises:
            QueryError: it can't be answered.
        """
        if isinstance(statement, Show):
            return show_series(statement, self._catalog, database, now_ns, budget)
        tables = self.tables(statement, database, now_ns, budget)[1]
        return select_series(statement, tables, epoch, budget)

    def tables(
        self, select: Select, database: str, now_ns: int, budget: Budget, outer: Outer | None = None
    ) -> tuple[Plan, list[Table]]:
        """Runs a SELECT; a table for each of its measurements, by name in the direction of ORDER BY."""
        inner = [source for source in select.sources if isinstance(source, Select)]
        stored = self._catalog.resolve(
            [source for source in select.sources if isinstance(source, Measurement)], database
        )
        if inner and len(select.sources) > 1:
            raise QueryError("a subquery beside other sources is not available here: ask for them one by one")
        origins: list[Origin] = list(stored)
        if inner:
            # What the inner query takes over doesn't depend on the columns, so an open schema does for it.
            around = make_plan(select, union(()), now_ns, outer)
            passed = Outer(around.span, around.windows, around.ascending)
            made = self.tables(inner[0], database, now_ns, budget, passed)[1]
            origins = [Derived(table) for table in made]
        schema = union(origin.schema for origin in origins)
        plan = make_plan(select, schema, now_ns, outer)
        if not plan.ascending:
            origins.reverse()
        limits = (select.slimit, select.soffset)
        return plan, [run_plan(plan, origin, limits, budget) for origin in origins]
