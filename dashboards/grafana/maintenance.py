"""The dashboard Predictive maintenance: which machine is next, when, and how sure is that?"""

from grafana_foundation_sdk.models.dashboard import Panel

from dashboards.grafana import panels
from dashboards.grafana.looks import CHANCE, COUNT, HEALTH, LIFE, ORANGE, RED, Look
from dashboards.grafana.queries import DEVICE, SITE, latest, newest, same, series, table, where
from dashboards.grafana.screen import MAINTENANCE_UID, TO_DEVICE, Screen, Section, event_annotations, tag_variable

_HERE = (SITE, DEVICE)
_PARTS = ("site", "device", "component")


def screen() -> Screen:
    """Returns it; who is due, the ranking, then how it came to that."""
    return Screen(
        uid=MAINTENANCE_UID,
        about="Which machine is next, when, and how sure is that? A device's name leads to its page.",
        variables=(
            tag_variable("site", "Site", "device", many=True),
            tag_variable("device", "Device", "device", SITE, many=True),
        ),
        annotations=event_annotations(by_device=True),
        sections=(
            Section("Due", _numbers()),
            Section("Ranking", (_ranking(),)),
            Section("Trends", (_health(), _life(), _decline(), _chance())),
        ),
        span="now-6h",
        refresh="1m",
    )


def _numbers() -> tuple[Panel, ...]:
    lives = latest({"health": "h", "rul_lo": "lo"}, "health", *_PARTS, conditions=_HERE)
    healths = latest({"health": "h"}, "health", *_PARTS, conditions=_HERE)
    soon = Look(decimals=0, steps=((None, "green"), (1, RED)), nothing="0")
    later = Look(decimals=0, steps=((None, "green"), (1, ORANGE)), nothing="0")
    return (
        panels.stat(
            "Due within a day",
            "Components whose remaining life may be shorter than 24 h.",
            table(f'SELECT count("lo") AS "due" FROM {lives} WHERE "lo" < 24', "due"),
            soon,
        ),
        panels.stat(
            "Due within a week",
            "Components whose remaining life may be shorter than 168 h.",
            table(f'SELECT count("lo") AS "due" FROM {lives} WHERE "lo" < 168', "due"),
            later,
        ),
        panels.stat(
            "Health below 40",
            "Components for which the processor's alert fires.",
            table(f'SELECT count("h") AS "parts" FROM {healths} WHERE "h" < 40', "parts"),
            soon,
        ),
        panels.stat(
            "Components watched",
            "Components with a baseline of their own.",
            table(f'SELECT count("h") AS "parts" FROM {healths}', "parts"),
            COUNT,
        ),
        panels.stat(
            "Lowest health",
            "The worst component.",
            table(f'SELECT min("h") AS "health" FROM {healths}', "health"),
            HEALTH,
        ),
        panels.stat(
            "Shortest life",
            "The low end of the shortest remaining life, where a trend leads to an end.",
            table(f'SELECT min("lo") AS "life" FROM {lives}', "life"),
            LIFE,
        ),
    )


def _ranking() -> Panel:
    fields = ("health", "rul_lo", "rul_h", "rul_hi", "p_fail", "model")
    return panels.rows(
        "Components, worst first",
        "Health, remaining life in hours with its interval, chance of failing within the planning time, "
        "and the model that says so.",
        table(newest(same(*fields), "health", *_PARTS, conditions=_HERE), *fields),
        {"health": HEALTH, "rul_lo": LIFE, "rul_h": LIFE, "rul_hi": LIFE, "p_fail": CHANCE},
        sort="health",
        time="judged",
        link=TO_DEVICE,
        height=11,
    )


def _trend(title: str, about: str, select: str, column: str, look: Look, interval: str = "30s") -> Panel:
    text = (
        f'SELECT {select} AS "{column}" FROM "health" {where(*_HERE)} '
        'GROUP BY time($__interval), "device", "component" fill(null)'
    )
    return panels.chart(
        title,
        about,
        [series(text, "$tag_device $tag_component", column)],
        look,
        interval=interval,
        calcs=("lastNotNull", "min"),
    )


def _health() -> Panel:
    about = "100 is the machine's own healthy baseline; below 40 an alert fires."
    return _trend("Health", about, 'mean("health")', "health", HEALTH)


def _life() -> Panel:
    names = '"rul_h", "rul_lo", "rul_hi"'
    selected = ", ".join(f"last({name}) AS {name}" for name in names.split(", "))
    text = (
        f'SELECT {selected} FROM "health" {where(*_HERE)} GROUP BY time($__interval), "device", "component" fill(null)'
    )
    return panels.chart(
        "Remaining life",
        "Hours until health is that of a failure, with the low and high end of the interval; choose a device.",
        [series(text, "$tag_device $tag_component $col", "rul_h", "rul_lo", "rul_hi")],
        Look(unit="h", decimals=0, low=0),
        interval="30s",
        calcs=("lastNotNull",),
    )


def _decline() -> Panel:
    text = (
        f'SELECT derivative(mean("health"), 1h) AS "decline" FROM "health" {where(*_HERE)} '
        'GROUP BY time($__interval), "device", "component" fill(none)'
    )
    return panels.chart(
        "Change of health",
        "Points per hour; a machine that wears out falls faster and faster.",
        [series(text, "$tag_device $tag_component", "decline")],
        Look(decimals=1),
        interval="5m",
        calcs=("lastNotNull", "min"),
    )


def _chance() -> Panel:
    about = "Chance of failing within the planning time of the processor's settings."
    return _trend("Chance of failing", about, 'last("p_fail")', "p_fail", CHANCE)
