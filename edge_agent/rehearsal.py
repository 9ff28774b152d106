"""Runs of the agent that keep and send nothing: one frame now, or frames shown instead of published."""

import time
from collections.abc import Callable
from typing import Any

from edge_agent.chain import Chain, chain_limits
from edge_agent.clock import ClockWatch
from edge_agent.outline import numbered, outlined
from edge_agent.registry import make_source
from edge_agent.settings import AgentSettings
from headwater.errors import ConnectError
from headwater.frame import Frame
from headwater.instant import US_PER_S
from headwater.io.clock_kernel import is_clock_synced
from headwater.ports import Clock, Source

POLL_S = 0.05
ONCE_MAX_US = 5 * US_PER_S


def run_once(settings: AgentSettings, clock: Clock, source: Source | None = None) -> dict[str, Any]:
    """Samples until there is something, packs it into one frame and returns that in JSON types.

    Raises:
        ConnectError: the source can't be reached, or delivers nothing within five seconds and two sampling intervals.
        SettingsError: there is no such source, or its options are wrong.
    """
    shown: list[dict[str, Any]] = []
    deadline_us = clock.monotonic_us() + ONCE_MAX_US + 2 * settings.sample_every_us
    dry_run(
        settings.model_copy(update={"flush_every_us": 0}),
        clock,
        lambda frame, payload: shown.append(outlined(frame, len(payload))),
        lambda: bool(shown) or clock.monotonic_us() >= deadline_us,
        source,
    )
    if not shown:
        raise ConnectError(f"source {settings.source!r} delivered nothing: check agent.options")
    return shown[0]


def dry_run(
    settings: AgentSettings,
    clock: Clock,
    on_frame: Callable[[Frame, bytes], None],
    is_over: Callable[[], bool],
    source: Source | None = None,
) -> None:
    """Samples, reduces and packs as the agent does until `is_over` or the source ends, and hands over every frame.

    Raises:
        ConnectError: the source can't be reached.
        SettingsError: there is no such source, or its options are wrong.
    """
    own = source or make_source(settings.source, settings.options, clock, settings.sample_every_us)
    watch = ClockWatch(settings.clock_step_max_us)
    seq = 1

    def show(finish: bool) -> None:
        nonlocal seq
        now_us = clock.now_us()
        watch.observe(now_us, clock.monotonic_us(), is_synced=is_clock_synced())
        drafts = chain.finish(now_us, watch.quality) if finish else chain.seal(now_us, watch.quality)
        for frame, payload in numbered(drafts, settings.site, settings.device, seq):
            seq += 1
            on_frame(frame, payload)

    own.open()
    try:
        chain = Chain(settings.applied(own.metrics), chain_limits(settings))
        sealed_us = clock.monotonic_us()
        while not is_over() and not own.is_exhausted:
            blocks = own.read(clock.now_us())
            chain.describe(settings.applied(own.metrics))
            urgent = False
            for block in blocks:
                urgent |= chain.push(block)
            if urgent or clock.monotonic_us() - sealed_us >= settings.flush_every_us:
                sealed_us = clock.monotonic_us()
                show(finish=False)
            time.sleep(min(POLL_S, settings.sample_every_us / US_PER_S))
        show(finish=True)
    finally:
        own.close()
