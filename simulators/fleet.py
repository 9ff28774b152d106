"""Thousands of devices in one process that load a gateway over MQTT: `headwater simulate`.

plant ─▶ frames, at each device's time ─▶ waiting (until durable) ─▶ connection ─▶ gateway
                                               ▲                                     │
                                               └────────────── ack ◀─────────────────┘
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from headwater.codec import encode_frame
from headwater.errors import ConnectError, SettingsError
from headwater.frame import READINGS_MAX, Frame
from headwater.instant import US_PER_S
from simulators.fleet_device import FleetDevice, Waiting, frame_of
from simulators.fleet_line import FleetLine, Uplink, now_us
from simulators.fleet_report import LATENCIES_MAX, FleetReport, Tally
from simulators.ledger import Ledger
from simulators.plant import Machine, Plant
from simulators.settings import SimulatorSettings
from simulators.truth import to_lines, truth_of

CONNECTS_AT_ONCE = 64
CHECK_EVERY_S = 0.5
BLOCK_SHARE = READINGS_MAX // 8  # A block of this many columns fits into a frame for every kind of machine.


def plant_of(settings: SimulatorSettings, start_us: int) -> Plant:
    """Makes the plant that the settings describe."""
    return Plant(
        settings.seed,
        settings.devices,
        start_us=start_us,
        wear_speed=settings.wear_speed,
        faults_per_day=settings.faults_per_day,
        duty_slot_s=settings.duty_slot_us // US_PER_S,
        has_vibration=settings.has_vibration,
    )


def encoded_frames(
    plant: Plant, start_us: int, seconds: int, readings_per_frame: int, *, epoch: int = 1
) -> list[tuple[str, str, bytes]]:
    """Returns (site, device, payload) for `seconds` of the whole plant, in order of time; seq is 1, 2, 3 … per device.

    A frame covers whole seconds, about `readings_per_frame` of 8 metrics; deterministic.
    """
    covers = max(1, min(readings_per_frame // 8, BLOCK_SHARE))
    frames = []
    for seq, second in enumerate(range(0, seconds, covers), 1):
        lo = start_us + second * US_PER_S
        hi = start_us + min(second + covers, seconds) * US_PER_S
        for machine in plant.machines:
            blocks = plant.readings(machine, lo, hi)
            frame = frame_of(machine, epoch, seq, 1, hi, blocks)
            frames.append((machine.site, machine.device, encode_frame(frame)))
    return frames


class Fleet:
    """Runs the devices of a plant against a gateway."""

    def __init__(self, settings: SimulatorSettings, on_progress: Callable[[FleetReport], None] | None = None) -> None:
        url = urlsplit(settings.gateway)
        if url.scheme != "mqtt" or not url.hostname:
            raise SettingsError(f"simulator.gateway {settings.gateway!r} must be a URL such as mqtt://127.0.0.1:1883")
        self._tally = Tally()
        self._progress = asyncio.Event()
        self._uplink = Uplink(
            url.hostname,
            url.port or 1883,
            url.username or "",
            url.password or "",
            secrets.token_hex(4),
            asyncio.Semaphore(CONNECTS_AT_ONCE),
            self._tally,
            self._note_durable,
            self._progress.set,
        )
        self._settings = settings
        self._on_progress = on_progress
        offered_us = round(settings.duration_us * (settings.speed if settings.is_paced else 1.0))
        lag_us = max(0, offered_us - settings.duration_us) if settings.is_paced else offered_us
        self._start_us = time.time_ns() // 1_000 - lag_us - settings.frames_every_us
        self._rounds = max(1, offered_us // settings.frames_every_us)
        self.plant = plant_of(settings, self._start_us)
        self._ledger = Ledger(Path(settings.ledger)) if settings.ledger else None
        self._devices = [self._device(machine) for machine in self.plant.machines]
        count = settings.connections or len(self._devices)
        self._lines = [
            FleetLine(self._uplink, n, self._devices[n::count]) for n in range(min(count, len(self._devices)))
        ]
        self._began_us = now_us()

    def _device(self, machine: Machine) -> FleetDevice:
        settings = self._settings
        return FleetDevice(machine, secrets.randbits(63) | 1, settings.unacked_max, settings.resend_after_us)

    async def run(self) -> FleetReport:
        """Offers the load, waits for the durable acks, returns what happened."""
        self._write_truth()
        # Without pace the gateway is measured, not the making of frames: they are made before anyone connects.
        prepared = None if self._settings.is_paced else [self._make(*turn) for turn in self._turns()]
        tasks = [asyncio.create_task(line.run(), name=f"line-{n}") for n, line in enumerate(self._lines)]
        tasks.append(asyncio.create_task(self._watch(), name="watch"))
        work = asyncio.create_task(self._work(prepared), name="offer")
        try:
            await asyncio.wait((work, *tasks), return_when=asyncio.FIRST_COMPLETED)
            # A line ends only by an error that trying again doesn't heal, such as a refused password.
            for task in (work, *tasks):
                if task.done():
                    task.result()
        finally:
            for task in (work, *tasks):
                task.cancel()
            await asyncio.gather(work, *tasks, return_exceptions=True)
            if self._ledger is not None:
                self._ledger.close()
        return self.report()

    def _write_truth(self) -> None:
        if self._settings.truth:
            end_us = self._start_us + self._rounds * self._settings.frames_every_us
            Path(self._settings.truth).write_text(to_lines(truth_of(self.plant, self._start_us, end_us)), "utf-8")

    async def _work(self, prepared: list[tuple[Frame, bytes]] | None) -> None:
        await self._wait_until(
            lambda: all(line.connection is not None for line in self._lines), self._settings.drain_us
        )
        if not any(line.connection is not None for line in self._lines):
            raise ConnectError(
                f"no connection to {self._uplink.host}:{self._uplink.port} within {self._settings.drain_us / 1e6:g} s"
            )
        self._began_us = now_us()
        for n, (round_, index) in enumerate(self._turns()):
            if self._settings.is_paced:
                await self._until_due(round_, index)
            device = self._devices[index]
            if not device.has_room:
                self._tally.held += 1
                while not device.has_room:
                    self._progress.clear()
                    await self._progress.wait()
            frame, payload = self._make(round_, index) if prepared is None else prepared[n]
            self._offer(device, self._lines[index % len(self._lines)], frame, payload)
            if n % 16 == 0:
                await asyncio.sleep(0)
        await self._wait_until(lambda: not any(device.waiting for device in self._devices), self._settings.drain_us)

    def _turns(self) -> Iterator[tuple[int, int]]:
        """Yields (round, device index) in the order in which frames fall due."""
        for round_ in range(self._rounds):
            for index in range(len(self._devices)):
                yield round_, index

    async def _until_due(self, round_: int, index: int) -> None:
        every_us = self._settings.frames_every_us / self._settings.speed
        due_us = self._began_us + (round_ + index / len(self._devices)) * every_us
        wait_us = due_us - now_us()
        if wait_us > 0:
            await asyncio.sleep(wait_us / US_PER_S)

    def _make(self, round_: int, index: int) -> tuple[Frame, bytes]:
        """Returns the device's next frame, as data and as bytes."""
        every_us, device = self._settings.frames_every_us, self._devices[index]
        start_us = self._start_us + round_ * every_us
        blocks = self.plant.readings(device.machine, start_us, start_us + every_us)
        frame = device.next_frame(blocks, start_us + every_us)
        return frame, encode_frame(frame)

    def _offer(self, device: FleetDevice, line: FleetLine, frame: Frame, payload: bytes) -> None:
        if self._ledger is not None:
            self._ledger.offered(frame, payload)
        device.waiting[frame.seq] = Waiting(frame, payload, now_us())
        self._tally.frames += 1
        self._tally.readings += frame.reading_count
        self._tally.bytes += len(payload)
        line.offer(device, frame.seq)

    def _note_durable(self, durable: list[Waiting]) -> None:
        """Counts frames whose durable ack has come; only now are they accepted, for memory is no spool."""
        at_us = now_us()
        for one in durable:
            self._tally.frames_acked += 1
            self._tally.readings_acked += one.frame.reading_count
            if len(self._tally.latencies_us) < LATENCIES_MAX:
                self._tally.latencies_us.append(at_us - one.made_us)
            if self._ledger is not None:
                self._ledger.accepted(one.frame, one.payload)
        if durable:
            self._progress.set()

    async def _wait_until(self, is_so: Callable[[], bool], limit_us: int) -> None:
        with contextlib.suppress(TimeoutError):  # The caller sees for itself what is not so.
            async with asyncio.timeout(limit_us / US_PER_S):
                while not is_so():
                    self._progress.clear()
                    await self._progress.wait()

    async def _watch(self) -> None:
        """Sends again what is overdue and tells how it goes."""
        while True:
            await asyncio.sleep(CHECK_EVERY_S)
            for line in self._lines:
                line.resend(now_us())
            if self._ledger is not None:
                self._ledger.flush()
            if self._on_progress is not None:
                self._on_progress(self.report())

    def report(self) -> FleetReport:
        """Returns the numbers as they are now."""
        return self._tally.report(
            devices=len(self._devices),
            connections=len(self._lines),
            connected=sum(line.connection is not None for line in self._lines),
            waiting=sum(len(device.waiting) for device in self._devices),
            seconds=(now_us() - self._began_us) / US_PER_S,
        )


async def run_fleet(
    settings: SimulatorSettings, on_progress: Callable[[FleetReport], None] | None = None
) -> FleetReport:
    """Runs a fleet in the current event loop; see `simulate`."""
    return await Fleet(settings, on_progress).run()


def simulate(settings: SimulatorSettings, on_progress: Callable[[FleetReport], None] | None = None) -> FleetReport:
    """Loads the gateway as the settings say; `on_progress` hears twice a second how it goes.

    Raises:
        SettingsError: the gateway's URL is wrong.
        ConnectError: no device could connect.
        RejectedError: the gateway refuses the fleet.
    """
    return asyncio.run(run_fleet(settings, on_progress))
