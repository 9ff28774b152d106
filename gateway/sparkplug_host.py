"""The gateway as a Sparkplug B host application: all edge nodes, whom they are here, and who must be born again.

    route ─▶ take ─▶ decode ─▶ SparkplugNode ─▶ ┌ Taken ─▶ readings, dead letters ─▶ notes for the log
                                                └ Born, Died ─▶ presence ─────────▶ notes for the log
    due ─▶ nodes that wait, rebirths that are owed ─▶ orders

Without IO: `gateway.broker` calls it, whether messages came over the gateway's own endpoint or from another broker.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b

from gateway.foreign_frame import make_frame
from gateway.identity import Identity
from gateway.inbound import Foreign, Inbound, Note
from gateway.limits import TokenBucket
from gateway.presence import Presence
from gateway.sender import Sender
from gateway.session import Route
from gateway.sparkplug_node import Arrived, Born, Died, Phase, SparkplugNode, Taken
from gateway.sparkplug_table import DEVICES_MAX
from headwater.batch import DeadLetter
from headwater.errors import DecodeError
from headwater.names import DeviceTopic, shard_of
from headwater.reasons import DeadLetterReason
from headwater.sparkplug_codec import SparkplugMetric, SparkplugPayload, decode_payload, encode_payload
from headwater.sparkplug_schema import DataType
from headwater.sparkplug_topic import (
    REBIRTH_METRIC,
    HostState,
    SparkplugTopic,
    Verb,
    parse_sparkplug_topic,
    state_topic,
)
from headwater.status import SIZE_MAX_BYTES, Status, parse_status

# Births that a node and its devices were told to send: no more than this many nodes a second, so that a gateway that
# comes back to ten thousand of them is not buried.
REBIRTHS_PER_S_MAX = 20
DEFINITIONS_MAX = 1 << 18


@dataclass(frozen=True, slots=True)
class SparkplugLimits:
    """Bounds of the host; see the settings of the same names."""

    nodes_max: int
    reorder_us: int
    rebirth_every_us: int


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a message came from: whom to acknowledge, and its bytes for a dead letter."""

    session: Sender
    ticket: int
    mqtt_topic: str
    payload: bytes
    is_repeated: bool


@dataclass(slots=True)
class _Known:
    """A node, the names it uses here, on which connection it spoke last, when it was asked to be born again."""

    node: SparkplugNode[Origin]
    topic: SparkplugTopic
    speaker: object
    names: set[str]
    asked_us: int | None = None


class SparkplugHost:
    """The host of all edge nodes.

    Attributes:
        name: the host's id, whose STATE the gateway publishes.
        counters: what happened, by short names.
        inbound: native frames that messages carried; the caller empties it.
    """

    def __init__(
        self, name: str, limits: SparkplugLimits, presence: Presence, *, partitions: int, letter_max_bytes: int
    ) -> None:
        self.name = name
        self._limits = limits
        self._presence = presence
        self._partitions = partitions
        self._letter_max_bytes = letter_max_bytes
        self._nodes: dict[tuple[str, str], _Known] = {}
        self._owners: dict[tuple[str, str], tuple[str, str, str]] = {}
        self._asking: dict[tuple[str, str], None] = {}
        self._definitions = 0
        self._bucket = TokenBucket(REBIRTHS_PER_S_MAX, REBIRTHS_PER_S_MAX, 0)
        self.counters: Counter[str] = Counter()
        self.inbound: list[Inbound] = []

    def state(self, now_us: int, *, online: bool) -> tuple[str, bytes]:
        """The host's own STATE message, to be retained."""
        return state_topic(self.name), HostState(online, now_us // 1_000).to_json()

    def route(self, identity: Identity, where: str) -> Route:
        """Decides where a topic in Sparkplug's namespace leads: a node speaks within the rights of its own name."""
        topic = parse_sparkplug_topic(where)
        if topic is None:
            return Route(where, None, 0, DeadLetterReason.TOPIC, "not a topic of Sparkplug B", 0x90)
        if topic.verb is Verb.STATE or topic.verb.is_command:
            if identity.is_operator and topic.node != self.name:
                return Route(where, None, 0, sparkplug=topic)
            detail = f"{identity.name!r} is no operator, or {topic.node!r} is the gateway itself"
            return Route(where, None, 0, DeadLetterReason.IDENTITY, detail, 0x87)
        if not topic.site or not topic.device_name:
            detail = "the ids can't be names here: they need a letter or digit, and 64 characters at most"
            return Route(where, None, 0, DeadLetterReason.NAME, detail, 0x90)
        if not identity.may_speak_for(topic.site, topic.node_name):
            detail = f"{identity.name!r} may not speak for {topic.site}/{topic.node_name}"
            return Route(where, None, 0, DeadLetterReason.IDENTITY, detail, 0x87)
        return Route(where, None, shard_of(topic.site, topic.device_name, self._partitions), sparkplug=topic)

    def take(self, topic: SparkplugTopic, origin: Origin, now_us: int) -> list[Note]:
        """Takes a message of a node and returns what goes to the log."""
        self.counters["messages"] += 1
        try:
            payload = decode_payload(origin.payload)
            known = self._known(topic, origin.session.origin)
            self._check_room(topic, payload, known)
        except DecodeError as error:
            self._want(topic)
            return self._owed(topic, origin, [self._letter(topic, origin, error.reason, error.detail, 0, now_us)])
        if topic.verb is not Verb.NDEATH:
            # A will of a connection that is over says nothing about who speaks now.
            known.speaker = origin.session.origin
        digest = blake2b(origin.payload, digest_size=16).digest()
        before = len(known.node.table)
        out = known.node.take(Arrived(topic, payload, now_us, digest, origin))
        self._definitions += len(known.node.table) - before
        notes = self._notes(known, out, now_us)
        self._want(topic)
        return notes

    def due(self, now_us: int) -> list[Note]:
        """Gives up waiting for what does not come; called every so often."""
        notes: list[Note] = []
        for known in list(self._nodes.values()):
            notes += self._notes(known, known.node.due(now_us), now_us)
            self._want(known.topic)
        return notes

    def gone(self, speaker: object, now_us: int) -> list[Note]:
        """A connection ended: the nodes that spoke on it last are dead, whatever their will said."""
        notes: list[Note] = []
        for known in [known for known in self._nodes.values() if known.speaker is speaker]:
            notes += self._notes(known, known.node.lose(), now_us)
        return notes

    def orders(self, now_us: int) -> list[tuple[str, bytes]]:
        """Returns the rebirth commands that are to go out now, as (topic, payload); each node gets few."""
        found = []
        for key in list(self._asking):
            known = self._nodes.get(key)
            if known is None or not known.node.wants:
                del self._asking[key]
                continue
            if known.asked_us is not None and abs(now_us - known.asked_us) < self._limits.rebirth_every_us:
                continue
            if not self._bucket.take(1, now_us):
                break
            known.asked_us, known.node.wants = now_us, ""
            del self._asking[key]
            self.counters["rebirths_asked"] += 1
            topic = SparkplugTopic(Verb.NCMD, known.topic.group, known.topic.node)
            rebirth = SparkplugMetric(REBIRTH_METRIC, None, now_us // 1_000, DataType.BOOLEAN, True, "boolean_value")
            found.append((str(topic), encode_payload(SparkplugPayload(now_us // 1_000, None, (rebirth,)))))
        return found

    def sizes(self) -> dict[str, int]:
        """The counters, and how many nodes there are, how many of them alive, how many messages wait."""
        return {
            **self.counters,
            "nodes": len(self._nodes),
            "nodes_alive": sum(known.node.phase is Phase.BORN for known in self._nodes.values()),
            "waiting": sum(known.node.waiting for known in self._nodes.values()),
        }

    # Who is who.

    def _known(self, topic: SparkplugTopic, speaker: object) -> _Known:
        """Finds the node of a topic, or makes it; the names that it takes here must be nobody else's.

        Raises:
            DecodeError: NAME where another id has the name, LIMIT where there is no room.
        """
        key = topic.group, topic.node
        known = self._nodes.get(key)
        if known is None:
            if len(self._nodes) >= self._limits.nodes_max and not self._make_room():
                raise DecodeError(DeadLetterReason.LIMIT, f"more than {self._limits.nodes_max} Sparkplug nodes")
            known = _Known(SparkplugNode(self._limits.reorder_us, self.counters), topic, speaker, set())
        for name, ids in ((topic.node_name, (*key, "")), (topic.device_name, (*key, topic.device))):
            owner = self._owners.get((topic.site, name))
            if owner is not None and owner != ids:
                owned = "/".join(filter(None, owner))
                raise DecodeError(
                    DeadLetterReason.NAME, f"{topic.site}/{name} is {owned!r} already; rename one of them"
                )
            if owner is None:
                if len(known.names) > 2 * DEVICES_MAX:
                    raise DecodeError(
                        DeadLetterReason.LIMIT, f"a node with more than {2 * DEVICES_MAX} names of devices"
                    )
                self._owners[topic.site, name] = ids
                known.names.add(name)
        self._nodes[key] = known
        return known

    def _make_room(self) -> bool:
        """Forgets the first node that is not alive."""
        for key, known in self._nodes.items():
            if known.node.phase is not Phase.BORN:
                for name in known.names:
                    del self._owners[known.topic.site, name]
                del self._nodes[key]
                self._definitions -= len(known.node.table)
                self.counters["nodes_forgotten"] += 1
                return True
        return False

    def _check_room(self, topic: SparkplugTopic, payload: SparkplugPayload, known: _Known) -> None:
        """Keeps the tables of all nodes together within bounds; only births let them grow much.

        Raises:
            DecodeError: LIMIT.
        """
        if topic.verb not in {Verb.NBIRTH, Verb.DBIRTH}:
            return
        room = DEFINITIONS_MAX - len(payload.metrics)
        if self._definitions <= room:
            return
        for other in self._nodes.values():
            if other is not known:
                other.node.table.forget_dead()
        self._definitions = sum(len(other.node.table) for other in self._nodes.values())
        if self._definitions > room:
            raise DecodeError(DeadLetterReason.LIMIT, f"more than {DEFINITIONS_MAX} metrics in all Sparkplug nodes")

    def _want(self, topic: SparkplugTopic) -> None:
        key = topic.group, topic.node
        known = self._nodes.get(key)
        if known is not None and known.node.wants:
            self._asking[key] = None

    # What goes to the log.

    def _notes(self, known: _Known, out: Iterable[Taken[Origin] | Born | Died], now_us: int) -> list[Note]:
        notes: list[Note] = []
        for one in out:
            if isinstance(one, Taken):
                notes += self._taken(one, now_us)
            elif isinstance(one, Born):
                notes += self._born(known, one, now_us)
            else:
                notes += self._died(known, one.device, now_us)
        return notes

    def _taken(self, taken: Taken[Origin], now_us: int) -> list[Note]:
        arrived, values = taken.arrived, taken.values
        topic, origin = arrived.topic, arrived.origin
        self.counters["metrics"] += values.count
        self.counters["readings"] += values.reading_count
        self.counters["historical"] += values.historical
        self.counters["undeclared"] += values.undeclared
        for why, number in values.left_out.items():
            self.counters[f"left_out_{why}"] += number
        notes = []
        for reason, (number, detail) in values.refused.items():
            self.counters["refused"] += number
            text = f"{number} of {values.count} metrics: {detail}" if number else detail
            notes.append(self._letter(topic, origin, reason, text, number, now_us))
        if taken.has_frame:
            self._admit_frame(topic, origin, arrived)
            return notes
        if values.readings:
            frame = make_frame(topic.site, topic.device_name, values.readings, arrived.received_us, values.qualities)
            foreign = Foreign(frame, origin.payload, arrived.received_us, values.has_own_time, origin.is_repeated)
            notes.append(Note(shard_of(topic.site, topic.device_name, self._partitions), foreign))
        return self._owed(topic, origin, notes)

    def _admit_frame(self, topic: SparkplugTopic, origin: Origin, arrived: Arrived[Origin]) -> None:
        """Hands a native frame on as if it had come on its own topic: its identity is checked against the names here."""
        site, device = topic.site, topic.device_name
        shard = shard_of(site, device, self._partitions)
        self.counters["frames"] += 1
        self.inbound.append(
            Inbound(
                DeviceTopic(site, device, "frame"),
                origin.mqtt_topic,
                shard,
                arrived.payload.frame,
                arrived.received_us,
                origin.session,
                origin.ticket,
                origin.is_repeated,
            )
        )

    def _owed(self, topic: SparkplugTopic, origin: Origin, notes: list[Note]) -> list[Note]:
        """Ties the acknowledgement of a message to the last of its notes; it is sent when that is durable."""
        if not notes and origin.ticket >= 0:
            notes = [Note(shard_of(topic.site, topic.device_name, self._partitions), None)]
        if notes:
            notes[-1].session, notes[-1].ticket = origin.session, origin.ticket
        return notes

    def _letter(
        self, topic: SparkplugTopic, origin: Origin, reason: DeadLetterReason, detail: str, number: int, now_us: int
    ) -> Note:
        site, device = topic.site, topic.device_name
        payload = origin.payload[: self._letter_max_bytes]
        letter = DeadLetter(
            now_us, reason, "gateway", origin.mqtt_topic[:512], detail, site, device, readings=number, payload=payload
        )
        return Note(shard_of(site, device, self._partitions), letter)

    def _who(self, known: _Known, device: str) -> tuple[str, str, int]:
        topic = SparkplugTopic(Verb.DDATA, known.topic.group, known.topic.node, device)
        site, name = topic.site, topic.device_name
        return site, name, shard_of(site, name, self._partitions)

    def _born(self, known: _Known, born: Born, now_us: int) -> list[Note]:
        device = born.device
        site, name, shard = self._who(known, device)
        if born.status:
            try:
                said = parse_status(born.status)
                changes = self._presence.said(known.speaker, site, name, said, now_us)
                return [
                    *(Note(shard, status) for status in changes),
                    Note(shard, (f"{site}/{name}".encode(), born.status)),
                ]
            except DecodeError:
                self.counters["statuses_refused"] += 1
        changes = self._presence.heard(known.speaker, site, name, now_us)
        metrics = {
            one.metric: {"unit": one.unit, "lo": None, "hi": None, "reduction": "raw"}
            for one in known.node.table.definitions(device)
        }
        entry = Status(online=True, agent="sparkplug", metrics=metrics).to_json()
        if len(entry) > SIZE_MAX_BYTES:
            self.counters["births_unlisted"] += 1
            return [Note(shard, status) for status in changes]
        return [*(Note(shard, status) for status in changes), Note(shard, (f"{site}/{name}".encode(), entry))]

    def _died(self, known: _Known, device: str, now_us: int) -> list[Note]:
        site, name, shard = self._who(known, device)
        latest = self._presence.of(site, name)
        if latest is None or not latest.online or self._presence.speaks_elsewhere(known.speaker, site, name):
            return []
        offline = Status(online=False, agent=latest.agent)
        return [Note(shard, status) for status in self._presence.said(known.speaker, site, name, offline, now_us)]
