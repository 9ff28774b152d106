"""The live stream of the page: one Server-Sent Events answer per browser, many channels in it (WHATWG HTML §9.2)."""

from collections.abc import AsyncIterator
from typing import Any

import anyio

from dashboards.feed import CHANNELS, Feed
from dashboards.parameters import BadRequestError
from dashboards.ring import Event
from dashboards.wire import json_text
from headwater.names import is_name

CHANNELS_MAX = 8
RETRY_MS = 1500


def channels_of(text: str) -> frozenset[str]:
    """Reads `channels=fleet,device/north/pump-1`.

    >>> sorted(channels_of("fleet,device/north/pump-1"))
    ['device/north/pump-1', 'fleet']

    Raises:
        BadRequestError: one is unknown, or there are none or too many.
    """
    channels = frozenset(filter(None, text.split(",")))
    for channel in channels - CHANNELS:
        parts = channel.split("/")
        if len(parts) != 3 or parts[0] != "device" or not is_name(parts[1]) or not is_name(parts[2]):
            raise BadRequestError(f"channels may be {', '.join(sorted(CHANNELS))} and device/SITE/DEVICE")
    if not 1 <= len(channels) <= CHANNELS_MAX:
        raise BadRequestError(f"channels must name 1 to {CHANNELS_MAX} channels")
    return channels


def encode_event(incarnation: str, event: Event) -> bytes:
    r"""Writes an event with its id; the data is one line of JSON.

    >>> encode_event("a1", Event(3, "device/n/p", "{}"))
    b'id: a1-3\nevent: device\ndata: {}\n\n'
    """
    kind = event.channel.partition("/")[0]
    return f"id: {incarnation}-{event.number}\nevent: {kind}\ndata: {event.data}\n\n".encode()


async def stream(feed: Feed, channels: frozenset[str], last_event_id: str, *, ping_us: int) -> AsyncIterator[bytes]:
    """Yields the stream: a hello, what was missed since `last_event_id`, then every event of `channels`.

    A browser that reads slowly holds back only its own stream: it gets `skipped` and then the latest event per
    channel. A ping every `ping_us` of silence keeps proxies from closing.
    """
    ring = feed.ring
    is_whole = feed.listen(channels)
    resumed = ring.resume(last_event_id) if last_event_id and is_whole else None
    number = ring.number if resumed is None else resumed
    hello: dict[str, Any] = {"incarnation": ring.incarnation, "resumed": resumed is not None}
    try:
        yield f"retry: {RETRY_MS}\nevent: hello\ndata: {json_text(hello)}\n\n".encode()
        while not feed.is_closing:
            events, is_lagging = ring.since(number, channels)
            number = ring.number
            if is_lagging:
                yield b"event: skipped\ndata: {}\n\n"
            for event in events:
                yield encode_event(ring.incarnation, event)
            if ring.number != number:
                continue
            with anyio.move_on_after(ping_us / 1e6) as scope:
                await feed.news()
            if scope.cancelled_caught:
                yield b": ping\n\n"
    finally:
        feed.leave(channels)
