"""Foreign devices that announce themselves in Home Assistant's way: what they announce, and their values as readings.

    …/config ─▶ Entity ─▶ state topics ─▶ a message there ─▶ readings, a frame per device ─▶ notes for the log
                     └──▶ availability ─▶ online, offline ─▶ presence ───────────────────▶ notes for the log

Without IO. A device is of the one site that the settings name; its node id is its name, its object ids are its metrics.
"""

import json
from collections import Counter
from dataclasses import dataclass
from math import isfinite
from typing import Any

from gateway.foreign_frame import Readings, make_frame
from gateway.home_assistant_config import (
    COMPONENT,
    VALUE_MAX_BYTES,
    DiscoveryTopic,
    Entity,
    parse_config,
    parse_discovery_topic,
    value_of,
)
from gateway.identity import Identity
from gateway.inbound import Foreign, Note
from gateway.presence import Presence
from gateway.sender import Sender
from gateway.session import Route
from headwater.batch import DeadLetter
from headwater.errors import DecodeError
from headwater.names import shard_of
from headwater.reasons import DeadLetterReason
from headwater.sparkplug_topic import name_of
from headwater.status import SIZE_MAX_BYTES, Status

REFUSED_MAX = 1024
OWN_TOPICS = ("hw/", "spBv1.0/", "$")

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Told:
    """A message of such a device, and whom to acknowledge."""

    session: Sender
    ticket: int
    mqtt_topic: str
    payload: bytes
    is_repeated: bool


class AnnouncedDevices:
    """All entities that were announced.

    Attributes:
        counters: what happened, by short names.
    """

    def __init__(
        self, prefix: str, site: str, entities_max: int, presence: Presence, *, partitions: int, letter_max_bytes: int
    ) -> None:
        self._prefix = prefix
        self._site = site
        self._entities_max = entities_max
        self._presence = presence
        self._partitions = partitions
        self._letter_max_bytes = letter_max_bytes
        self._entities: dict[Key, Entity] = {}
        self._owners: dict[tuple[str, str], Key] = {}
        self._states: dict[str, list[Key]] = {}
        self._availabilities: dict[str, list[Key]] = {}
        self._refused: dict[str, None] = {}
        self.counters: Counter[str] = Counter()

    def route(self, identity: Identity, where: str) -> Route | None:
        """Decides about a topic; None if nobody announced it. Ask again for every message: announcements come and go."""
        found = parse_discovery_topic(where, self._prefix)
        if found is not None:
            devices = {name_of(found.node or found.object_id)} if found.component == COMPONENT else set()
        else:
            keys = [*self._states.get(where, ()), *self._availabilities.get(where, ())]
            if not keys and where not in self._refused:
                return None
            devices = {self._entities[key].device for key in keys}
        if devices and not any(identity.may_speak_for(self._site, device) for device in devices):
            detail = f"{identity.name!r} may not speak for {self._site}/{min(devices)}"
            return Route(where, None, 0, DeadLetterReason.IDENTITY, detail, 0x87)
        shard = shard_of(self._site, min(devices, default=""), self._partitions)
        return Route(where, None, shard, is_announced=True)

    def take(self, told: Told, now_us: int) -> list[Note]:
        """Takes a message on a topic that `route` admitted, and returns what goes to the log."""
        self.counters["messages"] += 1
        where = told.mqtt_topic
        found = parse_discovery_topic(where, self._prefix)
        if found is not None:
            return self._owed(told, self._take_config(found, told, now_us))
        notes: list[Note] = []
        if where in self._states:
            notes += self._take_state(told, now_us)
        if where in self._availabilities:
            notes += self._take_availability(told, now_us)
        if where in self._refused:
            self.counters["left_out_template"] += 1
        return self._owed(told, notes)

    def sizes(self) -> dict[str, int]:
        """The counters, and how many entities there are."""
        return {**self.counters, "entities": len(self._entities)}

    # Announcements.

    def _take_config(self, topic: DiscoveryTopic, told: Told, now_us: int) -> list[Note]:
        if topic.component != COMPONENT:
            self.counters["other_components"] += 1
            return []
        key = topic.node, topic.object_id
        self._forget(key)
        if not told.payload:
            self.counters["withdrawn"] += 1
            return []
        try:
            entity = parse_config(topic, told.payload)
            self._check(key, entity)
        except DecodeError as error:
            self.counters["refused"] += 1
            self._note_refused(told.payload)
            return [self._letter(told, error, name_of(topic.node or topic.object_id), now_us)]
        self.counters["announced"] += 1
        self._entities[key] = entity
        self._owners[entity.device, entity.metric] = key
        self._states.setdefault(entity.state_topic, []).append(key)
        if entity.availability_topic:
            self._availabilities.setdefault(entity.availability_topic, []).append(key)
        return self._entry(entity.device)

    def _check(self, key: Key, entity: Entity) -> None:
        topics = entity.state_topic, entity.availability_topic
        if any(topic.startswith((*OWN_TOPICS, f"{self._prefix}/")) for topic in topics):
            raise DecodeError(DeadLetterReason.SCHEMA, "a state topic in a namespace that has another meaning")
        if self._owners.get((entity.device, entity.metric), key) != key:
            detail = f"{entity.device}/{entity.metric} is another sensor's name already; rename one of them"
            raise DecodeError(DeadLetterReason.NAME, detail)
        if len(self._entities) >= self._entities_max:
            raise DecodeError(DeadLetterReason.LIMIT, f"more than {self._entities_max} announced sensors")

    def _note_refused(self, payload: bytes) -> None:
        """Remembers the state topic of an announcement that was refused: its values are counted, not dead letters."""
        try:
            data: Any = json.loads(payload)
        except (ValueError, RecursionError):
            return
        topic = data.get("state_topic", data.get("stat_t")) if isinstance(data, dict) else None
        if not isinstance(topic, str) or topic.startswith((*OWN_TOPICS, f"{self._prefix}/")):
            return
        if topic not in self._states and len(self._refused) < REFUSED_MAX:
            self._refused[topic] = None

    def _forget(self, key: Key) -> None:
        entity = self._entities.pop(key, None)
        if entity is None:
            return
        del self._owners[entity.device, entity.metric]
        for table, topic in ((self._states, entity.state_topic), (self._availabilities, entity.availability_topic)):
            if key in table.get(topic, ()):
                table[topic].remove(key)
                if not table[topic]:
                    del table[topic]

    def _entry(self, device: str) -> list[Note]:
        """The device's entry in the registry: its metrics with their units."""
        metrics = {
            entity.metric: {"unit": entity.unit, "lo": None, "hi": None, "reduction": "raw"}
            for entity in self._entities.values()
            if entity.device == device
        }
        entry = Status(online=True, agent="home-assistant", metrics=metrics).to_json()
        if len(entry) > SIZE_MAX_BYTES:
            self.counters["entries_unlisted"] += 1
            return []
        return [Note(self._shard(device), (f"{self._site}/{device}".encode(), entry))]

    # Values.

    def _allowed(self, told: Told, keys: list[Key]) -> list[Entity]:
        """The entities on a topic that the sender may speak for; who else names the topic in vain gets nothing of it."""
        entities = [self._entities[key] for key in keys]
        allowed = [one for one in entities if told.session.identity.may_speak_for(self._site, one.device)]
        self.counters["left_out_identity"] += len(entities) - len(allowed)
        return allowed

    def _take_state(self, told: Told, now_us: int) -> list[Note]:
        entities = self._allowed(told, self._states[told.mqtt_topic])
        if not entities:
            return []
        device = entities[0].device
        if len(told.payload) > VALUE_MAX_BYTES:
            error = DecodeError(DeadLetterReason.TOO_LARGE, f"a state of {len(told.payload)} bytes")
            return [self._letter(told, error, device, now_us)]
        parsed: Any = None
        if any(entity.path is not None for entity in entities):
            try:
                parsed = json.loads(told.payload)
            except (ValueError, RecursionError) as error:
                wrong = DecodeError(DeadLetterReason.PARSE, f"state: {str(error)[:200]}")
                return [self._letter(told, wrong, device, now_us)]
        by_device: dict[str, Readings] = {}
        for entity in entities:
            value = value_of(entity.path, told.payload, parsed)
            if value is None:
                self.counters["left_out_text"] += 1
            elif not isfinite(value):
                self.counters["left_out_not_finite"] += 1
            else:
                by_device.setdefault(entity.device, {})[entity.metric] = {now_us: value}
        notes: list[Note] = []
        for device, readings in by_device.items():
            self.counters["readings"] += len(readings)
            notes += self._heard(told, device, now_us)
            frame = make_frame(self._site, device, readings, now_us)
            foreign = Foreign(frame, told.payload, now_us, has_own_time=False, is_repeated=told.is_repeated)
            notes.append(Note(self._shard(device), foreign))
        return notes

    def _take_availability(self, told: Told, now_us: int) -> list[Note]:
        notes: list[Note] = []
        text = told.payload[:64].decode(errors="replace")
        entities = self._allowed(told, self._availabilities[told.mqtt_topic])
        for entity in {one.device: one for one in entities}.values():
            if text == entity.online:
                notes += self._heard(told, entity.device, now_us)
            elif text == entity.offline:
                latest = self._presence.of(self._site, entity.device)
                if latest is not None and latest.online:
                    changes = self._presence.said(
                        told.session.origin, self._site, entity.device, Status(online=False), now_us
                    )
                    notes += [Note(self._shard(entity.device), status) for status in changes]
            else:
                self.counters["left_out_availability"] += 1
        return notes

    def _heard(self, told: Told, device: str, now_us: int) -> list[Note]:
        changes = self._presence.heard(told.session.origin, self._site, device, now_us)
        return [Note(self._shard(device), status) for status in changes]

    def _shard(self, device: str) -> int:
        return shard_of(self._site, device, self._partitions)

    def _letter(self, told: Told, error: DecodeError, device: str, now_us: int) -> Note:
        payload = told.payload[: self._letter_max_bytes]
        letter = DeadLetter(
            now_us, error.reason, "gateway", told.mqtt_topic[:512], error.detail, self._site, device, payload=payload
        )
        return Note(self._shard(device), letter)

    def _owed(self, told: Told, notes: list[Note]) -> list[Note]:
        """Ties the acknowledgement of a message to the last of its notes."""
        if not notes and told.ticket >= 0:
            notes = [Note(0, None)]
        if notes:
            notes[-1].session, notes[-1].ticket = told.session, told.ticket
        return notes
