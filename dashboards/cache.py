"""Answers that many browsers share: one call of the store per key and time, however many ask."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from functools import partial
from typing import Any, TypeVar

import anyio
import anyio.to_thread

from headwater.ports import Clock

T = TypeVar("T")


class SharedCalls:
    """Runs blocking calls in worker threads and keeps each answer for a while.

    Who asks while the same call runs waits for that one's answer. At most `entries_max` answers are kept.
    """

    def __init__(self, clock: Clock, *, threads_max: int, entries_max: int = 512) -> None:
        self._clock = clock
        self._threads_max = threads_max
        self._entries_max = entries_max
        self._limiter: anyio.CapacityLimiter | None = None
        self._answers: OrderedDict[Hashable, tuple[int, Any]] = OrderedDict()
        self._running: dict[Hashable, anyio.Event] = {}
        self.calls = 0

    async def get(self, key: Hashable, keep_us: int, call: Callable[..., T], *args: Any, **options: Any) -> T:
        """Returns an answer at most `keep_us` old; errors of `call` reach everyone who waits for it."""
        while True:
            found = self._answers.get(key)
            if found is not None and self._clock.monotonic_us() - found[0] < keep_us:
                answer: T = found[1]
                return answer
            running = self._running.get(key)
            if running is None:
                break
            await running.wait()
        done = self._running[key] = anyio.Event()
        try:
            answer = await self.run(call, *args, **options)
            self._answers[key] = (self._clock.monotonic_us(), answer)
            self._answers.move_to_end(key)
            while len(self._answers) > self._entries_max:
                self._answers.popitem(last=False)
            return answer
        finally:
            del self._running[key]
            done.set()

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
