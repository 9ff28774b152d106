"""The job that Apache Flink runs (`flink run -py job.py SETTINGS.json`): Kafka to Kafka, a task per shard in Python.

    headwater.readings ─▶ frame, mark (Java) ─▶ by shard ─▶ ShardFunction (Python) ─▶ headwater.results
                                                              state: its snapshot at each mark

Settings are one JSON object; `headwater.io.flink_job` writes it. All that a record needs of Headwater is imported by the Python
workers: its core, cloud_processor, numpy and pyarrow.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyflink.common import Types
from pyflink.datastream import DataStream, KeyedProcessFunction, KeyedStream, RuntimeContext, StreamExecutionEnvironment
from pyflink.datastream.state import ValueStateDescriptor
from pyflink.java_gateway import get_gateway

FRAME_TYPE = Types.PRIMITIVE_ARRAY(Types.BYTE())


class ShardFunction(KeyedProcessFunction):  # type: ignore[misc]  # PyFlink has no types here.
    """Hosts the tasks of the shards that Flink gives to this worker.

    Tasks live in the worker's memory; Flink gets their snapshots right in front of a checkpoint's barrier, which the Java
    side marks with an empty frame, and gives them back to a new worker.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._hosts: dict[int, Any] = {}
        self._state: Any = None

    def open(self, runtime_context: RuntimeContext) -> None:
        """Makes ready for records."""
        from headwater.io.memory_glibc import keep_memory  # noqa: PLC0415 — only workers need it.

        keep_memory()
        self._state = runtime_context.get_state(ValueStateDescriptor("task", Types.PICKLED_BYTE_ARRAY()))
        self._hosts = {}

    def process_element(self, value: bytes, ctx: KeyedProcessFunction.Context) -> Iterator[bytes]:
        """Steps a framed record and gives its framed results; hands state over at a mark."""
        key = ctx.get_current_key()
        if not value:
            self._state.update(self._hosts[key].snapshot())
            return
        frame = bytes(value)
        if key not in self._hosts:
            self._hosts[key] = self._host(frame)
        yield from self._hosts[key].step_frame(frame)

    def _host(self, frame: bytes) -> Any:
        from cloud_processor.flink_host import host_for  # noqa: PLC0415 — only workers need it.

        host = host_for(self._settings, frame)
        data = self._state.value()
        if data is not None:
            host.restore(data)
        return host


def main() -> None:
    """Builds the job and hands it to Flink."""
    settings = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    environment = StreamExecutionEnvironment.get_execution_environment()
    environment.set_parallelism(settings["parallelism"])
    environment.set_max_parallelism(settings["max_parallelism"])
    environment.add_jars(*settings["jars"])
    streams = get_gateway().jvm.headwater.flink.Streams
    readings = KeyedStream(
        streams.readings(
            environment._j_stream_execution_environment,
            settings["servers"],
            settings["readings"],
            settings["incarnation"],
            settings["consumer"],
            settings["partitions"],
            settings["max_parallelism"],
        ),
        FRAME_TYPE,
        None,
    )
    results: DataStream = readings.process(ShardFunction(settings["host"]), FRAME_TYPE).name("shards").uid("shards")
    streams.results(results._j_data_stream, settings["servers"], settings["results"], settings["producer"])
    environment.execute(settings["name"])


if __name__ == "__main__":
    main()
