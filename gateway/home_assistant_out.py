"""What the gateway tells Home Assistant: a discovery message per metric, and a device's newest values as one JSON message.

    batches ─▶ note ─▶ newest values ─▶ due ─▶ homeassistant/sensor/{site}_{device}/{metric}/config    retained
    notes ───▶ describe ─▶ units               hw/1/{site}/{device}/state    {"metric": value, …}

Without IO. A device that says nothing for long is forgotten, and its discovery messages are taken back.
"""

import json
import re
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gateway.inbound import Note
from headwater.batch import Batch
from headwater.errors import DecodeError
from headwater.frame import Float64, Int64
from headwater.names import mqtt_topic
from headwater.quality import BAD_MIN
from headwater.status import parse_status

DEVICES_MAX = 2_000
METRICS_MAX = 256
# A broker that lost its retained messages gets them again.
TELL_AGAIN_US = 3_600_000_000
# A sensor that is not heard of for so many intervals is shown as unavailable; and never sooner than ten minutes.
EXPIRES_AFTER = 60
EXPIRES_MIN_S = 600
_NOT_IN_IDS = re.compile(r"[^A-Za-z0-9_-]")
# UCUM, as Headwater writes units, to what Home Assistant knows them by; others are the same or are left as they are.
_UNITS = {
    "Cel": "°C",
    "degF": "°F",
    "[degF]": "°F",
    "um": "µm",
    "us": "µs",
    "Ohm": "Ω",
    "deg": "°",
    "m3/h": "m³/h",
    "1": "",
}

Message = tuple[str, bytes]


@dataclass(slots=True)
class _Device:
    seen_us: int
    sent_us: int | None = None
    is_changed: bool = False
    is_untold: bool = False
    values: dict[str, tuple[int, float]] = field(default_factory=dict)
    told: dict[str, str | None] = field(default_factory=dict)
    told_us: int = 0


def id_of(text: str) -> str:
    """Returns what a name is in a discovery topic: only letters, digits, _ and -; what had to change ends in a checksum.

    >>> id_of("temp"), id_of("flow/in")
    ('temp', 'flow_in_8c55')
    """
    changed = _NOT_IN_IDS.sub("_", text)
    return changed if changed == text else f"{changed}_{zlib.crc32(text.encode()) & 0xFFFF:04x}"


def node_of(site: str, device: str) -> str:
    """Returns the node id of a device; a site with _ in it gets a checksum, so that no two devices meet in one.

    >>> node_of("north", "pump_1"), node_of("north_hall", "pump")
    ('north_pump_1', 'north_hall_pump_005f')
    """
    node = f"{site}_{device}"
    return node if "_" not in site else f"{node}_{zlib.crc32(f'{site}/{device}'.encode()) & 0xFFFF:04x}"


class HomeAssistant:
    """Keeps the newest values; tells them at most every so often.

    Args:
        prefix: of discovery topics.
        every_us: least time between two state messages of a device.
        forget_us: silence after which a device is forgotten.

    Attributes:
        counters: what happened, by short names.
    """

    def __init__(self, prefix: str, every_us: int, forget_us: int) -> None:
        self._prefix = prefix
        self._every_us = every_us
        self._forget_us = forget_us
        self._devices: dict[tuple[str, str], _Device] = {}
        self._units: dict[tuple[str, str], dict[str, str]] = {}
        self.counters: Counter[str] = Counter()

    def describe(self, notes: Iterable[Note]) -> None:
        """Takes the units that devices declare from what goes to the registry."""
        for note in notes:
            if not isinstance(note.what, tuple):
                continue
            site, _, device = note.what[0].decode().partition("/")
            if "/" in device:
                continue
            try:
                metrics = parse_status(note.what[1]).metrics or {}
            except DecodeError:
                self.counters["entries_refused"] += 1
                continue
            told = {name: said.get("unit") for name, said in metrics.items() if isinstance(said, dict)}
            units = {name: unit for name, unit in told.items() if unit and isinstance(unit, str)}
            self._units.pop((site, device), None)
            self._units[site, device] = dict(list(units.items())[:METRICS_MAX])
            if len(self._units) > DEVICES_MAX:
                del self._units[next(iter(self._units))]
            if (site, device) in self._devices:
                self._devices[site, device].is_untold = True

    def note(self, batches: Iterable[Batch], now_us: int) -> None:
        """Takes the newest values of batches that are in the log."""
        for batch in batches:
            owner = np.repeat(batch.device.astype(np.int64), np.diff(batch.reading_start))
            good = batch.quality < BAD_MIN
            rows = owner[good], batch.metric[good].astype(np.int64), batch.time_us[good], batch.value[good]
            self._take(batch, batch.metrics, rows, now_us)
            panes = batch.summaries
            if len(panes):
                owner = np.repeat(batch.device.astype(np.int64), np.diff(batch.summary_start))
                rows = owner, panes.metric.astype(np.int64), panes.last_us, panes.last
                self._take(batch, panes.metrics, rows, now_us)

    def _take(
        self,
        batch: Batch,
        metrics: tuple[str, ...],
        rows: tuple[Int64, Int64, Int64, Float64],
        now_us: int,
    ) -> None:
        """Takes the newest of each device and metric among rows of (device, metric, time, value)."""
        owner, metric, time_us, value = rows
        if not len(metric):
            return
        series = owner * len(metrics) + metric
        order = np.lexsort((time_us, series))
        last = order[np.append(np.flatnonzero(np.diff(series[order])), len(order) - 1)]
        for key, at_us, newest in zip(series[last].tolist(), time_us[last].tolist(), value[last].tolist(), strict=True):
            site, device = batch.devices[key // len(metrics)]
            known = self._devices.get((site, device)) or self._make(site, device, now_us)
            if known is None:
                self.counters["left_out"] += 1
                continue
            known.seen_us = now_us
            name = metrics[key % len(metrics)]
            if name not in known.values and len(known.values) >= METRICS_MAX:
                self.counters["left_out"] += 1
            elif at_us >= known.values.get(name, (0, 0.0))[0]:
                known.is_untold |= name not in known.values
                known.values[name] = at_us, newest
                known.is_changed = True

    def _make(self, site: str, device: str, now_us: int) -> _Device | None:
        if len(self._devices) >= DEVICES_MAX:
            return None
        made = self._devices[site, device] = _Device(now_us, told_us=now_us)
        return made

    def due(self, now_us: int, room: int) -> tuple[list[Message], list[Message]]:
        """Returns what is to be published now, at most `room` messages: retained discovery messages, and states."""
        kept: list[Message] = []
        states: list[Message] = []
        for (site, device), known in list(self._devices.items()):
            if len(kept) + len(states) >= room:
                break
            if known.values and now_us - known.seen_us > self._forget_us:
                kept += [(self._topic(site, device, metric), b"") for metric in known.told]
                del self._devices[site, device]
                self.counters["forgotten"] += 1
                continue
            if now_us - known.told_us >= TELL_AGAIN_US:
                known.told, known.told_us, known.is_untold = dict.fromkeys(known.told), now_us, True
            if known.is_untold:
                kept += self._announcements(site, device, known, room - len(kept) - len(states))
            is_due = known.sent_us is None or now_us - known.sent_us >= self._every_us
            if known.is_changed and is_due and len(kept) + len(states) < room:
                known.sent_us, known.is_changed = now_us, False
                said = {metric: value for metric, (_, value) in known.values.items()}
                payload = json.dumps(said, separators=(",", ":"), allow_nan=False).encode()
                states.append((mqtt_topic(site, device, "state"), payload))
        self.counters["discoveries"] += len(kept)
        self.counters["states"] += len(states)
        return kept, states

    def _announcements(self, site: str, device: str, known: _Device, room: int) -> list[Message]:
        """The discovery messages of metrics that are new or have another unit."""
        found: list[Message] = []
        units = self._units.get((site, device), {})
        known.is_untold = False
        for metric in known.values:
            unit = units.get(metric, "")
            if known.told.get(metric) == unit:
                continue
            if len(found) >= room:
                known.is_untold = True
                break
            known.told[metric] = unit
            found.append((self._topic(site, device, metric), self._config(site, device, metric, unit)))
        return found

    def _topic(self, site: str, device: str, metric: str) -> str:
        return f"{self._prefix}/sensor/{node_of(site, device)}/{id_of(metric)}/config"

    def _config(self, site: str, device: str, metric: str, unit: str) -> bytes:
        node = node_of(site, device)
        said: dict[str, Any] = {
            "name": metric,
            "unique_id": f"headwater_{node}_{id_of(metric)}",
            "state_topic": mqtt_topic(site, device, "state"),
            # Metric names hold no quotes or backslashes (headwater.names).
            "value_template": f"{{{{ value_json['{metric}'] }}}}",
            "state_class": "measurement",
            "expire_after": max(EXPIRES_MIN_S, EXPIRES_AFTER * self._every_us // 1_000_000),
            "device": {
                "identifiers": [f"headwater_{node}"],
                "name": f"{site}/{device}",
                "manufacturer": "Headwater",
                "suggested_area": site,
            },
        }
        shown = _UNITS.get(unit, unit)
        if shown:
            said["unit_of_measurement"] = shown
        return json.dumps(said, separators=(",", ":")).encode()
