"""The dashboard Device: what is this machine doing, and what does the pipeline know of it?"""

from grafana_foundation_sdk.models.dashboard import Panel

from dashboards.grafana import panels
from dashboards.grafana.looks import COUNT, HEALTH, NONE_IS_GOOD, STATE, Look
from dashboards.grafana.queries import DEVICE, METRIC, SITE, TELEMETRY, WINDOW, WINDOWED, latest, series, table, where
from dashboards.grafana.screen import (
    COLUMNS,
    DEVICE_UID,
    Screen,
    Section,
    bucket_variable,
    event_annotations,
    tag_variable,
)

_HERE = (SITE, DEVICE)
_BACKLOG = Look(decimals=0, steps=((None, "green"), (100, "orange"), (1000, "red")), nothing="never heard of")
_SKEW = Look(unit="ms", decimals=0, nothing="never heard of")


def screen() -> Screen:
    """Returns it; charts repeat for every chosen metric."""
    return Screen(
        uid=DEVICE_UID,
        about="What is this machine doing, and what does the pipeline know of it? Charts repeat for each chosen metric.",
        variables=(
            bucket_variable("raw", "Bucket of readings"),
            bucket_variable("windows", "Bucket of windows"),
            tag_variable("site", "Site", "device", many=True),
            tag_variable("device", "Device", "device", SITE, many=False),
            tag_variable("metric", "Metric", "window", *_HERE, many=True, bucket="windows"),
            tag_variable("window", "Window", "window", *_HERE, many=False, bucket="windows"),
        ),
        annotations=event_annotations(by_device=True),
        sections=(
            Section("Now", _numbers()),
            Section("Readings", (_readings(),)),
            Section("Windows of $window", (_windows(), _spread(), _lateness())),
            Section("Judgements", (_health(), _distribution(), _anomalies())),
        ),
    )


def _number(title: str, about: str, field: str, look: Look) -> Panel:
    text = f'SELECT last("{field}") AS "{field}" FROM "device" {where(*_HERE)}'
    return panels.stat(title, about, table(text, field), look)


def _numbers() -> tuple[Panel, ...]:
    worst = latest({"health": "h"}, "health", "component", conditions=_HERE)
    return (
        _number("State", "As the processor last saw it.", "state", STATE),
        _number("Backlog", "Frames that waited in the device's spool at its last report.", "buffered", _BACKLOG),
        _number("Clock", "How far the device's clock is behind ours, transport included.", "skew_ms", _SKEW),
        _number("Unknown frames", "Frames that nobody can explain: must be 0.", "unknown", NONE_IS_GOOD),
        panels.stat(
            "Lowest health",
            "The worst of the machine's components.",
            table(f'SELECT min("h") AS "health" FROM {worst}', "health"),
            HEALTH,
        ),
        panels.stat(
            "Anomalies",
            "What its detectors saw in this range.",
            table(f'SELECT count("score") AS "anomalies" FROM "anomaly" {where(*_HERE)}', "anomalies"),
            COUNT,
        ),
    )


def _readings() -> Panel:
    text = (
        'SELECT mean("value") AS "mean", min("value") AS "min", max("value") AS "max" '
        f"FROM {TELEMETRY} {where(*_HERE, METRIC)} GROUP BY time($__interval) fill(null)"
    )
    return _repeated(
        panels.chart(
            "$metric",
            "Readings as they were stored: mean, and all between lowest and highest of each interval. "
            "The unit is the end of the metric's name.",
            [series(text, "$col", "mean", "min", "max")],
            Look(),
            interval="1s",
            band=("max", "min"),
            calcs=("lastNotNull", "min", "max"),
        )
    )


def _windows() -> Panel:
    text = (
        'SELECT mean("mean") AS "mean", min("min") AS "min", max("max") AS "max", max("p95") AS "p95" '
        f"FROM {WINDOWED} {where(*_HERE, METRIC, WINDOW)} GROUP BY time($__interval) fill(null)"
    )
    return _repeated(
        panels.chart(
            "$metric in windows of $window",
            "What the processor reports of each window: mean, 95 % quantile, and all between lowest and highest sample; "
            "late readings have revised it.",
            [series(text, "$col", "mean", "min", "max", "p95")],
            Look(),
            band=("max", "min"),
            calcs=("lastNotNull", "max"),
        )
    )


def _spread() -> Panel:
    text = (
        f'SELECT mean("std") AS "std" FROM {WINDOWED} {where(*_HERE, METRIC, WINDOW)} '
        'GROUP BY time($__interval), "metric" fill(null)'
    )
    return panels.chart(
        "Spread within windows",
        "Standard deviation in each metric's own unit.",
        [series(text, "$tag_metric", "std")],
        Look(),
    )


def _lateness() -> Panel:
    text = (
        'SELECT sum("late") AS "late", sum("revision") AS "revisions" '
        f"FROM {WINDOWED} {where(*_HERE, METRIC, WINDOW)} GROUP BY time($__interval) fill(0)"
    )
    return panels.chart(
        "Late readings and revisions",
        "Readings behind the device's watermark, and how often windows were corrected for them.",
        [series(text, "$col", "late", "revisions")],
        COUNT,
        interval="1m",
        bars=True,
        calcs=("sum",),
    )


def _health() -> Panel:
    text = (
        f'SELECT mean("health") AS "health" FROM "health" {where(*_HERE)} '
        'GROUP BY time($__interval), "component" fill(null)'
    )
    return panels.chart(
        "Health of components",
        "Distance from the machine's own healthy baseline: 100 is healthy, below 40 an alert fires.",
        [series(text, "$tag_component", "health")],
        HEALTH,
        interval="30s",
        calcs=("lastNotNull", "min"),
    )


def _distribution() -> Panel:
    text = f'SELECT "value" FROM {TELEMETRY} {where(*_HERE, METRIC)} ORDER BY time DESC LIMIT 20000'
    return panels.distribution(
        "Distribution",
        "How often which value was stored, of the newest 20,000 readings; choose one metric to make sense of it.",
        table(text, "value"),
        Look(),
    )


def _anomalies() -> Panel:
    fields = ("metric", "detector", "severity", "score", "value", "expected", "lo", "hi", "message")
    names = ", ".join(f'"{name}"' for name in fields)
    return panels.rows(
        "Anomalies",
        "What detectors saw, with the band that they expected.",
        table(f'SELECT {names} FROM "anomaly" {where(*_HERE)} ORDER BY time DESC LIMIT 100', *fields),
        {name: Look(decimals=2) for name in ("score", "value", "expected", "lo", "hi")},
        time="Time",
    )


def _repeated(panel: Panel) -> Panel:
    """Lets the panel repeat for every chosen metric, two in a line; Grafana makes room for them below, not beside."""
    assert panel.grid_pos is not None
    panel.grid_pos.w = COLUMNS
    panel.repeat, panel.repeat_direction, panel.max_per_row = "metric", "h", 2
    return panel
