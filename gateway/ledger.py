"""Which received messages of one connection are still owed a PUBACK, in the order of receipt.

    receive(packet id) ─▶ ticket ─▶ … the log … ─▶ settle(tickets) ─▶ packet ids that may be acknowledged now

A ledger lives as long as its connection: tickets of a closed one settle to nothing, so no PUBACK ever crosses a
reconnect, where the same packet id may name another message. MQTT 5, [MQTT-4.6.0-2]: PUBACKs go out in the order in
which the PUBLISHes came in, so what becomes durable early waits for what came before it.
"""

from collections import deque
from collections.abc import Iterable


class AckLedger:
    """Owes PUBACKs.

    >>> ledger = AckLedger(in_flight_max=10)
    >>> first, second = ledger.receive(7), ledger.receive(8)
    >>> ledger.settle([second]), ledger.settle([first])
    ([], [(7, 0), (8, 0)])
    """

    __slots__ = ("_codes", "_durable", "_head", "_ids", "_in_flight_max", "_next", "_waiting", "is_closed")

    def __init__(self, in_flight_max: int) -> None:
        self._in_flight_max = in_flight_max
        self._waiting: deque[int] = deque()
        self._ids: set[int] = set()
        self._codes: dict[int, int] = {}
        self._durable: set[int] = set()
        self._head = 0
        self._next = 0
        self.is_closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, packet_id: int) -> bool:
        return packet_id in self._ids

    @property
    def is_full(self) -> bool:
        """True when Receive Maximum messages are in flight: nothing more may be received."""
        return len(self._waiting) >= self._in_flight_max

    def receive(self, packet_id: int, code: int = 0) -> int:
        """Notes a message that will be acknowledged with reason `code`; returns its ticket.

        The caller has checked `is_full` and that the packet id is not in flight.
        """
        assert packet_id not in self._ids
        assert not self.is_full
        assert not self.is_closed
        ticket = self._next
        self._next = ticket + 1
        self._waiting.append(packet_id)
        self._ids.add(packet_id)
        if code:
            self._codes[ticket] = code
        return ticket

    def settle(self, tickets: Iterable[int]) -> list[tuple[int, int]]:
        """Marks messages durable; returns (packet id, reason code) of those that may be acknowledged now, in order.

        Tickets that were settled before, and all tickets of a closed ledger, change nothing.
        """
        if self.is_closed:
            return []
        head, durable = self._head, self._durable
        durable.update(ticket for ticket in tickets if head <= ticket < self._next)
        waiting, ids, codes = self._waiting, self._ids, self._codes
        due = []
        while head in durable:
            durable.remove(head)
            packet_id = waiting.popleft()
            ids.remove(packet_id)
            due.append((packet_id, codes.pop(head, 0) if codes else 0))
            head += 1
        self._head = head
        return due

    def close(self) -> None:
        """Forgets all: the connection is gone and nothing of it will be acknowledged."""
        self.is_closed = True
        self._waiting.clear()
        self._ids.clear()
        self._codes.clear()
        self._durable.clear()
