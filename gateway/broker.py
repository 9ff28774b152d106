"""All sessions together, without IO: take-over, wills, retained messages, and what goes to whom or to the log.

Session ─▶ connect ─▶ claims ─▶ (shell checks) ─▶ admit / turn_away
        ─▶ publish ─▶ Intake ─▶ inbound, notes ─▶ the batcher
                   ─▶ status, config, command ─▶ retained, others
"""

import json
from dataclasses import dataclass

import mqtt5

from gateway.home_assistant_in import OWN_TOPICS
from gateway.identity import Identity
from gateway.inbound import Note
from gateway.intake import Intake
from gateway.publish import QOS, RETAIN, Publish
from gateway.retained import RetainedMessages
from gateway.sender import Sender
from gateway.session import Code, Route, Session
from gateway.subscriptions import Subscriptions, is_pattern
from headwater.batch import DeviceStatus
from headwater.names import mqtt_topic
from headwater.reasons import DeadLetterReason
from headwater.sparkplug_topic import Verb

CLIENT_ID_CHARS_MAX = 128
CONFIG_MAX_BYTES = 65_536
_WILL_LEAVES = frozenset({"status", Verb.NDEATH, Verb.STATE})
_SUBACK = mqtt5.SubAckReasonCode
_UNSUBACK = mqtt5.UnsubAckReasonCode
_CONNACK = mqtt5.ConnAckReasonCode


@dataclass(slots=True)
class _PendingWill:
    due_us: int
    session: Session
    will: mqtt5.Will


class Broker(Intake):
    """The host of all sessions.

    Attributes:
        claims: (session, CONNECT) whose identity is to be checked; the shell empties it.
        touched: sessions that may have output or have ended; the shell empties it.
        retained: the latest message of each topic that keeps one.
    """

    def __init__(
        self, *, partitions: int, subscriptions_max: int, retained: RetainedMessages, dead_letter_max_bytes: int
    ) -> None:
        super().__init__(partitions=partitions, dead_letter_max_bytes=dead_letter_max_bytes)
        self._subscriptions_max = subscriptions_max
        self._sessions: dict[tuple[str, str], Session] = {}
        self._subscriptions: Subscriptions[Session] = Subscriptions()
        self._wills: dict[tuple[str, str], _PendingWill] = {}
        self._assigned_ids = 0
        self.retained = retained
        self.claims: list[tuple[Session, mqtt5.ConnectPacket]] = []
        self.touched: set[Session] = set()

    @property
    def connections(self) -> int:
        """Clients that are let in."""
        return len(self._sessions)

    # Connections.

    def connect(self, session: Session, packet: mqtt5.ConnectPacket) -> None:
        """Queues the claim; the shell answers with `admit` or `turn_away`."""
        self.claims.append((session, packet))

    def turn_away(self, session: Session, code: mqtt5.ConnAckReasonCode, why: str) -> None:
        """Refuses a claim."""
        session.refuse(code, why)
        self.touched.add(session)

    def admit(self, session: Session, packet: mqtt5.ConnectPacket, identity: Identity, now_us: int) -> None:
        """Lets an authenticated client in and ends an older connection of the same client."""
        if packet.authentication_method:
            self.turn_away(session, _CONNACK.BAD_AUTHENTICATION_METHOD, "authentication_method")
            return
        client_id = packet.client_id
        if not client_id:
            if session.version == 4 and not packet.clean_start:
                self.turn_away(session, _CONNACK.CLIENT_ID_NOT_VALID, "client_id")
                return
            self._assigned_ids += 1
            client_id = f"hw-{now_us:x}-{self._assigned_ids}"
        if len(client_id) > CLIENT_ID_CHARS_MAX or not client_id.isprintable():
            self.turn_away(session, _CONNACK.CLIENT_ID_NOT_VALID, "client_id")
            return
        if packet.will is not None:
            code = self._will_fault(session, packet.will, identity)
            if code is not None:
                self.turn_away(session, code, "will")
                return
        key = (identity.name, client_id)
        older = self._sessions.get(key)
        if older is not None:
            self.counters["taken_over"] += 1
            older.disconnect(Code.SESSION_TAKEN_OVER, "taken_over", now_us)
        self._wills.pop(key, None)
        session.accept(packet, identity, client_id)
        self._sessions[key] = session
        self.counters["connected"] += 1
        self.touched.add(session)

    def _will_fault(self, session: Session, will: mqtt5.Will, identity: Identity) -> mqtt5.ConnAckReasonCode | None:
        if will.qos == 2 and session.version == 5:
            return _CONNACK.QUALITY_NOT_SUPPORTED
        if not {"+", "#", "\0"}.isdisjoint(will.topic):
            return _CONNACK.TOPIC_NAME_INVALID
        route = self._make_route(identity, will.topic)
        if self._is_unannounced(route):
            # Such devices have a will on their availability topic before anybody announced it.
            return None
        leaf = route.device_topic.leaf if route.device_topic else route.sparkplug and route.sparkplug.verb
        if route.reason is not None or leaf not in _WILL_LEAVES:
            return _CONNACK.NOT_AUTHORIZED if route.code == 0x87 else _CONNACK.TOPIC_NAME_INVALID
        return None

    def _is_unannounced(self, route: Route) -> bool:
        """Tells whether a topic is in nobody's namespace, so that a device may announce it."""
        is_ours = route.device_topic or route.sparkplug or route.mqtt_topic.startswith(OWN_TOPICS)
        return self.announced is not None and not is_ours and route.reason is not DeadLetterReason.IDENTITY

    def over(self, session: Session, *, with_will: bool, now_us: int) -> None:
        """A session ended: its will, its presence, its subscriptions."""
        key = (session.identity.name, session.client_id)
        if self._sessions.get(key) is session:
            del self._sessions[key]
        self.counters[f"ended_{session.why}"] += 1
        self._subscriptions.drop(session)
        self.touched.add(session)
        if with_will and session.will is not None:
            if session.will.will_delay_interval:
                due_us = now_us + session.will.will_delay_interval * 1_000_000
                self._wills[key] = _PendingWill(due_us, session, session.will)
            else:
                self._publish_will(session, session.will, now_us)
        if self.sparkplug is not None:
            self._take_from_host(self.sparkplug.gone(session.origin, now_us))
        for status in self.presence.gone(session, now_us):
            self._note_status(status)
            self._correct_retained(status)

    def tick(self, now_us: int) -> None:
        """Publishes delayed wills that are due."""
        for key, pending in list(self._wills.items()):
            if pending.due_us <= now_us:
                del self._wills[key]
                self._publish_will(pending.session, pending.will, now_us)

    def _publish_will(self, session: Session, will: mqtt5.Will, now_us: int) -> None:
        route = self._make_route(session.identity, will.topic)
        device_topic = route.device_topic
        if self._is_unannounced(route) and not route.is_announced:
            self.counters["wills_unannounced"] += 1
            return
        if route.sparkplug is not None or route.is_announced:
            packet = Publish(will.topic.encode(), bytes(will.payload or b""), 0, RETAIN if will.retain else 0)
            self.counters["wills"] += 1
            take = self._take_announced if route.is_announced else self._take_sparkplug
            take(session, route, packet, -1, now_us)
            return
        assert device_topic is not None
        if self.presence.speaks_elsewhere(session, device_topic.site, device_topic.device):
            # The device came back on another connection before this one was known to be dead.
            self.counters["wills_stale"] += 1
            return
        payload = will.payload or b""
        self.counters["wills"] += 1
        self._take_status(session, route, payload, retain=will.retain, ticket=-1, now_us=now_us)

    def _correct_retained(self, status: DeviceStatus) -> None:
        """Turns a retained "online" of a device that vanished without a will into "offline"."""
        where = mqtt_topic(status.site, status.device, "status")
        kept = self.retained.get(where)
        if kept is None:
            return
        said = json.loads(kept.payload) | {"online": False}
        self._retain_and_route(where, json.dumps(said, separators=(",", ":")).encode(), 1, retain=True)

    # Messages.

    def _pass_on(
        self, session: Sender, route: Route, packet: Publish, ticket: int, now_us: int, *, retain: bool  # noqa: ARG002
    ) -> None:  # fmt: skip
        """Hands it to others at once; a retained configuration also goes to the registry."""
        fits, qos = len(packet.payload) <= CONFIG_MAX_BYTES, (packet.flags & QOS) >> 1
        kept = fits and self._retain_and_route(route.mqtt_topic, packet.payload, qos, retain=retain)
        self.counters["orders" if kept else "orders_refused"] += 1
        device_topic = route.device_topic
        if kept and retain and device_topic is not None:
            key = f"{device_topic.site}/{device_topic.device}/config".encode()
            self.notes.append(Note(route.shard, (key, packet.payload), session, ticket))
        else:
            self._settle(session, ticket)

    def _is_kept(self, packet: Publish) -> bool:  # noqa: ARG002
        """What a device sends comes at once; RETAIN is its wish."""
        return False

    def _settle(self, session: Sender, ticket: int) -> None:
        """Acknowledges what leaves nothing for the log."""
        if ticket >= 0:
            assert isinstance(session, Session)
            session.settle([ticket])
            self.touched.add(session)

    def announce(self, where: str, payload: bytes, *, retain: bool = True) -> None:
        """Publishes a message of the gateway itself, such as a durable ack."""
        self._retain_and_route(where, payload, 0, retain=retain)

    def _retain_and_route(self, where: str, payload: bytes, qos: int, *, retain: bool) -> bool:
        fits = not retain or self.retained.put(where, payload, qos)
        self.counters["retained_refused"] += not fits
        self._route_to_others(where, payload, qos)
        return fits

    def _route_to_others(self, where: str, payload: bytes, qos: int) -> None:
        for session, topic_filter in self._subscriptions.of(where) if self._subscriptions.any else ():
            session.deliver(where, payload, min(qos, int(topic_filter.max_qos)), retain=False)
            self.touched.add(session)

    # Subscriptions.

    def subscribe(self, session: Session, packet: mqtt5.SubscribePacket) -> None:
        """Adds filters, answers, then sends what is retained."""
        codes, added = [], []
        for topic_filter in packet.topic_filters:
            code = self._subscription_fault(session, topic_filter.pattern)
            if code is None:
                is_new = self._subscriptions.add(session, topic_filter)
                code = _SUBACK(min(int(topic_filter.max_qos), 1))
                handling = int(topic_filter.retain_handling)
                if handling == 0 or (handling == 1 and is_new):
                    added.append(topic_filter)
            codes.append(code)
        session.write(mqtt5.SubAckPacket(packet.packet_id, codes))
        for topic_filter in added:
            for message in self.retained.matching(topic_filter.pattern):
                qos = min(message.qos, int(topic_filter.max_qos))
                session.deliver(message.mqtt_topic, message.payload, qos, retain=True)
        self.touched.add(session)

    def _subscription_fault(self, session: Session, pattern: str) -> mqtt5.SubAckReasonCode | None:
        if pattern.startswith("$share/"):
            return _SUBACK.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED
        if not is_pattern(pattern):
            return _SUBACK.TOPIC_FILTER_INVALID
        if not session.identity.may_subscribe(pattern):
            return _SUBACK.NOT_AUTHORIZED
        if self._subscriptions.count(session) >= self._subscriptions_max:
            return _SUBACK.QUOTA_EXCEEDED
        return None

    def unsubscribe(self, session: Session, packet: mqtt5.UnsubscribePacket) -> None:
        """Takes filters away and answers."""
        codes = [
            _UNSUBACK.SUCCESS if self._subscriptions.remove(session, pattern) else _UNSUBACK.NO_SUBSCRIPTION_EXISTED
            for pattern in packet.patterns
        ]
        session.write(mqtt5.UnsubAckPacket(packet.packet_id, codes))
        self.touched.add(session)
