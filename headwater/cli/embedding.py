"""What `demo` and `up` share: the pipeline from settings, its counters, and the summary at the end."""

from collections.abc import Mapping
from contextlib import ExitStack, closing
from typing import Any

from cloud_processor.settings import ProcessorSettings
from headwater.cli.engines import gateway_of, open_log, open_page_reader, open_reader, open_store
from headwater.cli.flink_jobs import is_flink
from headwater.cli.pipeline import PipelineSettings
from headwater.cli.shared import table
from headwater.cli.watch import Watch, resident_mib
from headwater.embedded import Pipeline
from headwater.embedded_fleet import Fleet, SimulatedFleet
from headwater.frame import Anomaly
from headwater.settings import Table

ACCOUNT = ("assigned", "stored", "dead_lettered", "gap", "in_flight", "unknown", "duplicates")


def build_pipeline(settings: Mapping[str, Table]) -> Pipeline:
    """Makes gateway, log, processor and store as the settings say."""
    pipeline = table(settings, "pipeline", PipelineSettings)
    with ExitStack() as opened:
        # What one of them refuses must not leave the others open.
        log = opened.enter_context(closing(open_log(settings)))
        is_sink = is_flink(pipeline)
        store, checkpoints = open_store(settings, is_sink=is_sink)
        opened.callback(checkpoints.close)
        opened.callback(store.close)
        frontiers = opened.enter_context(closing(open_reader(pipeline)))
        reader = opened.enter_context(closing(open_page_reader(settings)))
        opened.pop_all()
    return Pipeline(
        gateway_of(settings, log),
        table(settings, "processor", ProcessorSettings),
        log=log,
        store=store,
        checkpoints=checkpoints,
        frontiers=frontiers,
        reader=reader,
        log_keep_us=pipeline.log_keep_us,
        is_sink=is_sink,
    )


def gather(pipeline: Pipeline, fleet: Fleet | None = None) -> dict[str, Any]:
    """All stages' counters in one object."""
    agents = {"agents": fleet.counters()} if fleet is not None else {}
    told: dict[str, int] = getattr(pipeline.store, "counters", dict)()  # Of a store that is a server.
    return {**agents, **pipeline.counters(), "store": {**pipeline.reader.counts(), **told}}


def report(pipeline: Pipeline, fleet: Fleet, counters: Mapping[str, Any], watch: Watch) -> dict[str, Any]:
    """The summary of a run; frames that only a spool knows of are in flight."""
    sums = dict.fromkeys(ACCOUNT, 0)
    known: dict[tuple[str, str, int], int] = {}
    for row in pipeline.reader.accounts():
        known[row["site"], row["device"], row["epoch"]] = row["assigned"]
        for name in ACCOUNT:
            sums[name] += row[name]
    for agent in fleet.agents:
        unseen = agent.spool.assigned - known.get((agent.site, agent.device, agent.spool.epoch), 0)
        sums["assigned"] += max(unseen, 0)
        sums["in_flight"] += max(unseen, 0)
    agents, processor = counters["agents"], counters["processor"]
    return {
        "assigned": sums["assigned"],
        "stored": sums["stored"],
        "dead_letters": sums["dead_lettered"],
        "gaps": sums["gap"],
        "in_flight": sums["in_flight"],
        "unknown": sums["unknown"],
        "duplicates": pipeline.reader.frames_doubled(),
        "resent": sums["duplicates"],
        "readings_sampled": agents["sampled"],
        "bytes_published": agents["published_bytes"],
        "first_point_s": round(watch.first_point_s, 3) if watch.first_point_s is not None else None,
        "latency_ms": {f"p{q}": processor.get(f"event_to_stored_p{q}_ms") for q in (50, 95, 99)},
        "anomalies": _anomalies(fleet, watch),
        "rss_mib": round(resident_mib(), 1),
    }


def _anomalies(fleet: Fleet, watch: Watch) -> dict[str, Any]:
    reported = [
        (
            row["site"],
            row["device"],
            Anomaly(
                row["metric"], row["time_us"], row["detector"], row["severity"], True, row["score"],
                row["value"], row["expected"], row["lo"], row["hi"], row["message"],
            ),
        )
        for row in watch.anomalies
    ]  # fmt: skip
    if not isinstance(fleet, SimulatedFleet):
        return {"injected": 0, "detected": 0, "false_alarms": None, "reported": len(reported)}
    score = fleet.score(reported)
    return {
        "injected": score.injected,
        "detected": score.detected,
        "false_alarms": score.false_alarms,
        "per_kind": {kind: [found.detected, found.injected] for kind, found in score.per_kind.items()},
    }
