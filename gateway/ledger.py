"""Which received messages of one connection are still owed a PUBACK, in the order of receipt.

    receive(packet id) ─▶ ticket ─▶ … the log … ─▶ settle(tickets) ─▶ packet ids that may be acknowledged now

A ledger lives as long as its connection: tickets of a closed one settle to nothing, so no PUBACK ever crosses a
reconnect, where the same packet id may name another message. MQTT 5, [MQTT-4.6.0-2]: PUBACKs go out in the order in
which the PUBLISHes came in, so what becomes durable early waits for what came before it.
"""

from collections import deque
from collections.abc import Sequence


class AckLedger:
    """Owes PUBACKs.

    Attributes:
        room: how many more messages may be in flight; at 0 Receive Maximum is reached.
        is_closed: the connection is over.

    >>> ledger = AckLedger(in_flight_max=10)
    >>> first, second = ledger.receive(7), ledger.receive(8)
    >>> ledger.settle([second]), ledger.settle([first])
    ([], [(7, 0), (8, 0)])
    """

    __slots__ = ("_codes", "_durable", "_head", "_ids", "_next", "_waiting", "is_closed", "room")

    def __init__(self, in_flight_max: int) -> None:
        self._waiting: deque[int] = deque()
        self._ids: set[int] = set()
        self._codes: dict[int, int] = {}
        self._durable: set[int] = set()
        self._head = 0
        self._next = 0
        self.room = in_flight_max
        self.is_closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    def receive(self, packet_id: int, code: int = 0) -> int:
        """Notes a message that will be acknowledged with reason `code`; returns its ticket.

        Returns -1, and notes nothing, where the packet id is in flight already: one PUBACK is owed for it, and a
        second one could acknowledge the next message of that id. The caller has seen that there is `room`.
        """
        assert self.room > 0
        assert not self.is_closed
        if packet_id in self._ids:
            return -1
        ticket = self._next
        self._next = ticket + 1
        self.room -= 1
        self._waiting.append(packet_id)
        self._ids.add(packet_id)
        if code:
            self._codes[ticket] = code
        return ticket

    def settle(self, tickets: Sequence[int]) -> list[tuple[int, int]]:
        """Marks messages durable; returns (packet id, reason code) of those that may be acknowledged now, in order.

        Tickets that were settled before, and all tickets of a closed ledger, change nothing.
        """
        if self.is_closed:
            return []
        head, durable = self._head, self._durable
        count = len(tickets)
        if not durable and not self._codes and tickets == list(range(head, min(head + count, self._next))):
            # All that is durable is next in order, as it mostly is: no look at each.
            take = self._waiting.popleft
            packet_ids = [take() for _ in tickets]
            self._ids.difference_update(packet_ids)
            self._head = head + count
            self.room += count
            return [(packet_id, 0) for packet_id in packet_ids]
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
        self.room += len(due)
        return due

    def close(self) -> None:
        """Forgets all: the connection is gone and nothing of it will be acknowledged."""
        self.is_closed = True
        self._waiting.clear()
        self._ids.clear()
        self._codes.clear()
        self._durable.clear()
