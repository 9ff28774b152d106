"""Gateway and processor in one process, over whatever log and store they are given; the embedded form stands on SQLite.

    MQTT ─▶ Gateway (asyncio, its own thread) ─▶ log.db ─▶ Processor (thread) ─▶ store.db ─▶ page (thread)
                 ▲                                                                   │
                 └────────────────────── durable frontiers ◀────────────────────────┘

The parts are the same objects that `headwater gateway`, `processor` and `page` run as processes of their own.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from cloud_processor.processor import Processor
from cloud_processor.settings import ProcessorSettings
from cloud_processor.sink import Sink
from gateway.bridge import Gateway
from gateway.settings import GatewaySettings
from headwater import log_topics
from headwater.errors import ConnectError
from headwater.io.clock_system import SystemClock
from headwater.io.store_sqlite_query import StoreReader
from headwater.ports import Checkpoints, KeptLog, KeptStore

Result = TypeVar("Result")
KEEP_EVERY_S = 30.0

_messages = logging.getLogger(__name__)


class LoopThread:
    """An asyncio loop in a thread of its own, for the parts that speak MQTT."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, Result], timeout_s: float | None = None) -> Result:
        """Runs a coroutine in the loop and waits for its result."""
        future: Future[Result] = asyncio.run_coroutine_threadsafe(work, self.loop)
        return future.result(timeout_s)

    def stop(self) -> None:
        """Ends the loop and its thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


class Pipeline:
    """Gateway, log, processor and store of one plant on one machine; it closes what it was given.

    With `is_sink` a cluster engine hosts the tasks, and only its results are written to the store here.
    """

    def __init__(
        self,
        gateway: GatewaySettings,
        processor: ProcessorSettings,
        *,
        log: KeptLog,
        store: KeptStore,
        checkpoints: Checkpoints,
        frontiers: StoreReader,
        reader: StoreReader,
        log_keep_us: int,
        is_sink: bool = False,
    ) -> None:
        self.clock = SystemClock()
        self.log, self.store, self.checkpoints = log, store, checkpoints
        self.reader, self._frontiers = reader, frontiers
        self.gateway = Gateway(gateway, self.log, self.clock, self._frontiers)
        self.processor: Processor | Sink
        ports, every_us = (self.log, self.store, self.checkpoints, self.clock), processor.pipeline_every_us
        if is_sink:
            self.processor = Sink(processor, *ports, tell_every_us=every_us)
        else:
            self.processor = Processor(processor, *ports, "embedded", tell_every_us=every_us)
        self.loop = LoopThread("gateway")
        self._log_keep_us = log_keep_us
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._turned = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> int:
        """Starts everything and returns the MQTT port."""
        port = self.loop.call(self.gateway.start())
        self._spawn("processor", lambda: self.processor.run(self._stop, self._turned.set))
        self._spawn("keeper", self._keep)
        return port

    def _keep(self) -> None:
        """Lets go of what is older than its retention, in slices, until the pipeline stops."""
        while not self._stop.wait(KEEP_EVERY_S):
            now_us = self.clock.now_us()
            try:
                self.store.retain(now_us)
                for log_topic in log_topics.ALL:
                    self.log.trim(log_topic, now_us - self._log_keep_us)
            except ConnectError as error:
                _messages.warning("old records stay for now: %s", error)

    def _spawn(self, name: str, work: Callable[[], object]) -> None:
        def guarded() -> None:
            try:
                work()
            except BaseException as error:
                # A stage that dies must end the process with its reason, not leave a pipeline that looks alive.
                self._failure = error
                raise

        thread = threading.Thread(target=guarded, name=name, daemon=True)
        thread.start()
        self._threads.append(thread)

    def check(self) -> None:
        """Raises what ended a stage, if one ended."""
        failure = self._failure or self.gateway.failure
        if failure is not None:
            raise failure

    def has_turned(self) -> bool:
        """Tells whether the processor's loop has turned since the last call; waits until the gateway's has.

        So who calls it again and again hangs with the gateway, and hears of a processor that does.
        """
        self.loop.call(asyncio.sleep(0))
        has_turned = self._turned.is_set()
        self._turned.clear()
        return has_turned

    def counters(self) -> dict[str, Any]:
        """The stages' own counters, for the page and the status line."""
        return {"gateway": self.gateway.counters(), "processor": self.processor.counters()}

    def stop_stages(self) -> None:
        """Stops taking frames and lets the processor finish what the log holds; the reader still answers."""
        self.loop.call(self.gateway.stop())
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self.loop.stop()
        self.check()

    def close(self) -> None:
        """Closes log, store and checkpoints."""
        for part in (self.reader, self._frontiers, self.checkpoints, self.store, self.log):
            part.close()
