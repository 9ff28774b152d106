"""Panels of the kinds that the dashboards use, all in one manner; they have a size, but no place and no number yet."""

from collections.abc import Mapping, Sequence

from grafana_foundation_sdk.cog.runtime import UnknownDataquery
from grafana_foundation_sdk.models import bargauge, common, geomap, histogram, statetimeline, statushistory, timeseries
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import stat as stat_kind
from grafana_foundation_sdk.models import table as table_kind
from grafana_foundation_sdk.models import text as text_kind

from dashboards.grafana.looks import GREY, SEVERITY_COLOURS, Look
from dashboards.grafana.queries import Query
from dashboards.grafana.sources import CHOSEN

SOURCE = common.DataSourceRef(type_val="influxdb", uid=CHOSEN)
OPEN = "Open the device"
_REFS = "ABCDEFGH"
Columns = Mapping[str, Look]


def stat(title: str, about: str, query: Query, look: Look, *, width: int = 4, spark: bool = False) -> model.Panel:
    """One number, coloured by its thresholds."""
    graph = common.BigValueGraphMode.AREA if spark else common.BigValueGraphMode.NONE
    options = stat_kind.Options(
        graph_mode=graph,
        color_mode=common.BigValueColorMode.VALUE,
        text_mode=common.BigValueTextMode.VALUE,
        reduce_options=common.ReduceDataOptions(calcs=["lastNotNull"], fields=_only(query), values=False),
    )
    return _panel("stat", title, about, [query], look, options, size=(width, 4))


def chart(
    title: str,
    about: str,
    queries: Sequence[Query],
    look: Look,
    *,
    width: int = 12,
    height: int = 8,
    interval: str = "10s",
    bars: bool = False,
    band: tuple[str, str] | None = None,
    calcs: Sequence[str] = ("lastNotNull", "max"),
) -> model.Panel:
    """Series over time as lines, or as bars; `band` fills the space between two of them (upper, lower)."""
    custom = common.GraphFieldConfig(
        draw_style=common.GraphDrawStyle.BARS if bars else common.GraphDrawStyle.LINE,
        line_width=1,
        fill_opacity=70 if bars else 0,
        show_points=common.VisibilityMode.NEVER if bars else common.VisibilityMode.AUTO,
        # Queries fill(null): a line goes on over short waits and breaks where nothing came for longer (ms).
        span_nulls=False if bars else 300_000,
    )
    if look.steps:
        custom.thresholds_style = common.GraphThresholdsStyleConfig(mode=common.GraphThresholdsStyleMode.DASHED)
    options = timeseries.Options(
        legend=_legend(calcs),
        tooltip=common.VizTooltipOptions(mode=common.TooltipDisplayMode.MULTI, sort=common.SortOrder.DESCENDING),
    )
    panel = _panel("timeseries", title, about, queries, look, options, custom, size=(width, height))
    panel.interval = interval
    # Thresholds are drawn as lines; the series keep colours of their own.
    _defaults(panel).color = model.FieldColor(mode=model.FieldColorModeId.PALETTE_CLASSIC)
    if band is not None:
        upper, lower = band
        quiet = [("custom.lineWidth", 0), ("custom.showPoints", "never")]
        _override(panel, upper, [*quiet, ("custom.fillBelowTo", lower), ("custom.fillOpacity", 15)])
        _override(panel, lower, quiet)
    return panel


def timeline(title: str, about: str, query: Query, look: Look, *, height: int = 8, interval: str = "1m") -> model.Panel:
    """One lane a series, coloured by its state; a state holds until the next one."""
    options = statetimeline.Options(
        show_value=common.VisibilityMode.NEVER,
        merge_values=True,
        row_height=0.8,
        per_page=20,
        legend=_legend(()),
        tooltip=common.VizTooltipOptions(mode=common.TooltipDisplayMode.SINGLE),
    )
    panel = _panel(
        "state-timeline", title, about, [query], look, options, statetimeline.FieldConfig(), size=(24, height)
    )
    panel.interval = interval
    return panel


def history(title: str, about: str, query: Query, look: Look, *, width: int = 24, height: int = 8) -> model.Panel:
    """A grid of series by time, coloured by how many."""
    options = statushistory.Options(
        show_value=common.VisibilityMode.AUTO,
        per_page=20,
        legend=_legend(()),
        tooltip=common.VizTooltipOptions(mode=common.TooltipDisplayMode.SINGLE),
    )
    panel = _panel(
        "status-history", title, about, [query], look, options, statushistory.FieldConfig(), size=(width, height)
    )
    panel.interval = "5m"
    return panel


def ranking(title: str, about: str, query: Query, look: Look, *, width: int = 8, height: int = 8) -> model.Panel:
    """A bar a row, named by the row's text columns."""
    options = bargauge.Options(
        display_mode=common.BarGaugeDisplayMode.BASIC,
        name_placement=common.BarGaugeNamePlacement.LEFT,
        orientation=common.VizOrientation.HORIZONTAL,
        reduce_options=common.ReduceDataOptions(values=True, limit=10, calcs=["lastNotNull"], fields=_only(query)),
    )
    return _panel("bargauge", title, about, [query], look, options, size=(width, height))


def distribution(title: str, about: str, query: Query, look: Look, *, width: int = 12, height: int = 8) -> model.Panel:
    """How often which value was there."""
    options = histogram.Options(legend=_legend(("count", "mean")), combine=False)
    return _panel("histogram", title, about, [query], look, options, histogram.FieldConfig(), size=(width, height))


def rows(
    title: str,
    about: str,
    query: Query,
    columns: Columns,
    *,
    height: int = 9,
    width: int = 24,
    sort: str = "",
    descending: bool = False,
    time: str = "",
    link: str = "",
) -> model.Panel:
    """A table; `time` names the column Time or "" hides it, `link` is where a device's name leads."""
    options = table_kind.Options(
        cell_height=common.TableCellHeight.SM,
        sort_by=[common.TableSortByFieldState(display_name=sort, desc=descending)] if sort else [],
        footer=common.TableFooterOptions(show=False, reducer=[], fields=[]),
    )
    custom = common.TableFieldOptions(filterable=True)
    panel = _panel("table", title, about, [query], Look(), options, custom, size=(width, height))
    _override(panel, "Time", [("displayName", time)] if time else [("custom.hidden", True)])
    for name, look in columns.items():
        coloured = [("custom.cellOptions", {"type": "color-text"})] if look.steps or look.words else []
        if look.low is not None and look.high is not None:
            coloured = [("custom.cellOptions", {"type": "gauge", "mode": "basic"})]
        _override(panel, name, [*((found.id_val, found.value) for found in look.properties()), *coloured])
    if link:
        _override(panel, "device", [("links", [{"title": OPEN, "url": link}])])
    return panel


def places(
    title: str, about: str, query: Query, look: Look, *, width: int = 24, height: int = 12, link: str = ""
) -> model.Panel:
    """A map with a marker for each row, at its columns `lat` and `lon`, coloured by its column `state`.

    The ground is the outlines of countries that Grafana brings along, so that no browser asks a server of others;
    whoever runs Grafana may put tiles in their place (docs/grafana.md). `link` is where a device's name leads.
    """
    markers = common.MapLayerOptions(
        type_val="markers",
        name="Devices",
        location=common.FrameGeometrySource(
            mode=common.FrameGeometrySourceMode.COORDS, latitude="lat", longitude="lon"
        ),
        config={
            "showLegend": False,
            "style": {
                "color": {"field": "state", "fixed": GREY},
                "opacity": 0.8,
                "size": {"fixed": 7, "min": 2, "max": 15},
                "symbol": {"mode": "fixed", "fixed": "img/icons/marker/circle.svg"},
            },
        },
        tooltip=True,
    )
    ground = common.MapLayerOptions(
        type_val="geojson",
        name="Countries",
        config={
            "src": "public/maps/countries.geojson",
            "rules": [],
            "style": {"color": {"fixed": GREY}, "opacity": 0.1, "lineWidth": 1},
        },
        tooltip=False,
    )
    options = geomap.Options(
        # As near as lets all devices in, but not nearer than a works of some hundred metres.
        view=geomap.MapViewConfig(id_val="fit", zoom=16, padding=10, all_layers=False, layer=markers.name),
        controls=geomap.ControlsOptions(
            show_zoom=True, mouse_wheel_zoom=False, show_attribution=True, show_scale=True, show_measure=False
        ),
        basemap=ground,
        layers=[markers],
        tooltip=geomap.TooltipOptions(mode=geomap.TooltipMode.DETAILS),
    )
    panel = _panel("geomap", title, about, [query], Look(nothing=look.nothing), options, size=(width, height))
    _override(panel, "Time", [("displayName", "last report")])
    for name in ("lat", "lon"):
        _override(panel, name, [("unit", "degree"), ("decimals", 5)])
    coloured = [("color", {"mode": "thresholds"})] if look.steps else []
    _override(panel, "state", [*((found.id_val, found.value) for found in look.properties()), *coloured])
    if link:
        _override(panel, "device", [("links", [{"title": OPEN, "url": link}])])
    return panel


def note(content: str, *, width: int = 24, height: int = 3) -> model.Panel:
    """A text in Markdown."""
    options = text_kind.Options(mode=text_kind.TextMode.MARKDOWN, content=content)
    panel = model.Panel(type_val="text", title="", transparent=True, options=options)
    panel.grid_pos = model.GridPos(w=width, h=height)
    return panel


def linked(panel: model.Panel, url: str) -> model.Panel:
    """Lets every bar, lane or series lead to its device."""
    assert panel.field_config is not None
    panel.field_config.overrides.append(
        model.DashboardFieldConfigSourceOverrides(
            matcher=model.MatcherConfig(id_val="byRegexp", options="/.*/"),
            properties=[model.DynamicConfigValue(id_val="links", value=[{"title": OPEN, "url": url}])],
        )
    )
    return panel


def severities(panel: model.Panel) -> model.Panel:
    """Gives the series "critical", "warning" and "info" their colours."""
    for severity, colour in SEVERITY_COLOURS.items():
        _override(panel, severity, [("color", {"mode": "fixed", "fixedColor": colour})])
    return panel


def _panel(
    kind: str,
    title: str,
    about: str,
    queries: Sequence[Query],
    look: Look,
    options: object,
    custom: object = None,
    *,
    size: tuple[int, int],
) -> model.Panel:
    return model.Panel(
        type_val=kind,
        title=title,
        description=about,
        datasource=SOURCE,
        targets=[_target(ref, query) for ref, query in zip(_REFS, queries, strict=False)],
        grid_pos=model.GridPos(w=size[0], h=size[1]),
        options=options,
        field_config=model.FieldConfigSource(defaults=look.defaults(custom), overrides=[]),
    )


def _target(ref: str, query: Query) -> UnknownDataquery:
    target = {
        "refId": ref,
        "datasource": {"type": "influxdb", "uid": CHOSEN},
        "query": query.text,
        "rawQuery": True,
        "resultFormat": "table" if query.is_table else "time_series",
    }
    return UnknownDataquery(target if query.is_table else {**target, "alias": query.alias})


def _only(query: Query) -> str:
    """The one column that a number or a bar shows: the last, so that names beside it stay names."""
    return f"/^{query.columns[-1]}$/"


def _legend(calcs: Sequence[str]) -> common.VizLegendOptions:
    return common.VizLegendOptions(
        display_mode=common.LegendDisplayMode.TABLE if calcs else common.LegendDisplayMode.LIST,
        placement=common.LegendPlacement.BOTTOM,
        show_legend=bool(calcs),
        calcs=list(calcs),
    )


def _defaults(panel: model.Panel) -> model.FieldConfig:
    assert panel.field_config is not None
    return panel.field_config.defaults


def _override(panel: model.Panel, name: str, properties: Sequence[tuple[str, object]]) -> None:
    assert panel.field_config is not None
    panel.field_config.overrides.append(
        model.DashboardFieldConfigSourceOverrides(
            matcher=model.MatcherConfig(id_val="byName", options=name),
            properties=[model.DynamicConfigValue(id_val=found, value=value) for found, value in properties],
        )
    )
