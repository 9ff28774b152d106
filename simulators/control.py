"""The hands on a running plant: faults injected live and sites cut off, for the page of the demo."""

import threading
from collections.abc import Callable

from headwater.instant import US_PER_S
from headwater.ports import Clock
from simulators.faults import KINDS, SEVERITY_MAX, Fault, kinds_of
from simulators.plant import Machine, Plant

RECENT_US = 600 * US_PER_S
LIVE_MAX = 1_000
SPIKE_S_MAX = 2
DURATION_S_MAX = 86_400
_SCHEDULE_EVERY_US = 5 * US_PER_S


class Control:
    """Implements `headwater.ports.SimulatorControl`, and hands live faults to `simulators.source`.

    `set_site_online` carries out what `set_online` asks for (`simulators.network` has the means); without one only the
    flag changes. Safe to call from several threads.
    """

    def __init__(self, plant: Plant, clock: Clock, set_site_online: Callable[[str, bool], None] | None = None) -> None:
        self.plant = plant
        self._clock = clock
        self._set_site_online = set_site_online
        self._online = dict.fromkeys(plant.sites, True)
        self._live: dict[tuple[str, str], list[Fault]] = {}
        self._count = 0
        self._lock = threading.Lock()
        self._schedule: list[dict[str, object]] = []
        self._schedule_us = -_SCHEDULE_EVERY_US

    def state(self) -> dict[str, object]:
        """Returns sites, faults of the last ten minutes with the latest last, and the kinds that `inject` takes."""
        now_us = self._clock.now_us()
        with self._lock:
            # Walking the whole plant's schedule is too much for every tick of a page.
            if abs(now_us - self._schedule_us) >= _SCHEDULE_EVERY_US:
                self._schedule_us, self._schedule = now_us, self._scheduled(now_us)
            live = [
                self._row(self.plant.by_name[name], fault)
                for name, some in self._live.items()
                for fault in some
                if (fault.stop_s + 1) * US_PER_S > now_us - RECENT_US
            ]
            online = dict(self._online)
        sites = [
            {
                "site": site,
                "online": online[site],
                "devices": [machine.device for machine in self.plant.machines if machine.site == site],
            }
            for site in self.plant.sites
        ]
        faults = sorted(live + self._schedule, key=lambda row: (str(row["start_us"]), str(row["id"])))
        return {"sites": sites, "faults": faults, "kinds": list(KINDS)}

    def _scheduled(self, now_us: int) -> list[dict[str, object]]:
        span = ((now_us - RECENT_US) // US_PER_S, now_us // US_PER_S)
        return [
            self._row(machine, fault) for machine in self.plant.machines for fault in self.plant.faults(machine, *span)
        ]

    @staticmethod
    def _row(machine: Machine, fault: Fault) -> dict[str, object]:
        return {
            "id": fault.id,
            "site": fault.site,
            "device": fault.device,
            "metric": fault.metric,
            "kind": fault.kind,
            "severity": fault.severity,
            "start_us": fault.start_s * US_PER_S + machine.phase_us,
            "end_us": fault.stop_s * US_PER_S + machine.phase_us,
            "cause": fault.cause,
        }

    def inject(self, site: str, device: str, metric: str, kind: str, severity: float, duration_us: int) -> str:
        """Starts a fault at the machine's next sample and returns its id.

        `metric` is one of its 1 Hz values or "" for all of them; a process fault or clock jump takes the whole machine.
        `kind` is a key of `simulators.faults.KINDS`, `severity` counts sigmas of the channel's noise (seconds for
        "clock_jump"), `duration_us` is rounded to seconds, at least one; a spike lasts two at most.

        Raises:
            KeyError: no such machine, metric or kind, or a kind that this machine can't have.
            ValueError: severity or duration out of range.
        """
        machine = self.plant.by_name[site, device]
        if kind not in kinds_of(machine.kind):
            raise KeyError(f"a {machine.kind} has no fault {kind!r}")
        if metric and metric not in self.plant.channel_names(machine):
            raise KeyError(f"{device} has no 1 Hz metric {metric!r}")
        if not -SEVERITY_MAX <= severity <= SEVERITY_MAX:
            raise ValueError(f"severity {severity} must be between -{SEVERITY_MAX} and {SEVERITY_MAX}")
        lasts = max(1, round(duration_us / US_PER_S))
        if lasts > DURATION_S_MAX:
            raise ValueError(f"a fault lasts at most {DURATION_S_MAX} s")
        if kind == "spike":
            lasts = min(lasts, SPIKE_S_MAX)
        if KINDS[kind].is_process or kind == "clock_jump":
            metric = ""
        begin = self._clock.now_us() // US_PER_S + 1
        with self._lock:
            self._count += 1
            name = f"live-{self._count}-{kind}"
            some = self._live.setdefault((site, device), [])
            some.append(Fault(name, site, device, metric, kind, begin, begin + lasts, severity, "live"))
            del some[:-LIVE_MAX]
        return name

    def set_online(self, site: str, online: bool) -> None:
        """Cuts or restores the network of a site; KeyError if there is none of that name."""
        with self._lock:
            if site not in self._online:
                raise KeyError(site)
            self._online[site] = online
        if self._set_site_online is not None:
            self._set_site_online(site, online)

    def live(self, machine: Machine, start_us: int, end_us: int) -> list[Fault]:
        """Returns the injected faults of a machine that overlap `[start_us, end_us)`; see `simulators.source`."""
        start_s, stop_s = start_us // US_PER_S - 1, end_us // US_PER_S + 1
        with self._lock:
            some = self._live.get((machine.site, machine.device), ())
            return [fault for fault in some if fault.start_s < stop_s and fault.stop_s > start_s]

    def injected(self) -> list[Fault]:
        """Returns all injected faults, for the ground truth."""
        with self._lock:
            return [fault for some in self._live.values() for fault in some]
