"""`headwater flink submit --keep` and `headwater up`: see to it that the job is there, on whichever cluster.

It is for where others keep the cluster up, such as containers: a JobManager that starts anew has forgotten its jobs. A job
that `headwater flink stop` ended is left alone until somebody submits it.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from headwater.cli.flink_jobs import FlinkJobs
from headwater.cli.flink_watch import Backoff
from headwater.cli.shared import say
from headwater.errors import ConnectError, RejectedError, SettingsError
from headwater.instant import US_PER_S
from headwater.io.clock_system import SystemClock

LOOK_EVERY_S: Final = 5.0


def keep(jobs: FlinkJobs, stop: threading.Event, tell: Callable[[str], None] = lambda _words: None) -> None:
    """Looks every five seconds until `stop` is set; the job goes on when it ends.

    A job that was there is submitted again as it was told the last time, by whichever command; the first one by `jobs`.

    Args:
        jobs: of the pipeline.
        stop: ends it.
        tell: is told how the job is, after each look that got an answer.

    Raises:
        SettingsError: the job can't be submitted as the settings say.
    """
    clock, backoff, said = SystemClock(), Backoff(), ""
    wait_s, has_job = 0.0, False
    while not stop.wait(wait_s):
        try:
            words, wait_s = look(jobs.as_told() if has_job else jobs), LOOK_EVERY_S
            has_job = True
            tell(words)
        except (ConnectError, RejectedError) as error:
            wait_us = backoff.wait_us(clock.monotonic_us())
            words, wait_s = str(error), wait_us / US_PER_S
        if words != said:
            say(f"flink: {words}")
            said = words


@contextmanager
def keeping(jobs: FlinkJobs, stop: threading.Event) -> Iterator[None]:
    """Does the same beside what the block does, until it ends; sets `stop` then."""

    def run() -> None:
        try:
            keep(jobs, stop)
        except SettingsError as error:
            say(f"flink: the job is not submitted again: {error}")

    keeper = threading.Thread(target=run, name="job")
    keeper.start()
    try:
        yield
    finally:
        stop.set()
        keeper.join()


def look(jobs: FlinkJobs) -> str:
    """Submits the job if it is not there, and returns how it is."""
    if found := jobs.running():
        return f"job {found} is on {jobs.url}"
    if jobs.is_stopped:
        return "the job was stopped: headwater flink submit starts it again"
    try:
        job, state = jobs.submit()
    except SettingsError:
        if found := jobs.running():  # Another command was faster.
            return f"job {found} is on {jobs.url}"
        raise
    return f"submitted job {job} to {jobs.url}, {f'going on from {state}' if state else 'without state'}"
