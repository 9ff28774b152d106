"""The live stream: what a browser gets at first, after a break, and when it reads too slowly."""

import json
from contextlib import aclosing

import anyio
import pytest
from asgi_calls import Page
from hypothesis import given
from hypothesis import strategies as st

from dashboards.events import channels_of, stream
from dashboards.ring import Ring


def parsed(chunk: bytes) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in chunk.decode().strip().splitlines())


async def read(page: Page, channels: str, count: int, last: str = "", ticks: int = 1) -> list[dict[str, str]]:
    """The first `count` chunks of a stream while the feed ticks."""
    found: list[dict[str, str]] = []
    async with aclosing(stream(page.app.state.feed, channels_of(channels), last, ping_us=60_000_000)) as chunks:
        found.append(parsed(await anext(chunks)))
        for _ in range(ticks):
            page.clock.advance(1_000_000)
            await page.app.state.feed.tick()
        while len(found) < count:
            found.append(parsed(await anext(chunks)))
    return found


def test_a_new_browser_is_greeted_and_then_gets_each_channel() -> None:
    chunks = anyio.run(read, Page(), "fleet,pipeline,device/harbour/pump-01", 4)
    assert [chunk["event"] for chunk in chunks] == ["hello", "fleet", "pipeline", "device"]
    assert json.loads(chunks[0]["data"])["resumed"] is False
    device = json.loads(chunks[3]["data"])
    assert device["row"]["device"] == "pump-01"
    assert len(device["series"]["vibration_rms_mms"]["time_us"]) > 5


def test_ids_grow_by_one_and_name_the_incarnation() -> None:
    page = Page()
    chunks = anyio.run(read, page, "pipeline", 4, "", 3)
    ids = [chunk["id"].rpartition("-") for chunk in chunks[1:]]
    assert [int(number) for *_, number in ids] == [1, 2, 3]
    assert {name for name, *_ in ids} == {page.app.state.feed.ring.incarnation}


def test_a_browser_that_comes_back_gets_what_it_missed() -> None:
    page = Page()

    async def twice() -> tuple[list[dict[str, str]], list[dict[str, str]]]:
        first = await read(page, "pipeline", 2)
        for number in range(3):
            page.app.state.feed.ring.append("pipeline", f'"missed {number}"')
        return first, await read(page, "pipeline", 4, first[-1]["id"], 0)

    _, again = anyio.run(twice)
    assert json.loads(again[0]["data"])["resumed"] is True
    assert [json.loads(chunk["data"]) for chunk in again[1:]] == ["missed 0", "missed 1", "missed 2"]


def test_an_id_of_another_incarnation_begins_anew() -> None:
    chunks = anyio.run(read, Page(), "pipeline", 1, "dead-99", 0)
    assert json.loads(chunks[0]["data"])["resumed"] is False


def test_a_slow_browser_is_told_and_gets_the_latest_only() -> None:
    page = Page(backlog_max=4)

    async def lag() -> list[dict[str, str]]:
        feed = page.app.state.feed
        async with aclosing(stream(feed, channels_of("pipeline"), "", ping_us=60_000_000)) as chunks:
            await anext(chunks)
            for number in range(20):
                feed.ring.append("pipeline", str(number))
            return [parsed(await anext(chunks)), parsed(await anext(chunks))]

    skipped, latest = anyio.run(lag)
    assert skipped["event"] == "skipped"
    assert latest["data"] == "19"


def test_silence_is_broken_by_a_ping() -> None:
    async def wait() -> bytes:
        async with aclosing(stream(Page().app.state.feed, channels_of("fleet"), "", ping_us=1_000)) as chunks:
            await anext(chunks)
            return await anext(chunks)

    assert anyio.run(wait) == b": ping\n\n"


def test_a_closing_page_ends_its_streams() -> None:
    page = Page()

    async def close() -> list[bytes]:
        feed = page.app.state.feed
        async with aclosing(stream(feed, channels_of("fleet"), "", ping_us=60_000_000)) as chunks:
            await anext(chunks)
            async with anyio.create_task_group() as group:
                rest: list[bytes] = []

                async def drain() -> None:
                    rest.extend([chunk async for chunk in chunks])

                group.start_soon(drain)
                await anyio.wait_all_tasks_blocked()
                feed.close()
            return rest

    assert anyio.run(close) == []


def test_only_channels_with_listeners_are_read_and_many_browsers_cost_one_call() -> None:
    page = Page()
    asked = []
    accounts = page.plant.accounts
    page.plant.accounts = lambda: asked.append(1) or accounts()

    async def many() -> None:
        feed = page.app.state.feed
        await feed.tick()
        assert not asked
        for _ in range(20):
            feed.listen(frozenset({"pipeline"}))
        await feed.tick()

    anyio.run(many)
    assert len(asked) == 1
    assert page.app.state.feed.ring.number == 1


def test_a_channel_that_nobody_hears_any_more_is_read_for_a_while_and_then_forgotten() -> None:
    page = Page()
    chunks = anyio.run(read, page, "device/harbour/pump-01", 2)
    feed = page.app.state.feed
    anyio.run(feed.tick)
    before = feed.ring.number
    assert (before, feed.stream_count) == (2, 0)
    page.clock.advance(30_000_000)
    anyio.run(feed.tick)
    assert feed.ring.number == before
    late = anyio.run(read, page, "device/harbour/pump-01", 1, chunks[-1]["id"], 0)
    assert json.loads(late[0]["data"])["resumed"] is False


def test_streams_are_bounded() -> None:
    page = Page(streams_max=1)
    page.app.state.feed.listen(frozenset({"fleet"}))
    answer = page.get("/api/v1/events?channels=fleet")
    assert answer.status == 503
    assert "too many live streams" in answer.message


def test_new_anomalies_are_told_once() -> None:
    page = Page()

    async def watch() -> list[dict[str, str]]:
        feed = page.app.state.feed
        feed.listen(frozenset({"anomalies"}))
        await feed.tick()
        page.plant.inject("harbour", "pump-01", "", "spike", 1.0, 60_000_000)
        for _ in range(3):
            page.clock.advance(2_000_000)
            await feed.tick()
        return [json.loads(event.data) for event in feed.ring.since(0, {"anomalies"})[0]]

    events = anyio.run(watch)
    assert [len(event["rows"]) for event in events] == [1]


@given(
    appended=st.lists(st.sampled_from(["a", "b", "c"]), max_size=40),
    number=st.integers(0, 45),
    channels=st.sets(st.sampled_from(["a", "b", "c"])),
)
def test_a_ring_gives_all_that_was_missed_or_says_that_it_does_not(appended, number, channels) -> None:
    ring = Ring("x", events_max=10, backlog_max=5)
    events = [ring.append(channel, str(at)) for at, channel in enumerate(appended)]
    found, is_lagging = ring.since(number, channels)
    missed = [event for event in events if event.number > number and event.channel in channels]
    assert [event.number for event in found] == sorted(event.number for event in found)
    if not is_lagging:
        assert found == missed
    else:
        last = {event.channel: event for event in missed if event.number > len(events) - 10}
        assert found == sorted(last.values(), key=lambda event: event.number)


@pytest.mark.parametrize("text", ["x-1-2", "x-99", "y-1", "x-", "x-1e3", "x-٣", "", "x--1"])
def test_an_id_that_was_never_given_is_not_resumed(text: str) -> None:
    ring = Ring("x", events_max=10, backlog_max=5)
    ring.append("a", "1")
    assert ring.resume(text) is None
