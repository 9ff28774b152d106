"""What a dashboard's JSON holds, as Grafana reads it: panels, queries, variables and links; pure walks over plain data."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Json = Mapping[str, Any]

_LINK = re.compile(r"/d/(?P<uid>[\w-]+)")
_URL_VARIABLE = re.compile(r"var-(?P<name>\w+)=|\$\{(?P<param>\w+):queryparam\}")


@dataclass(frozen=True, slots=True)
class Asked:
    """A query that Grafana would send.

    Attributes:
        place: where it stands, for people.
        text: raw InfluxQL with variables and macros.
        is_table: its answer is wanted as rows.
        interval: the panel's smallest interval, such as "10s"; "" if it has none.
    """

    place: str
    text: str
    is_table: bool = True
    interval: str = ""


def panels_of(dashboard: Json) -> Iterator[Json]:
    """Yields every panel, rows and the panels inside of collapsed rows included."""
    for panel in dashboard.get("panels", ()):
        yield panel
        yield from panel.get("panels", ())


def variables_of(dashboard: Json) -> dict[str, Json]:
    """Returns {name: variable}."""
    return {variable["name"]: variable for variable in dashboard.get("templating", {}).get("list", ())}


def queries_of(dashboard: Json) -> Iterator[Asked]:
    """Yields the queries of all panels, variables and annotations."""
    for panel in panels_of(dashboard):
        for target in panel.get("targets", ()):
            place = f'panel {panel.get("id")} "{panel.get("title")}", query {target.get("refId")}'
            is_table = target.get("resultFormat") == "table"
            yield Asked(place, target.get("query", ""), is_table, panel.get("interval") or "")
    for name, variable in variables_of(dashboard).items():
        if variable.get("type") == "query":
            query = variable.get("query", "")
            yield Asked(f"variable {name}", query if isinstance(query, str) else query.get("query", ""))
    for annotation in dashboard.get("annotations", {}).get("list", ()):
        if not annotation.get("builtIn"):
            yield Asked(f'annotation "{annotation.get("name")}"', annotation.get("target", {}).get("query", ""))


def sources_of(dashboard: Json) -> Iterator[tuple[str, str]]:
    """Yields (place, uid) of every data source that something refers to."""
    for panel in panels_of(dashboard):
        place = f'panel {panel.get("id")} "{panel.get("title")}"'
        for part in (panel, *panel.get("targets", ())):
            if part.get("datasource"):
                yield place, str(part["datasource"].get("uid", ""))
    for name, variable in variables_of(dashboard).items():
        if variable.get("datasource"):
            yield f"variable {name}", str(variable["datasource"].get("uid", ""))
    for annotation in dashboard.get("annotations", {}).get("list", ()):
        yield f'annotation "{annotation.get("name")}"', str(annotation.get("datasource", {}).get("uid", ""))


def links_of(dashboard: Json) -> Iterator[tuple[str, str, list[str]]]:
    """Yields (place, uid, names of variables in the URL) of every link to a dashboard."""
    for place, url in _urls(dashboard, ""):
        found = _LINK.search(url)
        if found:
            yield place, found["uid"], [name["name"] or name["param"] for name in _URL_VARIABLE.finditer(url)]


def _urls(value: Any, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        here = f'panel {value["id"]} "{value.get("title")}"' if "gridPos" in value else place
        if isinstance(value.get("url"), str):
            yield here or f'link "{value.get("title")}"', value["url"]
        for below in value.values():
            yield from _urls(below, here)
    elif isinstance(value, list):
        for below in value:
            yield from _urls(below, place)
