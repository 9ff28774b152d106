"""The gateway's loop: from MQTT to the log, and back as acknowledgements.

Endpoint ─▶ Broker ──▶ Batcher ─▶ admit ─▶ ┌ writer thread: append ┐ ─▶ PUBACKs, in order of receipt
Subscriber ─▶ Intake ─▶                    └───────────────────────┘
Frontiers (what the store has) ─▶ AckBook ─▶ retained durable acks
"""

import asyncio
import itertools
import logging
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from gateway.acks import AckBook
from gateway.admit import Admission, Admitted
from gateway.batcher import Batcher, Group
from gateway.dialects import counters as counters_of_dialects
from gateway.dialects import home_assistant, teach
from gateway.foreign_json import RecentContent
from gateway.frontiers import FrontierBook
from gateway.inlet import Inlet
from gateway.inlets import make_inlet
from gateway.pieces import Origins
from gateway.recovery import restore_configurations, restore_frontiers
from gateway.settings import GatewaySettings
from headwater.batch import DeviceStatus
from headwater.batch_build import batch_from_frames
from headwater.codec_batch import Arrival, Portion, Reject, decode_portions
from headwater.errors import ConnectError, CorruptStateError, DecodeError, RejectedError
from headwater.names import mqtt_topic, shard_of
from headwater.ports import Clock, Frontiers, Log
from headwater.reasons import DeadLetterReason

TICK_S = 1.0
_log = logging.getLogger(__name__)


def decode_apart(arrivals: Sequence[Arrival], *, shard: int, made_us: int, cells_max: int) -> Iterator[Portion]:
    """Decodes as `decode_portions` does; should the decoder itself fail, closes in on the payload that makes it fail.

    A fault in a decoder must cost the payload that finds it and no other: that one becomes a dead letter like any.
    """
    at = 0
    try:
        for portion in decode_portions(arrivals, shard=shard, made_us=made_us, cells_max=cells_max):
            yield portion
            at += portion.taken
    except Exception as error:  # noqa: BLE001 — a host's fence around a decoder.
        rest = arrivals[at:]
        _log.exception("the decoder failed on one of %d payloads", len(rest))
        if len(rest) == 1:
            detail = f"the decoder failed: {type(error).__name__}"
            empty = batch_from_frames([], shard=shard, made_us=made_us)
            yield Portion(empty, [Reject(0, DeadLetterReason.PARSE, detail)], 1)
            return
        for half in (rest[: len(rest) // 2], rest[len(rest) // 2 :]):
            yield from decode_apart(half, shard=shard, made_us=made_us, cells_max=cells_max)


class Gateway:
    """Ends MQTT and fills the log.

    Args:
        settings: the table `[gateway]`.
        log: where batches go; used from one thread at a time.
        clock: of receipt and batches.
        frontiers: what is durable in the store, for acks of level "store"; None sends no durable acks of that level.
        on_over: called when another gateway took the session at the broker over, or a loop of this one failed; the host
            then stops it.

    Attributes:
        is_over: another one has the session.
        failure: what ended a loop, None as long as all of them turn.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        log: Log,
        clock: Clock,
        frontiers: Frontiers | None,
        on_over: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._on_over = on_over
        self.is_over = False
        self.failure: BaseException | None = None
        self._log = log
        self._clock = clock
        self._frontiers = frontiers
        self._inlet: Inlet = make_inlet(settings, clock, self._take, self._connected)
        self._intake = self._inlet.intake
        teach(self._intake, settings)
        self._home = home_assistant(settings)
        self._batcher = Batcher(
            max_bytes=settings.batch_max_bytes,
            age_us=settings.batch_age_us,
            quiet_us=settings.batch_quiet_us,
            every_us=settings.commit_every_us,
        )
        self._admission = Admission(
            partitions=settings.partitions,
            readings_max=settings.batch_readings_max,
            max_bytes=settings.batch_max_bytes,
            letters_max=settings.dead_letters_max,
            letter_max_bytes=settings.dead_letter_max_bytes,
            recent=RecentContent(settings.foreign_window_us, settings.foreign_window_max),
            decode=decode_apart,
            compression=settings.compression,
        )
        self._acks = AckBook(
            settings.durable_level, missing_after_us=settings.missing_after_us, every_us=settings.ack_every_us
        )
        self._book = FrontierBook()
        self._writer = ThreadPoolExecutor(1, "headwater-log")
        self._asker = ThreadPoolExecutor(1, "headwater-frontiers")
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._in_flight: Group | None = None
        self._is_stopping = False
        self._beaten: dict[int, int] = {}
        self._counters: Counter[str] = Counter()
        self._port = 0
        self._closing: asyncio.Task[None] | None = None

    def _connected(self, is_resumed: bool) -> None:
        """A connection to the broker is ready: acks may have been lost, and without a session everything may."""
        self._acks.again(resync=0 if is_resumed else self._clock.now_us())

    @property
    def where(self) -> str:
        """The listener's address or the broker's URL, for people."""
        return self._inlet.where

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the listener."""
        return self._settings.host, self._port

    async def start(self) -> int:
        """Listens and returns the port.

        Raises:
            SettingsError: the settings can't be followed.
        """
        await asyncio.get_running_loop().run_in_executor(self._writer, self._recover)
        self._port = await self._inlet.start()
        self._say_state(online=True)
        self._spawn(self._write_groups(), "headwater-write")
        self._spawn(self._tick(), "headwater-tick")
        if self._settings.durable_level == "backbone" or self._frontiers is not None:
            self._spawn(self._send_acks(), "headwater-acks")
        self._spawn(self._run_inlet(), "headwater-inlet")
        return self._port

    async def _run_inlet(self) -> None:
        if await self._inlet.run():
            self.is_over = True
            self._on_over()

    def _recover(self) -> None:
        """Reads back what clients rely on; runs before anybody can connect."""
        partitions = self._settings.partitions
        try:
            if self._inlet.retained is not None:
                restore_configurations(self._log, partitions, self._inlet.retained)
            if self._settings.durable_level == "backbone":
                for row in restore_frontiers(self._log, partitions, self._book):
                    self._acks.note(row, self._clock.monotonic_us())
        except (CorruptStateError, DecodeError) as error:
            # What is not recovered costs duplicates or a configuration sent again; refusing to start costs more.
            self._counters["recovery_errors"] += 1
            _log.error("the log could not be read back in full: %s", error)

    async def stop(self) -> None:
        """Writes what has come, acknowledges it, says goodbye to the clients, and writes that they are gone."""
        writer, *others = self._tasks
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._drained()
        self._say_state(online=False)
        await self._inlet.close()
        self._take()
        self._is_stopping = True
        self._wake.set()
        await asyncio.gather(writer, return_exceptions=True)
        self._writer.shutdown()
        self._asker.shutdown()

    def _say_state(self, *, online: bool) -> None:
        """Tells Sparkplug nodes whether their host is there."""
        if self._intake.sparkplug is not None:
            self._inlet.announce([self._intake.sparkplug.state(self._clock.now_us(), online=online)])

    def counters(self) -> dict[str, int]:
        """Numbers of the gateway about itself, by names of the form `noun_state`."""
        admission, intake = self._admission, self._intake
        return {
            **{f"broker_{name}": count for name, count in intake.counters.items()},
            **{f"admitted_{name}": count for name, count in admission.counters.items()},
            **{f"dead_letters_{reason}": count for reason, count in admission.letters.by_reason.items()},
            **counters_of_dialects(intake, self._home),
            **self._counters,
            "received": intake.received,
            "dead_letters": sum(admission.letters.by_reason.values()),
            "devices_online": intake.presence.online,
            "in_flight": self._in_flight.count if self._in_flight else 0,
            "queued": self._batcher.count,
            "queued_bytes": self._batcher.size_bytes,
            **self._inlet.counters(),
        }

    def _spawn(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A loop that fails must not leave clients talking to nobody: they are sent away, and the host is told."""
        if task.cancelled() or task.exception() is None:
            return
        self._counters["failures"] += 1
        self.failure = task.exception()
        _log.critical("%s failed; the gateway closes", task.get_name(), exc_info=task.exception())
        self._closing = asyncio.get_running_loop().create_task(self._inlet.close())
        self._on_over()

    # Towards the log.

    def _take(self) -> None:
        """Moves what the broker gathered into the open group and wakes the writer if that changes its plan."""
        intake, batcher = self._intake, self._batcher
        inbound, intake.inbound = intake.inbound, []
        notes, intake.notes = intake.notes, []
        was_waiting = batcher.count > 0
        batcher.add(inbound, notes, self._clock.monotonic_us())
        if self._home is not None:
            self._home.describe(notes)
        for note in notes:
            if isinstance(note.what, DeviceStatus) and note.what.online:
                self._acks.connected(note.what.site, note.what.device, note.what.epoch)
        if not was_waiting or batcher.size_bytes >= self._settings.batch_max_bytes:
            self._wake.set()
        waiting = batcher.size_bytes + (self._in_flight.size_bytes if self._in_flight else 0)
        if waiting > self._settings.queue_max_bytes and not self._inlet.is_full:
            self._counters["queue_full"] += 1
            self._inlet.is_full = True
            self._inlet.resume()

    async def _write_groups(self) -> None:
        """Writes groups one after the other; ends when told to and nothing waits."""
        loop = asyncio.get_running_loop()
        while True:
            delay_us = self._batcher.due_in_us(self._clock.monotonic_us())
            if delay_us is None and self._is_stopping:
                return
            if delay_us == 0 or (delay_us is not None and self._is_stopping):
                group = self._batcher.close(self._clock.monotonic_us())
                assert group is not None
                await self._write(group)
                continue
            self._wake.clear()
            timer = None if delay_us is None else loop.call_later(delay_us / 1e6, self._wake.set)
            await self._wake.wait()
            if timer is not None:
                timer.cancel()

    async def _write(self, group: Group) -> None:
        """Admits a group and appends it until the log takes it; only then are its messages acknowledged.

        A group of ordinary size is one append. One that claims many readings is several, so that memory is bounded, and
        what the log refuses as too large is appended in smaller parts; a frame that is too large alone is a dead letter.
        """
        loop = asyncio.get_running_loop()
        self._in_flight = group
        parts = self._admission.admit(group, self._clock.now_us())
        origins = Origins(group)
        waiting: deque[Admitted] = deque()
        while True:
            try:
                if not waiting:
                    # Decoded in the loop's own thread: inflating lets go of the interpreter lock at every frame, and two
                    # threads that hand it to and fro cost a fifth more CPU. A portion takes some ten milliseconds.
                    waiting += itertools.islice(parts, 1)
                    if not waiting:
                        break
                await loop.run_in_executor(self._writer, self._log.append, waiting[0].records)
            except (ConnectError, RejectedError) as error:
                if isinstance(error, RejectedError) and self._made_smaller(waiting, origins, error):
                    continue
                self._counters["append_retries"] += 1
                if self._is_stopping:
                    # Nothing of it was acknowledged: devices send it again to whoever listens next.
                    self._counters["abandoned_messages"] += group.count
                    self._in_flight = None
                    _log.error("stopped with %d messages that the log did not take: %s", group.count, error)
                    return
                _log.warning("the log takes nothing, %d messages wait: %s", group.count, error)
                await asyncio.sleep(self._settings.retry_us / 1e6)
                continue
            self._appended(waiting.popleft())
        self._in_flight = None
        self._counters["commits"] += 1
        self._counters["committed_messages"] += group.count
        for sender, tickets in group.owed.items():
            sender.settle(tickets)
            self._inlet.settled(sender)
        if self._inlet.is_full and self._batcher.size_bytes < self._settings.queue_max_bytes // 2:
            self._inlet.is_full = False
            self._inlet.resume()

    def _made_smaller(self, waiting: deque[Admitted], origins: Origins, error: RejectedError) -> bool:
        """Puts smaller parts in the place of the first one, which the log refused as too large; False if it has none."""
        smaller = []
        if error.reason == "size":
            smaller = self._admission.smaller(waiting[0], origins, str(error), self._clock.now_us())
        if smaller:
            self._counters["append_cuts"] += 1
            waiting.popleft()
            waiting.extendleft(reversed(smaller))
        return bool(smaller)

    def _appended(self, admitted: Admitted) -> None:
        """Notes what is in the log now."""
        now_us = self._clock.monotonic_us()
        if self._home is not None:
            self._home.note(admitted.batches, now_us)
        for batch in admitted.batches:
            self._beaten[batch.shard] = now_us
        if self._settings.durable_level == "backbone":
            for row in self._book.note(admitted.batches):
                self._acks.note(row, now_us)

    async def _drained(self) -> None:
        """Waits until all that came is in the log, or for two retries of a log that takes nothing."""
        for _ in range(200):
            if self._batcher.count == 0 and self._in_flight is None:
                return
            await asyncio.sleep(2 * self._settings.retry_us / 1e6 / 200)

    # Every so often.

    async def _tick(self) -> None:
        """Once a second: keepalives, wills, and a heartbeat for shards that had no batch."""
        while True:
            await asyncio.sleep(TICK_S)
            self._inlet.tick()
            self._inlet.announce(self._intake.due(self._clock.now_us()), retain=False)
            if self._intake.notes or self._intake.inbound:
                self._take()
            now_us = self._clock.monotonic_us()
            if self._home is not None:
                kept, states = self._home.due(now_us, self._inlet.room)
                self._inlet.announce(kept)
                self._inlet.announce(states, retain=False)
            devices = self._intake.presence.known()
            shards = {shard_of(site, device, self._settings.partitions) for site, device in devices}
            silent = {s for s in shards if now_us - self._beaten.get(s, 0) >= self._settings.heartbeat_us}
            if silent:
                self._batcher.beat(silent, now_us)
                self._wake.set()

    async def _send_acks(self) -> None:
        """Asks the store what became durable, and tells devices."""
        loop = asyncio.get_running_loop()
        version, sites = 0, frozenset(self._settings.sites)
        told = ""
        while True:
            if self._settings.durable_level == "store" and self._frontiers is not None:
                try:
                    version, rows = await loop.run_in_executor(self._asker, self._frontiers.changed, version)
                except ConnectError as error:
                    self._counters["frontier_errors"] += 1
                    if told != str(error):  # It may last for hours, at five questions a second.
                        told = str(error)
                        _log.warning("the store can't be asked what is durable: %s", told)
                    rows = []
                else:
                    told = ""
                for row in rows:
                    if not sites or row.site in sites:
                        self._acks.note(row, self._clock.monotonic_us())
            room = self._inlet.room
            acks = self._acks.due(self._clock.monotonic_us(), self._log.incarnation, room) if room else []
            self._counters["acks_sent"] += len(acks)
            self._inlet.announce((mqtt_topic(site, device, "ack"), ack.to_json()) for site, device, ack in acks)
            await asyncio.sleep(self._settings.store_poll_us / 1e6)
