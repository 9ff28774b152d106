"""The dashboard Fleet: which devices need me?"""

from dataclasses import replace

from grafana_foundation_sdk.models.dashboard import Panel

from dashboards.grafana import panels
from dashboards.grafana.looks import COUNT, GREEN, HEALTH, NONE_IS_GOOD, ORANGE, RED, STATE, Look
from dashboards.grafana.queries import SITE, latest, newest, same, series, table, where
from dashboards.grafana.screen import (
    FLEET_UID,
    SERIES_TO_DEVICE,
    TO_DEVICE,
    Screen,
    Section,
    event_annotations,
    tag_variable,
)

_STATES = latest({"state": "s"}, "device", "site", "device", conditions=(SITE,))
_HEALTHS = latest({"health": "h"}, "health", "site", "device", "component", conditions=(SITE,))
_UNKNOWN = latest({"unknown": "u"}, "device", "site", "device", conditions=(SITE,))
_COUNTS = f'(SELECT count("score") AS "c" FROM "anomaly" {where(SITE)} GROUP BY "site", "device")'


def screen() -> Screen:
    """Returns it; its questions from left to right: how many, how many are away, what is wrong, where."""
    return Screen(
        uid=FLEET_UID,
        about="Which devices need me? States, health and anomalies of all sites; a device's name leads to its page.",
        variables=(tag_variable("site", "Site", "device", many=True),),
        annotations=event_annotations(by_device=False),
        sections=(
            Section("Now", _numbers()),
            Section(
                "States",
                (
                    panels.linked(
                        panels.timeline(
                            "State of each device",
                            "Offline, online or degraded (frames missing, bad readings) as the processor saw it.",
                            series(
                                f'SELECT last("state") AS "state" FROM "device" {where(SITE)} '
                                'GROUP BY time($__interval), "site", "device" fill(none)',
                                "$tag_site / $tag_device",
                                "state",
                            ),
                            STATE,
                            height=10,
                        ),
                        SERIES_TO_DEVICE,
                    ),
                ),
            ),
            Section("Where to look", _rankings()),
            Section("Where they are", (_map(),)),
            Section("All devices", (_devices(),)),
        ),
    )


def _numbers() -> tuple[Panel, ...]:
    return (
        panels.stat(
            "Devices",
            "Devices that were reported in this range.",
            table(f'SELECT count("s") AS "devices" FROM {_STATES}', "devices"),
            COUNT,
        ),
        panels.stat(
            "Offline",
            "Devices whose newest state is offline.",
            table(f'SELECT count("s") AS "offline" FROM {_STATES} WHERE "s" < 1', "offline"),
            NONE_IS_GOOD,
        ),
        panels.stat(
            "Degraded",
            "Devices that are online with frames missing below newer ones, unknown frames or bad readings.",
            table(f'SELECT count("s") AS "degraded" FROM {_STATES} WHERE "s" > 1', "degraded"),
            NONE_IS_GOOD,
        ),
        panels.stat(
            "Anomalies",
            "What detectors saw in this range.",
            table(f'SELECT count("score") AS "anomalies" FROM "anomaly" {where(SITE)}', "anomalies"),
            COUNT,
        ),
        panels.stat(
            "Lowest health",
            "The worst component of all machines, 100 is its own healthy baseline.",
            table(f'SELECT min("h") AS "health" FROM {_HEALTHS}', "health"),
            HEALTH,
        ),
        panels.stat(
            "Unknown frames",
            "Frames that were assigned, but neither stored, dead-lettered, declared nor in flight: must be 0.",
            table(f'SELECT sum("u") AS "unknown" FROM {_UNKNOWN}', "unknown"),
            NONE_IS_GOOD,
        ),
    )


def _rankings() -> tuple[Panel, ...]:
    by_severity = panels.chart(
        "Anomalies by severity",
        "Onsets that detectors on the devices reported.",
        [
            series(
                f'SELECT count("score") AS "anomalies" FROM "anomaly" {where(SITE)} '
                'GROUP BY time($__interval), "severity" fill(0)',
                "$tag_severity",
                "anomalies",
            )
        ],
        COUNT,
        width=8,
        interval="1m",
        bars=True,
        calcs=("sum",),
    )
    return (
        panels.linked(
            panels.ranking(
                "Lowest health",
                "Components that are furthest from their own healthy baseline.",
                table(f'SELECT bottom("h", "site", "device", "component", 10) AS "health" FROM {_HEALTHS}', "health"),
                HEALTH,
            ),
            TO_DEVICE,
        ),
        panels.linked(
            panels.ranking(
                "Most anomalies",
                "Devices with the most onsets in this range.",
                table(f'SELECT top("c", "site", "device", 10) AS "anomalies" FROM {_COUNTS}', "anomalies"),
                COUNT,
            ),
            TO_DEVICE,
        ),
        panels.severities(by_severity),
    )


def _map() -> Panel:
    # The newest point of a device speaks: if it tells no location any more, the device is not on the map.
    points = latest(same("state", "lat", "lon"), "device", "site", "device", conditions=(SITE,))
    text = f'SELECT "lat", "lon", "state" FROM {points} WHERE "lat" >= -90 GROUP BY "site", "device"'
    return panels.places(
        "Map",
        "Devices that say where they stand: green is online, orange degraded, red offline; click one to get to its page.",
        table(text, "lat", "lon", "state"),
        replace(STATE, steps=((None, RED), (1, GREEN), (2, ORANGE)), nothing="no device says where it stands"),
        link=TO_DEVICE,
    )


def _devices() -> Panel:
    fields = ("state", "buffered", "skew_ms", "unknown", "firmware")
    return panels.rows(
        "Devices",
        "The newest report of each device: backlog in its spool, clock against ours, frames nobody can explain.",
        table(newest(same(*fields), "device", "site", "device", conditions=(SITE,)), *fields),
        {
            "state": STATE,
            "buffered": Look(unit="short", decimals=0),
            "skew_ms": Look(unit="ms", decimals=0),
            "unknown": NONE_IS_GOOD,
        },
        sort="state",
        time="last report",
        link=TO_DEVICE,
    )
