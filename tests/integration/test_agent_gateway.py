"""Agents on real paho connections over loopback against the gateway's own endpoint."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_agent.agent import Agent, AgentHost
from edge_agent.settings import AgentSettings
from gateway.bridge import Gateway
from gateway.settings import GatewaySettings
from headwater.frame import Block
from headwater.io.clock_system import SystemClock
from headwater.io.log_sqlite import SqliteLog
from headwater.metric import Metric

pytestmark = [pytest.mark.integration, pytest.mark.enable_socket]
WAIT_S = 15.0


class Ticks:
    """A source with a reading for every call."""

    metrics = (Metric("m", every_us=20_000),)
    is_exhausted = False

    def open(self) -> None:
        self.is_open = True

    def read(self, now_us: int) -> list[Block]:
        return [Block(("m",), np.array([now_us]), np.array([[float(now_us % 1_000)]]))]

    def close(self) -> None:
        self.is_open = False


class Server:
    """The gateway in a thread of its own."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.log = SqliteLog(folder / "log.db")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        settings = GatewaySettings(port=port, ack_level="backbone")
        self.gateway = Gateway(settings, self.log, SystemClock(), None)
        self.port = asyncio.run_coroutine_threadsafe(self.gateway.start(), self._loop).result(WAIT_S)

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self.gateway.stop(), self._loop).result(WAIT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self.log.close()


def settings(port: int) -> AgentSettings:
    return AgentSettings(
        gateway=f"mqtt://127.0.0.1:{port}",
        sample_every="20ms",
        flush_every="50ms",
        reconnect_min="50ms",
        reconnect_max="200ms",
    )


def eventually(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.02)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Callable[[int, int], tuple[list[Agent], AgentHost]]]:
    stop = threading.Event()
    threads: list[threading.Thread] = []

    def make(count: int, port: int) -> tuple[list[Agent], AgentHost]:
        agents = [
            Agent("site", f"d{number}", Ticks(), settings(port), SystemClock(), tmp_path / f"{number}.db")
            for number in range(count)
        ]
        host = AgentHost(agents, drain_max_us=200_000)
        threads.append(threading.Thread(target=host.run, args=(stop,), daemon=True))
        threads[-1].start()
        return agents, host

    yield make
    stop.set()
    for thread in threads:
        thread.join(WAIT_S)


def test_many_agents_in_one_thread_send_and_are_freed_by_the_durable_ack(tmp_path: Path, fleet) -> None:
    server = Server(tmp_path)
    agents, _ = fleet(8, server.port)
    eventually(lambda: all(agent.counters()["acks"] > 3 for agent in agents), "acks for every agent")
    for agent in agents:
        eventually(lambda agent=agent: agent.spool.buffered < 20, "the spool stays short")
        assert agent.counters()["online"]
        assert agent.counters()["connects"] == 1
        assert agent.counters()["acks_beyond"] == 0
    server.stop()


def test_a_gateway_that_is_away_loses_nothing_and_is_found_again(tmp_path: Path, fleet) -> None:
    server = Server(tmp_path)
    (agent,), _ = fleet(1, server.port)
    eventually(lambda: agent.counters()["acks"] > 2, "the first acks")
    port = server.port
    server.stop()
    eventually(lambda: agent.spool.buffered > 10, "a backlog")
    assert not agent.counters()["online"]
    server = Server(tmp_path, port)
    eventually(lambda: agent.counters()["online"] and agent.spool.buffered < 10, "the backlog is gone")
    assert agent.counters()["spool_given_up"] == 0
    server.stop()


def test_a_cut_network_is_a_lost_connection_for_the_gateway_and_mends(tmp_path: Path, fleet) -> None:
    server = Server(tmp_path)
    (agent,), _ = fleet(1, server.port)
    eventually(lambda: agent.counters()["online"], "online")
    agent.set_network(is_up=False)
    eventually(lambda: server.gateway.counters()["devices_online"] == 0, "the will")
    eventually(lambda: agent.spool.buffered > 5, "a backlog")
    agent.set_network(is_up=True)
    eventually(lambda: agent.counters()["online"] and agent.spool.buffered < 10, "the backlog is gone")
    server.stop()


def test_nobody_at_the_address_is_tried_again_without_stopping_the_samples(tmp_path: Path, fleet) -> None:
    (agent,), _ = fleet(1, 1)
    eventually(lambda: agent.counters()["connect_failures"] >= 3, "attempts")
    assert agent.counters()["sampled"] > 3
    assert "127.0.0.1:1" in agent.uplink.counters.last_error
