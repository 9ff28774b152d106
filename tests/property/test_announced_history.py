"""Any history of devices that announce themselves at a broker: moved, withdrawn, with cuts, lost sessions and restarts.

What must hold at every step: no two filters of the session match one topic; a PUBACK goes out only for what is durable,
in the order of receipt; and a value becomes a reading where its announcement has stood since before it was sent,
whatever was cut or started anew meanwhile, and otherwise a reading, a dead letter or a count. In the end exactly
the topics that are announced bring messages.
"""

import json

import mqtt5
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.home_assistant_in import AnnouncedDevices
from gateway.inbound import Foreign
from gateway.intake import Intake
from gateway.stage import Stage
from gateway.subscription import Subscription
from gateway.subscriptions import matches
from gateway.survey import Survey
from gateway.terms import Terms
from headwater.batch import DeadLetter

NOW_US = 1_700_000_000_000_000
TERMS = Terms("gw", (), "", None, 3_600_000_000, 30_000_000, receive_max=8, packet_max_bytes=4000, letter_max_bytes=50)
NODES = ["porch", "shed", "attic"]
TOPICS = ["a/t", "b/t", "c", "shared/t"]
WRONG = ["hw/1/n/d/frame", "homeassistant/sensor/x/config", "a/\x07", "/" * 70, "a/+"]


def discovery(node: str) -> str:
    return f"homeassistant/sensor/{node}/temp/config"


class Model:
    """A broker: one session that lasts, what it retains, and which packets are on their way to the gateway."""

    def __init__(self) -> None:
        self.filters: dict[str, mqtt5.TopicFilter] = {}
        self.retained: dict[str, bytes] = {}
        self.queue: list[tuple[str, bytes, int]] = []  # (MQTT topic, payload, number), not acknowledged yet.
        self.number = 0
        self.unsent = b""
        self.sent: list[tuple[str, bytes, int]] = []  # On this connection, in order; the packet id is the place + 1.
        self.acked: list[int] = []

    def connect(self, *, is_lost: bool) -> None:
        had_session = bool(self.filters) and not is_lost
        if is_lost:
            self.filters, self.queue = {}, []
        self.sent, self.acked = [], []
        self.unsent = mqtt5.ConnAckPacket(session_present=had_session).write()
        for one in self.queue:
            self._write(one)

    def _write(self, one: tuple[str, bytes, int], *, retain: bool = False) -> None:
        self.sent.append(one)
        packet = mqtt5.PublishPacket(
            one[0], one[1], qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=len(self.sent), retain=retain
        )
        self.unsent += packet.write()

    def _put(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self.number += 1
        self.queue.append((topic, payload, self.number))
        self._write(self.queue[-1], retain=retain)

    def publish(self, topic: str, payload: bytes) -> bool:
        """True if the session wants it."""
        found = [pattern for pattern in self.filters if matches(pattern.split("/"), topic.split("/"))]
        assert len(found) <= 1, found
        if found:
            self._put(topic, payload)
        return bool(found)

    def hear(self, raw: bytes) -> None:
        """Takes what the gateway says."""
        while raw:
            packet, size = mqtt5.read(memoryview(raw))
            raw = raw[size:]
            if isinstance(packet, mqtt5.SubscribePacket):
                self.unsent += mqtt5.SubAckPacket(
                    packet.packet_id, [mqtt5.SubAckReasonCode(1)] * len(packet.topic_filters)
                ).write()
                for one in packet.topic_filters:
                    self._add(one)
            elif isinstance(packet, mqtt5.UnsubscribePacket):
                for pattern in packet.patterns:
                    self.filters.pop(pattern, None)
            else:
                assert isinstance(packet, mqtt5.PubAckPacket)
                self.acked.append(packet.packet_id)
                number = self.sent[packet.packet_id - 1][2]
                self.queue = [kept for kept in self.queue if kept[2] != number]

    def _add(self, wanted: mqtt5.TopicFilter) -> None:
        is_new = wanted.pattern not in self.filters
        self.filters[wanted.pattern] = wanted
        handling = int(wanted.retain_handling)
        if handling == 0 or (handling == 1 and is_new):
            for topic, payload in self.retained.items():
                if matches(wanted.pattern.split("/"), topic.split("/")):
                    self._put(topic, payload, retain=True)


class AnnouncedMachine(RuleBasedStateMachine):
    """Three sensors, few topics, one gateway."""

    def __init__(self) -> None:
        super().__init__()
        self.broker = Model()
        self.states: dict[str, str] = {}  # Node → the state topic that the broker retains.
        self.moves = dict.fromkeys(TOPICS, 0)  # How often a topic began or ceased to be announced.
        self.values = 0
        self.standing: dict[
            bytes, tuple[str, int]
        ] = {}  # Value → topic and moves when it was sent, if it was announced.
        self.start(is_lost=False)
        self.feed(len(self.broker.unsent))
        for node, topic in zip(NODES, TOPICS, strict=False):
            self.announce(node, topic, has_availability=True)
        self.rest()

    # The gateway.

    def start(self, *, is_lost: bool) -> None:
        """A new process: it knows nothing and surveys what is retained."""
        self.intake = Intake(partitions=4, dead_letter_max_bytes=50)
        self.intake.announced = AnnouncedDevices(
            "homeassistant", "home", 10, self.intake.presence, partitions=4, letter_max_bytes=50
        )
        self.subscription = Subscription(self.intake, TERMS, self)
        survey = Survey(self.intake, TERMS, self.subscription)
        survey.feed(mqtt5.ConnAckPacket().write(), NOW_US)
        for topic, payload in {} if is_lost else self.broker.retained.items():
            survey.feed(mqtt5.PublishPacket(topic, payload, retain=True).write(), NOW_US)
        survey.feed(mqtt5.PingRespPacket().write() * 2, NOW_US)
        assert survey.is_seen
        self.intake.notes.clear()
        self.connect(is_lost=is_lost)

    def connect(self, *, is_lost: bool) -> None:
        if is_lost:
            self.broker.retained.clear()
        self.subscription = Subscription(self.intake, TERMS, self)
        self.subscription.take_output()
        self.taken = 0
        self.durable: set[int] = set()
        self.broker.connect(is_lost=is_lost)

    def feed(self, size: int) -> None:
        broker, announced = self.broker, self.intake.announced
        assert announced is not None
        piece, broker.unsent = broker.unsent[:size], broker.unsent[size:]
        before = dict(self.moves)
        refused = set(announced._refused)
        self.subscription.feed(piece, NOW_US)
        assert self.subscription.stage is not Stage.CLOSED, self.subscription.why
        notes, self.intake.notes = self.intake.notes, []
        tickets = [note.ticket for note in notes if note.ticket >= 0]
        assert tickets == list(range(self.taken, self.taken + len(tickets)))
        readings = {note.what.payload for note in notes if isinstance(note.what, Foreign)}
        letters = {note.what.payload for note in notes if isinstance(note.what, DeadLetter)}
        for topic, payload, _ in broker.sent[self.taken : self.taken + len(tickets)]:
            if topic in TOPICS:
                assert payload in readings | letters or topic in refused | set(announced._refused)
                if self.standing.get(payload) == (topic, before[topic]):
                    assert payload in readings
        self.taken += len(tickets)
        self.broker.hear(self.subscription.take_output())

    @rule(share=st.sampled_from([0.1, 0.5, 1.0, 1.0]))
    def arrive(self, share: float) -> None:
        self.feed(int(len(self.broker.unsent) * share) + 1)

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        waiting = [ticket for ticket in range(self.taken) if ticket not in self.durable]
        chosen = data.draw(st.lists(st.sampled_from(waiting), unique=True)) if waiting else []
        self.durable |= set(chosen)
        self.subscription.settle(chosen)
        self.broker.hear(self.subscription.take_output())

    @rule()
    def rest(self) -> None:
        """All arrives and is durable."""
        while self.broker.unsent:
            self.feed(len(self.broker.unsent))
            self.durable |= set(range(self.taken))
            self.subscription.settle(sorted(self.durable))
            self.broker.hear(self.subscription.take_output())

    @rule()
    def cut(self) -> None:
        self.subscription.lost("cut")
        self.connect(is_lost=False)

    @rule()
    def kill(self) -> None:
        self.start(is_lost=False)

    @rule(is_new=st.booleans())
    def wipe(self, *, is_new: bool) -> None:
        """The broker forgets everything; a gateway that lives on asks for what it had heard of."""
        self.states.clear()
        self.moves = {topic: moves + 1 for topic, moves in self.moves.items()}
        (self.start if is_new else self.connect)(is_lost=True)

    # The devices.

    def told(self, node: str, payload: bytes) -> None:
        if payload:
            self.broker.retained[discovery(node)] = payload
        else:
            self.broker.retained.pop(discovery(node), None)
        self.broker.publish(discovery(node), payload)

    @rule(node=st.sampled_from(NODES), topic=st.sampled_from(TOPICS * 4 + WRONG), has_availability=st.booleans())
    def announce(self, node: str, topic: str, *, has_availability: bool) -> None:
        self.move(node, topic if topic in TOPICS else None)
        told = {"state_topic": topic} | ({"availability_topic": f"{node}/status"} if has_availability else {})
        self.told(node, json.dumps(told).encode())

    @rule(node=st.sampled_from(NODES))
    def withdraw(self, node: str) -> None:
        self.move(node, None)
        self.told(node, b"")

    def move(self, node: str, topic: str | None) -> None:
        before = self.states.pop(node, None)
        if topic is not None:
            self.states[node] = topic
        for moved in {before, topic} - {None} if before != topic else set():
            assert moved is not None
            self.moves[moved] += 1

    @rule(topic=st.sampled_from(TOPICS), count=st.integers(1, 3))
    def publish(self, topic: str, count: int) -> None:
        for _ in range(count):
            self.values += 1
            payload = b"%d" % self.values
            if self.broker.publish(topic, payload) and topic in self.states.values():
                self.standing[payload] = topic, self.moves[topic]

    # What holds.

    @invariant()
    def acks_are_the_longest_durable_prefix_in_order_of_receipt(self) -> None:
        prefix = 0
        while prefix in self.durable:
            prefix += 1
        assert self.broker.acked == list(range(1, prefix + 1))

    def teardown(self) -> None:
        """All arrives; then what is announced brings messages, and what is not has brought its last one.

        What was withdrawn while the broker had forgotten the session is not heard of, and stays known.
        """
        self.rest()
        for topic in TOPICS + [f"{node}/status" for node in NODES]:
            self.broker.publish(topic, b"-1")
        self.rest()
        announced = self.intake.announced
        assert announced is not None
        known = set(announced.topics())
        assert {pattern for pattern in self.broker.filters if not pattern.startswith(("hw/", "home"))} == known
        for node in NODES:
            if discovery(node) in self.broker.retained:
                assert announced.topics_of(discovery(node))[:1] == [
                    topic for one, topic in self.states.items() if one == node
                ]


AnnouncedMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAnnouncedHistory = AnnouncedMachine.TestCase
