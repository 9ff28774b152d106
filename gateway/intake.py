"""What devices send, whoever brought it: towards the log, or refused with a reason; without IO.

Session, Subscription ─▶ publish ─▶ frame, json ─▶ inbound ─────────────┐
                                 ─▶ status      ─▶ notes, passed on     ├─▶ the batcher
                                 ─▶ Sparkplug B ─▶ its host ─▶ notes    │
                                 ─▶ not allowed ─▶ notes (dead letter) ─┘

`gateway.broker.Broker` adds what only a server of MQTT does: sessions, subscriptions, retained messages.
"""

from collections import Counter

from gateway.home_assistant_in import AnnouncedDevices, Told
from gateway.identity import Identity
from gateway.inbound import Inbound, Note, inbound_of
from gateway.presence import Presence
from gateway.publish import DUPLICATE, RETAIN, Publish, topic_text
from gateway.sender import Sender
from gateway.session import Code, Route
from gateway.sparkplug_host import Origin, SparkplugHost
from headwater.batch import DeadLetter, DeviceStatus
from headwater.errors import DecodeError
from headwater.names import DeviceTopic, parse_mqtt_topic, shard_of
from headwater.reasons import DeadLetterReason
from headwater.sparkplug_topic import Verb, is_sparkplug
from headwater.status import Status, parse_status

ROUTES_MAX = 1024
_DATA_LEAVES = frozenset({"frame", "json"})


class Intake:
    """Takes messages in.

    Attributes:
        inbound, notes: what is to go to the log; the shell empties them.
        presence: who is online.
        sparkplug: the host of Sparkplug B nodes; None where they are not admitted.
        announced: devices that announce themselves in Home Assistant's way; likewise.
        counters: what happened, by short names.
        received: messages from devices.
    """

    def __init__(self, *, partitions: int, dead_letter_max_bytes: int, routes_max: int = ROUTES_MAX) -> None:
        self._partitions = partitions
        self._routes_max = routes_max
        self._dead_letter_max_bytes = dead_letter_max_bytes
        self.presence = Presence()
        self.sparkplug: SparkplugHost | None = None
        self.announced: AnnouncedDevices | None = None
        self.inbound: list[Inbound] = []
        self.notes: list[Note] = []
        self._entries_of = self.notes
        self._entries: dict[bytes, Note] = {}
        self.counters: Counter[str] = Counter()
        self.received = 0

    def publish(self, session: Sender, packet: Publish, now_us: int) -> None:
        """Takes one message of a client: towards the log, to others, or as a dead letter.

        Raises:
            MalformedPacketError: its topic is no text.
        """
        self.received += 1
        mqtt_topic, payload, packet_id, flags = packet
        route = session.routes.get(mqtt_topic) or self._route(session, mqtt_topic)
        ticket = -1
        if packet_id:
            ticket = session.ledger.receive(packet_id, route.code)
            if ticket < 0:
                self._came_twice(session, flags, now_us)
                return
        device_topic = route.device_topic
        if route.reason is not None or device_topic is None:
            if route.sparkplug is not None:
                self._take_sparkplug(session, route, packet, ticket, now_us)
            elif route.is_announced:
                self._take_announced(session, route, packet, ticket, now_us)
            else:
                self._refuse(session, route, packet, ticket, now_us)
            return
        leaf = device_topic.leaf
        if leaf in _DATA_LEAVES:
            if not route.is_heard:
                self._hear(session, route, device_topic, now_us)
            where, is_repeated = route.mqtt_topic, flags & DUPLICATE != 0
            self.inbound.append(
                inbound_of((device_topic, where, route.shard, payload, now_us, session, ticket, is_repeated))
            )
            self._route_to_others(where, payload, 0)
        elif leaf == "status":
            self._take_status(session, route, payload, retain=flags & RETAIN != 0, ticket=ticket, now_us=now_us)
        else:
            retain = flags & RETAIN != 0 and leaf == "config"
            self._pass_on(session, route, packet, ticket, now_us, retain=retain)

    def _hear(self, session: Sender, route: Route, device_topic: DeviceTopic, now_us: int) -> None:
        """The first data of a device on a session: a foreign one is online from here on."""
        route.is_heard = True
        site, device = device_topic.site, device_topic.device
        if device_topic.leaf == "json" or not self.presence.of(site, device):
            for status in self.presence.heard(session.origin, site, device, now_us):
                self._note_status(status)

    def _came_twice(self, session: Sender, flags: int, now_us: int) -> None:
        """A packet id that is in flight: a repetition is owed one PUBACK only; anything else is an error."""
        if flags & DUPLICATE:
            self.counters["repeated"] += 1
        else:
            session.disconnect(Code.PROTOCOL_ERROR, "packet_id", now_us)

    def _route(self, session: Sender, mqtt_topic: bytes) -> Route:
        """Decides where a topic leads; remembered, and forgotten all at once when a client invents too many."""
        if len(session.routes) >= self._routes_max:
            session.routes.clear()
        route = self._make_route(session.identity, topic_text(mqtt_topic))
        # A topic that is nobody's now may be announced later, and the other way round.
        if self.announced is None or route.device_topic is not None or route.sparkplug is not None:
            session.routes[mqtt_topic] = route
        return route

    def _make_route(self, identity: Identity, where: str) -> Route:
        if self.sparkplug is not None and is_sparkplug(where):
            return self.sparkplug.route(identity, where)
        device_topic = parse_mqtt_topic(where)
        if device_topic is None:
            announced = self.announced.route(identity, where) if self.announced is not None else None
            if announced is not None:
                return announced
            return Route(where, None, 0, DeadLetterReason.TOPIC, "not a topic hw/1/{site}/{device}/{leaf}", 0x90)
        shard = shard_of(device_topic.site, device_topic.device, self._partitions)
        if device_topic.leaf in {"ack", "state"}:
            detail = "only the gateway sends acks and states"
            return Route(where, device_topic, shard, DeadLetterReason.TOPIC, detail, 0x87)
        if device_topic.leaf in {"config", "command"}:
            if identity.is_operator:
                return Route(where, device_topic, shard)
            return Route(
                where, device_topic, shard, DeadLetterReason.IDENTITY, f"{identity.name!r} is no operator", 0x87
            )
        if not identity.may_speak_for(device_topic.site, device_topic.device):
            detail = f"{identity.name!r} may not speak for {device_topic.site}/{device_topic.device}"
            return Route(where, device_topic, shard, DeadLetterReason.IDENTITY, detail, 0x87)
        return Route(where, device_topic, shard)

    def _refuse(self, session: Sender, route: Route, packet: Publish, ticket: int, now_us: int) -> None:
        assert route.reason is not None
        # The names in the topic are what the client claims, not who it is: they don't enter the letter as identity.
        letter = DeadLetter(
            now_us,
            route.reason,
            "gateway",
            route.mqtt_topic[:512],
            route.detail,
            payload=packet.payload[: self._dead_letter_max_bytes],
        )
        self.notes.append(Note(route.shard, letter, session, ticket))

    def refuse(
        self,
        session: Sender,
        where: str,
        payload: bytes,
        reason: DeadLetterReason,
        detail: str,
        packet_id: int,
        now_us: int,
    ) -> None:
        """Makes a dead letter of a message that could not be read; it is acknowledged like any other."""
        self.received += 1
        route = self._make_route(session.identity, where)
        ticket = session.ledger.receive(packet_id) if packet_id else -1
        if packet_id and ticket < 0:
            self.counters["repeated"] += 1
            return
        topic = route.device_topic
        who = (topic.site, topic.device) if topic is not None and route.reason is None else ("", "")
        kept = payload[: self._dead_letter_max_bytes]
        letter = DeadLetter(now_us, reason, "gateway", where[:512], detail, *who, payload=kept)
        self.notes.append(Note(route.shard, letter, session, ticket))

    def malformed(self, session: Sender, data: bytes, detail: str, *, too_large: bool, now_us: int) -> None:
        """Keeps what a client sent that is no packet as a dead letter."""
        reason = DeadLetterReason.TOO_LARGE if too_large else DeadLetterReason.PARSE
        source = f"connection of {session.identity.name!r} as {session.client_id!r}"
        payload = data[: self._dead_letter_max_bytes]
        self.notes.append(Note(0, DeadLetter(now_us, reason, "gateway", source, detail, payload=payload)))

    def _take_status(
        self, session: Sender, route: Route, payload: bytes, *, retain: bool, ticket: int, now_us: int
    ) -> None:
        where, device_topic = route.mqtt_topic, route.device_topic
        assert device_topic is not None
        site, device = device_topic.site, device_topic.device
        try:
            said = parse_status(payload) if payload else Status(online=False)
        except DecodeError as error:
            kept = payload[: self._dead_letter_max_bytes]
            letter = DeadLetter(now_us, error.reason, "gateway", where, error.detail, site, device, payload=kept)
            self.notes.append(Note(route.shard, letter, session, ticket))
            return
        for status in self.presence.said(session.origin, site, device, said, now_us):
            self._note_status(status, session, ticket)
        if said.online and said.metrics is not None:
            self.notes.append(Note(route.shard, (f"{site}/{device}".encode(), payload)))
        self._retain_and_route(where, payload, 1, retain=retain)

    def _note_status(self, status: DeviceStatus, session: Sender | None = None, ticket: int = -1) -> None:
        self.notes.append(Note(shard_of(status.site, status.device, self._partitions), status, session, ticket))

    def _take_sparkplug(self, session: Sender, route: Route, packet: Publish, ticket: int, now_us: int) -> None:
        topic, flags = route.sparkplug, packet.flags
        assert self.sparkplug is not None
        assert topic is not None
        if topic.verb is Verb.STATE or topic.verb.is_command:
            retain = flags & RETAIN != 0 and topic.verb is Verb.STATE
            self._pass_on(session, route, packet, ticket, now_us, retain=retain)
            return
        origin = Origin(session, ticket, route.mqtt_topic, packet.payload, flags & DUPLICATE != 0)
        self._take_from_host(self.sparkplug.take(topic, origin, now_us))
        self._route_to_others(route.mqtt_topic, packet.payload, 0)

    def _take_announced(self, session: Sender, route: Route, packet: Publish, ticket: int, now_us: int) -> None:
        assert self.announced is not None
        told = Told(session, ticket, route.mqtt_topic, packet.payload, self._is_kept(packet))
        if self._entries_of is not self.notes:  # The shell has taken the notes before.
            self._entries_of, self._entries = self.notes, {}
        for note in self.announced.take(told, now_us):
            if isinstance(note.what, tuple):
                # Each sensor makes a new entry of its device, as long as all of them: one is enough for a burst.
                earlier = self._entries.get(note.what[0])
                if earlier is not None:
                    earlier.what = None
                self._entries[note.what[0]] = note
            self.notes.append(note)
        self._retain_and_route(route.mqtt_topic, packet.payload, 0, retain=packet.flags & RETAIN != 0)

    def _take_from_host(self, notes: list[Note]) -> None:
        assert self.sparkplug is not None
        self.notes += notes
        self.inbound += self.sparkplug.inbound
        self.sparkplug.inbound.clear()

    def due(self, now_us: int) -> list[tuple[str, bytes]]:
        """Does what waits for time; returns messages of the gateway itself to publish, (MQTT topic, payload), not retained."""
        if self.sparkplug is None:
            return []
        self._take_from_host(self.sparkplug.due(now_us))
        return self.sparkplug.orders(now_us)

    # What a server does beside; for whoever only takes in, nothing.

    def _pass_on(
        self, session: Sender, route: Route, packet: Publish, ticket: int, now_us: int, *, retain: bool  # noqa: ARG002
    ) -> None:  # fmt: skip
        """A configuration, a command or a host's state came: a broker between us and the devices hands them on itself."""
        detail = "configurations, commands and states are not for the gateway"
        refused = Route(route.mqtt_topic, None, route.shard, DeadLetterReason.TOPIC, detail)
        self._refuse(session, refused, packet, ticket, now_us)

    def _is_kept(self, packet: Publish) -> bool:
        """Tells whether a message of an announced device was kept: a broker marks these with RETAIN, and no others."""
        return packet.flags & RETAIN != 0

    def _retain_and_route(self, where: str, payload: bytes, qos: int, *, retain: bool) -> bool:  # noqa: ARG002
        """Keeps a message and hands it to others; False if there is no room for it."""
        return True

    def _route_to_others(self, where: str, payload: bytes, qos: int) -> None:
        """Hands a message to whoever subscribed to it."""
