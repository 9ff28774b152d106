"""The loop that every host of ours runs: step, pause when there is nothing, wait when a peer is away, save at the end."""

import logging
import threading
from collections.abc import Callable
from typing import Protocol

from cloud_processor.load import Load
from cloud_processor.settings import ProcessorSettings
from headwater.errors import ConnectError

RETRY_FIRST_US = 100_000

_log = logging.getLogger(__name__)


class SteppedHost(Protocol):
    """What the loop drives."""

    def step_once(self) -> int:
        """Works through what one write may hold; returns how many records that were. ConnectError: call again."""

    def save(self) -> None:
        """Saves its state."""


def run_host(
    host: SteppedHost,
    stop: threading.Event,
    settings: ProcessorSettings,
    load: Load,
    on_turn: Callable[[], object] = lambda: None,
) -> None:
    """Works until `stop` is set, then finishes what the log holds and saves; ConnectErrors are counted and retried.

    `on_turn` is called before every step.
    """
    pause_us = 0
    while True:
        on_turn()
        try:
            worked = host.step_once()
            if not worked and stop.is_set():
                host.save()
                return
            pause_us = 0 if worked else settings.poll_us
        except ConnectError as error:
            if stop.is_set():
                _log.warning("stopped while a peer was away; the next start goes on from the checkpoint: %s", error)
                return
            load.errors += 1
            pause_us = min(max(2 * pause_us, RETRY_FIRST_US), settings.retry_max_us)
            _log.warning("waiting %.1f s: %s", pause_us / 1e6, error)
        if pause_us:
            stop.wait(pause_us / 1e6)
