import asyncio

import mqtt5
import pytest
from toy_broker import ToyBroker, until

from headwater.errors import ConnectError, RejectedError
from headwater.io.mqtt5_client import Mqtt5Options, connect

pytestmark = pytest.mark.integration
OPTIONS = Mqtt5Options("test", timeout_s=5.0)


def test_a_message_arrives_and_its_puback_is_reported():
    async def scenario():
        acked = []
        async with ToyBroker() as broker:
            link = await connect(
                "127.0.0.1", broker.port, OPTIONS, on_puback=lambda mid, code: acked.append((mid, code))
            )
            mid = await link.publish("a/b", b"hello")
            await until(lambda: acked)
            assert acked == [(mid, 0)]
            assert broker.published == [("a/b", b"hello")]
            assert link.in_flight == 0
            await link.disconnect()
            assert not link.is_open

    asyncio.run(scenario())


def test_no_more_is_in_flight_than_the_server_takes():
    async def scenario():
        async with ToyBroker(receive_max=5) as broker:
            broker.answers = False
            link = await connect("127.0.0.1", broker.port, OPTIONS)
            tasks = [asyncio.create_task(link.publish("a", bytes([n]))) for n in range(12)]
            await until(lambda: len(broker.published) == 5)
            await asyncio.sleep(0.05)
            assert len(broker.published) == 5
            assert link.in_flight == 5
            broker.answers = True
            for writer in broker._writers:
                for mid in broker.unacked:
                    writer.write(mqtt5.PubAckPacket(mid).write())
            await asyncio.gather(*tasks)
            await until(lambda: len(broker.published) == 12)
            assert [payload for _, payload in broker.published] == [bytes([n]) for n in range(12)]
            await link.disconnect()

    asyncio.run(scenario())


def test_a_subscription_delivers():
    async def scenario():
        got = []
        async with ToyBroker() as broker:
            link = await connect("127.0.0.1", broker.port, OPTIONS, on_message=lambda *message: got.append(message))
            await link.subscribe(["x/ack"])
            broker.send("x/ack", b"1")
            await until(lambda: got)
            assert got == [("x/ack", b"1")]
            await link.disconnect()

    asyncio.run(scenario())


def test_a_cut_wakes_everyone_who_waits():
    async def scenario():
        async with ToyBroker(receive_max=1) as broker:
            broker.answers = False
            link = await connect("127.0.0.1", broker.port, OPTIONS)
            await link.publish("a", b"1")
            waits = asyncio.create_task(link.publish("a", b"2"))
            await until(lambda: broker.published)
            broker.cut()
            with pytest.raises(ConnectError):
                await waits
            with pytest.raises(ConnectError):
                await link.publish("a", b"3")
            with pytest.raises(ConnectError):
                await link.subscribe(["a"])
            assert not link.is_open

    asyncio.run(scenario())


def test_a_refusal_and_a_closed_port_are_different_errors():
    async def scenario():
        async with ToyBroker(refuse=True) as broker:
            with pytest.raises(RejectedError, match="NOT_AUTHORIZED"):
                await connect("127.0.0.1", broker.port, OPTIONS)
            port = broker.port
        with pytest.raises(ConnectError):
            await connect("127.0.0.1", port, OPTIONS)

    asyncio.run(scenario())


def test_a_server_that_answers_no_ping_is_given_up():
    async def scenario():
        async with ToyBroker(keep_alive=1) as broker:
            link = await connect("127.0.0.1", broker.port, OPTIONS)
            broker.answers = False
            reason = await asyncio.wait_for(asyncio.shield(link.closed), 5.0)
            assert "PINGREQ" in reason

    asyncio.run(scenario())


def test_a_server_that_says_nothing_is_given_up_in_time():
    async def scenario():
        async def mute(reader, writer):
            await reader.read()
            writer.close()

        server = await asyncio.start_server(mute, "127.0.0.1", 0)
        with pytest.raises(ConnectError, match="did not accept"):
            await connect("127.0.0.1", server.sockets[0].getsockname()[1], Mqtt5Options("test", timeout_s=0.2))
        server.close()
        await asyncio.sleep(0.01)

    asyncio.run(scenario())


def test_bytes_that_are_not_mqtt_end_the_connection():
    async def scenario():
        async def liar(reader, writer):
            await reader.read(100)
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await reader.read()
            writer.close()

        server = await asyncio.start_server(liar, "127.0.0.1", 0)
        with pytest.raises(ConnectError):
            await connect("127.0.0.1", server.sockets[0].getsockname()[1], Mqtt5Options("test", timeout_s=1.0))
        server.close()
        await asyncio.sleep(0.01)

    asyncio.run(scenario())
