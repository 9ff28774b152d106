"""Answers that browsers share: one call at a time per question, kept for a while, errors for everyone."""

import threading

import anyio
import pytest

from dashboards.cache import SharedCalls, gather
from headwater.errors import ConnectError
from headwater.testing import ManualClock


def test_who_asks_while_the_call_runs_waits_for_its_answer() -> None:
    calls = SharedCalls(ManualClock(), threads_max=4)
    gate, asked = threading.Event(), []

    def slow() -> int:
        asked.append(1)
        gate.wait(5)
        return len(asked)

    async def many() -> list[int]:
        async def release() -> None:
            await anyio.sleep(0.01)
            gate.set()

        return (await gather(*[lambda: calls.get("key", 1_000, slow)] * 8, release))[:8]

    assert anyio.run(many) == [1] * 8


def test_an_answer_is_kept_for_its_time_and_no_longer() -> None:
    clock = ManualClock()
    calls = SharedCalls(clock, threads_max=1)
    numbers = iter(range(9))

    async def ask() -> int:
        return await calls.get("key", 1_000, lambda: next(numbers))

    assert anyio.run(ask) == 0
    clock.advance(999)
    assert anyio.run(ask) == 0
    clock.advance(1)
    assert anyio.run(ask) == 1


def test_a_slow_answer_is_kept_for_three_times_as_long_as_it_took() -> None:
    clock = ManualClock()
    calls = SharedCalls(clock, threads_max=1)

    async def ask() -> None:
        await calls.get("key", 1_000, clock.advance, 500_000)

    anyio.run(ask)
    clock.advance(1_499_999)
    anyio.run(ask)
    assert calls.calls == 1
    clock.advance(1)
    anyio.run(ask)
    assert calls.calls == 2


def test_an_error_reaches_who_asked_and_is_not_kept() -> None:
    calls = SharedCalls(ManualClock(), threads_max=1)

    def away() -> None:
        raise ConnectError("away")

    async def ask(call) -> object:
        return await calls.get("key", 1_000, call)

    with pytest.raises(ConnectError):
        anyio.run(ask, away)
    assert anyio.run(ask, lambda: 7) == 7


def test_only_so_many_answers_are_kept() -> None:
    calls = SharedCalls(ManualClock(), threads_max=1, entries_max=2)

    async def ask() -> None:
        for key in (1, 2, 3, 3, 2, 1):
            await calls.get(key, 1_000, int)

    anyio.run(ask)
    assert calls.calls == 4
