"""Answers that many browsers share: one call of the store per key and time, however many ask."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from functools import partial
from typing import Any, TypeVar

import anyio
import anyio.to_thread

from headwater.ports import Clock

T = TypeVar("T")
SLOWNESS = 3


class SharedCalls:
    """Runs blocking calls in worker threads and keeps each answer for a while.

    Who asks while the same call runs waits for that one's answer. At most `entries_max` answers are kept.
    """

    def __init__(self, clock: Clock, *, threads_max: int, entries_max: int = 512) -> None:
        self._clock = clock
        self._threads_max = threads_max
        self._entries_max = entries_max
        self._limiter: anyio.CapacityLimiter | None = None
        self._answers: OrderedDict[Hashable, tuple[int, int, Any]] = OrderedDict()
        self._running: dict[Hashable, anyio.Event] = {}
        self.calls = 0

    async def get(self, key: Hashable, keep_us: int, call: Callable[..., T], *args: Any, **options: Any) -> T:
        """Returns an answer at most `keep_us` old, or three times as old as it took to make, if that is longer.

        So a store that answers slowly is asked less often. Errors of `call` reach everyone who waits for it.
        """
        while True:
            found = self._answers.get(key)
            if found is not None and self._clock.monotonic_us() < found[0] + max(keep_us, found[1]):
                answer: T = found[2]
                return answer
            running = self._running.get(key)
            if running is None:
                break
            await running.wait()
        done = self._running[key] = anyio.Event()
        try:
            asked_us = self._clock.monotonic_us()
            answer = await self.run(call, *args, **options)
            answered_us = self._clock.monotonic_us()
            self._answers[key] = (answered_us, SLOWNESS * (answered_us - asked_us), answer)
            self._answers.move_to_end(key)
            while len(self._answers) > self._entries_max:
                self._answers.popitem(last=False)
            return answer
        finally:
            del self._running[key]
            done.set()

    def forget(self, key: Hashable) -> None:
        """Drops an answer that a command has made untrue."""
        self._answers.pop(key, None)

    async def run(self, call: Callable[..., T], *args: Any, **options: Any) -> T:
        """Runs a blocking call in a worker thread, at most `threads_max` at a time."""
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(self._threads_max)
        self.calls += 1
        return await anyio.to_thread.run_sync(partial(call, *args, **options), limiter=self._limiter)


async def gather(*calls: Callable[[], Awaitable[Any]]) -> list[Any]:
    """Awaits several calls at once and returns their answers in order; the first error cancels the others."""
    answers: list[Any] = [None] * len(calls)

    async def keep(index: int, call: Callable[[], Awaitable[Any]]) -> None:
        answers[index] = await call()

    async with anyio.create_task_group() as group:
        for index, call in enumerate(calls):
            group.start_soon(keep, index, call)
    return answers
