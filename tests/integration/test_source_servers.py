"""The sources mqtt and modbus against servers on loopback."""

import asyncio
import json

import pytest
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice
from toy_broker import ToyBroker, until

from edge_agent.sources.modbus import ModbusSource
from edge_agent.sources.mqtt_json import MqttSource
from headwater.errors import ConnectError
from headwater.io.clock_system import SystemClock
from headwater.testing import ManualClock

pytestmark = pytest.mark.integration


def test_messages_of_a_broker_become_readings_and_a_cut_cable_is_told():
    async def scene():
        clock = SystemClock()
        async with ToyBroker() as broker:
            source = MqttSource({"url": f"mqtt://127.0.0.1:{broker.port}"}, clock)
            source.open()
            blocks = []

            def comes(count):
                blocks.extend(source.read(clock.now_us()))
                return len(blocks) >= count

            await until(lambda: comes(0) and broker.connects == 1)
            # The subscription is on its way when the connection is up; what is sent after some reads arrives.
            for _ in range(20):
                source.read(clock.now_us())
                await asyncio.sleep(0.005)
            for value in range(50):
                broker.send("zigbee2mqtt/kitchen", json.dumps({"temperature": value, "contact": True}).encode())
            await until(lambda: comes(50))
            assert [block.value[0, 0] for block in blocks] == list(range(50))
            assert blocks[0].metrics == ("kitchen/temperature", "kitchen/contact")
            times = [int(block.time_us[0]) for block in blocks]
            assert times == sorted(set(times))
            broker.cut()
            with pytest.raises(ConnectError):
                await until(lambda: comes(51), seconds=5)
            source.close()

    asyncio.run(scene())


def test_a_modbus_device_is_read_and_its_loss_is_told():
    async def scene():
        holding = [SimData(0, values=[215, 65_533, 1, 4_464], datatype=DataType.REGISTERS)]
        bits = [SimData(0, values=[True] * 16, datatype=DataType.BITS)]
        device = SimDevice(1, simdata=(bits, bits, holding, holding))
        server = ModbusTcpServer(device, address=("127.0.0.1", 0))
        await server.serve_forever(background=True)
        port = server.transport.sockets[0].getsockname()[1]
        registers = [
            {"metric": "temperature", "address": 0, "scale": 0.1},
            {"metric": "offset", "address": 1, "type": "i16"},
            {"metric": "total", "address": 2, "type": "u32"},
        ]
        clock = ManualClock()
        source = ModbusSource({"url": f"tcp://127.0.0.1:{port}", "registers": registers}, clock)
        await asyncio.to_thread(source.open)
        (block,) = await asyncio.to_thread(source.read, clock.now_us())
        assert block.value[:, 0].tolist() == [21.5, -3, 70_000]
        await server.shutdown()
        clock.advance(2_000_000)
        with pytest.raises(ConnectError):
            await asyncio.to_thread(source.read, clock.now_us())
        with pytest.raises(ConnectError):
            await asyncio.to_thread(source.open)
        source.close()

    asyncio.run(scene())
