"""The dashboard Anomalies: what did detectors see, where, and what do rules say of it?"""

from grafana_foundation_sdk.models.dashboard import Panel

from dashboards.grafana import panels
from dashboards.grafana.looks import COUNT, GREEN, RED, Look
from dashboards.grafana.queries import DEVICE, METRIC, SITE, latest, newest, same, series, table, where
from dashboards.grafana.screen import (
    ANOMALIES_UID,
    SERIES_TO_DEVICE,
    TO_DEVICE,
    Screen,
    Section,
    event_annotations,
    tag_variable,
)

_HERE = (SITE, DEVICE, METRIC)
_FIRED = "\"state\" = 'firing'"
_FIRING = Look(words=(("firing", "firing", RED), ("resolved", "resolved", GREEN)))


def screen() -> Screen:
    """Returns it; numbers and time first, then where, then each one with its reason."""
    return Screen(
        uid=ANOMALIES_UID,
        about="What did detectors see, where, and what do rules say of it? A device's name leads to its page.",
        variables=(
            tag_variable("site", "Site", "device", many=True),
            tag_variable("device", "Device", "device", SITE, many=True),
            tag_variable("metric", "Metric", "anomaly", SITE, DEVICE, many=True),
        ),
        annotations=event_annotations(by_device=True),
        sections=(
            Section("How many", (*_numbers(), panels.severities(_by_severity()))),
            Section("Where", (_by_device(), *_rankings())),
            Section("Which", (_scores(), _list())),
            Section("Alerts", (_alerts(),)),
        ),
        span="now-6h",
    )


def _numbers() -> tuple[Panel, ...]:
    by_severity = tuple(
        panels.stat(
            severity.capitalize(),
            f"Onsets of severity {severity} in this range{more}.",
            table(
                f'SELECT count("score") AS "anomalies" FROM "anomaly" {where(*_HERE, _is(severity))}',
                "anomalies",
            ),
            look,
            width=4,
        )
        for severity, more, look in (
            ("critical", "", Look(decimals=0, steps=((None, GREEN), (1, RED)), nothing="0")),
            ("warning", "", Look(decimals=0, steps=((None, GREEN), (1, "orange")), nothing="0")),
            ("info", "; our agents give none, other devices may", COUNT),
        )
    )
    highest = panels.stat(
        "Highest score",
        "How far the worst one was outside, in limits of its detector.",
        table(f'SELECT max("score") AS "score" FROM "anomaly" {where(*_HERE)}', "score"),
        Look(decimals=1, nothing="none"),
        width=4,
    )
    some = latest({"score": "s"}, "anomaly", "site", "device", conditions=_HERE)
    touched = panels.stat(
        "Devices touched",
        "Devices with at least one anomaly in this range.",
        table(f'SELECT count("s") AS "devices" FROM {some}', "devices"),
        COUNT,
        width=4,
    )
    fired = panels.stat(
        "Alerts fired",
        "Alerts that rules of the processor began to fire in this range.",
        table(f'SELECT count("value") AS "fired" FROM "alert" {where(SITE, DEVICE, _FIRED)}', "fired"),
        COUNT,
        width=4,
    )
    return (*by_severity, highest, touched, fired)


def _is(severity: str) -> str:
    return f"\"severity\" = '{severity}'"


def _by_severity() -> Panel:
    text = (
        f'SELECT count("score") AS "anomalies" FROM "anomaly" {where(*_HERE)} '
        'GROUP BY time($__interval), "severity" fill(0)'
    )
    return panels.chart(
        "Anomalies by severity",
        "Onsets per interval.",
        [series(text, "$tag_severity", "anomalies")],
        COUNT,
        width=24,
        interval="1m",
        bars=True,
        calcs=("sum",),
    )


def _by_device() -> Panel:
    text = (
        f'SELECT count("score") AS "anomalies" FROM "anomaly" {where(*_HERE)} '
        'GROUP BY time($__interval), "site", "device" fill(0)'
    )
    look = Look(decimals=0, steps=((None, "transparent"), (1, "yellow"), (3, "orange"), (6, "red")))
    return panels.linked(
        panels.history(
            "Devices over time",
            "Anomalies of each device in each interval.",
            series(text, "$tag_site / $tag_device", "anomalies"),
            look,
        ),
        SERIES_TO_DEVICE,
    )


def _rankings() -> tuple[Panel, ...]:
    found = []
    for title, by in (("By detector", ("detector",)), ("By metric", ("metric",)), ("By device", ("site", "device"))):
        tags = ", ".join(f'"{tag}"' for tag in by)
        counts = f'(SELECT count("score") AS "c" FROM "anomaly" {where(*_HERE)} GROUP BY {tags})'
        text = f'SELECT top("c", {tags}, 10) AS "anomalies" FROM {counts}'
        found.append(panels.ranking(title, f"Onsets per {by[-1]}, the ten most.", table(text, "anomalies"), COUNT))
    panels.linked(found[-1], TO_DEVICE)
    return tuple(found)


def _scores() -> Panel:
    text = (
        f'SELECT max("score") AS "score" FROM "anomaly" {where(*_HERE)} '
        'GROUP BY time($__interval), "detector" fill(none)'
    )
    return panels.chart(
        "Highest score by detector",
        "How far outside the worst one of each interval was, in limits of its detector.",
        [series(text, "$tag_detector", "score")],
        Look(decimals=1),
        width=24,
        interval="1m",
        bars=True,
        calcs=("max",),
    )


def _list() -> Panel:
    fields = ("site", "device", "metric", "detector", "severity", "score", "value", "expected", "lo", "hi", "message")
    names = ", ".join(f'"{name}"' for name in fields)
    return panels.rows(
        "Anomalies",
        "The newest 200, with the value seen and the band expected.",
        table(f'SELECT {names} FROM "anomaly" {where(*_HERE)} ORDER BY time DESC LIMIT 200', *fields),
        {name: Look(decimals=2) for name in ("score", "value", "expected", "lo", "hi")},
        time="Time",
        link=TO_DEVICE,
        height=11,
    )


def _alerts() -> Panel:
    fields = ("state", "value", "message")
    by = ("site", "device", "rule", "severity")
    text = newest(same(*fields), "alert", *by, conditions=(SITE, DEVICE))
    return panels.rows(
        "Alerts of the processor",
        "The newest word of each rule: firing, or resolved with the reason.",
        table(text, *fields),
        {"state": _FIRING, "value": Look(decimals=2)},
        sort="state",
        time="since",
        link=TO_DEVICE,
    )
