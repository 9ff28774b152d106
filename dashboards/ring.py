"""The last live events in a ring: browsers that come back continue where they were, slow ones skip to the latest."""

from collections import deque
from collections.abc import Set as AbstractSet
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Event:
    """One batch of live data.

    Attributes:
        number: 1, 2, 3 … per incarnation of the page.
        channel: "fleet", "anomalies", "pipeline", "simulator" or "device/{site}/{device}".
        data: JSON text without line ends.
    """

    number: int
    channel: str
    data: str


class Ring:
    """Numbers events and keeps the last `events_max`.

    >>> ring = Ring("a1", events_max=2, backlog_max=2)
    >>> for text in "123":
    ...     _ = ring.append("fleet", text)
    >>> [event.data for event in ring.since(1, {"fleet"})[0]], ring.since(0, {"fleet"})[1]
    (['2', '3'], True)
    """

    def __init__(self, incarnation: str, *, events_max: int, backlog_max: int) -> None:
        self.incarnation = incarnation
        self.number = 0
        self._events: deque[Event] = deque(maxlen=events_max)
        self._backlog_max = backlog_max

    def append(self, channel: str, data: str) -> Event:
        """Adds an event; the oldest one leaves when the ring is full."""
        self.number += 1
        event = Event(self.number, channel, data)
        self._events.append(event)
        return event

    def since(self, number: int, channels: AbstractSet[str]) -> tuple[list[Event], bool]:
        """Returns (events of `channels` after `number`, True if some were left out); O(events kept).

        Left out is what has left the ring, and all but the latest per channel for who is too far behind.
        """
        is_lagging = self.number > number and (not self._events or self._events[0].number > number + 1)
        events = [event for event in self._events if event.number > number and event.channel in channels]
        if is_lagging or len(events) > self._backlog_max:
            latest = {event.channel: event for event in events}
            return sorted(latest.values(), key=lambda event: event.number), True
        return events, False

    def resume(self, last_event_id: str) -> int | None:
        """Reads a Last-Event-ID: the number to continue after, None if it is not of this incarnation.

        >>> Ring("a1", events_max=9, backlog_max=9).resume("a1-0"), Ring("a1", events_max=9, backlog_max=9).resume("b-3")
        (0, None)
        """
        incarnation, _, digits = last_event_id.rpartition("-")
        if incarnation != self.incarnation or not digits.isascii() or not digits.isdigit() or len(digits) > 16:
            return None
        number = int(digits)
        return number if number <= self.number else None
