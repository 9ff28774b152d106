"""`headwater flink submit --keep`: sees to it that the job is there, on whichever cluster.

It is for where others keep the cluster up, such as containers: a JobManager that starts anew has forgotten its jobs. A job
that `headwater flink stop` ended is left alone until somebody submits it.
"""

import os
import threading
from typing import Final

from headwater.cli.flink_jobs import FlinkJobs
from headwater.cli.flink_watch import Backoff
from headwater.cli.shared import say
from headwater.errors import ConnectError, RejectedError
from headwater.instant import US_PER_S
from headwater.io.clock_system import SystemClock
from headwater.io.supervisor_systemd import Supervisor

LOOK_EVERY_S: Final = 5.0


def keep(jobs: FlinkJobs, stop: threading.Event) -> None:
    """Looks every five seconds until `stop` is set; the job goes on when it ends.

    Raises:
        SettingsError: the job can't be submitted as the settings say.
    """
    clock, supervisor, backoff, said = SystemClock(), Supervisor(os.environ), Backoff(), ""
    wait_s = 0.0
    while not stop.wait(wait_s):
        try:
            words, wait_s = look(jobs), LOOK_EVERY_S
            supervisor.ready(words)
        except (ConnectError, RejectedError) as error:
            wait_us = backoff.wait_us(clock.monotonic_us())
            words, wait_s = str(error), wait_us / US_PER_S
        if words != said:
            say(f"flink: {words}")
            said = words


def look(jobs: FlinkJobs) -> str:
    """Submits the job if it is not there, and returns how it is."""
    if found := jobs.running():
        return f"job {found} is on {jobs.url}"
    if jobs.is_stopped:
        return "the job was stopped: headwater flink submit starts it again"
    job, state = jobs.submit()
    return f"submitted job {job} to {jobs.url}, {f'going on from {state}' if state else 'without state'}"
