"""What all dashboards have in common: variables, annotations, links to each other, and panels put on the grid."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.cog.runtime import UnknownDataquery
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.common import DataSourceRef

from dashboards.grafana.looks import ORANGE, RED
from dashboards.grafana.macros import ALL
from dashboards.grafana.panels import SOURCE
from dashboards.grafana.queries import DEVICE, SITE, where
from dashboards.grafana.sources import INFLUXDB_UID

TAG = "headwater"
COLUMNS = 24
FLEET_UID, DEVICE_UID, ANOMALIES_UID = "headwater-fleet", "headwater-device", "headwater-anomalies"
MAINTENANCE_UID, PIPELINE_UID = "headwater-maintenance", "headwater-pipeline"
# All dashboards and their names, in the order of the links at the top of each.
MENU = {
    FLEET_UID: "Fleet",
    DEVICE_UID: "Device",
    ANOMALIES_UID: "Anomalies",
    MAINTENANCE_UID: "Predictive maintenance",
    PIPELINE_UID: "Pipeline health",
}
_TO_DEVICE = f"/d/{DEVICE_UID}?var-ds=${{ds}}&var-site=%s&var-device=%s&${{__url_time_range}}"
# Where a device leads: from a row its columns say which one, from a series its labels do.
TO_DEVICE = _TO_DEVICE % ("${__data.fields.site}", "${__data.fields.device}")
SERIES_TO_DEVICE = _TO_DEVICE % ("${__field.labels.site}", "${__field.labels.device}")


@dataclass(frozen=True, slots=True)
class Section:
    """A row of the dashboard with a title, and the panels below it from left to right, line by line."""

    title: str
    panels: tuple[model.Panel, ...]


@dataclass(frozen=True, slots=True)
class Screen:
    """A dashboard before it is put together.

    Attributes:
        uid, about: a key of MENU, fixed for ever, because links from outside stand on it; what it answers.
        variables: in the order of their chain.
        annotations: events drawn into every chart.
        sections: from what matters most downwards.
        span, refresh: the time range at first sight, and how often it is asked for again.
    """

    uid: str
    about: str
    variables: tuple[model.VariableModel, ...]
    annotations: tuple[model.AnnotationQuery, ...]
    sections: tuple[Section, ...]
    span: str = "now-30m"
    refresh: str = "10s"

    def dashboard(self) -> model.Dashboard:
        """Returns it with numbers, places and links."""
        return model.Dashboard(
            uid=self.uid,
            title=f"Headwater / {MENU[self.uid]}",
            description=self.about,
            tags=[TAG],
            timezone="browser",
            editable=True,
            graph_tooltip=model.DashboardCursorSync.CROSSHAIR,
            time=model.DashboardDashboardTime(from_val=self.span, to="now"),
            refresh=self.refresh,
            timepicker=model.TimePickerConfig(refresh_intervals=["5s", "10s", "30s", "1m", "5m", "15m"]),
            templating=model.DashboardDashboardTemplating(list_val=[source_variable(), *self.variables]),
            annotations=model.AnnotationContainer(list_val=[_manual(), *self.annotations]),
            links=[_to(uid, title, ("site",)) for uid, title in MENU.items() if uid != self.uid],
            panels=list(placed(self.sections)),
        )


def placed(sections: Sequence[Section]) -> list[model.Panel | model.RowPanel]:
    """Numbers the panels from 1 and puts them on the grid: lines are filled from the left, as high as their highest."""
    found: list[model.Panel | model.RowPanel] = []
    y = 0
    for section in sections:
        found.append(
            model.RowPanel(title=section.title, id_val=len(found) + 1, grid_pos=model.GridPos(h=1, w=COLUMNS, x=0, y=y))
        )
        y += 1
        x = line = 0
        for panel in section.panels:
            place = panel.grid_pos
            assert place is not None, panel.title
            if x + place.w > COLUMNS:
                x, y, line = 0, y + line, 0
            place.x, place.y = x, y
            panel.id_val = len(found) + 1
            found.append(panel)
            x, line = x + place.w, max(line, place.h)
        y += line
    return found


def source_variable() -> model.VariableModel:
    """The variable `ds`: which of the data sources named Headwater is asked."""
    return model.VariableModel(
        type_val=model.VariableType.DATASOURCE,
        name="ds",
        label="Data source",
        query="influxdb",
        regex="/Headwater/",
        current=model.VariableOption(text="Headwater", value=INFLUXDB_UID),
        refresh=model.VariableRefresh.ON_DASHBOARD_LOAD,
        options=[],
    )


def tag_variable(
    name: str, label: str, measurement: str, *conditions: str, many: bool, bucket: str = ""
) -> model.VariableModel:
    """A variable over the values of a tag; `conditions` chain it to the variables before it.

    With `many` it may hold several values and begins with all of them; `bucket` is a variable of `bucket_variable`.
    """
    where = f'ON "${{{bucket}}}" ' if bucket else ""
    text = f'SHOW TAG VALUES {where}FROM "{measurement}" WITH KEY = "{name}"'
    if conditions:
        text += " WHERE " + " AND ".join(conditions)
    query: dict[str, object] = {"refId": f"variable-{name}", "query": text}
    return model.VariableModel(
        type_val=model.VariableType.QUERY,
        name=name,
        label=label,
        datasource=SOURCE,
        query=query,
        refresh=model.VariableRefresh.ON_DASHBOARD_LOAD,
        sort=model.VariableSort.NATURAL_ASC,
        multi=many,
        include_all=many,
        all_value=ALL if many else None,
        current=model.VariableOption(text=["All"], value=["$__all"]) if many else model.VariableOption(),
        options=[],
    )


def bucket_variable(name: str, label: str) -> model.VariableModel:
    """A hidden constant with the name of a bucket, as `[influx]` has it by default."""
    return model.VariableModel(
        type_val=model.VariableType.CONSTANT,
        name=name,
        label=label,
        hide=model.VariableHide.HIDE_VARIABLE,
        query=name,
        current=model.VariableOption(text=name, value=name),
        options=[],
    )


def event_annotations(*, by_device: bool) -> tuple[model.AnnotationQuery, ...]:
    """What detectors saw and what rules said, as marks in every chart; of the chosen sites or devices."""
    chosen = (SITE, DEVICE) if by_device else (SITE,)
    anomalies = f'SELECT "message", "site", "device", "metric", "severity" FROM "anomaly" {where(*chosen)} LIMIT 300'
    alerts = f'SELECT "message", "site", "device", "rule", "state" FROM "alert" {where(*chosen)} LIMIT 300'
    return (
        _annotation("Anomalies", anomalies, "site,device,metric,severity", ORANGE),
        _annotation("Alerts", alerts, "site,device,rule,state", RED),
    )


def _annotation(name: str, query: str, tags: str, colour: str) -> model.AnnotationQuery:
    target: dict[str, Any] = {
        "refId": f"annotation-{name.lower()}",
        "query": query,
        "rawQuery": True,
        "fromAnnotations": True,
        "queryType": "tags",
        "textColumn": "message",
        "tagsColumn": tags,
        "titleColumn": "",
        "timeEndColumn": "",
        "name": name,
    }
    return model.AnnotationQuery(
        name=name, datasource=SOURCE, enable=True, icon_color=colour, target=UnknownDataquery(target)
    )


def _manual() -> model.AnnotationQuery:
    """Grafana's own list of notes that people write into charts."""
    return model.AnnotationQuery(
        name="Notes",
        datasource=DataSourceRef(type_val="grafana", uid="-- Grafana --"),
        enable=True,
        icon_color="blue",
        built_in=1,
        type_val="dashboard",
    )


def _to(uid: str, title: str, variables: Sequence[str]) -> model.DashboardLink:
    """A link at the top; it takes along only what the other dashboard knows too."""
    chosen = "&".join(f"${{{name}:queryparam}}" for name in ("ds", *variables))
    return model.DashboardLink(
        title=title,
        type_val=model.DashboardLinkType.LINK,
        icon="dashboard",
        tooltip=f"{title}, for the same data source, site and time",
        url=f"/d/{uid}?{chosen}",
        tags=[],
        keep_time=True,
    )
