"""Points in memory for the InfluxQL engine, written as line protocol with seconds."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from headwater.point_columns import DTYPES, Column, Points, Schema, Tags

SECOND_NS = 1_000_000_000
LINES = """
m,a=x,b=p v=1,n=1i,s="one",o=true 10
m,a=x,b=p v=2,n=2i 20
m,a=x,b=p v=3.5,n=7i,s="two" 30
m,a=y,b=p v=10 15
m,a=y,b=q v=20,n=5i,o=false 20
m,a=y,b=q w=5 25
m,a=y,b=q v=-4 42
k,c=z v=1 20
"""


def _value(text: str) -> tuple[str, Any]:
    if text[0] == '"':
        return "string", text[1:-1]
    if text in ("true", "false"):
        return "bool", text == "true"
    return ("int", int(text[:-1])) if text[-1] == "i" else ("float", float(text))


class PlainPoints:
    """A `PointReader` over a few lines."""

    def __init__(self, lines: str = LINES) -> None:
        self.reads = 0
        self._points: dict[str, list[tuple[dict[str, str], dict[str, tuple[str, Any]], int]]] = {}
        for line in lines.strip().splitlines():
            head, fields, time_s = line.split(" ")
            name, *tags = head.split(",")
            told = {key: _value(text) for key, text in (pair.split("=") for pair in fields.split(","))}
            row = (dict(tag.split("=") for tag in tags), told, int(time_s) * SECOND_NS)
            self._points.setdefault(name, []).append(row)

    def schemas(self) -> Mapping[str, Schema]:
        found = {}
        for name, rows in self._points.items():
            kinds = {field: kind for _, told, _ in rows for field, (kind, _) in told.items()}
            found[name] = Schema(tuple(rows[0][0]), kinds)
        return found

    def series(self, measurement: str, series_max: int) -> Sequence[Tags]:
        return sorted({tuple(tags.values()) for tags, _, _ in self._points[measurement]})[: series_max + 1]

    def points(
        self, measurement: str, series: Sequence[Tags], fields: Sequence[str], start_ns: int, end_ns: int,
        take_points: Callable[[int], None],
    ) -> Points:  # fmt: skip
        self.reads += 1
        rows = [
            (series.index(tuple(tags.values())), time_ns, told)
            for tags, told, time_ns in self._points[measurement]
            if tuple(tags.values()) in series and start_ns <= time_ns <= end_ns and set(fields) & set(told)
        ]
        take_points(len(rows))
        kinds = self.schemas()[measurement].fields
        columns = {}
        for name in fields:
            valid = np.array([name in told for _, _, told in rows], np.bool_)
            values = np.zeros(len(rows), DTYPES[kinds[name]])
            for at, (_, _, told) in enumerate(rows):
                if name in told:
                    values[at] = told[name][1]
            columns[name] = Column(kinds[name], values, valid)
        numbers = np.array([(code, time_ns) for code, time_ns, _ in rows], np.int64).reshape(-1, 2)
        return Points(numbers[:, 0], numbers[:, 1], columns)
