import asyncio
import time

import pytest
from toy_broker import ToyBroker, until

from headwater.errors import ConnectError
from headwater.io.mqtt5_client import Mqtt5Options, connect
from simulators.network import Change, NetworkConditions, NetworkEmulator

pytestmark = pytest.mark.integration
OPTIONS = Mqtt5Options("test", timeout_s=5.0)


def run(scenario, conditions=None):
    """Runs scenario(emulator, broker, port of site "north")."""

    async def whole():
        async with ToyBroker() as broker:
            emulator = NetworkEmulator("127.0.0.1", broker.port, seed=1)
            port = await emulator.start_site("north", conditions)
            try:
                await scenario(emulator, broker, port)
            finally:
                await emulator.close()

    asyncio.run(whole())


async def publish_many(port, count, **options):
    link = await connect("127.0.0.1", port, OPTIONS, **options)
    for n in range(count):
        await link.publish("a", n.to_bytes(2, "big"))
    return link


def numbers(broker):
    return [int.from_bytes(payload, "big") for _, payload in broker.published]


def test_a_good_network_changes_nothing():
    async def scenario(emulator, broker, port):
        link = await publish_many(port, 300)
        await until(lambda: len(broker.published) == 300 and link.in_flight == 0)
        assert numbers(broker) == list(range(300))
        counters = emulator.counters()["north"]
        assert (counters["lost"], counters["duplicated"], counters["reordered"]) == (0, 0, 0)
        await link.disconnect()

    run(scenario)


def test_a_lost_publish_is_gone_and_the_session_lives_on():
    async def scenario(emulator, broker, port):
        link = await publish_many(port, 500)
        lost = emulator.counters()["north"]["lost"]
        await until(lambda: len(broker.published) + emulator.counters()["north"]["lost"] == 500)
        lost = emulator.counters()["north"]["lost"]
        assert 50 < lost < 200
        await until(lambda: link.in_flight == lost)
        assert link.is_open
        assert numbers(broker) == sorted(numbers(broker))
        await link.disconnect()

    run(scenario, NetworkConditions(loss=0.2))


def test_a_duplicate_comes_twice_with_its_flag():
    async def scenario(emulator, broker, port):
        link = await publish_many(port, 200)
        await until(lambda: len(broker.published) == 200 + emulator.counters()["north"]["duplicated"])
        assert 50 < broker.duplicates == emulator.counters()["north"]["duplicated"] < 150
        assert set(numbers(broker)) == set(range(200))
        await link.disconnect()

    run(scenario, NetworkConditions(duplicate=0.5))


def test_a_reordered_publish_comes_behind_those_that_followed():
    async def scenario(emulator, broker, port):
        link = await publish_many(port, 200)
        await until(lambda: len(broker.published) == 200)
        assert emulator.counters()["north"]["reordered"] > 10
        assert numbers(broker) != sorted(numbers(broker))
        assert sorted(numbers(broker)) == list(range(200))
        await link.disconnect()

    run(scenario, NetworkConditions(reorder=0.2, reorder_us=50_000))


def test_a_delay_holds_packets_back_in_both_directions_and_in_order():
    async def scenario(_emulator, broker, port):
        begin_s = time.monotonic()
        link = await publish_many(port, 20)
        connected_s = time.monotonic() - begin_s
        assert connected_s >= 0.12
        await until(lambda: len(broker.published) == 20)
        assert numbers(broker) == list(range(20))
        await link.disconnect()

    run(scenario, NetworkConditions(delay_us=80_000, jitter_us=20_000))


def test_bandwidth_is_a_bound():
    async def scenario(_emulator, broker, port):
        link = await connect("127.0.0.1", port, OPTIONS)
        begin_s = time.monotonic()
        for _ in range(10):
            await link.publish("a", bytes(1_000))
        await until(lambda: len(broker.published) == 10)
        assert time.monotonic() - begin_s >= 0.25
        await link.disconnect()

    run(scenario, NetworkConditions(bandwidth_max_bytes=40_000))


def test_offline_cuts_and_refuses_and_online_brings_the_same_port_back():
    async def scenario(emulator, broker, port):
        link = await publish_many(port, 1)
        await until(lambda: broker.published)
        await emulator.set_site("north", NetworkConditions(is_online=False))
        await asyncio.wait_for(asyncio.shield(link.closed), 5.0)
        for _ in range(3):
            with pytest.raises(ConnectError):
                await connect("127.0.0.1", port, OPTIONS)
        await emulator.set_site("north", NetworkConditions())
        again = await publish_many(port, 1)
        await until(lambda: len(broker.published) == 2)
        assert emulator.counters()["north"]["cut"] == 1
        await again.disconnect()

    run(scenario)


def test_a_silent_network_keeps_the_connection_and_carries_nothing():
    async def scenario(emulator, broker, port):
        link = await connect("127.0.0.1", port, OPTIONS)
        await emulator.set_site("north", NetworkConditions(is_silent=True))
        await link.publish("a", b"x")
        await until(lambda: emulator.counters()["north"]["swallowed"] == 1)
        assert link.is_open
        assert broker.published == []
        await emulator.set_site("north", NetworkConditions())
        await link.publish("a", b"y")
        await until(lambda: broker.published)
        assert broker.published == [("a", b"y")]
        await link.disconnect()

    run(scenario)


def test_a_gateway_that_is_not_there_ends_the_connection_and_is_counted():
    async def scenario():
        async with ToyBroker() as broker:
            port_of_nobody = broker.port
        emulator = NetworkEmulator("127.0.0.1", port_of_nobody)
        port = await emulator.start_site("north")
        with pytest.raises(ConnectError):
            await connect("127.0.0.1", port, OPTIONS)
        assert emulator.counters()["north"]["refused_upstream"] == 1
        await emulator.close()

    asyncio.run(scenario())


def test_what_is_not_mqtt_is_cut_and_counted():
    async def scenario(emulator, _broker, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\x10\xff\xff\xff\xff\xff")
        ended = await asyncio.gather(reader.read(), return_exceptions=True)
        assert ended == [b""] or isinstance(ended[0], ConnectionError)
        await until(lambda: emulator.counters()["north"]["malformed"] == 1)
        writer.close()

    run(scenario)


def test_a_schedule_changes_the_network_at_its_times():
    async def scenario(emulator, _broker, _port):
        plan = [Change(60_000, "north", NetworkConditions()), Change(10_000, "north", NetworkConditions(loss=0.5))]
        task = asyncio.create_task(emulator.run_schedule(plan))
        await until(lambda: emulator.conditions("north").loss == 0.5)
        await task
        assert emulator.conditions("north") == NetworkConditions()

    run(scenario)


def test_a_switch_works_from_another_thread():
    async def scenario(emulator, _broker, port):
        await asyncio.to_thread(emulator.switch, "north", False)
        with pytest.raises(ConnectError):
            await connect("127.0.0.1", port, OPTIONS)
        await asyncio.to_thread(emulator.switch, "north", True)
        link = await connect("127.0.0.1", port, OPTIONS)
        await link.disconnect()

    run(scenario)
