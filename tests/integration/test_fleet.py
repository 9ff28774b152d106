import asyncio
import json

import pytest
from toy_broker import ToyBroker

from gateway.bridge import Gateway
from gateway.settings import GatewaySettings
from headwater import log_topics
from headwater.batch_arrow import batch_from_arrow
from headwater.codec import decode_frame
from headwater.errors import ConnectError, RejectedError, SettingsError
from headwater.io.clock_system import SystemClock
from headwater.io.log_memory import MemoryLog
from simulators.fleet import Fleet, encoded_frames, run_fleet
from simulators.network import NetworkConditions, NetworkEmulator
from simulators.plant import Plant
from simulators.settings import SimulatorSettings
from simulators.truth import from_lines

pytestmark = pytest.mark.integration


def settings(port, **options):
    options = {"devices": 6, "duration": "3s", "frames_every": "1s", "has_vibration": False, "drain": "20s"} | options
    return SimulatorSettings(gateway=f"mqtt://127.0.0.1:{port}", **options)


async def with_gateway(scenario, log=None):
    gateway = Gateway(GatewaySettings(port=0, ack_level="backbone"), log or MemoryLog(), SystemClock(), None)
    port = await gateway.start()
    try:
        await scenario(gateway, port)
    finally:
        await gateway.stop()


def ledger_rows(folder):
    return [json.loads(line) for path in folder.glob("*.jsonl") for line in path.read_text().splitlines()]


def test_every_frame_of_a_fleet_becomes_durable_and_is_in_the_ledger(tmp_path):
    async def scenario(_gateway, port):
        seen = []
        report = await run_fleet(settings(port, ledger=str(tmp_path), truth=str(tmp_path / "truth")), seen.append)
        assert report.is_clean
        assert (report.devices, report.connections, report.frames) == (6, 6, 18)
        assert report.readings_acked == report.readings > 18 * 7
        assert report.ack_p95_ms > 0.0
        assert seen
        rows = ledger_rows(tmp_path)
        offered = {(row["device"], row["seq"], row["crc"]) for row in rows if row["e"] == "offered"}
        accepted = {(row["device"], row["seq"], row["crc"]) for row in rows if row["e"] == "accepted"}
        assert offered == accepted
        assert len(accepted) == 18
        assert from_lines((tmp_path / "truth").read_text()).lives

    asyncio.run(with_gateway(scenario))


@pytest.mark.parametrize("connections", [0, 2])
def test_a_fleet_says_where_its_machines_stand(connections):
    log = MemoryLog()

    async def scenario(_gateway, port):
        assert (await run_fleet(settings(port, duration="1s", connections=connections))).is_clean

    asyncio.run(with_gateway(scenario, log))
    told = {
        (status.site, status.device): status.location
        for partition in range(12)
        for record in log.read(log_topics.READINGS, partition, 0, 1_000)
        for status in batch_from_arrow(record.value).statuses
        if status.online
    }
    plant = Plant(1, 6, start_us=0)
    assert told == {(machine.site, machine.device): machine.location for machine in plant.machines}


def test_devices_may_share_connections_and_frames_may_go_as_fast_as_they_are_taken():
    async def scenario(gateway, port):
        report = await run_fleet(settings(port, devices=80, connections=2, is_paced=False))
        assert report.is_clean
        assert (report.connections, report.frames) == (2, 240)
        assert gateway.counters()["admitted_frames"] >= 240

    asyncio.run(with_gateway(scenario))


def test_loss_duplicates_and_reordering_cost_time_and_no_frame():
    async def scenario(_gateway, port):
        emulator = NetworkEmulator("127.0.0.1", port, seed=3)
        bad = NetworkConditions(loss=0.2, duplicate=0.2, reorder=0.2, reorder_us=30_000)
        bad_port = await emulator.start_site("north-works", bad)
        report = await run_fleet(settings(bad_port, resend_after="400ms"))
        counters = emulator.counters()["north-works"]
        assert counters["lost"] > 0
        assert report.is_clean
        assert report.resent > 0
        await emulator.close()

    asyncio.run(with_gateway(scenario))


def test_a_cut_in_the_middle_is_survived():
    async def scenario(_gateway, port):
        emulator = NetworkEmulator("127.0.0.1", port)
        site_port = await emulator.start_site("north-works")
        task = asyncio.create_task(run_fleet(settings(site_port, resend_after="1s")))
        await asyncio.sleep(1.2)
        await emulator.set_site("north-works", NetworkConditions(is_online=False))
        await asyncio.sleep(0.5)
        await emulator.set_site("north-works", NetworkConditions())
        report = await task
        assert report.is_clean
        assert report.reconnects >= 6
        await emulator.close()

    asyncio.run(with_gateway(scenario))


def test_without_durable_acks_frames_wait_and_the_report_says_so():
    async def scenario():
        async with ToyBroker() as broker:
            report = await run_fleet(settings(broker.port, duration="1s", drain="300ms", devices=2))
            assert not report.is_clean
            assert report.waiting == report.frames == 2
            assert len(broker.published) >= 4

    asyncio.run(scenario())


def test_errors_say_what_is_wrong():
    async def scenario():
        async with ToyBroker(refuse=True) as broker:
            with pytest.raises(RejectedError):
                await run_fleet(settings(broker.port))
            port = broker.port
        with pytest.raises(ConnectError, match="no connection"):
            await run_fleet(settings(port, drain="300ms"))
        with pytest.raises(SettingsError, match="mqtt://"):
            Fleet(SimulatorSettings(gateway="http://example.org"))

    asyncio.run(scenario())


def test_prepared_frames_are_valid_and_the_same_every_time():
    start_us = 1_700_000_000_000_000
    plant = Plant(1, 4, start_us=start_us)
    frames = encoded_frames(plant, start_us, 120, 400)
    assert frames == encoded_frames(Plant(1, 4, start_us=start_us), start_us, 120, 400)
    assert len(frames) == 4 * 3
    decoded = [decode_frame(payload) for _, _, payload in frames]
    assert [frame.seq for frame in decoded] == [1] * 4 + [2] * 4 + [3] * 4
    assert [(frame.site, frame.device) for frame in decoded] == [(site, device) for site, device, _ in frames]
    per_device = sum(frame.reading_count for frame in decoded if frame.device == frames[0][1])
    assert per_device >= 8 * 120 - 60
