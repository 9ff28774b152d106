"""A bad network between devices and gateway: a TCP proxy per site that delays, loses, doubles, reorders and cuts.

    agent ─▶ port of its site ─▶ packets ─▶ loss, duplicate, delay, reorder, bandwidth ─▶ gateway
          ◀──────────────────────────────  the same on the way back  ◀──

Loss within TCP is not what a real network does, but what a broken broker, bridge or modem does: the PUBLISH is gone and
nobody says so. Only the durable ack can tell.
"""

import asyncio
import contextlib
import heapq
import logging
import socket
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from random import Random

from headwater.instant import US_PER_S
from simulators.packets import PacketCutter, duplicate_of, is_publish

CHUNK_BYTES = 65_536
HELD_MAX_BYTES = 4 * 1024 * 1024
PACKET_MAX_BYTES = 8 * 1024 * 1024
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NetworkConditions:
    """How bad it is; the same in both directions.

    Attributes:
        delay_us, jitter_us: each packet waits `delay ± jitter`, in order.
        bandwidth_max_bytes: per second, shared by the site; 0 for no limit.
        loss, duplicate, reorder: probability per PUBLISH.
        reorder_us: a reordered PUBLISH comes this much later, behind those that followed it.
        is_online: False cuts all connections and refuses new ones.
        is_silent: True swallows every packet while connections stay up.
    """

    delay_us: int = 0
    jitter_us: int = 0
    bandwidth_max_bytes: int = 0
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    reorder_us: int = 100_000
    is_online: bool = True
    is_silent: bool = False


@dataclass(slots=True)
class NetworkCounters:
    """What a site's network did; all grow."""

    connections: int = 0
    cut: int = 0
    refused_upstream: int = 0
    malformed: int = 0
    packets: int = 0
    bytes: int = 0
    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    swallowed: int = 0


@dataclass(frozen=True, slots=True)
class Change:
    """A step of a schedule: `after_us` from its start, a site's conditions become these."""

    after_us: int
    site: str
    conditions: NetworkConditions


@dataclass(slots=True)
class _Site:
    name: str
    conditions: NetworkConditions
    reserved: socket.socket
    port: int
    counters: NetworkCounters = field(default_factory=NetworkCounters)
    server: asyncio.Server | None = None
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    free_at: list[float] = field(default_factory=lambda: [0.0, 0.0])


class _Pipe:
    """One direction of one connection: packets wait in a heap for their time."""

    def __init__(self, site: _Site, direction: int, random: Random) -> None:
        self._site = site
        self._direction = direction
        self._random = random
        self._heap: list[tuple[float, int, bytes]] = []
        self._held_bytes = 0
        self._order = 0
        self._last_s = 0.0
        self._is_ended = False
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    async def run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carries bytes until the sender's end; ValueError if they are not MQTT."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._take(reader))
            group.create_task(self._give(writer))

    async def _take(self, reader: asyncio.StreamReader) -> None:
        cutter = PacketCutter(PACKET_MAX_BYTES)
        while data := await reader.read(CHUNK_BYTES):
            for packet in cutter.feed(data):
                self._admit(packet)
            self._changed.set()
            await self._room.wait()
        self._is_ended = True
        self._changed.set()

    def _admit(self, packet: bytes) -> None:
        conditions, counters = self._site.conditions, self._site.counters
        counters.packets += 1
        counters.bytes += len(packet)
        if conditions.is_silent:
            counters.swallowed += 1
            return
        if not is_publish(packet):
            self._schedule(packet, 0.0)
            return
        if self._random.random() < conditions.loss:
            counters.lost += 1
            return
        extra_s = 0.0
        if self._random.random() < conditions.reorder:
            counters.reordered += 1
            extra_s = conditions.reorder_us / US_PER_S
        self._schedule(packet, extra_s)
        if self._random.random() < conditions.duplicate:
            counters.duplicated += 1
            self._schedule(duplicate_of(packet), extra_s)

    def _schedule(self, packet: bytes, extra_s: float) -> None:
        conditions, site = self._site.conditions, self._site
        now_s = asyncio.get_running_loop().time()
        jitter_us = self._random.uniform(-conditions.jitter_us, conditions.jitter_us)
        at_s = now_s + max(0.0, conditions.delay_us + jitter_us) / US_PER_S
        if conditions.bandwidth_max_bytes:
            begin_s = max(site.free_at[self._direction], now_s)
            site.free_at[self._direction] = begin_s + len(packet) / conditions.bandwidth_max_bytes
            at_s = max(at_s, site.free_at[self._direction])
        at_s = max(at_s, self._last_s)
        if extra_s == 0.0:
            self._last_s = at_s
        self._order += 1
        heapq.heappush(self._heap, (at_s + extra_s, self._order, packet))
        self._held_bytes += len(packet)
        if self._held_bytes > HELD_MAX_BYTES:
            self._room.clear()

    async def _give(self, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while self._heap or not self._is_ended:
            wait_s = self._heap[0][0] - loop.time() if self._heap else None
            if wait_s is None or wait_s > 0:
                self._changed.clear()
                with contextlib.suppress(TimeoutError):  # Then the first packet's time has come.
                    async with asyncio.timeout(wait_s):
                        await self._changed.wait()
                continue
            _, _, packet = heapq.heappop(self._heap)
            self._held_bytes -= len(packet)
            if self._held_bytes <= HELD_MAX_BYTES:
                self._room.set()
            writer.write(packet)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


class NetworkEmulator:
    """Proxies to one gateway, a port per site. Use it from one event loop; `switch` works from any thread."""

    def __init__(self, upstream_host: str, upstream_port: int, *, seed: int = 0, host: str = "127.0.0.1") -> None:
        self._upstream = (upstream_host, upstream_port)
        self._host = host
        self._seed = seed
        self._sites: dict[str, _Site] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start_site(self, site: str, conditions: NetworkConditions | None = None) -> int:
        """Opens a site's network and returns its port, which stays the same through every cut."""
        assert site not in self._sites, f"site {site} has a network already"
        self._loop = asyncio.get_running_loop()
        # A bound socket that never listens keeps the port ours while the network is cut; connecting is then refused.
        reserved = _bound(self._host, 0)
        one = _Site(site, conditions or NetworkConditions(), reserved, reserved.getsockname()[1])
        self._sites[site] = one
        if one.conditions.is_online:
            await self._listen(one)
        return one.port

    async def _listen(self, site: _Site) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._serve(site, reader, writer)

        site.server = await asyncio.start_server(serve, sock=_bound(self._host, site.port))

    async def set_site(self, site: str, conditions: NetworkConditions) -> None:
        """Changes a site's network; packets on their way keep the time they had. KeyError if there is none."""
        one = self._sites[site]
        one.conditions = conditions
        if not conditions.is_online:
            await self._cut(one)
        elif one.server is None:
            await self._listen(one)

    async def _cut(self, site: _Site) -> None:
        if site.server is not None:
            site.server.close()
            site.server = None
        tasks = list(site.tasks)
        site.counters.cut += len(tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def conditions(self, site: str) -> NetworkConditions:
        """Returns what holds for a site now."""
        return self._sites[site].conditions

    def switch(self, site: str, online: bool) -> None:
        """Cuts or restores a site, from any other thread than the loop's, and waits until it is done."""
        assert self._loop is not None, "no site has been started"
        now = asdict(self._sites[site].conditions) | {"is_online": online}
        asyncio.run_coroutine_threadsafe(self.set_site(site, NetworkConditions(**now)), self._loop).result(10.0)

    async def run_schedule(self, changes: Iterable[Change]) -> None:
        """Makes the changes at their times; returns after the last."""
        loop = asyncio.get_running_loop()
        start_s = loop.time()
        for change in sorted(changes, key=lambda change: change.after_us):
            await asyncio.sleep(max(0.0, start_s + change.after_us / US_PER_S - loop.time()))
            await self.set_site(change.site, change.conditions)

    def counters(self) -> dict[str, dict[str, int]]:
        """Returns {site: {counter: value}}."""
        return {name: asdict(site.counters) for name, site in self._sites.items()}

    async def close(self) -> None:
        """Cuts everything and gives the ports back."""
        for site in self._sites.values():
            await self._cut(site)
            site.reserved.close()
        self._sites.clear()

    async def _serve(self, site: _Site, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        site.tasks.add(task)
        site.counters.connections += 1
        number = site.counters.connections
        upstream: asyncio.StreamWriter | None = None
        try:
            up_reader, upstream = await asyncio.open_connection(*self._upstream)
            up = _Pipe(site, 0, Random(f"{self._seed}/{site.name}/{number}/up"))  # noqa: S311  No secret.
            down = _Pipe(site, 1, Random(f"{self._seed}/{site.name}/{number}/down"))  # noqa: S311  No secret.
            async with asyncio.TaskGroup() as group:
                group.create_task(up.run(reader, upstream))
                group.create_task(down.run(up_reader, writer))
        except* OSError as errors:
            # One side went away, or the gateway was not there: the other side sees its connection end.
            site.counters.refused_upstream += upstream is None
            _log.debug("network of %s: %s", site.name, errors.exceptions[0])
        except* ValueError as errors:
            site.counters.malformed += 1
            _log.warning("network of %s: %s", site.name, errors.exceptions[0])
        finally:
            site.tasks.discard(task)
            for one in (writer, upstream):
                if one is not None:
                    one.transport.abort()


def _bound(host: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, port))
    return sock
