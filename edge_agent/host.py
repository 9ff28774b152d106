"""Drives one or many agents in one thread: their ticks, and the sockets of their links by one selector."""

import logging
import selectors
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from edge_agent.settings import AgentSettings
from edge_agent.uplink import Uplink
from headwater.instant import US_PER_S
from headwater.ports import Clock

STEP_MAX_US = 100_000
KEEPALIVE_EVERY_US = US_PER_S
GOODBYE_MAX_US = 2 * US_PER_S

_messages = logging.getLogger(__name__)


class Hosted(Protocol):
    """What the host needs of an agent; see `edge_agent.agent.Agent`."""

    settings: AgentSettings
    clock: Clock
    uplink: Uplink | None

    @property
    def is_exhausted(self) -> bool:
        """True when nothing will come any more."""

    @property
    def buffered(self) -> int:
        """Frames that are not yet durable elsewhere."""

    def delay(self, by_us: int) -> None:
        """Puts the first tick off."""

    def due_in_us(self) -> int:
        """Time until the next tick is useful."""

    def tick(self, now_us: int) -> None:
        """Does what is due."""

    def step_uplink(self) -> None:
        """Moves the uplink on."""

    def finish(self) -> None:
        """Brings everything to disk."""

    def close(self) -> None:
        """Releases everything."""


class AgentHost:
    """Runs agents until they are told to stop or their sources have ended.

    Attributes:
        drain_max_us: how long the end may wait for the spools to empty.

    `on_alive` is told about once a second, with the monotonic time, that the loop turns; a source that blocks keeps it
    from that.
    """

    def __init__(
        self, agents: Sequence[Hosted], drain_max_us: int = 0, on_alive: Callable[[int], None] | None = None
    ) -> None:
        self._agents = list(agents)
        self._on_alive = on_alive
        self.drain_max_us = drain_max_us
        self._selector = selectors.DefaultSelector()
        self._watched: dict[int, tuple[int, int]] = {}
        self._pinged_us = 0

    def run(self, stop: threading.Event, *, until_exhausted: bool = False) -> None:
        """Ticks every agent when it is due, until `stop` is set; then brings everything to disk and says goodbye.

        With `until_exhausted` it also ends when all sources have ended (the end of a file).
        """
        count = max(1, len(self._agents))
        for number, agent in enumerate(self._agents):
            agent.delay(agent.settings.sample_every_us * number // count)
        try:
            while not stop.is_set() and not (until_exhausted and all(agent.is_exhausted for agent in self._agents)):
                self._turn(STEP_MAX_US)
            self._say_goodbye()
        finally:
            self._selector.close()
            for agent in self._agents:
                agent.close()

    def _turn(self, wait_max_us: int) -> None:
        """One round: due ticks, then whatever the sockets bring until the next tick is due."""
        for agent in self._agents:
            if not agent.due_in_us():
                agent.tick(agent.clock.now_us())
            else:
                agent.step_uplink()
        self._watch_sockets()
        wait_us = min([wait_max_us, *(agent.due_in_us() for agent in self._agents)])
        self._serve_sockets(wait_us / US_PER_S)

    def _serve_sockets(self, wait_s: float) -> None:
        if not self._watched:
            time.sleep(wait_s)
        else:
            for key, events in self._selector.select(wait_s):
                agent: Hosted = key.data
                if agent.uplink is not None and agent.uplink.link is not None:
                    agent.uplink.link.on_ready(
                        readable=bool(events & selectors.EVENT_READ), writable=bool(events & selectors.EVENT_WRITE)
                    )
                agent.step_uplink()
        now_us = time.monotonic_ns() // 1_000
        if now_us - self._pinged_us >= KEEPALIVE_EVERY_US:
            self._pinged_us = now_us
            if self._on_alive is not None:
                self._on_alive(now_us)
            for agent in self._agents:
                if agent.uplink is not None and agent.uplink.link is not None:
                    agent.uplink.link.on_ready(readable=False, writable=False)

    def _watch_sockets(self) -> None:
        """Tells the selector which sockets there are now; a link's socket comes and goes with its connection."""
        for number, agent in enumerate(self._agents):
            link = agent.uplink.link if agent.uplink is not None else None
            descriptor = link.fileno() if link is not None else -1
            events = selectors.EVENT_READ
            if link is not None and link.wants_write:
                events |= selectors.EVENT_WRITE
            wanted = (descriptor, events)
            if self._watched.get(number, (-1, 0)) == wanted:
                continue
            if (before := self._watched.pop(number, None)) is not None:
                # A socket that was closed has left the kernel's set already.
                with suppress(KeyError, ValueError, OSError):
                    self._selector.unregister(before[0])
            if descriptor >= 0:
                with suppress(KeyError):
                    self._selector.unregister(descriptor)
                self._selector.register(descriptor, events, agent)
                self._watched[number] = wanted

    def _say_goodbye(self) -> None:
        """Brings everything to disk, waits for the spools to empty as long as it may, and goes offline cleanly."""
        for agent in self._agents:
            agent.finish()
        self._serve_until(lambda agent: agent.uplink is None or not agent.buffered, self.drain_max_us)
        for agent in self._agents:
            if agent.uplink is not None:
                agent.uplink.leave()
        if not self._serve_until(lambda agent: agent.uplink is None or agent.uplink.is_gone, GOODBYE_MAX_US):
            _messages.warning("the goodbye was not confirmed within %d s", GOODBYE_MAX_US // US_PER_S)

    def _serve_until(self, is_done: Callable[[Hosted], bool], wait_max_us: int) -> bool:
        """Moves the uplinks on until all agents are done; False if that took too long."""
        deadline_us = time.monotonic_ns() // 1_000 + wait_max_us
        while not all(is_done(agent) for agent in self._agents):
            if time.monotonic_ns() // 1_000 >= deadline_us:
                return False
            for agent in self._agents:
                agent.step_uplink()
            self._watch_sockets()
            self._serve_sockets(0.02)
        return True
