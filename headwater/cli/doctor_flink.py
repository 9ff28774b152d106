"""What the doctor looks at where Flink hosts the tasks: the cluster, the job on it, and the sink behind it.

    log ─▶ Flink: reachable? TaskManagers? a job? all tasks? checkpoints? does it follow the log? ─▶ sink ─▶ store

A job may say RUNNING while its tasks start again and again, or while they wait for a Kafka that they can't reach; so
failures of late count, and whether anything moves.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from headwater import log_topics
from headwater.cli.engines import expect, open_log_reader, open_reader
from headwater.cli.flink_jobs import FlinkJobs
from headwater.cli.flink_settings import FlinkSettings
from headwater.cli.pipeline import PipelineSettings
from headwater.cli.shared import table
from headwater.errors import ConnectError, DecodeError, RejectedError
from headwater.instant import US_PER_S
from headwater.io.flink_environment import FLINK as VERSION
from headwater.io.flink_rest import FlinkRest, NotReadyError
from headwater.ports import Log
from headwater.results_arrow import results_from_arrow
from headwater.settings import Table

TIMEOUT_S: Final = 5.0
FAILURES_MAX: Final = 3
LAG_RECORDS_MAX: Final = 1000
MOVE_S: Final = 5.0
LOOK_EVERY_S: Final = 0.2
CHECKPOINT_S_MIN: Final = 60.0
AGAIN: Final = "headwater flink cluster run: it starts again what ended, and submits a job that was lost"
Seen = tuple[bool, str, str, bool]
"""Is good, what was seen, what to do, and whether it is only that nothing has flowed."""


@dataclass(frozen=True, slots=True)
class ClusterSeen:
    """What one look at a cluster showed.

    Attributes:
        url: of the cluster.
        is_own: it is the one of this data folder.
        version: of its Flink; "" if what answers is none.
        task_managers, slots, slots_free: how much can run.
        name: of the job.
        jobs: ids of the living jobs of that name.
        ended: state and cause of the newest one that ended; both "" if there was none.
        status: of the newest living one, as `FlinkRest.status` tells; empty without one.
    """

    url: str
    is_own: bool
    version: str
    task_managers: int = 0
    slots: int = 0
    slots_free: int = 0
    name: str = ""
    jobs: tuple[str, ...] = ()
    ended: tuple[str, str] = ("", "")
    status: Mapping[str, Any] = field(default_factory=dict)


def judge(seen: ClusterSeen, *, checkpoint_every_s: float) -> tuple[str, str]:
    """Says what is wrong with a cluster and how to mend it; ("", "") if it is well.

    Args:
        seen: how it is.
        checkpoint_every_s: time between checkpoints as the settings say.

    >>> judge(ClusterSeen("flink://a:8081", is_own=True, version="2.3.0"), checkpoint_every_s=10)[0]
    'flink://a:8081 has no TaskManager'
    """
    url, ended = seen.url, seen.ended
    if not seen.version:
        return f"what answers at {url} is no Flink", "correct pipeline.processor: the REST address of the JobManager"
    if seen.version.rpartition(".")[0] != VERSION.rpartition(".")[0]:
        return (
            f"{url} runs Flink {seen.version}",
            f"the job is for Flink {VERSION}: another cluster, or pipeline.processor",
        )
    if not seen.task_managers:
        start = AGAIN if seen.is_own else "start TaskManagers of that cluster; a job that waits goes on by itself"
        return f"{url} has no TaskManager", start
    if not seen.jobs:
        how = f"; the last one is {ended[0]}{f': {ended[1]}' if ended[1] else ''}" if ended[0] else ""
        return f"no job {seen.name!r} on {url}{how}", "headwater flink submit: it goes on from the newest checkpoint"
    if len(seen.jobs) > 1:
        words = f"{len(seen.jobs)} jobs are called {seen.name!r} on {url}: {', '.join(seen.jobs)}"
        return words, "headwater flink stop, until one is left; or give them names of their own in flink.name"
    return _judge_job(seen, checkpoint_every_s)


def _judge_job(seen: ClusterSeen, checkpoint_every_s: float) -> tuple[str, str]:
    """The same for the one job that there is."""
    status = seen.status
    words = f"job {status['job']}: {status['state']}, {status['tasks_running']} of {status['tasks']} tasks run"
    look = "headwater flink status shows it; messages are in DATA/flink/messages or with the cluster"
    failure = f"; {status['failure']}" if status["failure"] else ""
    if status["state"] != "RUNNING" or status["tasks_running"] < status["tasks"]:
        if not seen.slots_free and "NoResourceAvailable" in status["failure"]:
            more = (
                "more slots (flink.slots and flink.task_managers for a cluster of ours), or a smaller flink.parallelism"
            )
            return f"{words}; {seen.slots} slots are not enough", more
        return f"{words}; {status['restarts']} restarts{failure}", look
    if status["failures_lately"] >= FAILURES_MAX:
        return f"{words}, but it failed {status['failures_lately']} times in five minutes{failure}", look
    age_s, bound_s = status["checkpoint_age_s"], max(6 * checkpoint_every_s, CHECKPOINT_S_MIN)
    if (status["running_s"] if age_s is None else age_s) > bound_s:
        newest = "it has no checkpoint yet" if age_s is None else f"its newest checkpoint is {age_s:.0f} s old"
        why = f": {status['checkpoint_failure']}" if status["checkpoint_failure"] else ""
        return f"{words}, {newest}{why}", "is the folder of checkpoints writable for all, and its disk free?"
    return "", ""


def examine_flink(settings: Mapping[str, Table]) -> Seen:
    """Looks at cluster and job, and whether results follow the log.

    Raises:
        SettingsError: the log is not on Kafka, or the cluster's URL is none.
    """
    jobs, flink = FlinkJobs(settings), table(settings, "flink", FlinkSettings)
    jobs.log_url()
    rest = FlinkRest(jobs.url, TIMEOUT_S)
    try:
        seen = _look(jobs, rest, flink)
    except NotReadyError as error:
        return False, str(error), "it has just been started: ask again in some seconds", False
    except (ConnectError, RejectedError) as error:
        return False, str(error), _start(jobs), False
    wrong, mend = judge(seen, checkpoint_every_s=flink.checkpoint_every_us / US_PER_S)
    if wrong:
        return False, wrong, mend, False
    status = seen.status
    words = f"{seen.url}: job {status['job']} runs with all {status['tasks']} tasks, {status['restarts']} restarts"
    age_s = status["checkpoint_age_s"]
    words += ", no checkpoint yet" if age_s is None else f", checkpoint {age_s:.0f} s old"
    log = open_log_reader(settings)
    try:
        lag, has_moved = _follow(lambda: _job_places(log, _parts(settings)))
    except DecodeError as error:
        return False, f"{words}; the newest of its results can't be read: {error}", "who else writes there?", False
    except ConnectError as error:
        return False, str(error), "is the log up, and has the gateway been started on it?", False
    finally:
        log.close()
    if lag and not has_moved:
        stands = "can the TaskManagers reach Kafka under the address that it advertises? headwater flink status"
        return False, f"{words}; {lag} records behind the log, and nothing moves", stands, False
    if lag > LAG_RECORDS_MAX:
        return False, f"{words}; {lag} records behind the log", "more parallelism, or are its cores not free?", False
    return True, f"{words}; {lag} records behind the log", "", False


def examine_sink(settings: Mapping[str, Table]) -> Seen:
    """Looks whether the store follows the results."""
    pipeline, start = (
        table(settings, "pipeline", PipelineSettings),
        "start headwater sink (or up) with this data folder",
    )
    log = open_log_reader(settings)
    try:
        parts = _parts(settings)
        if not any(log.end(log_topics.RESULTS, part) for part in parts):
            return False, "there are no results yet", "they come from the job on Flink", True
        try:
            expect(pipeline, "store")
        except ConnectError as error:
            return False, str(error), start, False
        store = open_reader(pipeline)
        try:
            lag, has_moved = _follow(lambda: _sink_places(log, store.positions(), parts))
        finally:
            store.close()
    except DecodeError as error:
        return False, f"the newest results can't be read: {error}", "who else writes into their topic?", False
    except ConnectError as error:
        return False, str(error), "is the log up, and the store?", False
    finally:
        log.close()
    if lag and not has_moved:
        return (
            False,
            f"{lag} records behind the results, and nothing moves",
            f"{start}; if it runs: is its store up?",
            False,
        )
    if lag > LAG_RECORDS_MAX:
        return False, f"{lag} records behind the results", "is the store slow, or its core not free?", False
    return True, f"{lag} records behind the results", "", False


def _start(jobs: FlinkJobs) -> str:
    """How to mend a cluster that does not answer."""
    if jobs.cluster.is_known and jobs.url == jobs.cluster.url:
        return AGAIN
    return "start the cluster (here: headwater flink cluster run), or correct pipeline.processor"


def _look(jobs: FlinkJobs, rest: FlinkRest, flink: FlinkSettings) -> ClusterSeen:
    is_own = jobs.cluster.is_known and jobs.url == jobs.cluster.url
    try:
        told = rest.overview()
    except RejectedError:
        return ClusterSeen(jobs.url, is_own, "")
    if not isinstance(told, dict) or "flink-version" not in told:
        return ClusterSeen(jobs.url, is_own, "")
    found = tuple(rest.jobs(flink.name))
    return ClusterSeen(
        jobs.url,
        is_own,
        str(told["flink-version"]),
        int(told["taskmanagers"]),
        int(told["slots-total"]),
        int(told["slots-available"]),
        flink.name,
        found,
        ("", "") if found else rest.ended(flink.name),
        rest.status(found[0]) if found else {},
    )


def _parts(settings: Mapping[str, Table]) -> range:
    return range(int(settings["processor"].model_dump()["partitions"]))


def _follow(places: Callable[[], tuple[int, int]]) -> tuple[int, bool]:
    """Asks (wanted, reached) until what follows has caught up or moved; returns how far it is behind, and whether it moved."""
    wanted, begun = places()
    deadline_s = time.monotonic() + MOVE_S
    reached = begun
    while reached < wanted and reached <= begun and time.monotonic() < deadline_s:
        time.sleep(LOOK_EVERY_S)
        wanted, reached = places()
    return max(wanted - reached, 0), reached > begun


def _job_places(log: Log, parts: range) -> tuple[int, int]:
    """(records of readings, up to which of them there are results), of all partitions together."""
    wanted = reached = 0
    for part in parts:
        end, start = log.end(log_topics.READINGS, part), log.start(log_topics.READINGS, part)
        wanted += end
        reached += min(max(_newest(log, part), start), end)
    return wanted, reached


def _sink_places(log: Log, positions: Mapping[tuple[str, str, int], int], parts: range) -> tuple[int, int]:
    """(up to which record of readings there are results, up to which the store has them), of all partitions together."""
    wanted = reached = 0
    for part in parts:
        newest = _newest(log, part)
        wanted += newest
        reached += min(positions.get((log.incarnation, log_topics.READINGS, part), 0), newest)
    return wanted, reached


def _newest(log: Log, part: int) -> int:
    """Offset of readings that the newest result of a partition reached; 0 if there is none of this log."""
    end = log.end(log_topics.RESULTS, part)
    records = log.read(log_topics.RESULTS, part, end - 1, 1) if end > log.start(log_topics.RESULTS, part) else []
    if not records:
        return 0
    results = results_from_arrow(records[-1].value)
    return results.position if results.source[0] == log.incarnation else 0
