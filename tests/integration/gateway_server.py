"""A real gateway on loopback in a thread of its own, with its log, for tests with real clients."""

import asyncio
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import mqtt5
import numpy as np
import pytest

from gateway.bridge import Gateway
from gateway.settings import GatewaySettings
from headwater import log_topics
from headwater.batch import Batch
from headwater.batch_arrow import batch_from_arrow
from headwater.codec import encode_frame
from headwater.frame import Block, Frame
from headwater.io.clock_system import SystemClock
from headwater.io.log_sqlite import SqliteLog
from headwater.ports import Frontiers, Log, LogRecord
from headwater.reasons import ClockQuality

T = TypeVar("T")
PARTITIONS = 4


def need(program: str) -> str:
    """The path of a program; without it the test is skipped, or fails under CI."""
    path = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin")
    if path is None and os.environ.get("CI") == "true":
        pytest.fail(f"{program} is missing: apt-get install mosquitto mosquitto-clients")
    if path is None:
        pytest.skip(f"{program} is not installed (Debian packages mosquitto and mosquitto-clients)")
    return path


def frame(seq: int, *, site: str = "north", device: str = "pump-1", epoch: int = 77, rows: int = 5) -> bytes:
    """A native frame made now."""
    now_us = time.time_ns() // 1_000
    block = Block(("a", "b"), now_us - 1_000_000 + np.arange(rows) * 1000, np.full((2, rows), float(seq)))
    return encode_frame(Frame(site, device, epoch, seq, now_us, ClockQuality.SYNCED, blocks=(block,)))


class Running:
    """A gateway that runs until the `with` block ends."""

    def __init__(
        self,
        folder: Path,
        *,
        frontiers: Frontiers | None = None,
        log: Log | None = None,
        wait: bool = True,
        **settings: Any,
    ) -> None:
        self._wait = wait
        self.log: Log = log or SqliteLog(folder / "log.db")
        table = GatewaySettings(**({"port": 0, "partitions": PARTITIONS} | settings))
        self.gateway = Gateway(table, self.log, SystemClock(), frontiers)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="gateway-loop")

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self.port = self.call(self.gateway.start())
            if self.gateway.where.startswith("mqtt") and self._wait:
                until(lambda: self.gateway.counters()["connections"])
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.call(self.gateway.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self.log.close()

    def records(self, log_topic: str) -> list[LogRecord]:
        return [r for partition in range(PARTITIONS) for r in self.log.read(log_topic, partition, 0, 100_000)]

    def batches(self) -> list[Batch]:
        return [batch_from_arrow(record.value) for record in self.records(log_topics.READINGS)]

    def seqs(self, device: str = "pump-1") -> list[int]:
        return seqs_of(self.log, device)


def seqs_of(log: Log, device: str) -> list[int]:
    """The seqs of one device's frames in a log, in order."""
    return [
        int(seq)
        for partition in range(PARTITIONS)
        for record in log.read(log_topics.READINGS, partition, 0, 100_000)
        for batch in [batch_from_arrow(record.value)]
        for at, seq in zip(batch.device, batch.seq, strict=True)
        if batch.devices[at][1] == device
    ]


def until(is_true: Callable[[], object], within_s: float = 40.0) -> None:
    """Waits for another thread or process to make something true."""
    end = time.monotonic() + within_s
    while not is_true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


class RawClient:
    """A socket that speaks MQTT 5 byte by byte, for what no library would say."""

    def __init__(self, port: int, client_id: str = "raw", *, connect: bool = True) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=40)
        self.buffer = b""
        if connect:
            self.socket.sendall(mqtt5.ConnectPacket(client_id, clean_start=True).write())
            got = self.next()
            assert isinstance(got, mqtt5.ConnAckPacket)
            assert got.reason_code == mqtt5.ConnAckReasonCode.SUCCESS

    def send(self, *packets: mqtt5.Packet | bytes) -> None:
        self.socket.sendall(b"".join(p if isinstance(p, bytes) else p.write() for p in packets))

    def next(self) -> mqtt5.Packet | None:
        """The next packet; None at the end of the connection."""
        while True:
            try:
                packet, size = mqtt5.read(memoryview(self.buffer))
            except IndexError:
                try:
                    data = self.socket.recv(65_536)
                except ConnectionError:
                    return None
                if not data:
                    return None
                self.buffer += data
            else:
                self.buffer = self.buffer[size:]
                return packet

    def close(self) -> None:
        self.socket.close()
