"""Draws InfluxQL queries over the plant of `influxql_case`: a grammar of what Grafana and people ask, with its rare corners."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime

from influxql_case import METRICS, SECONDS, START_US, WORDS

from headwater.points import MEASUREMENT_FIELDS, MEASUREMENT_TAGS

START_NS = START_US * 1_000
SECOND_NS = 1_000_000_000
MEASUREMENTS = ("telemetry", "telemetry", "telemetry", "window", "anomaly", "health", "device", "alert", "pipeline")
VALUES = {
    "site": ("north", "south"),
    "device": ("pump-1", "pump-2", "fan 3"),
    "metric": METRICS,
    **WORDS,
}
AGGREGATES = (
    "mean",
    "mean",
    "mean",
    "sum",
    "count",
    "min",
    "max",
    "first",
    "last",
    "spread",
    "stddev",
    "median",
    "mode",
)
TRANSFORMS = (
    "derivative", "non_negative_derivative", "difference", "non_negative_difference", "cumulative_sum",
    "moving_average", "elapsed",
)  # fmt: skip


class Asker:
    """Draws queries from a seeded source."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)

    def chance(self, probability: float) -> bool:
        return self.draw.random() < probability

    def pick(self, options: Sequence[str]) -> str:
        return self.draw.choice(options)

    def name(self, text: str) -> str:
        """A name, quoted where it must be and sometimes where it need not."""
        is_plain = text.isidentifier() and text not in ("window", "device", "state", "message", "stage")
        return text if is_plain and self.chance(0.4) else f'"{text}"'

    def query(self) -> str:
        """One statement."""
        text = self._query()
        while not text.strip():
            text = self._query()
        return text

    def _query(self) -> str:
        if self.chance(0.1):
            return self.show()
        if self.chance(0.06):
            return self.broken()
        if self.chance(0.1):
            return self.over_subquery()
        return self.select(self.pick(MEASUREMENTS))

    def fields(self, measurement: str, *kinds: str) -> list[str]:
        fields = dict(MEASUREMENT_FIELDS[measurement])
        if measurement == "telemetry":
            fields |= {"bad": "float", "quality": "int"}
        return [name for name, kind in fields.items() if not kinds or kind in kinds]

    def number(self, measurement: str) -> str:
        names = self.fields(measurement, "float", "int")
        if measurement == "telemetry" and self.chance(0.7):
            return self.name("value")
        return self.name(self.pick(names or ["value"]))

    # WHERE

    def time_range(self) -> str:
        low = self.draw.randrange(SECONDS)
        high = min(SECONDS, low + self.draw.choice((1, 7, 60, 300, 900, 1800)))
        forms = ("ns", "plain", "ms", "s", "date", "sum")
        left, right = (self.moment(second, self.pick(forms)) for second in (low, high))
        return f"time {self.pick(('>=', '>'))} {left} AND time {self.pick(('<', '<='))} {right}"

    def moment(self, second: int, form: str) -> str:
        ns = START_NS + second * SECOND_NS
        match form:
            case "ns":
                return f"{ns}ns"
            case "plain":
                return str(ns)
            case "ms":
                return f"{ns // 1_000_000}ms"
            case "date":
                at = datetime.fromtimestamp(ns // SECOND_NS, UTC)
                good = (f"'{at:%Y-%m-%dT%H:%M:%S}Z'", f"'{at:%Y-%m-%d %H:%M:%S}'", f"'{at:%Y-%m-%dT%H:%M:%S}+00:00'")
                return self.pick(good) if self.chance(0.95) else f"'{at:%Y-%m-%d %H:%M:%S}Z'"
            case "sum":
                return f"{ns // SECOND_NS - 60}s + 1m"
        return f"{ns // SECOND_NS}s"

    def tag_condition(self, measurement: str) -> str:
        tag = self.pick(MEASUREMENT_TAGS[measurement])
        value = self.pick(VALUES[tag])
        match self.draw.randrange(6):
            case 0:
                return f"{self.name(tag)} != '{value}'"
            case 1:
                return f"{self.name(tag)} =~ /^{value.replace('/', chr(92) + '/')}$/"
            case 2:
                some = [self.pick(VALUES[tag]).replace("/", "\\/") for _ in range(2)]
                return f"{self.name(tag)} =~ /^({'|'.join(some)})$/"
            case 3:
                return f"{self.name(tag)} {self.pick(('=~', '!~'))} /{self.pick(('p', '.*', '[0-9]', 'n$', '^s', 'o.', '(?i)PUMP'))}/"
        return f"{self.name(tag)} = '{value}'"

    def field_condition(self, measurement: str) -> str:
        numbers = self.fields(measurement, "float", "int")
        strings = self.fields(measurement, "string")
        flags = self.fields(measurement, "bool")
        if strings and self.chance(0.25):
            return f"{self.name(self.pick(strings))} {self.pick(('=', '!='))} 'text {self.draw.randrange(7)}'"
        if strings and self.chance(0.2):
            return f"{self.name(self.pick(strings))} {self.pick(('=~', '!~'))} /{self.pick(('[1-3]', 't 4', '.'))}/"
        if flags and self.chance(0.3):
            return f"{self.name(self.pick(flags))} = {self.pick(('true', 'false'))}"
        name = self.name(self.pick(numbers or ["value"]))
        operator = self.pick(("=", "!=", "<>", "<", "<=", ">", ">="))
        if self.chance(0.15):
            return f"{name} {self.pick(('+', '-', '*'))} 2 {operator} {self.draw.randrange(20)}"
        return f"{name} {operator} {self.pick((str(self.draw.randrange(-5, 25)), f'{self.draw.uniform(-5, 25):.2f}'))}"

    def condition(self, measurement: str, depth: int = 0) -> str:
        if depth < 2 and self.chance(0.3):
            parts = [self.condition(measurement, depth + 1) for _ in range(self.draw.choice((2, 2, 3)))]
            joint = self.pick((" AND ", " OR "))
            return f"({joint.join(parts)})"
        return self.field_condition(measurement) if self.chance(0.3) else self.tag_condition(measurement)

    def where(self, measurement: str, *, is_bounded: bool) -> str:
        parts = []
        if is_bounded or self.chance(0.8):
            parts.append(self.time_range())
        while self.chance(0.45) and len(parts) < 3:
            parts.insert(0 if self.chance(0.7) else len(parts), self.condition(measurement))
        return f" WHERE {' AND '.join(parts)}" if parts else ""

    # SELECT

    def interval(self) -> str:
        return self.pick(("1d", "1s", "10s", "10s", "30s", "1m", "1m", "7s", "5m", "1h", "90s"))

    def group(self, measurement: str, interval: str) -> str:
        parts = []
        if interval:
            offset = self.pick(("", "", "", ", 3s", ", -4s", ", 1h"))
            parts.append(f"time({interval}{offset})")
        tags = [self.name(tag) for tag in MEASUREMENT_TAGS[measurement] if self.chance(0.3)]
        if self.chance(0.05):
            tags = [self.pick(("*", "/s|d/"))]
        parts += tags
        self.draw.shuffle(parts)
        return f" GROUP BY {', '.join(parts)}" if parts else ""

    def fill(self) -> str:
        return self.pick(
            ("", "", " fill(null)", " fill(none)", " fill(previous)", " fill(linear)", " fill(0)", " fill(-1.5)")
        )

    def tail(self) -> str:
        text = self.pick(("", "", "", " ORDER BY time DESC", " ORDER BY time ASC"))
        if self.chance(0.25):
            text += f" LIMIT {self.draw.choice((1, 2, 5, 50))}"
        if self.chance(0.08):
            text += f" OFFSET {self.draw.choice((1, 3))}"
        if self.chance(0.08):
            text += f" SLIMIT {self.draw.choice((1, 2))}"
            if self.chance(0.5):
                text += " SOFFSET 1"
        if self.chance(0.05):
            text += f" tz('{self.pick(('Europe/Berlin', 'America/New_York', 'Asia/Kolkata', 'UTC'))}')"
        return text

    def source(self, measurement: str) -> str:
        """Where from; now and then several measurements that share fields of one kind."""
        if measurement in ("anomaly", "telemetry") and self.chance(0.12):
            return self.pick(
                ("/^(anomaly|telemetry)$/", "anomaly, telemetry", "autogen./an.m|tele/", "telemetry, anomaly, nowhere")
            )
        return self.pick(("", "", "", "headwater.autogen.", '"headwater"..', "autogen.")) + self.name(measurement)

    def aggregate(self, measurement: str) -> str:
        function = self.pick(AGGREGATES)
        if function in ("count", "first", "last") and self.chance(0.3):
            return f"{function}({self.name(self.pick(self.fields(measurement)))})"
        if self.chance(0.06):
            return f"count(distinct({self.name(self.pick(self.fields(measurement)))}))"
        if self.chance(0.08):
            return f"percentile({self.number(measurement)}, {self.draw.choice((1, 25, 50, 90, 99.5, 100))})"
        return f"{self.pick((function, function.upper()))}({self.number(measurement)})"

    def transform(self, measurement: str, inner: str) -> str:
        name = self.pick(TRANSFORMS)
        extra = ""
        if name == "moving_average":
            extra = f", {self.draw.choice((2, 3, 5))}"
        elif name in ("derivative", "non_negative_derivative", "elapsed") and self.chance(0.6):
            extra = f", {self.pick(('1s', '10s', '1m', '1ms'))}"
        return f"{name}({inner or self.number(measurement)}{extra})"

    def alias(self) -> str:
        return f" AS {self.pick(('x', 'y', chr(34) + 'a b' + chr(34)))}" if self.chance(0.15) else ""

    def arithmetic(self, left: str, right: str) -> str:
        match self.draw.randrange(4):
            case 0:
                return f"{left} {self.pick(('+', '-', '*', '/'))} {self.draw.choice(('2', '0.5', '10'))}"
            case 1:
                return f"{self.draw.choice(('2', '100'))} {self.pick(('+', '-', '*'))} {left}"
            case 2:
                return f"({left} + {right}) {self.pick(('*', '-'))} 3"
        return f"{left} {self.pick(('+', '-', '*'))} {right}"

    def select(self, measurement: str) -> str:
        match self.draw.randrange(10):
            case 0 | 1:
                return self.raw(measurement)
            case 2:
                return self.selector(measurement)
            case 3 | 4:
                return self.transformed(measurement)
        return self.aggregated(measurement)

    def raw(self, measurement: str) -> str:
        match self.draw.randrange(5):
            case 0:
                columns = self.pick(("*", "*::field", "/a|s/"))
            case 1:
                columns = self.arithmetic(self.number(measurement), self.number(measurement)) + self.alias()
            case _:
                chosen = [self.name(self.pick(self.fields(measurement))) for _ in range(self.draw.choice((1, 2, 3)))]
                if self.chance(0.4):
                    chosen.append(self.name(self.pick(MEASUREMENT_TAGS[measurement])))
                columns = ", ".join(column + self.alias() for column in chosen)
        where = self.where(measurement, is_bounded=False)
        return f"SELECT {columns} FROM {self.source(measurement)}{where}{self.group(measurement, '')}{self.tail()}"

    def aggregated(self, measurement: str) -> str:
        columns = [self.aggregate(measurement) for _ in range(self.draw.choice((1, 1, 1, 2, 3)))]
        if self.chance(0.15):
            columns[0] = self.arithmetic(self.aggregate(measurement), self.aggregate(measurement))
        if self.chance(0.06):
            columns = [f"{self.pick(('mean', 'count', 'last', 'max'))}({self.pick(('*', '/m/'))})"]
        columns = [column + self.alias() for column in columns]
        interval = self.interval() if self.chance(0.7) else ""
        where = self.where(measurement, is_bounded=bool(interval))
        fill = self.fill() if interval else ""
        return (
            f"SELECT {', '.join(columns)} FROM {self.source(measurement)}{where}{self.group(measurement, interval)}"
            f"{fill}{self.tail()}"
        )

    def selector(self, measurement: str) -> str:
        interval = self.interval() if self.chance(0.5) else ""
        number = self.number(measurement)
        match self.draw.randrange(4):
            case 0:
                tags = [self.name(tag) for tag in MEASUREMENT_TAGS[measurement] if self.chance(0.25)]
                column = (
                    f"{self.pick(('top', 'bottom'))}({', '.join([number, *tags, str(self.draw.choice((1, 2, 5)))])})"
                )
            case 1:
                column = f"distinct({self.name(self.pick(self.fields(measurement)))})"
            case _:
                column = f"{self.pick(('max', 'min', 'first', 'last'))}({number})"
                if self.chance(0.6):
                    column += f", {self.name(self.pick((*self.fields(measurement), *MEASUREMENT_TAGS[measurement])))}"
        where = self.where(measurement, is_bounded=bool(interval))
        return f"SELECT {column} FROM {self.source(measurement)}{where}{self.group(measurement, interval)}{self.tail()}"

    def transformed(self, measurement: str) -> str:
        interval = self.interval() if self.chance(0.7) else ""
        inner = f"{self.pick(AGGREGATES)}({self.number(measurement)})" if interval else ""
        column = self.transform(measurement, inner)
        if self.chance(0.15):
            column += f" {self.pick(('*', '/'))} 3"
        where = self.where(measurement, is_bounded=bool(interval))
        fill = self.fill() if interval else ""
        return (
            f"SELECT {column}{self.alias()} FROM {self.source(measurement)}{where}{self.group(measurement, interval)}"
            f"{fill}{self.tail()}"
        )

    def over_subquery(self) -> str:
        measurement = self.pick(MEASUREMENTS)
        number = self.number(measurement)
        tags = [tag for tag in MEASUREMENT_TAGS[measurement] if self.chance(0.5)]
        interval = self.interval() if self.chance(0.5) else ""
        parts = [*([f"time({interval})"] if interval else []), *(self.name(tag) for tag in tags)]
        group = f" GROUP BY {', '.join(parts)}" if parts else ""
        inner = (
            f"SELECT {self.pick(('mean', 'last', 'max', 'sum', 'count'))}({number}) AS x FROM {self.name(measurement)}"
        )
        where = f" WHERE {self.time_range()}" + (f" AND {self.tag_condition(measurement)}" if self.chance(0.3) else "")
        outer_parts = [self.name(tag) for tag in tags if self.chance(0.4)]
        if interval and self.chance(0.3):
            outer_parts.append("time(5m)")
        outer = f" GROUP BY {', '.join(outer_parts)}" if outer_parts else ""
        column = self.pick(("sum(x)", "count(x)", "mean(x)", "max(x)", "min(x)", "last(x)", "spread(x)"))
        return f"SELECT {column} FROM ({inner}{where}{group}){where}{outer}"

    # the rest

    def show(self) -> str:
        measurement = self.pick(MEASUREMENTS)
        source = self.pick(("", f" FROM {self.name(measurement)}", f" FROM /{measurement[:4]}/"))
        where = f" WHERE {self.tag_condition(measurement)}" if self.chance(0.4) else ""
        match self.draw.randrange(8):
            case 0:
                return 'SHOW RETENTION POLICIES ON "headwater"'
            case 1:
                return "SHOW MEASUREMENTS" + self.pick(
                    ("", " WITH MEASUREMENT =~ /e/", " WITH MEASUREMENT = telemetry", " LIMIT 2")
                )
            case 2:
                return f"SHOW TAG KEYS{source}"
            case 3:
                return f"SHOW FIELD KEYS{source}"
            case 4:
                return f"SHOW SERIES{source}{where}" + self.pick(("", " LIMIT 3", " LIMIT 2 OFFSET 1"))
            case 5:
                return "SHOW RETENTION POLICIES" + self.pick(("", ' ON "headwater"', " ON nowhere"))
        key = self.pick(MEASUREMENT_TAGS[measurement])
        how = self.pick(
            (f"= {self.name(key)}", f"IN ({self.name(key)}, {self.name('site')})", "=~ /.*e.*/", f"!= {self.name(key)}")
        )
        return f"SHOW TAG VALUES{source} WITH KEY {how}{where}" + self.pick(("", "", " LIMIT 2"))

    def broken(self) -> str:
        """A query with something wrong; most of them still scan."""
        query = self.select(self.pick(MEASUREMENTS))
        while "time(" in query.lower():  # Without its WHERE such a query would ask for all windows since 1970.
            query = self.select(self.pick(MEASUREMENTS))
        words = query.split(" ")
        at = self.draw.randrange(len(words))
        match self.draw.randrange(8):
            case 0:
                return f"SELECT {self.pick(('foo(value)', 'mean(value, 2)', 'mean()', '1', 'time', 'value, mean(value)', 'mean(value), *'))} FROM telemetry"
            case 1:
                return f"SELECT value FROM telemetry {self.pick(('fill(none)', 'GROUP BY time(1m)', 'LIMIT -1', 'LIMIT x', 'ORDER BY value'))}"
            case 2:
                return f"SELECT mean(value) FROM telemetry GROUP BY {self.pick(('time', 'time()', 'time(1)', 'foo(1m)', '5', 'time(1m), time(2m)'))}"
            case 3:
                return f"SELECT {self.pick(('derivative(mean(value))', 'moving_average(value)', 'moving_average(value, 1)', 'derivative(value, 5)', 'distinct(value), mean(value)', 'top(value, 0)', 'max(value), min(value), site', 'mean(mean(value))'))} FROM telemetry"
            case 4:
                return f"SELECT value FROM telemetry WHERE {self.pick(('time != 5', 'time > value', 'mean(value) > 1', '5', 'value', chr(39) + 'x' + chr(39), 'time =~ /x/', 'device =~ /(/', 'device =~ /a{2,1}/', 'device =~ 5'))}"
            case 5:
                return " ".join(words[:at])
            case 6:
                return " ".join(
                    [*words[:at], self.pick(("FROM", ",", "(", ")", "AND", "5", "=", "GROUP")), *words[at:]]
                )
        return " ".join([*words[:at], *words[at + 1 :]])
