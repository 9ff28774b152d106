"""The dashboard Pipeline health: does everything arrive, how fast, and what was refused?"""

from grafana_foundation_sdk.models.dashboard import Panel

from dashboards.grafana import panels
from dashboards.grafana.looks import COUNT, GREEN, NONE_IS_GOOD, ORANGE, RED, Look
from dashboards.grafana.queries import INSTANCE, SITE, latest, newest, same, series, table, where
from dashboards.grafana.screen import PIPELINE_UID, TO_DEVICE, Screen, Section, event_annotations, tag_variable

_DELAY = Look(unit="s", decimals=1, low=0, steps=((None, GREEN), (30, ORANGE), (60, RED)), nothing="nothing flows")
_RATE = Look(unit="short", low=0, nothing="nothing flows")
_LATENCY = Look(unit="ms", low=0, nothing="nothing was stored")
_LOG, _STORE, _END_TO_END = "\"stage\" = 'log'", "\"stage\" = 'store'", "\"stage\" = 'end-to-end'"
_PEERS = '"stage" =~ /^(log|store|checkpoints)$/'
_ACCOUNT = (
    "**assigned = stored + dead-lettered + declared gap + in flight, unknown = 0.** "
    "Rates are what the processor took from each shard; *unknown* and *backlog* are told by devices; lag, latencies and "
    "errors by the process that writes the store."
)


def screen() -> Screen:
    """Returns it; the account first, then rates in the order of the flow, then what was refused or late."""
    return Screen(
        uid=PIPELINE_UID,
        about="Does everything arrive, how fast, and what was refused?",
        variables=(
            tag_variable("site", "Site", "device", many=True),
            tag_variable("instance", "Shard or process", "pipeline", many=True),
        ),
        annotations=event_annotations(by_device=False),
        sections=(
            Section("The account", (panels.note(_ACCOUNT), *_numbers())),
            Section(
                "Flow",
                (
                    _rate("Frames per second", "Frames that the processor took in.", "messages", _RATE),
                    _rate("Readings per second", "Readings in those frames.", "readings", _RATE),
                    _rate(
                        "Bytes per second",
                        "Their payload as it came.",
                        "bytes",
                        Look(unit="Bps", nothing="nothing flows"),
                    ),
                    _delay(),
                ),
            ),
            Section(
                "How far behind",
                (
                    _lag(),
                    _latency(
                        "Latency, sensor to store",
                        "From the newest reading of a frame until it was in the store: the worst interval's quantiles of frames.",
                        _END_TO_END,
                    ),
                    _latency(
                        "Latency, gateway to store",
                        "From a frame's receipt until it was in the store: the worst interval's quantiles of frames.",
                        _STORE,
                    ),
                ),
            ),
            Section(
                "What did not go straight through",
                (
                    _attempts(
                        "Errors", "How often log, store or checkpoints were away when the host needed them.", "errors"
                    ),
                    _attempts("Retries", "How often that was tried again.", "retries"),
                    _counts("Dead letters", "What could not be admitted, per interval.", "dead_letters"),
                    _counts("Late readings", "Readings behind their device's watermark, per interval.", "late"),
                ),
            ),
            Section("At the devices", (_backlog(), _unknown(), _devices())),
        ),
    )


def _numbers() -> tuple[Panel, ...]:
    unknown = latest({"unknown": "u"}, "device", "site", "device", conditions=(SITE,))
    buffered = latest({"buffered": "b"}, "device", "site", "device", conditions=(SITE,))
    delays = latest({"watermark_delay_s": "d"}, "pipeline", "instance", conditions=(INSTANCE,))

    def total(field: str, look: Look, title: str, about: str) -> Panel:
        text = f'SELECT sum("{field}") AS "{field}" FROM "pipeline" {where(INSTANCE)}'
        return panels.stat(title, about, table(text, field), look)

    return (
        panels.stat(
            "Unknown frames",
            "Assigned, but neither stored, dead-lettered, declared nor in flight: must be 0.",
            table(f'SELECT sum("u") AS "unknown" FROM {unknown}', "unknown"),
            NONE_IS_GOOD,
        ),
        panels.stat(
            "Waiting at devices",
            "Frames in the spools of all devices at their last report.",
            table(f'SELECT sum("b") AS "buffered" FROM {buffered}', "buffered"),
            COUNT,
        ),
        panels.stat(
            "Largest delay",
            "How far the slowest shard's watermark is behind the gateway's clock.",
            table(f'SELECT max("d") AS "delay" FROM {delays}', "delay"),
            _DELAY,
        ),
        total("dead_letters", NONE_IS_GOOD, "Dead letters", "What could not be admitted in this range."),
        total("late", COUNT, "Late readings", "Readings behind their device's watermark in this range."),
        total("readings", Look(unit="short", nothing="0"), "Readings", "Readings taken in in this range."),
    )


def _rate(title: str, about: str, field: str, look: Look) -> Panel:
    text = (
        f'SELECT sum("{field}") * 1000 / $__interval_ms AS "rate" FROM "pipeline" {where(INSTANCE)} '
        'GROUP BY time($__interval), "instance" fill(null)'
    )
    return panels.chart(
        title,
        about,
        [series(text, "$tag_instance", "rate")],
        look,
        interval="30s",
        calcs=("lastNotNull", "mean", "max"),
    )


def _delay() -> Panel:
    text = (
        f'SELECT max("watermark_delay_s") AS "delay" FROM "pipeline" {where(INSTANCE)} '
        'GROUP BY time($__interval), "instance" fill(null)'
    )
    return panels.chart(
        "Watermark delay",
        "How far event time is behind the gateway's clock, per shard; it holds the disorder that is waited for.",
        [series(text, "$tag_instance", "delay")],
        _DELAY,
        interval="10s",
    )


def _lag() -> Panel:
    text = (
        f'SELECT max("lag") AS "lag" FROM "pipeline" {where(INSTANCE, _LOG)} '
        'GROUP BY time($__interval), "instance" fill(null)'
    )
    return panels.chart(
        "Lag of the log",
        "Records of the log whose readings are not yet in the store.",
        [series(text, "$tag_instance", "lag")],
        Look(unit="short", decimals=0, low=0, nothing="no host tells"),
        interval="10s",
        width=24,
    )


def _latency(title: str, about: str, stage: str) -> Panel:
    text = (
        'SELECT max("p50_ms") AS "p50", max("p95_ms") AS "p95", max("p99_ms") AS "p99" '
        f'FROM "pipeline" {where(INSTANCE, stage)} GROUP BY time($__interval), "instance" fill(null)'
    )
    return panels.chart(
        title, about, [series(text, "$tag_instance $col", "p50", "p95", "p99")], _LATENCY, interval="10s"
    )


def _attempts(title: str, about: str, field: str) -> Panel:
    text = (
        f'SELECT sum("{field}") AS "{field}" FROM "pipeline" {where(INSTANCE, _PEERS)} '
        'GROUP BY time($__interval), "stage", "instance" fill(0)'
    )
    return panels.chart(
        title,
        about,
        [series(text, "$tag_stage ($tag_instance)", field)],
        COUNT,
        interval="30s",
        bars=True,
        calcs=("sum",),
    )


def _counts(title: str, about: str, field: str) -> Panel:
    text = (
        f'SELECT sum("{field}") AS "{field}" FROM "pipeline" {where(INSTANCE)} '
        'GROUP BY time($__interval), "instance" fill(0)'
    )
    return panels.chart(
        title, about, [series(text, "$tag_instance", field)], COUNT, interval="30s", bars=True, calcs=("sum",)
    )


def _by_device(title: str, about: str, field: str, look: Look) -> Panel:
    text = (
        f'SELECT max("{field}") AS "{field}" FROM "device" {where(SITE)} '
        'GROUP BY time($__interval), "site", "device" fill(null)'
    )
    return panels.chart(title, about, [series(text, "$tag_site / $tag_device", field)], look, interval="1m")


def _backlog() -> Panel:
    return _by_device("Backlog", "Frames in each device's spool when it came or went.", "buffered", COUNT)


def _unknown() -> Panel:
    return _by_device("Unknown frames", "Frames that nobody can explain, per device.", "unknown", NONE_IS_GOOD)


def _devices() -> Panel:
    fields = ("unknown", "buffered", "skew_ms", "firmware")
    return panels.rows(
        "Devices, unexplained first",
        "The newest report of each device.",
        table(newest(same(*fields), "device", "site", "device", conditions=(SITE,)), *fields),
        {"unknown": NONE_IS_GOOD, "buffered": COUNT, "skew_ms": Look(unit="ms", decimals=0)},
        sort="unknown",
        descending=True,
        time="last report",
        link=TO_DEVICE,
    )
