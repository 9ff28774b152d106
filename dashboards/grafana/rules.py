"""Alert rules, the contact point and the policy that Grafana is given (its unified alerting).

The limits are the defaults of the processor's own rules; these here also fire when the processor itself is gone.
"""

from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.models import dashboard as model

from dashboards.grafana.screen import FLEET_UID, MAINTENANCE_UID, PIPELINE_UID, Screen
from dashboards.grafana.sources import EXPRESSION, INFLUXDB_UID

FOLDER = "Headwater"
CONTACT = "headwater"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: a query per series, reduced to a number, held against a limit.

    Attributes:
        uid, title: fixed for ever; what people read.
        query: InfluxQL with `GROUP BY time`, one series per thing that can fire.
        range_s: how far back it looks.
        reducer: "last", "max" or "sum" of the points in that range.
        fires: "gt" or "lt", and the limit.
        pending: how long it must hold.
        severity: label that the policy routes by.
        summary, fix: for people, with Grafana's `{{ $labels.x }}`.
        shown: (uid of a dashboard, title of the panel) where it is to be seen.
        silence: what no data at all means: "OK" or "Alerting".
    """

    uid: str
    title: str
    query: str
    range_s: int
    reducer: str
    fires: tuple[str, float]
    pending: str
    severity: str
    summary: str
    fix: str
    shown: tuple[str, str]
    silence: str = "OK"


def _grouped(selected: str, measurement: str, *by: str, conditions: str = "") -> str:
    tags = "".join(f', "{tag}"' for tag in by)
    return f'SELECT {selected} FROM "{measurement}" WHERE {conditions}$timeFilter GROUP BY time(1m){tags} fill(none)'


# What Grafana puts into a message when it fires.
_MACHINE = "{{ $labels.site }} / {{ $labels.device }}"
_VALUE = '{{ printf "%.0f" $values.B.Value }}'
_PART, _METRIC, _INSTANCE = "{{ $labels.component }}", "{{ $labels.metric }}", "{{ $labels.instance }}"
RULES = (
    Rule(
        "headwater-offline", "Device offline", _grouped('last("state") AS "state"', "device", "site", "device"),
        600, "last", ("lt", 0.5), "2m", "warning",
        f"{_MACHINE} is offline.",
        "Look at its power and network; `headwater trace SITE/DEVICE` shows where its frames are.",
        (FLEET_UID, "State of each device"),
    ),
    Rule(
        "headwater-health", "Health low",
        _grouped('last("health") AS "health"', "health", "site", "device", "component"),
        300, "last", ("lt", 40), "5m", "critical",
        f"The {_PART} of {_MACHINE} is at {_VALUE} of 100.",
        "Open the device, look at which metrics left their baseline, and inspect the machine.",
        (MAINTENANCE_UID, "Components, worst first"),
    ),
    Rule(
        "headwater-life", "Remaining life short",
        _grouped('last("rul_lo") AS "rul_lo"', "health", "site", "device", "component", conditions='"health" < 80 AND '),
        300, "last", ("lt", 24), "5m", "warning",
        f"The {_PART} of {_MACHINE} may fail in {_VALUE} h.",
        "Plan the repair; the interval and the trend stand on the dashboard.",
        (MAINTENANCE_UID, "Remaining life"),
    ),
    Rule(
        "headwater-anomaly", "Critical anomaly",
        _grouped('count("score") AS "anomalies"', "anomaly", "site", "device", "metric",
                 conditions="\"severity\" = 'critical' AND "),
        300, "sum", ("gt", 0), "0s", "warning",
        f"{_MACHINE}: {_METRIC} left what its detector expects.",
        "Open the device and compare the metric with its band.",
        (FLEET_UID, "Anomalies by severity"),
    ),
    Rule(
        "headwater-unknown", "Unknown frames", _grouped('last("unknown") AS "unknown"', "device", "site", "device"),
        600, "last", ("gt", 0), "1m", "critical",
        f"{_VALUE} frames of {_MACHINE} are nowhere.",
        "This must not happen: keep the device's spool and the log, and run `headwater doctor`.",
        (PIPELINE_UID, "Unknown frames"),
    ),
    Rule(
        "headwater-lag", "Pipeline lags",
        _grouped('max("watermark_delay_s") AS "delay"', "pipeline", "instance"),
        300, "last", ("gt", 60), "5m", "warning",
        f"{_INSTANCE} is {_VALUE} s behind.",
        "Look at the load of the processor and the store; `headwater doctor` names the slow hop.",
        (PIPELINE_UID, "Watermark delay"),
    ),
    Rule(
        "headwater-lag-grows", "Lag grows",
        _grouped('difference(min("lag")) AS "growth"', "pipeline", "instance", conditions="\"stage\" = 'log' AND "),
        300, "sum", ("gt", 10), "10m", "warning",
        f"The log grows faster than {_INSTANCE} stores it: {_VALUE} records more than five minutes ago.",
        "Look whether the store answers, and at the load of the processor; `headwater doctor` names the slow hop.",
        (PIPELINE_UID, "Lag of the log"),
    ),
    Rule(
        "headwater-dead-letters", "Dead letters",
        _grouped('sum("dead_letters") AS "dead_letters"', "pipeline", "instance"),
        300, "sum", ("gt", 0), "0s", "warning",
        f"{_VALUE} messages could not be admitted in five minutes ({_INSTANCE}).",
        "`headwater tap` shows the letters with their reasons.",
        (PIPELINE_UID, "Dead letters"),
    ),
    Rule(
        "headwater-silent", "Pipeline silent", _grouped('count("messages") AS "rows"', "pipeline"),
        300, "sum", ("lt", 1), "2m", "critical",
        "The processor has written nothing for five minutes.",
        "Is the processor running, and can it reach the store? `headwater doctor` walks every hop.",
        (PIPELINE_UID, "Frames per second"),
        "Alerting",
    ),
)  # fmt: skip


def provisioned(screens: tuple[Screen, ...]) -> dict[str, Any]:
    """Returns the provisioning file of all rules; each leads to its panel in one of the dashboards."""
    numbers = {
        (screen.uid, panel.title): panel.id_val
        for screen in screens
        for panel in screen.dashboard().panels or ()
        if isinstance(panel, model.Panel)
    }
    rules = [_rule(rule, numbers[rule.shown]) for rule in RULES]
    return {
        "apiVersion": 1,
        "groups": [{"orgId": 1, "name": "headwater", "folder": FOLDER, "interval": "1m", "rules": rules}],
    }


def _rule(rule: Rule, panel: int | None) -> dict[str, Any]:
    span = {"from": rule.range_s, "to": 0}
    none = {"from": 0, "to": 0}
    query = {
        "refId": "A",
        "datasource": {"type": "influxdb", "uid": INFLUXDB_UID},
        "query": rule.query,
        "rawQuery": True,
        "resultFormat": "time_series",
        "intervalMs": 60_000,
        "maxDataPoints": 1_000,
    }
    source = {"type": EXPRESSION, "uid": EXPRESSION}
    reduced = {"refId": "B", "type": "reduce", "datasource": source, "expression": "A", "reducer": rule.reducer}
    evaluator = {"type": rule.fires[0], "params": [rule.fires[1]]}
    held = {
        "refId": "C",
        "type": "threshold",
        "datasource": source,
        "expression": "B",
        "conditions": [{"evaluator": evaluator}],
    }
    return {
        "uid": rule.uid,
        "title": rule.title,
        "condition": "C",
        "data": [
            {"refId": "A", "relativeTimeRange": span, "datasourceUid": INFLUXDB_UID, "model": query},
            {"refId": "B", "relativeTimeRange": none, "datasourceUid": EXPRESSION, "model": reduced},
            {"refId": "C", "relativeTimeRange": none, "datasourceUid": EXPRESSION, "model": held},
        ],
        "dashboardUid": rule.shown[0],
        "panelId": panel,
        # A database that hiccups must not wake everybody; that it is away is seen by the rule "Pipeline silent".
        "execErrState": "KeepLast",
        "noDataState": rule.silence,
        "for": rule.pending,
        "annotations": {
            "summary": rule.summary,
            "description": rule.fix,
            "__dashboardUid__": rule.shown[0],
            "__panelId__": str(panel),
        },
        "labels": {"severity": rule.severity, "team": "headwater"},
    }


def contacts() -> dict[str, Any]:
    """Returns the file of the contact point: a stub that Grafana accepts; put in where your messages go."""
    receiver = {
        "uid": "headwater-mail",
        "type": "email",
        "settings": {"addresses": "operators@example.org", "singleEmail": True},
    }
    return {"apiVersion": 1, "contactPoints": [{"orgId": 1, "name": CONTACT, "receivers": [receiver]}]}


def policies() -> dict[str, Any]:
    """Returns the file of the policy; Grafana replaces the organisation's whole tree by it."""
    urgent = {
        "receiver": CONTACT,
        "object_matchers": [["severity", "=", "critical"]],
        "group_wait": "10s",
        "repeat_interval": "1h",
    }
    root = {
        "orgId": 1,
        "receiver": CONTACT,
        "group_by": ["grafana_folder", "alertname", "site"],
        "group_wait": "30s",
        "group_interval": "5m",
        "repeat_interval": "4h",
        "routes": [urgent],
    }
    return {"apiVersion": 1, "policies": [root]}
