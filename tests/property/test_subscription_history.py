"""Any history of a subscriber against a broker that keeps its session: pieces of bytes, commits in any order, breaks.

What must hold at every step: messages reach the log's side in the order sent; a PUBACK goes out only for what is durable,
in the order of receipt, on the connection that brought it, and once; and what the broker still holds after a break comes again.
"""

import mqtt5
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.inbound import Inbound, Note
from gateway.intake import Intake
from gateway.stage import Stage
from gateway.subscription import Subscription
from gateway.terms import Terms

NOW_US = 1_700_000_000_000_000
TERMS = Terms("gw", (), "", None, 3_600_000_000, 30_000_000, receive_max=8, packet_max_bytes=400, letter_max_bytes=50)
FRAME, WRONG = "hw/1/north/pump-1/frame", "hw/1/NORTH/pump-1/frame"


class SubscriptionMachine(RuleBasedStateMachine):
    """One session at a broker over many connections; the broker sends again what was not acknowledged."""

    def __init__(self) -> None:
        super().__init__()
        self.intake = Intake(partitions=4, dead_letter_max_bytes=50)
        self.number = 0
        self.queue: list[tuple[str, bytes]] = []  # What the broker keeps for us, in order.
        self.old: list[Subscription] = []
        self.everything: dict[bytes, int] = {}  # Payload → how often it was acknowledged to the broker.
        self.ever_durable: set[bytes] = set()
        self.begin()

    def begin(self) -> None:
        self.subscription = Subscription(self.intake, TERMS, self)
        self.subscription.take_output()
        self.sent: list[tuple[int, bytes]] = []  # (packet id, payload) on this connection, in order.
        self.taken: list[tuple[int, bytes]] = []  # (ticket, payload), in order.
        self.durable: set[int] = set()
        self.acked: list[int] = []
        self.unsent = mqtt5.ConnAckPacket(session_present=bool(self.old)).write()
        self.unsent += mqtt5.SubAckPacket(1, [mqtt5.SubAckReasonCode(1)] * 3).write()
        for mqtt_topic, payload in self.queue:
            self.write(mqtt_topic, payload, duplicate=True)

    def write(self, mqtt_topic: str, payload: bytes, *, duplicate: bool = False) -> None:
        packet_id = len(self.sent) % 60_000 + 1
        packet = mqtt5.PublishPacket(
            mqtt_topic, payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=packet_id, duplicate=duplicate
        )
        self.unsent += packet.write()
        self.sent.append((packet_id, payload))

    @rule(
        count=st.integers(1, 3), mqtt_topic=st.sampled_from([FRAME, FRAME, WRONG]), size=st.sampled_from([5, 90, 900])
    )
    def publish(self, count: int, mqtt_topic: str, size: int) -> None:
        for _ in range(count):
            self.number += 1
            payload = b"%08d" % self.number + b"." * size
            self.queue.append((mqtt_topic, payload))
            self.everything[payload] = 0
            self.write(mqtt_topic, payload)

    @rule(share=st.floats(0, 1))
    def arrive(self, share: float) -> None:
        size = int(len(self.unsent) * share) + 1
        piece, self.unsent = self.unsent[:size], self.unsent[size:]
        self.subscription.feed(piece, NOW_US)
        assert self.subscription.stage is not Stage.CLOSED, self.subscription.why
        came: list[Inbound | Note] = [*self.intake.inbound, *(n for n in self.intake.notes if n.ticket >= 0)]
        for one in sorted(came, key=lambda one: one.ticket):
            payload = one.payload if isinstance(one, Inbound) else one.what.payload  # type: ignore[union-attr]
            self.taken.append((one.ticket, payload))
        self.intake.inbound.clear()
        self.intake.notes.clear()
        self.read_output()

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        waiting = [ticket for ticket, _ in self.taken if ticket not in self.durable]
        chosen = data.draw(st.lists(st.sampled_from(waiting), unique=True)) if waiting else []
        self.durable |= set(chosen)
        self.subscription.settle(chosen)
        self.read_output()

    @rule()
    def reconnect(self) -> None:
        self.subscription.lost("cut")
        self.old.append(self.subscription)
        self.begin()

    @precondition(lambda self: self.old)
    @rule(which=st.integers(0, 20), tickets=st.lists(st.integers(0, 9), min_size=1))
    def complete_late(self, which: int, tickets: list[int]) -> None:
        old = self.old[which % len(self.old)]
        old.take_output()
        old.settle(tickets)
        assert old.take_output() == b""

    def read_output(self) -> None:
        raw = self.subscription.take_output()
        while raw:
            packet, size = mqtt5.read(memoryview(raw))
            raw = raw[size:]
            if isinstance(packet, mqtt5.PubAckPacket):
                assert packet.reason_code == mqtt5.PubAckReasonCode.SUCCESS
                self.acked.append(packet.packet_id)
                payload = self.sent[packet.packet_id - 1][1]
                self.everything[payload] += 1
                self.queue = [kept for kept in self.queue if kept[1] != payload]
            else:
                assert isinstance(packet, mqtt5.SubscribePacket | mqtt5.UnsubscribePacket)

    @invariant()
    def messages_arrive_in_order(self) -> None:
        for (_, got), (_, sent) in zip(self.taken, self.sent, strict=False):
            assert sent.startswith(got)
            assert got[:8] == sent[:8]
        assert [ticket for ticket, _ in self.taken] == list(range(len(self.taken)))

    @invariant()
    def acks_are_the_longest_durable_prefix_in_order_of_receipt(self) -> None:
        prefix = 0
        while prefix < len(self.taken) and prefix in self.durable:
            prefix += 1
        assert self.acked == [packet_id for packet_id, _ in self.sent[:prefix]]

    @invariant()
    def what_is_not_acknowledged_is_still_at_the_broker_and_nothing_is_acknowledged_twice(self) -> None:
        kept = {payload for _, payload in self.queue}
        for payload, acks in self.everything.items():
            assert acks <= 1
            assert (acks == 0) == (payload in kept)


SubscriptionMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestSubscriptionHistory = SubscriptionMachine.TestCase
