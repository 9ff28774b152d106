"""The page's one look at the store per tick, shared by all browsers.

    reader ──▶ SharedCalls ──▶ Feed.tick ──▶ Ring ──▶ every stream of dashboards.events
    counters ─────────────────────┘

Only channels that somebody listens to are read.
"""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import anyio

from dashboards import overview
from dashboards.cache import SharedCalls, gather
from dashboards.rates import Rates, flatten
from dashboards.reader import Reader
from dashboards.ring import Ring
from dashboards.settings import DashboardSettings
from dashboards.units import main_metric, unit_of, with_units
from dashboards.wire import json_text, plain
from headwater.errors import HeadwaterError
from headwater.ports import Clock, SimulatorControl

ANOMALY_SPAN_US = 3_600_000_000
CHANNELS = frozenset({"fleet", "anomalies", "pipeline", "simulator"})
RAW_PER_TICK_MAX = 2000
LIVE_START_US = 10_000_000
SPARKS_FIRST_MAX = 64
HISTORY_STEP_US = 1_000_000
HISTORY_MAX = 300
LINGER_US = 30_000_000

_log = logging.getLogger(__name__)


class Feed:
    """Gathers what changed and puts it into the ring."""

    def __init__(
        self,
        reader: Reader,
        *,
        counters: Callable[[], dict[str, Any]] | None,
        simulator: SimulatorControl | None,
        settings: DashboardSettings,
        clock: Clock,
        ring: Ring,
    ) -> None:
        self.reader = reader
        self.calls = SharedCalls(clock, threads_max=settings.reader_threads_max)
        self.ring = ring
        self.simulator = simulator
        self.errors = 0
        self._counters = counters
        self._settings = settings
        self._clock = clock
        self._listeners: Counter[str] = Counter()
        self._linger_us: dict[str, int] = {}
        self._news = anyio.Event()
        self._is_closing = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self.stream_count = 0
        self._rates = Rates(smooth_us=3_000_000)
        self._fleet_sent: dict[tuple[str, str], dict[str, Any]] = {}
        self._sparks: dict[tuple[str, str], dict[str, Any]] = {}
        self._spark_turn = 0
        self._anomaly_seen: set[tuple[Any, ...]] | None = None
        self._cursors: dict[str, dict[str, int]] = {}
        self._simulator_sent = ""
        self.counters: Mapping[str, Any] = {}
        self._stages = overview.stage_rows({}, {})
        self.history: deque[dict[str, Any]] = deque(maxlen=HISTORY_MAX)

    @property
    def is_closing(self) -> bool:
        """True once the page is about to stop: streams end."""
        return self._is_closing

    def listen(self, channels: frozenset[str]) -> bool:
        """Counts a listener in; its channels are read from the next tick on.

        True if all of them have been read without a break, so that the ring holds what a browser missed.
        """
        is_whole = channels <= self._active()
        self._listeners.update(channels)
        self.stream_count += 1
        return is_whole

    def leave(self, channels: frozenset[str]) -> None:
        """Counts a listener out; what nobody hears is read on for a while, as browsers come back."""
        self._listeners.subtract(channels)
        self.stream_count -= 1
        for channel in channels:
            if self._listeners[channel] <= 0:
                del self._listeners[channel]
                self._linger_us[channel] = self._clock.monotonic_us() + LINGER_US

    def _active(self) -> frozenset[str]:
        """The channels to read now; what has been silent for too long is forgotten."""
        now_us = self._clock.monotonic_us()
        for channel, until_us in list(self._linger_us.items()):
            if channel in self._listeners:
                del self._linger_us[channel]
            elif until_us <= now_us:
                del self._linger_us[channel]
                self._cursors.pop(channel, None)
                if channel == "anomalies":
                    self._anomaly_seen = None
        return frozenset(self._listeners) | frozenset(self._linger_us)

    async def news(self) -> None:
        """Returns after the next tick that had something to say."""
        await self._news.wait()

    def close(self) -> None:
        """Ends the loop and all streams."""
        self._is_closing = True
        self._wake()

    def close_soon(self) -> None:
        """Does the same from another thread; returns at once."""
        self._is_closing = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._wake)

    async def run(self) -> None:
        """Ticks until cancelled; a store that can't be read is counted, logged and asked again at the next tick."""
        self._loop = asyncio.get_running_loop()
        while not self._is_closing:
            if self._active() or self._counters is not None:
                try:
                    await self.observe()
                    await self.tick()
                except (HeadwaterError, OSError) as error:
                    self.errors += 1
                    _log.warning("the page could not read the store: %s", error)
                except Exception:  # noqa: BLE001 - The host loop counts, logs and goes on.
                    self.errors += 1
                    _log.exception("the page's tick failed; it goes on with the next one")
            await anyio.sleep(self._settings.tick_us / 1e6)

    async def tick(self) -> None:
        """Reads every channel that has listeners once and publishes what changed."""
        before = self.ring.number
        channels = self._active()
        if "fleet" in channels:
            await self._tick_fleet()
        if "anomalies" in channels:
            await self._tick_anomalies()
        if "pipeline" in channels:
            self.ring.append("pipeline", json_text(await self.pipeline()))
        if "simulator" in channels and self.simulator is not None:
            await self._tick_simulator(self.simulator)
        for channel in sorted(channels - CHANNELS):
            await self._tick_device(channel)
        if self.ring.number != before:
            self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = anyio.Event()

    @property
    def _live(self) -> Mapping[str, Mapping[str, Any]]:
        """The agents' own counters by "site/device"; {} where the page runs apart from them."""
        devices = self.counters.get("agents", {}).get("devices", {})
        return devices if isinstance(devices, Mapping) else {}

    async def fleet(self) -> dict[str, Any]:
        """The whole fleet with its key figures; at most one tick old."""
        keep_us, now_us = self._settings.tick_us, self._clock.now_us()
        get = self.calls.get
        devices, health, anomalies, accounts = await gather(
            lambda: get("devices", keep_us, self.reader.devices),
            lambda: get("health", 4 * keep_us, self.reader.health),
            lambda: get(
                "anomalies",
                keep_us,
                self.reader.anomalies,
                now_us - ANOMALY_SPAN_US,
                now_us + ANOMALY_SPAN_US,
                self._settings.rows_max,
            ),
            self.accounts,
        )
        rows = overview.fleet_rows(devices, health, anomalies, self._live, now_us)
        for row in rows:
            row["spark"] = self._sparks.get((row["site"], row["device"]))
        account = overview.totals(accounts)
        sick = [row["health"] for row in rows if row["health"] is not None]
        figures = {
            "devices": len(rows),
            "online": sum(row["online"] for row in rows),
            "anomalies": len(anomalies),
            "attention": sum(bool(row["attention"]) for row in rows),
            "health_lowest": min(sick, default=None),
            "readings_stored": account["readings_stored"],
            "unknown": account["unknown"],
        }
        sites = overview.site_rows(rows)
        return {"now_us": now_us, "figures": figures, "sites": sites, "devices": rows}

    async def accounts(self) -> list[Mapping[str, Any]]:
        """The account of each device and epoch, with what its spool alone knows where the agents run here."""
        rows = await self.calls.get("accounts", 2 * self._settings.tick_us, self.reader.accounts)
        return overview.with_spools(rows, self._live)

    async def draw_sparks(self, devices: Sequence[Mapping[str, Any]], count_max: int) -> None:
        """Reads the small charts of the next `count_max` devices in turn."""
        now_us = self._clock.now_us()
        names = [(row["site"], row["device"], main_metric(list(row.get("metrics") or {}))) for row in devices]
        for index in range(min(count_max, len(names))):
            site, device, metric = names[(self._spark_turn + index) % len(names)]
            if not metric:
                continue
            start_us = now_us - self._settings.spark_us
            columns = await self.calls.run(self.reader.series, site, device, metric, start_us, now_us, 48)
            self._sparks[site, device] = {
                "metric": metric,
                "unit": unit_of(metric),
                "start_us": start_us,
                "end_us": now_us,
                **plain({"time_us": columns["time_us"], "mean": columns["mean"]}),
            }
        self._spark_turn += count_max

    async def draw_missing_sparks(self, devices: Sequence[Mapping[str, Any]]) -> None:
        """Reads the small charts of devices that have none yet, at most `SPARKS_FIRST_MAX`."""
        missing = sum((row["site"], row["device"]) not in self._sparks for row in devices)
        if missing:
            await self.draw_sparks(devices, min(len(devices), SPARKS_FIRST_MAX))

    async def _tick_fleet(self) -> None:
        devices = await self.calls.get("devices", self._settings.tick_us, self.reader.devices)
        await self.draw_sparks(devices, self._settings.sparks_per_tick_max)
        fleet = await self.fleet()
        changed = []
        for row in fleet["devices"]:
            key = (row["site"], row["device"])
            sent = self._fleet_sent.get(key, {})
            if sent != row:
                is_same_spark = sent.get("spark") == row["spark"]
                changed.append({name: value for name, value in row.items() if name != "spark" or not is_same_spark})
                self._fleet_sent[key] = row
        self.ring.append("fleet", json_text(fleet | {"devices": changed, "part": True}))

    async def _tick_anomalies(self) -> None:
        now_us = self._clock.now_us()
        rows = await self.calls.get(
            "anomalies",
            self._settings.tick_us,
            self.reader.anomalies,
            now_us - ANOMALY_SPAN_US,
            now_us + ANOMALY_SPAN_US,
            self._settings.rows_max,
        )
        keyed = {(r["site"], r["device"], r["metric"], r["detector"], r["severity"], r["time_us"]): r for r in rows}
        seen, self._anomaly_seen = self._anomaly_seen, set(keyed)
        fresh = [row for key, row in keyed.items() if seen is not None and key not in seen]
        if fresh:
            self.ring.append("anomalies", json_text({"now_us": now_us, "rows": fresh}))

    async def pipeline(self) -> dict[str, Any]:
        """The stages with totals and rates, the sites' spools, and the account of every frame."""
        await self.observe()
        now_us = self._clock.now_us()
        accounts = await self.accounts()
        devices = await self.calls.get("devices", self._settings.tick_us, self.reader.devices)
        newest_us = await self.calls.get("newest", self._settings.tick_us, self.reader.newest_us)
        fleet = overview.fleet_rows(devices, (), (), self._live, now_us)
        return {
            "now_us": now_us,
            "newest_us": newest_us,
            "stages": self._stages,
            "sites": overview.site_rows(fleet),
            "account": overview.totals(accounts),
        }

    async def observe(self) -> None:
        """Reads the stages' counters at most once per tick, in a worker thread: a store counts its rows for them.

        Once a second their rates and the sites' spools go into `history`, so that charts begin with a past.
        """
        if self._counters is None:
            return
        is_recent = bool(self.history) and self._clock.now_us() - self.history[-1]["now_us"] < HISTORY_STEP_US
        if is_recent and not self._listeners:
            return
        self.counters = await self.calls.get("counters", self._settings.tick_us, self._counters)
        if is_recent:
            return
        now_us = self._clock.now_us()
        counters = overview.with_log(self.counters)
        rates = self._rates.update(self._clock.monotonic_us(), flatten(counters))
        self._stages = overview.stage_rows(counters, rates)
        sites: dict[str, int] = {}
        for name, agent in self._live.items():
            site = name.partition("/")[0]
            sites[site] = sites.get(site, 0) + int(agent.get("buffered", 0))
        self.history.append(
            {"now_us": now_us, "rates": {row["stage"]: row["rate"] for row in self._stages}, "sites": sites or None}
        )

    async def _tick_simulator(self, simulator: SimulatorControl) -> None:
        state = await self.calls.get("simulator", self._settings.tick_us, simulator.state)
        text = json_text({"state": state, "sites": overview.site_rows((await self.fleet())["devices"])})
        if text != self._simulator_sent:
            self._simulator_sent = text
            self.ring.append("simulator", text)

    async def _tick_device(self, channel: str) -> None:
        _, site, device = channel.split("/")
        row = await self.calls.run(self.reader.device, site, device)
        if row is None:
            return
        cursors = self._cursors.setdefault(channel, {})
        series: dict[str, Any] = {}
        for metric, latest in (row.get("metrics") or {}).items():
            since_us = cursors.get(metric, self._clock.now_us() - LIVE_START_US)
            end_us = int((latest or {}).get("last_us") or row["last_us"]) + 1
            if end_us <= since_us:
                continue
            columns = await self.calls.run(self.reader.raw, site, device, metric, since_us, end_us, RAW_PER_TICK_MAX)
            value = columns.get("value")
            if not len(columns["time_us"]):  # A metric that the edge sends as summaries has no readings of its own.
                columns = await self.calls.run(self.reader.series, site, device, metric, since_us, end_us, 200)
                value = columns["mean"]
            if len(columns["time_us"]):
                cursors[metric] = int(columns["time_us"][-1]) + 1
                series[metric] = {"time_us": columns["time_us"], "value": value}
        live = self._live.get(f"{site}/{device}", {})
        text = json_text({"now_us": self._clock.now_us(), "row": with_units(row), "live": live, "series": series})
        self.ring.append(channel, text)
