"""Foreign devices that announce themselves in Home Assistant's way: what they announce, and their values as readings.

    …/config ─▶ Entity ─▶ state topics ─▶ a message there ─▶ readings, a frame per device ─▶ notes for the log
                     └──▶ availability ─▶ online, offline ─▶ presence ───────────────────▶ notes for the log

Without IO. A device is of the one site that the settings name; its node id is its name, its object ids are its metrics.
"""

import json
from collections import Counter
from dataclasses import dataclass
from hashlib import blake2b
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
    state_topic_of,
    value_of,
)
from gateway.identity import Identity
from gateway.inbound import Foreign, Note
from gateway.presence import Presence
from gateway.sender import Sender
from gateway.session import Route
from headwater.batch import DeadLetter
from headwater.errors import DecodeError
from headwater.names import parse_mqtt_topic, shard_of
from headwater.reasons import DeadLetterReason
from headwater.sparkplug_topic import name_of
from headwater.status import SIZE_MAX_BYTES, Status

REFUSED_MAX = 1024
# What a metric takes in a device's entry of the registry, at the least.
DECLARED_MIN_BYTES = 50
OWN_TOPICS = ("hw/", "spBv1.0/", "$")

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Told:
    """A message of such a device, and whom to acknowledge.

    Attributes:
        is_kept: a broker had kept it before anybody asked for its topic: it may be old.
    """

    session: Sender
    ticket: int
    mqtt_topic: str
    payload: bytes
    is_kept: bool = False


class AnnouncedDevices:
    """All entities that were announced.

    Attributes:
        prefix: the first level of discovery topics.
        counters: what happened, by short names.
    """

    def __init__(
        self, prefix: str, site: str, entities_max: int, presence: Presence, *, partitions: int, letter_max_bytes: int
    ) -> None:
        self.prefix = prefix
        self._site = site
        self._entities_max = entities_max
        self._presence = presence
        self._partitions = partitions
        self._letter_max_bytes = letter_max_bytes
        self._entities: dict[Key, Entity] = {}
        self._owners: dict[tuple[str, str], Key] = {}
        self._declared: dict[str, dict[str, Any]] = {}
        self._states: dict[str, list[Key]] = {}
        self._availabilities: dict[str, list[Key]] = {}
        self._refused: dict[str, None] = {}
        self._digests: dict[str, bytes] = {}
        self.counters: Counter[str] = Counter()

    def route(self, identity: Identity, where: str) -> Route | None:
        """Decides about a topic; None if nobody announced it. Ask again for every message: announcements come and go."""
        found = parse_discovery_topic(where, self.prefix)
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
        found = parse_discovery_topic(where, self.prefix)
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

    def topics(self) -> list[str]:
        """All state and availability topics, each once."""
        return list(dict.fromkeys([*self._states, *self._availabilities]))

    def topics_of(self, mqtt_topic: str) -> list[str]:
        """The topics of the sensor that is announced on this discovery topic now."""
        found = parse_discovery_topic(mqtt_topic, self.prefix)
        entity = self._entities.get((found.node, found.object_id)) if found and found.component == COMPONENT else None
        return [topic for topic in (entity.state_topic, entity.availability_topic) if topic] if entity else []

    def has_values(self, mqtt_topic: str) -> bool:
        """Tells whether a topic is the state topic of a sensor."""
        return mqtt_topic in self._states

    def uses(self, mqtt_topic: str) -> bool:
        """Tells whether a topic is the state or availability topic of a sensor."""
        return mqtt_topic in self._states or mqtt_topic in self._availabilities

    def sizes(self) -> dict[str, int]:
        """The counters, and how many entities there are."""
        return {**self.counters, "entities": len(self._entities)}

    # Announcements.

    def _take_config(self, topic: DiscoveryTopic, told: Told, now_us: int) -> list[Note]:
        if topic.component != COMPONENT:
            self.counters["other_components"] += 1
            return []
        key = topic.node, topic.object_id
        is_again = self._is_again(told)
        if is_again and key in self._entities:
            self.counters["again"] += 1
            return []
        self._forget(key)
        if not told.payload:
            self.counters["withdrawn"] += 1
            return []
        try:
            entity = parse_config(topic, told.payload)
            self._check(key, entity)
        except DecodeError as error:
            return self._refuse(told, error, name_of(topic.node or topic.object_id), now_us, is_again=is_again)
        self.counters["announced"] += 1
        self._entities[key] = entity
        self._owners[entity.device, entity.metric] = key
        said = {"unit": entity.unit, "lo": None, "hi": None, "reduction": "raw"}
        self._declared.setdefault(entity.device, {})[entity.metric] = said
        self._states.setdefault(entity.state_topic, []).append(key)
        self._refused.pop(entity.state_topic, None)
        if entity.availability_topic:
            self._availabilities.setdefault(entity.availability_topic, []).append(key)
        return self._entry(entity.device)

    def _is_again(self, told: Told) -> bool:
        """Tells whether an announcement is the same as the one before: a broker that retains it brings it again and again."""
        digest = blake2b(told.payload, digest_size=16).digest()
        if self._digests.get(told.mqtt_topic) == digest:
            return True
        self._digests.pop(told.mqtt_topic, None)
        if told.payload:
            if len(self._digests) >= self._entities_max + REFUSED_MAX:
                del self._digests[next(iter(self._digests))]
            self._digests[told.mqtt_topic] = digest
        return False

    def _refuse(self, told: Told, error: DecodeError, device: str, now_us: int, *, is_again: bool) -> list[Note]:
        """Makes a dead letter of an announcement, once; what a gateway tells Home Assistant of its devices is none."""
        where = state_topic_of(told.payload)
        topic = parse_mqtt_topic(where) if where is not None else None
        if topic is not None and topic.leaf == "state":
            self.counters["gateways"] += 1
            return []
        self.counters["refused"] += 1
        if where is not None and not self._is_taken(where) and len(self._refused) < REFUSED_MAX:
            # Its values are counted, not dead letters.
            self._refused[where] = None
        return [] if is_again else [self._letter(told, error, device, now_us)]

    def _is_taken(self, mqtt_topic: str) -> bool:
        """Tells whether a state topic is another sensor's, or has another meaning."""
        return mqtt_topic in self._states or mqtt_topic.startswith((*OWN_TOPICS, f"{self.prefix}/"))

    def _check(self, key: Key, entity: Entity) -> None:
        topics = entity.state_topic, entity.availability_topic
        if any(topic.startswith((*OWN_TOPICS, f"{self.prefix}/")) for topic in topics):
            raise DecodeError(DeadLetterReason.SCHEMA, "a state topic in a namespace that has another meaning")
        if self._owners.get((entity.device, entity.metric), key) != key:
            detail = f"{entity.device}/{entity.metric} is another sensor's name already; rename one of them"
            raise DecodeError(DeadLetterReason.NAME, detail)
        if len(self._entities) >= self._entities_max:
            raise DecodeError(DeadLetterReason.LIMIT, f"more than {self._entities_max} announced sensors")

    def _forget(self, key: Key) -> None:
        entity = self._entities.pop(key, None)
        if entity is None:
            return
        del self._owners[entity.device, entity.metric]
        del self._declared[entity.device][entity.metric]
        if not self._declared[entity.device]:
            del self._declared[entity.device]
        for table, topic in ((self._states, entity.state_topic), (self._availabilities, entity.availability_topic)):
            if key in table.get(topic, ()):
                table[topic].remove(key)
                if not table[topic]:
                    del table[topic]

    def _entry(self, device: str) -> list[Note]:
        """The device's entry in the registry: its metrics with their units."""
        metrics = self._declared[device]
        if len(metrics) * DECLARED_MIN_BYTES <= SIZE_MAX_BYTES:
            entry = Status(online=True, agent="home-assistant", metrics=metrics).to_json()
            if len(entry) <= SIZE_MAX_BYTES:
                return [Note(self._shard(device), (f"{self._site}/{device}".encode(), entry))]
        self.counters["entries_unlisted"] += 1
        return []

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
            if not told.is_kept:
                notes += self._heard(told, device, now_us)
            frame = make_frame(self._site, device, readings, now_us)
            # A number alone does not show that it is the same message again, so a repeated one is taken twice, not lost.
            foreign = Foreign(frame, told.payload, now_us, has_own_time=False, is_repeated=False)
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
                if latest is None or latest.online:
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
