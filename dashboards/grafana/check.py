"""Is a provisioning tree right? What Grafana would only show as an empty panel, said in a sentence beforehand."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dashboards.grafana.contents import Json, links_of, panels_of, queries_of, sources_of, variables_of
from dashboards.grafana.macros import ALL, MACROS, names_in, substitute
from dashboards.grafana.query_check import complaints
from dashboards.grafana.sources import EXPRESSION

COLUMNS = 24
SCHEMA_VERSION_MIN = 36
# What Grafana knows by itself: its own data source, mixed queries, and expressions of alert rules.
_BUILT_IN = frozenset({"-- Grafana --", "grafana", "-- Mixed --", EXPRESSION})
_KINDS = frozenset(
    {"row", "stat", "timeseries", "state-timeline", "status-history", "bargauge", "histogram", "table", "text", "gauge",
     "barchart", "piechart", "heatmap", "xychart", "logs", "geomap", "canvas", "alertlist", "dashlist"}
)  # fmt: skip


def check_tree(dashboards: Mapping[str, Json], provisioned: Sequence[Json]) -> list[str]:
    """Returns what is wrong, one sentence each, beginning with the file; [] if nothing.

    Args:
        dashboards: {file name: dashboard}.
        provisioned: the other files: data sources, rules, contact points, policies.
    """
    sources = {str(source.get("uid")) for file in provisioned for source in file.get("datasources", ())}
    by_uid: dict[str, Json] = {}
    found = []
    for name, dashboard in dashboards.items():
        uid = str(dashboard.get("uid") or "")
        if not uid:
            found.append(f"{name}: the dashboard has no uid, so links to it would break")
        elif uid in by_uid:
            found.append(f"{name}: another dashboard has the uid {uid} too")
        by_uid[uid] = dashboard
    for name, dashboard in dashboards.items():
        steps = (_shape, _grid, _variables, _queries)
        found += [f"{name}: {sentence}" for step in steps for sentence in step(dashboard)]
        found += [f"{name}: {sentence}" for sentence in _sources(dashboard, sources)]
        found += [f"{name}: {sentence}" for sentence in _links(dashboard, by_uid)]
    found += [f"alert rules: {sentence}" for file in provisioned for sentence in _rules(file, sources, by_uid)]
    return found + _receivers(provisioned)


def _shape(dashboard: Json) -> Iterator[str]:
    if "spec" in dashboard or "elements" in dashboard:
        yield "this is a dashboard of schema v2, which Grafana does not take from files; export it as classic JSON"
    if int(dashboard.get("schemaVersion") or 0) < SCHEMA_VERSION_MIN:
        yield f"schemaVersion {dashboard.get('schemaVersion')} is older than {SCHEMA_VERSION_MIN}"
    if not dashboard.get("title"):
        yield "the dashboard has no title"
    seen: dict[Any, str] = {}
    for panel in panels_of(dashboard):
        number, title = panel.get("id"), str(panel.get("title") or panel.get("type"))
        if number is None:
            yield f'panel "{title}" has no id'
        elif number in seen:
            yield f'panel "{title}" has the id {number} of panel "{seen[number]}"'
        seen[number] = title
        if panel.get("type") not in _KINDS:
            yield f'panel {number} "{title}" is of the type {panel.get("type")!r}, which Grafana does not bring along'
        refs = [target.get("refId") for target in panel.get("targets", ())]
        if len(set(refs)) < len(refs) or not all(refs):
            yield f'panel {number} "{title}" has queries without a refId of their own'


def _grid(dashboard: Json) -> Iterator[str]:
    taken: list[tuple[int, int, int, int, str]] = []
    for panel in dashboard.get("panels", ()):
        place, name = panel.get("gridPos") or {}, f'panel {panel.get("id")} "{panel.get("title")}"'
        if not {"x", "y", "w", "h"} <= place.keys():
            yield f"{name} has no place on the grid"
            continue
        x, y, right, below = place["x"], place["y"], place["x"] + place["w"], place["y"] + place["h"]
        if x < 0 or y < 0 or right > COLUMNS or place["w"] < 1 or place["h"] < 1:
            yield f"{name} lies outside of the {COLUMNS} columns"
        for left, top, other_right, bottom, other in taken:
            if x < other_right and left < right and y < bottom and top < below:
                yield f"{name} overlaps {other}"
        taken.append((x, y, right, below, name))
        if panel.get("repeat") and place["w"] < COLUMNS:
            yield f"{name} repeats, but leaves room beside itself, where its repetitions would lie over others"


def _variables(dashboard: Json) -> Iterator[str]:
    known = variables_of(dashboard).keys()
    for place, name in _used(dashboard):
        if name not in known and name not in MACROS and not name.startswith("__"):
            yield f"{place} uses the variable ${name}, which the dashboard does not have"
    for panel in panels_of(dashboard):
        if panel.get("repeat") and panel["repeat"] not in known:
            yield f"panel {panel.get('id')} repeats for ${panel['repeat']}, which the dashboard does not have"


def _used(dashboard: Json) -> Iterator[tuple[str, str]]:
    for asked in queries_of(dashboard):
        yield from ((asked.place, name) for name in names_in(asked.text))
    for panel in panels_of(dashboard):
        yield from ((f"panel {panel.get('id')}, title", name) for name in names_in(str(panel.get("title") or "")))
    for link in dashboard.get("links", ()):
        yield from ((f'link "{link.get("title")}"', name) for name in names_in(str(link.get("url") or "")))


def _queries(dashboard: Json) -> Iterator[str]:
    values = {name: _sample(variable) for name, variable in variables_of(dashboard).items()}
    for asked in queries_of(dashboard):
        if not asked.text.strip():
            yield f"{asked.place} is empty"
        elif all(name in values or name in MACROS for name in names_in(asked.text)):
            text = substitute(asked.text, values, from_ms=0, to_ms=3_600_000, interval_ms=10_000)
            yield from (f"{asked.place}: {sentence}" for sentence in complaints(text))


def _sample(variable: Json) -> str:
    if variable.get("type") == "constant":
        return str(variable.get("query"))
    return ALL if variable.get("multi") else "x"


def _sources(dashboard: Json, sources: set[str]) -> Iterator[str]:
    chosen = {name for name, variable in variables_of(dashboard).items() if variable.get("type") == "datasource"}
    for place, uid in sources_of(dashboard):
        if uid.startswith("$"):
            name = next(names_in(uid), "")
            if name not in chosen:
                yield f"{place} asks the data source ${name}, but no variable of the dashboard chooses one by that name"
        elif uid not in sources | _BUILT_IN:
            yield f"{place} asks the data source {uid!r}, which is not provisioned; known are {', '.join(sorted(sources))}"
    for name in chosen:
        uid = str(variables_of(dashboard)[name].get("current", {}).get("value", ""))
        if uid and uid not in sources:
            yield f"variable {name} begins with the data source {uid!r}, which is not provisioned"


def _links(dashboard: Json, by_uid: Mapping[str, Json]) -> Iterator[str]:
    for place, uid, names in links_of(dashboard):
        if uid not in by_uid:
            yield f"{place} leads to the dashboard {uid!r}, which is not there"
            continue
        known = variables_of(by_uid[uid]).keys()
        yield from (
            f"{place} sets {name}, which the dashboard {uid} does not have" for name in names if name not in known
        )


def _rules(file: Json, sources: set[str], by_uid: Mapping[str, Json]) -> Iterator[str]:
    seen: set[str] = set()
    for rule in (rule for group in file.get("groups", ()) for rule in group.get("rules", ())):
        name = f'"{rule.get("title")}"'
        if not rule.get("uid") or rule["uid"] in seen:
            yield f"{name} has no uid of its own"
        seen.add(str(rule.get("uid")))
        refs = {str(part.get("refId")) for part in rule.get("data", ())}
        if rule.get("condition") not in refs:
            yield f"{name} has the condition {rule.get('condition')!r}, but only {', '.join(sorted(refs))}"
        for part in rule.get("data", ()):
            yield from (f"{name}: {sentence}" for sentence in _rule_part(part, refs, sources))
        dashboard = by_uid.get(str(rule.get("dashboardUid")))
        if dashboard is None:
            yield f"{name} leads to the dashboard {rule.get('dashboardUid')!r}, which is not there"
        elif rule.get("panelId") not in {panel.get("id") for panel in panels_of(dashboard)}:
            yield f"{name} leads to panel {rule.get('panelId')} of {rule['dashboardUid']}, which is not there"


def _rule_part(part: Json, refs: set[str], sources: set[str]) -> Iterator[str]:
    uid, model = part.get("datasourceUid"), part.get("model", {})
    if uid == EXPRESSION:
        if model.get("expression") not in refs:
            yield f"{part.get('refId')} works on {model.get('expression')!r}, which is not there"
        return
    if uid not in sources:
        yield f"{part.get('refId')} asks the data source {uid!r}, which is not provisioned"
    text = str(model.get("query", ""))
    strange = [name for name in names_in(text) if name not in MACROS]
    if strange:
        yield f"{part.get('refId')} uses ${strange[0]}: alert rules have no variables"
        return
    if "group by time(" not in text.lower():
        yield f"{part.get('refId')} has no GROUP BY time(…), without which Grafana can't judge it"
    yield from complaints(substitute(text, {}, from_ms=0, to_ms=600_000, interval_ms=60_000))


def _receivers(provisioned: Sequence[Json]) -> list[str]:
    known = {point.get("name") for file in provisioned for point in file.get("contactPoints", ())}
    policies = [policy for file in provisioned for policy in file.get("policies", ())]
    routes = [*policies, *(route for policy in policies for route in policy.get("routes", ()))]
    return [
        f"policy: messages go to {route.get('receiver')!r}, which is no contact point"
        for route in routes
        if route.get("receiver") not in known
    ]
