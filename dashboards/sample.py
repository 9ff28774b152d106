"""A made-up plant as a reader, a simulator and counters: full peers of the real ones, for tests and for looking.

Every value is a function of time and of the device's name, so that any range can be asked for in any order.
"""

import math
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from dashboards.reader import Columns, Row
from headwater.ports import Clock

S = 1_000_000
METRICS: dict[str, dict[str, Any]] = {
    "vibration_rms_mms": {"unit": "mm/s", "lo": 0.0, "hi": 12.0, "reduction": "swing:0.02"},
    "bearing_temp_cel": {"unit": "Cel", "lo": -20.0, "hi": 120.0, "reduction": "deadband:0.1"},
    "discharge_pressure_bar": {"unit": "bar", "lo": 0.0, "hi": 16.0, "reduction": "swing:0.01"},
    "motor_current_a": {"unit": "A", "lo": 0.0, "hi": 60.0, "reduction": "summary:5s"},
}
LEVEL = {"vibration_rms_mms": 2.2, "bearing_temp_cel": 61.0, "discharge_pressure_bar": 6.4, "motor_current_a": 31.0}
SWING = {"vibration_rms_mms": 0.25, "bearing_temp_cel": 3.0, "discharge_pressure_bar": 0.3, "motor_current_a": 2.0}
KINDS = ("bearing_wear", "stuck", "spike", "drift", "dropout")
MACHINES = ("pump", "fan", "mixer", "conveyor", "press")


def _seed(*parts: str) -> int:
    return zlib.crc32("/".join(parts).encode())


class SamplePlant:
    """Three sites of machines; implements the page's Reader and the SimulatorControl, and gives counters."""

    def __init__(self, clock: Clock, *, devices: int = 30, message: str = "") -> None:
        self._clock = clock
        self._message = message
        self._start_us = clock.now_us()
        sites = ("harbour", "north", "quarry")
        self._names = [(sites[i % 3], f"{MACHINES[(i // 3) % 5]}-{i // 3 + 1:02d}") for i in range(devices)]
        self._cut_us: dict[str, int] = {}
        self._faults: list[dict[str, Any]] = []

    def newest_us(self) -> int:
        """One second ago."""
        return self._clock.now_us() - S

    def _buffered(self, site: str) -> int:
        cut_us = self._cut_us.get(site)
        return 0 if cut_us is None else (self._clock.now_us() - cut_us) // S

    def _row(self, index: int) -> dict[str, Any]:
        site, device = self._names[index]
        is_online = site not in self._cut_us and index % 13 != 7
        seen_us = self.newest_us() if is_online else self._cut_us.get(site, self._start_us - 420 * S)
        metrics = METRICS if index % 4 else dict(list(METRICS.items())[:2])
        return {
            "site": site,
            "device": device,
            "online": is_online,
            "last_us": seen_us,
            "received_us": seen_us,
            "buffered": self._buffered(site),
            "agent": "0.1.0",
            # Those with fewer metrics are older and don't say where they stand.
            "lat": -33.86 + index / 1000 if index % 4 else None,
            "lon": 151.2 if index % 4 else None,
            "metrics": metrics,
        }

    def devices(self) -> list[Row]:
        """All devices."""
        return [self._row(index) for index in range(len(self._names))]

    def device(self, site: str, device: str) -> Row | None:
        """One device."""
        return self._row(self._names.index((site, device))) if (site, device) in self._names else None

    def _values(self, site: str, device: str, metric: str, time_us: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        seed = _seed(site, device, metric)
        seconds = time_us / S
        wave = np.sin(seconds / (90 + seed % 120) + seed % 7) + 0.4 * np.sin(seconds / (13 + seed % 9))
        noise = np.modf(np.sin((time_us // 1000 % 1_000_003) * 12.9898 + seed % 101) * 43758.5453)[0]
        value: npt.NDArray[np.float64] = (
            LEVEL[metric] + SWING[metric] * (wave + 0.45 * noise) + seed % 5 * SWING[metric]
        )
        for row in self._anomalies_of(site, device):
            if row["metric"] == metric:
                inside = (time_us >= row["time_us"]) & (time_us < row["time_us"] + 45 * S)
                value = value + inside * SWING[metric] * 5
        return value

    def raw(self, site: str, device: str, metric: str, start_us: int, end_us: int, limit: int) -> Columns:
        """A reading every half second, with a hole of 40 s once in ten minutes."""
        row = self.device(site, device)
        newest_us = int(row["last_us"]) if row else 0
        step = S // 2
        time_us = np.arange(-(-start_us // step) * step, min(end_us, newest_us), step, dtype=np.int64)
        if site == "quarry":
            time_us = time_us[(time_us // S) % 600 >= 40]
        time_us = time_us[:limit]
        quality = np.zeros(len(time_us), np.uint8)
        return {"time_us": time_us, "value": self._values(site, device, metric, time_us), "quality": quality}

    def series(self, site: str, device: str, metric: str, start_us: int, end_us: int, points_max: int) -> Columns:
        """Buckets over the readings."""
        raw = self.raw(site, device, metric, start_us, end_us, 200_000)
        time_us, value = raw["time_us"], raw["value"]
        if not len(time_us):
            return {key: np.empty(0) for key in ("time_us", "mean", "min", "max", "count")}
        width_us = max(1, -(-(end_us - start_us) // points_max))
        bucket = (time_us - start_us) // width_us
        first = np.flatnonzero(np.diff(bucket, prepend=-1))
        count = np.diff(np.append(first, len(time_us)))
        return {
            "time_us": start_us + bucket[first] * width_us,
            "mean": np.add.reduceat(value, first) / count,
            "min": np.minimum.reduceat(value, first),
            "max": np.maximum.reduceat(value, first),
            "count": count,
        }

    def windows(self, site: str, device: str, metric: str, window: str, start_us: int, end_us: int) -> Columns:
        """Windows of 10 s or 1 min."""
        width_us = 10 * S if window == "10s" else 60 * S
        start_us -= start_us % width_us
        points = max(1, -(-(end_us - start_us) // width_us))
        columns = self.series(site, device, metric, start_us, start_us + points * width_us, points)
        spread = np.maximum(columns["max"] - columns["min"], 1e-9) / 3.5
        return {**columns, "std": spread}

    def _anomalies_of(self, site: str, device: str) -> list[dict[str, Any]]:
        seed = _seed(site, device)
        rows = [self._anomaly(site, device, number) for number in range(4) if seed % 4 == 0]
        rows.extend(
            self._anomaly(site, device, 0) | {"time_us": fault["start_us"] + 3 * S}
            for fault in self._faults
            if (fault["site"], fault["device"]) == (site, device)
        )
        return rows

    def _anomaly(self, site: str, device: str, number: int) -> dict[str, Any]:
        seed = _seed(site, device, str(number))
        metric = list(METRICS)[(seed >> 4) % 2]
        expected = LEVEL[metric] + _seed(site, device, metric) % 5 * SWING[metric]
        value = expected + SWING[metric] * 5.4
        severity = ("info", "warning", "warning", "critical")[(seed >> 3) % 4]
        return {
            "time_us": self._start_us - (40 + number * 830 + seed % 700) * S,
            "site": site,
            "device": device,
            "metric": metric,
            "detector": ("level", "change", "rate")[(seed >> 7) % 3],
            "severity": severity,
            "score": 1.2 + seed % 30 / 10,
            "value": value,
            "expected": expected,
            "lo": expected - 2 * SWING[metric],
            "hi": expected + 2 * SWING[metric],
            "message": self._message or f"{metric} rose to {value:.1f}, well above what it usually is",
        }

    def anomalies(
        self, start_us: int, end_us: int, limit: int, *, site: str | None = None, device: str | None = None
    ) -> list[Row]:
        """The anomalies of all or one, newest first."""
        rows: list[Row] = [
            row
            for name in self._names
            if (site is None or name[0] == site) and (device is None or name[1] == device)
            for row in self._anomalies_of(*name)
            if start_us <= row["time_us"] < end_us
        ]
        return sorted(rows, key=lambda row: -int(row["time_us"]))[:limit]

    def health(self, site: str | None = None, device: str | None = None) -> list[Row]:
        """Bearing health of all or one."""
        rows: list[Row] = []
        for name in self._names:
            if (site is not None and name[0] != site) or (device is not None and name[1] != device):
                continue
            seed = _seed(*name)
            health = 98.0 - seed % 23 if seed % 11 else 38.0
            rul_h = health * 11.0 if health < 90 else math.nan
            rows.append(
                {
                    "time_us": self.newest_us(),
                    "site": name[0],
                    "device": name[1],
                    "component": "bearing",
                    "health": health,
                    "rul_h": rul_h,
                    "rul_lo": rul_h * 0.7,
                    "rul_hi": rul_h * 1.4,
                    "p_fail": (100 - health) / 400,
                    "model": "exponential",
                }
            )
        return rows

    def health_history(self, site: str, device: str, start_us: int, end_us: int, limit: int) -> list[Row]:
        """Health once in ten minutes, wearing down slowly, newest first."""
        newest = self.health(site, device)
        times = range(end_us - end_us % (600 * S), max(start_us, end_us - limit * 600 * S), -600 * S)
        return [
            {**row, "time_us": at, "health": min(100.0, row["health"] + (self._start_us - at) / (7200 * S))}
            for row in newest
            for at in times
            if at <= self.newest_us()
        ]

    def gaps(self, limit: int) -> list[Row]:
        """None."""
        return [][:limit]

    def alerts(self, limit: int) -> list[Row]:
        """None."""
        return [][:limit]

    def accounts(self) -> list[Row]:
        """Frames add up."""
        rows: list[Row] = []
        for index, (site, device) in enumerate(self._names):
            frames = (self._clock.now_us() - self._start_us) // S + 3600 + index
            flying = self._buffered(site) + 1
            gap = 12 if index == 7 else 0
            rows.append(
                {
                    "site": site,
                    "device": device,
                    "epoch": _seed(site, device) << 30,
                    "assigned": frames,
                    "stored": frames - flying - gap - (index == 4),
                    "dead_lettered": int(index == 4),
                    "gap": gap,
                    "in_flight": flying,
                    "unknown": 0,
                    "readings_stored": frames * 9,
                    "acquired": frames * 100,
                    "suppressed": frames * 78,
                    "aggregated": frames * 13,
                    "dropped": 0,
                    "duplicates": index % 3,
                }
            )
        return rows

    def dead_letters(self, limit: int) -> list[Row]:
        """One."""
        row = {
            "at_us": self._start_us - 300 * S,
            "reason": "not_finite",
            "stage": "gateway",
            "source": "hw/1/harbour/pump-01/frame",
            "detail": "1 of 40 readings is not finite",
            "site": "harbour",
            "device": "pump-01",
            "epoch": 7,
            "seq": 31,
            "readings": 1,
            "payload": b"\x00\x01",
        }
        rows: list[Row] = [row]
        return rows[:limit]

    def counters(self) -> dict[str, Any]:
        """Counters that grow with time."""
        seconds = (self._clock.now_us() - self._start_us) / S + 1
        online = sum(1 for row in self.devices() if row["online"])
        frames = int(seconds * online)
        live = {
            f"{row['site']}/{row['device']}": {"buffered": row["buffered"], "online": row["online"]}
            for row in self.devices()
        }
        return {
            "agents": {"readings": frames * 100, "frames": frames, "devices": live},
            "gateway": {"readings": frames * 9, "frames": frames, "dead_letters": 1, "bytes": frames * 212},
            "log": {"records": frames // 9, "lag": 3},
            "processor": {"readings": frames * 9, "duplicates": 4, "late": 2, "p95_ms": 4.1},
            "store": {"readings": frames * 9, "rows": frames * 11, "write_p95_ms": 9.5},
        }

    def state(self) -> dict[str, object]:
        """Sites, faults and kinds."""
        sites = sorted({site for site, _ in self._names})
        return {
            "sites": [
                {
                    "site": site,
                    "online": site not in self._cut_us,
                    "devices": [device for at, device in self._names if at == site],
                }
                for site in sites
            ],
            "faults": self._faults,
            "kinds": list(KINDS),
        }

    def inject(self, site: str, device: str, metric: str, kind: str, severity: float, duration_us: int) -> str:
        """Notes a fault."""
        if (site, device) not in self._names or kind not in KINDS:
            raise KeyError(f"{site}/{device} {kind}")
        start_us = self._clock.now_us()
        fault = {"site": site, "device": device, "metric": metric, "kind": kind, "severity": severity}
        name = f"f{len(self._faults) + 1}"
        self._faults.append(fault | {"id": name, "start_us": start_us, "end_us": start_us + duration_us})
        return name

    def set_online(self, site: str, online: bool) -> None:
        """Cuts or restores."""
        if site not in {at for at, _ in self._names}:
            raise KeyError(site)
        if online:
            self._cut_us.pop(site, None)
        else:
            self._cut_us.setdefault(site, self._clock.now_us())
