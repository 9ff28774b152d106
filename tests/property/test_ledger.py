"""The acknowledgement ledger against a model: durable before PUBACK, order of receipt, nothing across a reconnect."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.ledger import AckLedger

IN_FLIGHT_MAX = 8


class LedgerMachine(RuleBasedStateMachine):
    """A client with few packet ids, a log that completes in any order, and a connection that breaks."""

    def __init__(self) -> None:
        super().__init__()
        self.connections: list[AckLedger] = []
        self.reconnect()

    @rule()
    def reconnect(self) -> None:
        if self.connections:
            self.connections[-1].close()
        self.connections.append(AckLedger(IN_FLIGHT_MAX))
        self.received: list[tuple[int, int, int]] = []  # (ticket, packet id, code) in order of receipt
        self.durable: set[int] = set()
        self.acked: list[tuple[int, int]] = []

    @precondition(lambda self: self.connections[-1].room > 0)
    @rule(packet_id=st.integers(1, 12), code=st.sampled_from([0, 0, 0x87]))
    def receive(self, packet_id: int, code: int) -> None:
        ledger = self.connections[-1]
        in_flight = {entry[1] for entry in self.received[len(self.acked) :]}
        ticket = ledger.receive(packet_id, code)
        if packet_id in in_flight:
            assert ticket == -1
        else:
            assert ticket == len(self.received)
            self.received.append((ticket, packet_id, code))

    @rule(data=st.data())
    def complete(self, data: st.DataObject) -> None:
        tickets = data.draw(st.lists(st.integers(0, len(self.received) + 2), max_size=6))
        self.durable |= {ticket for ticket in tickets if ticket < len(self.received)}
        self.acked += self.connections[-1].settle(tickets)

    @precondition(lambda self: len(self.connections) > 1)
    @rule(tickets=st.lists(st.integers(0, 20), min_size=1, max_size=6), which=st.integers(0, 10))
    def complete_late(self, tickets: list[int], which: int) -> None:
        old = self.connections[which % (len(self.connections) - 1)]
        assert old.settle(tickets) == []

    @invariant()
    def acks_are_the_longest_durable_prefix_in_order_of_receipt(self) -> None:
        prefix = 0
        while prefix < len(self.received) and prefix in self.durable:
            prefix += 1
        assert self.acked == [(packet_id, code) for _, packet_id, code in self.received[:prefix]]

    @invariant()
    def room_is_what_is_not_in_flight(self) -> None:
        assert self.connections[-1].room == IN_FLIGHT_MAX - (len(self.received) - len(self.acked))
        assert len(self.connections[-1]) == len(self.received) - len(self.acked)


LedgerMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestLedger = LedgerMachine.TestCase
