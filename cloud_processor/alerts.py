"""Operator: what rules decide to tell people; an alert fires once and resolves once, however often its cause repeats.

| rule | fires | resolves |
|---|---|---|
| `DETECTOR:METRIC` | an onset of at least `warning` | cleared and quiet for `hold`, or no onset for `forget` |
| `offline` | the twin says offline for `offline_after` | it is heard again |
| `health:COMPONENT` | health below `health_lo` | above `health_hi` |
| `life:COMPONENT` | the low end of remaining life below `lead_h` at a health below `worn`, `reports` times more often than not | the other way round: above 1.25 times that, or no trend |
| `unknown-frames` | frames that nobody can explain | explained |
| `sequence-holes` | a frontier of `RANGES_MAX` ranges or more | filled |
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cloud_processor.event_rows import event_table
from headwater.arrivals import Arrivals, Progress
from headwater.instant import format_duration
from headwater.points import PointTable
from headwater.reasons import Severity
from headwater.snapshot import pack, unpack

_VERSION = 1
_HEALTH_TAGS = ("site", "device", "component")
_HEALTH_FIELDS = ("health", "rul_h", "rul_lo")
_Key = tuple[str, str, str]  # site, device, rule


@dataclass(frozen=True, slots=True)
class AlertLimits:
    """When rules fire; see the table above."""

    offline_after_us: int = 120_000_000
    hold_us: int = 30_000_000
    forget_us: int = 3_600_000_000
    health_lo: float = 40.0
    health_hi: float = 55.0
    worn: float = 80.0
    reports: int = 4
    lead_h: float = 24.0


@dataclass(slots=True)
class _Firing:
    """An alert that fires: since when, until when its cause holds (0: until told), and its severity."""

    severity: str
    quiet_us: int
    value: float


class Alerts:
    """Keeps which alerts fire; must stand behind the operators whose rows it judges."""

    name = "alerts"

    def __init__(self, limits: AlertLimits) -> None:
        self._limits = limits
        self._firing: dict[_Key, _Firing] = {}
        self._offline_since: dict[tuple[str, str], int] = {}
        self._short: dict[_Key, int] = {}
        self._rows: list[tuple[int, tuple[str, ...], str, float, str]] = []

    def process(self, arrivals: Arrivals) -> list[PointTable]:
        """Judges the onsets and clearings of detectors."""
        batch, now_us = arrivals.batch, arrivals.batch.made_us
        for row, anomaly in batch.anomalies:
            site, device = batch.devices[batch.device[row]]
            key = (site, device, f"{anomaly.detector}:{anomaly.metric}")
            firing = self._firing.get(key)
            if not anomaly.is_onset:
                if firing is not None:
                    firing.quiet_us = now_us + self._limits.hold_us
            elif firing is not None:
                firing.quiet_us = now_us + self._limits.forget_us
            elif anomaly.severity != Severity.INFO:
                message = anomaly.message or f"{anomaly.metric}: {anomaly.detector}"
                self._fire(key, anomaly.time_us, str(anomaly.severity), anomaly.value, message)
                self._firing[key].quiet_us = now_us + self._limits.forget_us
        return []

    def advance(self, progress: Progress, tables: Sequence[PointTable]) -> list[PointTable]:
        """Judges health, presence and the account; lets alerts go whose cause has been quiet for long enough."""
        for table in tables:
            if table.measurement == "health":
                self._judge_health(table)
            elif table.measurement == "device":
                self._note_presence(table)
        now_us = progress.now_us
        for (site, device), since_us in self._offline_since.items():
            if now_us - since_us >= self._limits.offline_after_us and (site, device, "offline") not in self._firing:
                message = f"not heard of for {format_duration((now_us - since_us) // 1_000_000 * 1_000_000)}"
                self._fire((site, device, "offline"), now_us, str(Severity.WARNING), 1.0, message)
        for key in [key for key, firing in self._firing.items() if 0 < firing.quiet_us <= now_us]:
            self._resolve(key, self._firing[key].quiet_us, "quiet again")
        self._judge_account(progress)
        rows, self._rows = self._rows, []
        return event_table(
            "alert",
            [row[0] for row in rows],
            [row[1] for row in rows],
            {"state": [row[2] for row in rows], "value": [row[3] for row in rows], "message": [row[4] for row in rows]},
        )

    def _judge_health(self, table: PointTable) -> None:
        limits, fields = self._limits, table.fields
        matters = (fields["health"] < limits.health_lo) | (fields["rul_lo"] < limits.lead_h)
        # Of the others only machines that an alert fires for, or may by a row of this table, can have news.
        device = table.tags["device"]
        is_busy = np.zeros(len(device.dictionary), bool)
        is_busy[device.code[matters]] = True
        if self._firing or self._short:
            busy = {name for _, name, _ in [*self._firing, *self._short]}
            is_busy |= np.array([name in busy for name in device.dictionary], bool)
        rows = np.flatnonzero(is_busy[device.code])
        names = ([table.tags[tag].dictionary[at] for at in table.tags[tag].code[rows].tolist()] for tag in _HEALTH_TAGS)
        columns = (column[rows].tolist() for column in (table.time_us, *(fields[name] for name in _HEALTH_FIELDS)))
        for site, device_name, part, time_us, health, life, low in zip(*names, *columns, strict=True):
            key = (site, device_name, f"health:{part}")
            if health < limits.health_lo:
                self._fire(key, time_us, str(Severity.CRITICAL), health, f"health of {part} is {health:.0f} of 100")
            elif health > limits.health_hi:
                self._resolve(key, time_us, f"health of {part} is {health:.0f} of 100")
            key = (site, device_name, f"life:{part}")
            if self._is_settled(
                key, is_short=low < limits.lead_h and health < limits.worn, is_long=not low <= 1.25 * limits.lead_h
            ):
                continue
            if low < limits.lead_h and health < limits.worn:
                message = (
                    f"{part}: about {life:.1f} h left, no less than {low:.1f} h; planning takes {limits.lead_h:g} h"
                )
                self._fire(key, time_us, str(Severity.WARNING), low, message)
            else:
                self._resolve(
                    key, time_us, f"{part}: remaining life is beyond {1.25 * limits.lead_h:g} h or has no trend"
                )

    def _is_settled(self, key: _Key, *, is_short: bool, is_long: bool) -> bool:
        """Tells that a remaining life has not said the same for long enough to change its alert."""
        reports = self._limits.reports
        count = min(max(self._short.get(key, 0) + is_short - is_long, 0), reports)
        if count:
            self._short[key] = count
        else:
            self._short.pop(key, None)
        return not (is_short and count == reports) and not (is_long and count == 0)

    def _note_presence(self, table: PointTable) -> None:
        names = zip(table.tags["site"].strings(), table.tags["device"].strings(), strict=True)
        for name, time_us, online in zip(names, table.time_us.tolist(), table.fields["online"].tolist(), strict=True):
            if online:
                self._offline_since.pop(name, None)
                self._resolve((*name, "offline"), time_us, "heard again")
            else:
                self._offline_since.setdefault(name, time_us)

    def _judge_account(self, progress: Progress) -> None:
        rules = (
            ("unknown-frames", Severity.CRITICAL, progress.unknown, "frames that nobody can explain: {}"),
            ("sequence-holes", Severity.WARNING, progress.is_wide, "more holes in the sequence than a network makes"),
        )
        for rule, severity, found, message in rules:
            for at in np.flatnonzero(found).tolist():
                key = (*progress.directory.devices.values[at], rule)
                self._fire(key, progress.now_us, str(severity), float(found[at]), message.format(int(found[at])))
            for key in [key for key in self._firing if key[2] == rule]:
                if not found[progress.directory.devices.id(key[:2])]:
                    self._resolve(key, progress.now_us, "explained")

    def _fire(self, key: _Key, time_us: int, severity: str, value: float, message: str) -> None:
        if key not in self._firing:
            self._firing[key] = _Firing(severity, 0, value)
            self._rows.append((time_us, (*key, severity), "firing", float(value), message))

    def _resolve(self, key: _Key, time_us: int, message: str) -> None:
        firing = self._firing.pop(key, None)
        if firing is not None:
            self._rows.append((time_us, (*key, firing.severity), "resolved", firing.value, message))

    def snapshot(self) -> bytes:
        """What fires and who is offline."""
        firing = list(self._firing.items())
        return pack(
            _VERSION,
            {
                "keys": [list(key) for key, _ in firing],
                "severity": [alert.severity for _, alert in firing],
                "quiet_us": [alert.quiet_us for _, alert in firing],
                "value": np.array([alert.value for _, alert in firing], np.float64),
                "short": [[*key, count] for key, count in self._short.items()],
                "offline": [[*name, since] for name, since in self._offline_since.items()],
            },
        )

    def restore(self, data: bytes) -> None:
        """Becomes the operator that gave `data`."""
        state = unpack(data, _VERSION)
        columns = zip(state["keys"], state["severity"], state["quiet_us"], state["value"].tolist(), strict=True)
        self._firing = {(key[0], key[1], key[2]): _Firing(*rest) for key, *rest in columns}
        self._short = {(site, device, rule): count for site, device, rule, count in state["short"]}
        self._offline_since = {(site, device): since for site, device, since in state["offline"]}
