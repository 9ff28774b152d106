"""What the page shows of a fleet and of the pipeline, made from a reader's rows; pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from dashboards.rates import flatten

STAGES = ("agents", "gateway", "log", "processor", "store")
MAIN_COUNTERS = ("sampled", "readings", "frames", "messages", "records", "commits", "batches", "rows")
ACCOUNT_FRAMES = ("assigned", "stored", "dead_lettered", "gap", "in_flight", "unknown", "duplicates")
ACCOUNT_READINGS = ("readings_stored", "acquired", "suppressed", "aggregated", "dropped")
SEVERITY_RANK = {"info": 1, "warning": 2, "critical": 3}
ATTENTION_HEALTH = 60.0
ATTENTION_SPAN_US = 600_000_000

Row = Mapping[str, Any]


def fleet_rows(
    devices: Sequence[Row],
    health: Sequence[Row],
    anomalies: Sequence[Row],
    live: Mapping[str, Mapping[str, Any]],
    now_us: int,
) -> list[dict[str, Any]]:
    """Returns one row a device with its worst health, its anomalies in the time asked for, and its attention.

    Anomalies of the last ten minutes ask for attention, older ones are counted only.
    `live` holds the agents' own counters by "site/device" where they run in this process; they are newer than the
    store's rows. `attention` is "critical", "warning" or "": a word, with `why` saying what asks for it.
    """
    worst: dict[tuple[str, str], Row] = {}
    for row in health:
        key = (row["site"], row["device"])
        if key not in worst or row["health"] < worst[key]["health"]:
            worst[key] = row
    counts: dict[tuple[str, str], list[int]] = {}
    for row in anomalies:
        tally = counts.setdefault((row["site"], row["device"]), [0, 0])
        tally[0] += 1
        if row["time_us"] >= now_us - ATTENTION_SPAN_US:
            tally[1] = max(tally[1], SEVERITY_RANK.get(str(row.get("severity", "")), 1))
    rows = []
    for row in devices:
        key = (row["site"], row["device"])
        agent = live.get(f"{key[0]}/{key[1]}", {})
        count, rank = counts.get(key, (0, 0))
        sick = worst.get(key, {})
        merged = {
            "site": key[0],
            "device": key[1],
            "online": bool(agent.get("online", row.get("online", False))),
            "last_us": row.get("last_us"),
            "received_us": row.get("received_us"),
            "buffered": int(agent.get("buffered", row.get("buffered") or 0)),
            "agent": row.get("agent") or "",
            "health": sick.get("health"),
            "component": sick.get("component"),
            "rul_h": sick.get("rul_h"),
            "rul_lo": sick.get("rul_lo"),
            "rul_hi": sick.get("rul_hi"),
            "anomalies": count,
        }
        merged["attention"], merged["why"] = attention_of(merged, rank)
        rows.append(merged)
    rows.sort(key=lambda row: (row["site"], row["device"]))
    return rows


def attention_of(row: Row, severity_rank: int) -> tuple[str, str]:
    """Returns how urgently a device asks for people, and why in a few words.

    >>> attention_of({"online": False, "buffered": 3, "health": None}, 0)
    ('warning', 'offline')
    """
    health = row.get("health")
    if health is not None and health < ATTENTION_HEALTH / 2:
        return "critical", f"health {health:.0f}"
    if severity_rank >= 3:
        return "critical", "critical"
    if not row["online"]:
        return "warning", "offline"
    if severity_rank == 2:
        return "warning", "anomaly"
    if health is not None and health < ATTENTION_HEALTH:
        return "warning", f"health {health:.0f}"
    return "", ""


def with_spools(accounts: Sequence[Row], live: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """Returns the accounts with what only the devices' spools know yet: frames assigned since the store last heard.

    `live` holds the agents' own counters by "site/device", with `epoch` as text and `assigned`.

    >>> account = {"site": "n", "device": "p", "epoch": 7, "assigned": 5, "stored": 5, "in_flight": 0}
    >>> with_spools([account], {"n/p": {"epoch": "7", "assigned": 9}})[0]["in_flight"]
    4
    """
    rows: list[Row] = []
    for row in accounts:
        agent = live.get(f"{row['site']}/{row['device']}", {})
        unseen = 0
        if str(agent.get("epoch", "")) == str(row["epoch"]):
            unseen = max(0, int(agent.get("assigned", 0)) - int(row["assigned"]))
        rows.append(
            {**row, "assigned": row["assigned"] + unseen, "in_flight": (row["in_flight"] or 0) + unseen}
            if unseen
            else row
        )
    return rows


def totals(accounts: Sequence[Row]) -> dict[str, int]:
    """Returns the sums of all accounts: the equation that must add up, with `unknown` 0.

    >>> totals([{"assigned": 5, "stored": 4, "in_flight": 1}])["stored"]
    4
    """
    return {key: sum(int(row.get(key) or 0) for row in accounts) for key in ACCOUNT_FRAMES + ACCOUNT_READINGS}


def site_rows(fleet: Sequence[Row]) -> list[dict[str, Any]]:
    """Returns one row a site: devices, how many are online, frames waiting in their spools."""
    sites: dict[str, dict[str, Any]] = {}
    for row in fleet:
        site = sites.setdefault(row["site"], {"site": row["site"], "devices": 0, "online": 0, "buffered": 0})
        site["devices"] += 1
        site["online"] += bool(row["online"])
        site["buffered"] += int(row["buffered"])
    return list(sites.values())


def stage_rows(counters: Mapping[str, Any], rates: Mapping[str, float]) -> list[dict[str, Any]]:
    """Returns one row a stage in flow order: its totals, their rates per second, and the rate that stands for it.

    Keys of `rates` are "stage.counter". A stage that gives no counters has an empty row, so that the drawing stays.
    """
    rows = []
    for stage in STAGES:
        own = counters.get(stage)
        flat = flatten(own) if isinstance(own, Mapping) else {}
        prefix = f"{stage}."
        changes = {key.removeprefix(prefix): rate for key, rate in rates.items() if key.startswith(prefix)}
        main = main_counter(flat)
        rows.append(
            {
                "stage": stage,
                "totals": flat,
                "rates": changes,
                "main": main,
                "rate": changes.get(main),
            }
        )
    return rows


def with_log(counters: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the counters with those of the log, which its writer and its reader keep where it keeps none itself.

    >>> with_log({"gateway": {"commits": 3}, "processor": {"lag_records": 1}})["log"]
    {'commits': 3, 'lag_records': 1}
    """
    if counters.get("log") is not None:
        return counters
    gateway, processor = counters.get("gateway") or {}, counters.get("processor") or {}
    written = {key: gateway[key] for key in ("commits", "admitted_batches", "admitted_record_bytes") if key in gateway}
    read = {key: processor[key] for key in ("lag_records", "lag_s") if key in processor}
    return {**counters, "log": written | read}


def main_counter(flat: Mapping[str, Any]) -> str:
    """Returns the counter that stands for a stage: readings before frames before anything else; "" if there is none.

    >>> main_counter({"connections": 2, "frames_in": 7, "readings_admitted": 90})
    'readings_admitted'
    """
    for word in MAIN_COUNTERS:
        for key in flat:
            if word in key.split("_") and not key.startswith(("dead_letters", "lag")):
                return key
    return ""
