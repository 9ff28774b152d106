"""The edge agent of one device: a core that is driven by `tick`, and its two ends, the source and the uplink.

    source ─▶ chain (quality, detect, reduce, pack) ─▶ spool ─▶ uplink ─▶ gateway

`tick` never blocks for longer than a sensor's conversion and a commit. `edge_agent.host` drives one or many agents.
"""

import logging
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_agent.chain import Chain, chain_limits
from edge_agent.clock import ClockWatch
from edge_agent.command import Verb, read_command
from edge_agent.dial import paho_connect, read_key, sparkplug_edge
from edge_agent.host import AgentHost
from edge_agent.memory import Memory
from edge_agent.pack import Draft
from edge_agent.rehearsal import dry_run, run_once
from edge_agent.settings import AgentSettings
from edge_agent.sparkplug_link import SparkplugEdge
from edge_agent.spool import Room, Spool, SpoolUnavailableError
from edge_agent.traffic import UplinkLimits
from edge_agent.uplink import Uplink
from headwater import __version__
from headwater.errors import ConnectError, CorruptStateError, DecodeError
from headwater.frame import Frame
from headwater.instant import US_PER_S
from headwater.io.clock_kernel import is_clock_synced
from headwater.mqtt_link import MqttLink, Will
from headwater.ports import Clock, Source
from headwater.status import Status

FrameHook = Callable[[Frame, bytes], None]
SYNC_ASKED_EVERY_US = 10 * US_PER_S
SETTLE_EVERY_US = 2 * US_PER_S
REMEMBER_EVERY_US = 600 * US_PER_S
PROMOTED_BACK = 64

__all__ = ["Agent", "AgentHost", "dry_run", "paho_connect", "run_once"]

_messages = logging.getLogger(__name__)


class Agent:
    """One device.

    Args:
        site, device: names.
        source: where readings come from.
        settings: see there; `site`, `device`, `source` and `spool` in it are for whoever makes the agent.
        clock: wall and monotonic time.
        spool_path: the file of frames.
        on_accepted, on_offered: told of every frame and its bytes after and before it is committed to the spool.
        connect: makes a link; default: paho to `settings.gateway`, or none if that is empty.
        is_synced: tells whether the wall clock is kept right; default: what the kernel says.
        draw: gives random numbers in [0, 1).

    Raises:
        SettingsError: the settings can't be used, or the spool can't be written.
    """

    def __init__(
        self,
        site: str,
        device: str,
        source: Source,
        settings: AgentSettings,
        clock: Clock,
        spool_path: str | Path,
        on_accepted: FrameHook | None = None,
        on_offered: FrameHook | None = None,
        *,
        connect: Callable[[Will], MqttLink] | None = None,
        is_synced: Callable[[], bool | None] = is_clock_synced,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.site, self.device = site, device
        self.settings = settings
        self._source, self.clock = source, clock
        self._on_accepted, self._on_offered = on_accepted, on_offered
        self._is_synced, self._draw = is_synced, draw
        self._synced: bool | None = None
        self._sync_asked_us: int | None = None
        self._watch = ClockWatch(settings.clock_step_max_us)
        self._is_open = False
        self._open_at_us = 0
        self._failures = 0
        self._sample_at_us: int | None = None
        self._sealed_us = self._settled_us = clock.monotonic_us()
        self._drafts: list[Draft] = []
        self._promote_from_us: int | None = None
        self.source_errors = 0
        self.spool_errors = 0
        self.last_error = ""
        self.chain = Chain(settings.applied(source.metrics), chain_limits(settings))
        self._command_key = read_key(settings.command_key_file)
        self._obeyed_us = 0
        self.commands_obeyed = self.commands_refused = 0
        self._memory = Memory(Path(f"{spool_path}.learnt"))
        self._remember_at_us = clock.monotonic_us() + REMEMBER_EVERY_US
        self._is_new = True
        self._recall()
        self.spool = Spool(
            spool_path,
            site=site,
            device=device,
            room=Room(settings.spool_bytes_max, settings.spool_full == "drop_oldest"),
            now_us=clock.now_us(),
        )
        self.uplink: Uplink | None = None
        self._edge: SparkplugEdge | None = None
        if connect is not None or settings.gateway:
            limits = UplinkLimits(
                settings.in_flight_max,
                settings.unacked_max,
                settings.ack_timeout_us,
                settings.ack_timeout_max_us,
                settings.reconnect_min_us,
                settings.reconnect_max_us,
            )
            dial = connect or paho_connect(settings, site, device)
            if settings.profile == "sparkplug":
                self._edge = sparkplug_edge(settings, dial, self.spool, clock)
                dial = self._edge.connect
            self.uplink = Uplink(self.spool, dial, self.status, draw, limits, self._obey)

    # ── driven from outside ────────────────────────────────────────────────────────────────────────────────────

    def tick(self, now_us: int) -> None:
        """Samples if it is time, packs and commits if that is due, and moves the uplink on."""
        monotonic_us = self.clock.monotonic_us()
        self._look_at_clock(now_us, monotonic_us)
        urgent = False
        if self._sample_at_us is None or monotonic_us >= self._sample_at_us:
            every_us = self.settings.sample_every_us
            behind = self._sample_at_us is None or monotonic_us - self._sample_at_us >= every_us
            self._sample_at_us = monotonic_us + every_us if behind else (self._sample_at_us or 0) + every_us
            urgent = self._sample(now_us, monotonic_us)
        waited_us = monotonic_us - self._sealed_us
        full = self.chain.waiting >= self.settings.flush_readings_max
        if urgent or full or waited_us >= self.settings.flush_every_us:
            self.flush(now_us, urgent=urgent)
            self._sealed_us = monotonic_us
        if self.uplink is not None:
            self.uplink.step(monotonic_us, now_us)
        if monotonic_us - self._settled_us >= SETTLE_EVERY_US:
            self._settled_us = monotonic_us
            self._settle(now_us)

    def step_uplink(self) -> None:
        """Moves only the uplink on; for the host's loop when a socket is ready."""
        if self.uplink is not None:
            self.uplink.step(self.clock.monotonic_us(), self.clock.now_us())

    def delay(self, by_us: int) -> None:
        """Puts the first sample off, so that many agents in one process don't all work at the same moment."""
        self._sample_at_us = self.clock.monotonic_us() + by_us

    def due_in_us(self) -> int:
        """How long until the next tick is useful, if no socket gets ready before."""
        at_us = self._sample_at_us or 0
        if self.chain.has_news or self._drafts:
            at_us = min(at_us, self._sealed_us + self.settings.flush_every_us)
        return max(0, at_us - self.clock.monotonic_us())

    @property
    def buffered(self) -> int:
        """Frames that are not yet durable elsewhere."""
        return self.spool.buffered

    @property
    def is_exhausted(self) -> bool:
        """True when the source has ended and every frame is in the spool."""
        return self._is_open and self._source.is_exhausted and not self.chain.has_news and not self._drafts

    def set_network(self, *, is_up: bool) -> None:
        """Cuts or mends the network of this device; for demonstrations. Safe to call from another thread."""
        if self.uplink is not None:
            self.uplink.cut(is_cut=not is_up)

    def finish(self) -> None:
        """Brings everything held back into the spool; nothing is sampled after that, `close` follows."""
        now_us = self.clock.now_us()
        self._store(self.chain.finish(now_us, self._watch.quality), now_us)
        self._memory.save(self.chain.learnt())

    def close(self) -> None:
        """Closes the connection, the source and the spool."""
        if self.uplink is not None:
            self.uplink.hang_up()
        if self._is_open:
            self._source.close()
        self.spool.close()

    def _recall(self) -> None:
        """Goes on with what was learnt before the last end, once the metrics are known and if they are the same."""
        if not self.chain.metrics or not self._is_new:
            return
        self._is_new = False
        learnt = self._memory.load()
        if learnt is not None:
            try:
                self.chain.recall(learnt)
            except CorruptStateError as error:
                self._memory.errors += 1
                self.last_error = str(error)

    # ── sampling ───────────────────────────────────────────────────────────────────────────────────────────────

    def _look_at_clock(self, now_us: int, monotonic_us: int) -> None:
        if self._sync_asked_us is None or monotonic_us - self._sync_asked_us >= SYNC_ASKED_EVERY_US:
            self._sync_asked_us = monotonic_us
            self._synced = self._is_synced()
        step_us = self._watch.observe(now_us, monotonic_us, is_synced=self._synced)
        if step_us:
            _messages.warning("%s/%s: the clock was set by %.3f s", self.site, self.device, step_us / US_PER_S)
            self.chain.restart()

    def _sample(self, now_us: int, monotonic_us: int) -> bool:
        """Asks the source; True if something in it is to be sent at once."""
        if monotonic_us < self._open_at_us:
            return False
        try:
            if not self._is_open:
                self._source.open()
                self._is_open = True
            blocks = self._source.read(now_us)
            self._failures = 0
        except ConnectError as error:
            self._lose_source(error, monotonic_us)
            return self.chain.listen(now_us)
        if self.chain.describe(self.settings.applied(self._source.metrics)):
            self._recall()
            if self.uplink is not None:
                self.uplink.announce()
        urgent = False
        for block in blocks:
            if self.chain.push(block):
                urgent = True
                start_us = int(block.time_us[0]) if len(block.time_us) else now_us
                self._promote_from_us = start_us - self.settings.burst_before_us
        return self.chain.listen(now_us) or urgent

    def _lose_source(self, error: ConnectError, monotonic_us: int) -> None:
        """Closes a source that is gone and plans the next attempt, with full jitter."""
        self.source_errors += 1
        self.last_error = str(error)
        if not self._failures:
            _messages.warning("%s/%s: source: %s", self.site, self.device, error)
        if self._is_open:
            self._source.close()
            self._is_open = False
        ceiling_us = min(self.settings.reconnect_max_us, self.settings.reconnect_min_us << min(self._failures, 20))
        self._failures += 1
        self._open_at_us = monotonic_us + int(self._draw() * ceiling_us)

    # ── storing ────────────────────────────────────────────────────────────────────────────────────────────────

    def flush(self, now_us: int, *, urgent: bool = False) -> None:
        """Packs what waits and commits it to the spool."""
        drafts = self.chain.seal(now_us, self._watch.quality)
        if not drafts and not self._drafts and not urgent and not self._has_gaps_due():
            return
        self._store(drafts, now_us)

    def _has_gaps_due(self) -> bool:
        try:
            return self.spool.has_gaps_due
        except SpoolUnavailableError as error:
            self.last_error = str(error)
            return False

    def _store(self, drafts: list[Draft], now_us: int) -> None:
        """Commits drafts; while the disk refuses they wait in memory, the oldest beyond the bound are given up."""
        waiting = [*self._drafts, *drafts]
        excess = max(0, len(waiting) - self.settings.waiting_max)
        if excess:
            self.chain.refuse(waiting[:excess])
            waiting = waiting[excess:]
        if not waiting and self._has_gaps_due():
            waiting = self.chain.declaration(now_us, self._watch.quality)
        self._drafts = waiting
        if not waiting:
            return
        try:
            stored, refused = self.spool.append(
                waiting, now_us, promote_from_us=self._promote_from_us, on_offered=self._on_offered
            )
        except SpoolUnavailableError as error:
            if not self.spool_errors:
                _messages.warning("%s/%s: %s", self.site, self.device, error)
            self.spool_errors += 1
            self.last_error = str(error)
            return
        self._drafts = []
        self.chain.refuse(refused)
        if self._promote_from_us is not None and self.uplink is not None:
            self.uplink.promoted(max(1, self.spool.assigned - len(stored) - PROMOTED_BACK))
        self._promote_from_us = None
        if self._on_accepted is not None:
            for one in stored:
                self._on_accepted(one.frame, one.payload)

    def _settle(self, now_us: int) -> None:
        if self._settled_us >= self._remember_at_us:
            self._remember_at_us = self._settled_us + REMEMBER_EVERY_US
            self._memory.save(self.chain.learnt())
        try:
            self.spool.settle(now_us)
        except SpoolUnavailableError as error:
            self.spool_errors += 1
            self.last_error = str(error)

    def _obey(self, leaf: str, payload: bytes) -> None:
        """Does what a signed command asks; everything else on `command` and `config` is refused and counted."""
        now_us = self.clock.now_us()
        try:
            # Settings don't change over the network: on `config` nothing is signed for anyone.
            key = self._command_key if leaf == "command" else b""
            command = read_command(payload, key, self.site, self.device, now_us=now_us, after_us=self._obeyed_us)
        except DecodeError as error:
            self.commands_refused += 1
            self.last_error = str(error)
            return
        self.commands_obeyed += 1
        self._obeyed_us = command.at_us
        if command.verb is Verb.FLUSH:
            self.flush(now_us)
        elif self.uplink is not None and command.verb is Verb.RESEND:
            self.uplink.start_over()
        elif self.uplink is not None:
            self.uplink.announce()

    # ── what it says of itself ─────────────────────────────────────────────────────────────────────────────────

    def status(self, online: bool) -> Status:
        """What stands in the retained status message."""
        return Status(
            online,
            self.spool.epoch,
            self.spool.assigned,
            self.spool.buffered,
            __version__,
            {
                metric.name: {
                    "unit": metric.unit,
                    "lo": _finite(metric.lo),
                    "hi": _finite(metric.hi),
                    "reduction": metric.reduction,
                }
                for metric in self.chain.metrics
            },
            self.settings.location or getattr(self._source, "location", None),
        )

    def counters(self) -> dict[str, Any]:
        """The agent's own counters, JSON types only."""
        chain, spool = self.chain.counters, self.spool
        own: dict[str, Any] = {
            "online": self.uplink is not None and self.uplink.is_up,
            "epoch": str(spool.epoch),
            "assigned": spool.assigned,
            "buffered": spool.buffered,
            "buffered_bytes": spool.size_bytes,
            "sampled": chain.acquired,
            "sent": chain.kept,
            **{name: getattr(chain, name) for name in ("suppressed", "aggregated", "dropped", "anomalies")},
            "anomalies_lost": chain.anomalies_lost,
            **{f"spool_{name}": getattr(spool.counters, name) for name in ("refused", "damaged_rows", "damaged_files")},
            "spool_given_up": spool.given_up,
            "spool_errors": self.spool_errors,
            "source_errors": self.source_errors,
            "commands_obeyed": self.commands_obeyed,
            "commands_refused": self.commands_refused,
            "memory_errors": self._memory.errors,
            "clock": self._watch.quality.name.lower(),
            "clock_steps": self._watch.steps,
            "last_error": self.last_error,
            "published": 0,
            "published_bytes": 0,
        }
        if self.uplink is not None:
            own |= {name: getattr(self.uplink.counters, name) for name in self.uplink.counters.__slots__}
            if self._edge is not None:
                own |= {f"sparkplug_{name}": count for name, count in self._edge.counters.items()}
            own["last_error"] = self.last_error or self.uplink.counters.last_error
        return own


def _finite(limit: float) -> float | None:
    return limit if abs(limit) < float("inf") else None
