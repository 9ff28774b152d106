"""Any history of one client against the broker: pieces of bytes, commits in any order, breaks, returns.

What must hold at every step: messages reach the log's side in the order sent; a PUBACK goes out only for what is durable,
in the order of receipt, on the connection that brought it, and once.
"""

import mqtt5
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway import mqtt311
from gateway.broker import Broker
from gateway.identity import ANONYMOUS
from gateway.inbound import Inbound
from gateway.retained import RetainedMessages
from gateway.session import Phase, Session, SessionLimits

NOW_US = 1_700_000_000_000_000
LIMITS = SessionLimits(
    receive_max=4,
    packet_max_bytes=2_000,
    keepalive_max_us=600_000_000,
    deliveries_max=4,
    rate_max_messages=1_000_000,
    rate_max_bytes=1_000_000_000,
)
FRAME = "hw/1/north/pump-1/frame"
CONNECT = {
    5: mqtt5.ConnectPacket("c", clean_start=True).write(),
    4: bytes.fromhex("100d00044d5154540402003c000163"),
}


class SessionMachine(RuleBasedStateMachine):
    """One client id over many connections of either version."""

    def __init__(self) -> None:
        super().__init__()
        self.broker = Broker(
            partitions=4, subscriptions_max=3, retained=RetainedMessages(5, 1000), dead_letter_max_bytes=100
        )
        self.sessions: list[Session] = []
        self.number = 0
        self.connect(5)

    @rule(version=st.sampled_from([4, 5]))
    def connect(self, version: int) -> None:
        if self.sessions and self.number % 2:
            self.session.lost(NOW_US)
        self.session = Session(self.broker, LIMITS, NOW_US)
        self.sessions.append(self.session)
        self.unsent = b""
        self.sent: list[tuple[int, bytes]] = []
        self.taken: list[Inbound] = []
        self.waiting: list[Inbound] = []
        self.durable: set[int] = set()
        self.acked: list[int] = []
        self.session.feed(CONNECT[version], NOW_US)
        for session, packet in self.broker.claims:
            self.broker.admit(session, packet, ANONYMOUS, NOW_US)
        self.broker.claims.clear()
        assert self.session.phase is Phase.OPEN
        self.session.take_output()
        self.broker.inbound.clear()
        self.broker.notes.clear()

    @rule(count=st.integers(1, 4), quality=st.integers(0, 1))
    def publish(self, count: int, quality: int) -> None:
        for _ in range(count):
            self.number += 1
            payload = b"%d" % self.number * (self.number % 90 + 1)
            packet = mqtt5.PublishPacket(
                FRAME, payload, qos=mqtt5.QoS(quality), packet_id=self.number % 60_000 + 1 if quality else None
            )
            self.unsent += packet.write() if self.session.version == 5 else mqtt311.write(packet)
            self.sent.append((packet.packet_id or 0, payload))

    @rule(share=st.floats(0, 1))
    def arrive(self, share: float) -> None:
        size = int(len(self.unsent) * share) + 1
        piece, self.unsent = self.unsent[:size], self.unsent[size:]
        self.feed(piece)

    def feed(self, piece: bytes) -> None:
        self.session.feed(piece, NOW_US)
        self.taken += self.broker.inbound
        self.waiting += self.broker.inbound
        self.broker.inbound.clear()
        self.read_output()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        chosen = data.draw(st.lists(st.sampled_from(range(len(self.waiting))), min_size=1, unique=True))
        tickets = [self.waiting[at].ticket for at in chosen if self.waiting[at].ticket >= 0]
        self.waiting = [message for at, message in enumerate(self.waiting) if at not in set(chosen)]
        self.durable |= set(tickets)
        self.session.settle(tickets)
        self.read_output()
        if self.session.is_stalled:
            self.feed(b"")

    @precondition(lambda self: len(self.sessions) > 1)
    @rule(which=st.integers(0, 20), tickets=st.lists(st.integers(0, 9), min_size=1))
    def complete_late(self, which: int, tickets: list[int]) -> None:
        old = self.sessions[which % (len(self.sessions) - 1)]
        old.take_output()
        old.settle(tickets)
        assert old.take_output() == b""

    def read_output(self) -> None:
        raw = memoryview(self.session.take_output())
        while raw:
            assert raw[0] == 0x40
            assert raw[1] == 2
            self.acked.append(raw[2] << 8 | raw[3])
            raw = raw[4:]

    @invariant()
    def messages_arrive_whole_and_in_order(self) -> None:
        assert [message.payload for message in self.taken] == [payload for _, payload in self.sent[: len(self.taken)]]

    @invariant()
    def acks_are_the_longest_durable_prefix_in_order_of_receipt(self) -> None:
        owed = [(m.ticket, i) for m, (i, _) in zip(self.taken, self.sent, strict=False) if m.ticket >= 0]
        prefix = 0
        while prefix < len(owed) and owed[prefix][0] in self.durable:
            prefix += 1
        assert self.acked == [packet_id for _, packet_id in owed[:prefix]]

    @invariant()
    def never_more_than_receive_maximum_in_flight(self) -> None:
        assert self.session.phase is Phase.OPEN
        in_flight = sum(message.ticket >= 0 for message in self.taken) - len(self.acked)
        assert in_flight <= LIMITS.receive_max
        assert self.session.ledger.room == LIMITS.receive_max - in_flight


SessionMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestSessionHistory = SessionMachine.TestCase
