"""What `scripts/fuzz.py` feeds: sample inputs, ways to damage them, and the decoders, each with its own errors."""

import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from fuzz_damage import Target, damage, damage_frame, damage_words, wild

from headwater.ack import Ack, parse_ack
from headwater.batch import Batch, DeadLetter, DeviceStatus
from headwater.batch_arrow import batch_from_arrow, batch_to_arrow
from headwater.batch_build import batch_from_frames
from headwater.codec import decode_frame, encode_frame
from headwater.codec_batch import Arrival, decode_batch
from headwater.errors import CorruptStateError
from headwater.frame import Anomaly, Block, Frame, Gap, Ledger
from headwater.location import Location
from headwater.point_columns import Column, Points, Schema
from headwater.reasons import ClockQuality, GapReason, Severity
from headwater.sparkplug_codec import SparkplugMetric, SparkplugPayload, decode_payload, encode_payload
from headwater.sparkplug_schema import DataType, PayloadMessage
from headwater.sparkplug_topic import HostState, SparkplugTopic, Verb, parse_state
from headwater.status import Status, parse_status
from headwater.summary import summarize

T0 = 1_700_000_000_000_000


def sample_frames() -> list[Frame]:
    """Frames that use every part of the format."""
    generator = np.random.default_rng(1)
    value = np.round(np.cumsum(generator.normal(0, 0.02, (3, 20)), axis=1) + 20, 2)
    names = ("flow", "pressure/in", "temp")
    steady = T0 + 1_000_000 * np.arange(20)
    quality = generator.choice(np.array([0, 0, 1, 65, 255], np.uint8), (3, 20))
    odd = value.copy()
    odd[0, 3], odd[1] = -0.0, generator.normal(size=20)
    odd[2] = value[2].astype(np.float32)
    uneven = T0 + np.cumsum(generator.integers(1, 5_000_000, 20))
    wave = Block(("v",), T0 + np.floor(np.arange(64) * 1e6 / 3200.0).astype(np.int64), odd[:1, :1] + np.ones((1, 64)))
    panes = summarize(
        names, np.repeat(np.arange(3, dtype=np.int32), 20), np.tile(steady, 3), value.ravel(), width_us=5_000_000,
        with_sketch=True,
    )  # fmt: skip
    anomaly = Anomaly("flow", T0, "level", Severity.WARNING, True, 1.5, 2.0, 1.0, 0.5, 1.5, "too high")
    gap = Gap(7, 3, 5, GapReason.SPOOL_FULL, 300, T0)
    base = Frame("north", "pump-1", 7, 3, T0, ClockQuality.SYNCED, 2, ledger=Ledger(60, 1, 2, {"overload": 3}))
    return [
        replace(base, blocks=(Block(names, steady, value),)),
        replace(base, blocks=(Block(names, uneven, odd, quality, ("raw", "swing:0.05", "burst")),)),
        replace(base, blocks=(replace(wave, rate_hz=3200.0), Block(names[:1], steady[:1], value[:1, :1]))),
        replace(base, summaries=panes, anomalies=(anomaly,), gaps=(gap,)),
        base,
    ]


def sample_batch() -> Batch:
    """A batch that uses every column."""
    batch = batch_from_frames([(frame, T0, 100) for frame in sample_frames()[:4]], shard=1, made_us=T0)
    letter = DeadLetter(T0, "schema", "gateway", "hw/1/a/b/frame", "why", "a", "b", 1, 2, 3, b"\0\1")
    status = DeviceStatus("a", "b", T0, online=True, location=Location(47.5, -8.25))
    return replace(batch, dead_letters=(letter,), statuses=(status,))


def run_batch(data: bytes) -> str:
    """A damaged frame between two good ones, which must both come through."""
    good = Arrival("north", "pump-1", GOOD, T0)
    batch, rejects = decode_batch([good, Arrival("north", "pump-1", data, T0), good], shard=0, made_us=T0)
    assert len(batch) in (2, 3), f"{len(batch)} frames of 3"
    assert batch.seq[0] == batch.seq[-1] == 3, "a good frame was lost"
    assert np.isfinite(batch.value).all()
    assert len(batch) == 3 or any(reject.index == 1 for reject in rejects), "a frame vanished"
    return str(rejects[0].reason) if rejects else "read"


GOOD = encode_frame(sample_frames()[0])


def frame_target() -> Target:
    return Target(decode_frame, [encode_frame(frame) for frame in sample_frames()], mutate=damage_frame)


def batch_target() -> Target:
    return Target(run_batch, [encode_frame(frame) for frame in sample_frames()], (), damage_frame)


def arrow_target() -> Target:
    batch = sample_batch()
    small = batch_from_frames([(sample_frames()[0], T0, 1)], shard=0, made_us=T0)
    seeds = [batch_to_arrow(batch), batch_to_arrow(small), batch_to_arrow(small, compression="lz4")]
    return Target(batch_from_arrow, seeds)


def ack_target() -> Target:
    acks = [Ack(7, 3, ((5, 6), (9, 9)), "store", "a1"), Ack((1 << 64) - 1, 0, (), "backbone", "")]
    return Target(parse_ack, [ack.to_json() for ack in acks])


def status_target() -> Target:
    metrics = {"flow": {"unit": "m3/h", "lo": 0, "hi": 10.5, "reduction": "raw"}}
    status = Status(online=True, epoch=7, assigned=3, metrics=metrics, location=Location(47.5, -8.25))
    return Target(parse_status, [status.to_json(), b'{"online":false}'])


def json_target() -> Target:
    from gateway.foreign_json import read_json  # noqa: PLC0415 - a part that may be absent is skipped, not required

    seeds = [
        b'{"flow": 1.5, "temp": -3}',
        b'{"ts": 1700000000000, "values": {"flow": 1.5}}',
        b'[{"ts": 1700000000, "values": {"a": true}}, {"b": 1e3}]',
        b'[{"bn": "urn:dev:x:", "bt": 1.7e9, "n": "t", "u": "Cel", "v": 23.1}, {"n": "h", "t": 1, "v": 67}]',
    ]
    return Target(lambda data: read_json(data, "north", "pump-1", T0), seeds)


def sparkplug_seeds() -> list[bytes]:
    types = (DataType.INT8, DataType.UINT32, DataType.INT64, DataType.FLOAT, DataType.DOUBLE, DataType.BOOLEAN)
    fields = ("int_value", "int_value", "long_value", "float_value", "double_value", "boolean_value")
    metrics = tuple(
        SparkplugMetric(f"m{at}", at, T0 // 1_000, datatype, at, field, unit="bar" if at else "")
        for at, (datatype, field) in enumerate(zip(types, fields, strict=True))
    )
    text = SparkplugMetric("label", 9, None, DataType.STRING, "x", "string_value")
    control = SparkplugMetric("bdSeq", None, None, DataType.INT64, 3, "long_value")
    by_alias = tuple(replace(metric, name="", datatype=DataType.UNKNOWN) for metric in metrics)
    return [
        encode_payload(SparkplugPayload(T0 // 1_000, 0, (*metrics, text, control))),
        encode_payload(SparkplugPayload(T0 // 1_000, 1, by_alias)),
        encode_payload(SparkplugPayload(T0 // 1_000, 255, (replace(metrics[3], is_historical=True),))),
        encode_payload(SparkplugPayload(None, None, (replace(metrics[0], is_null=True),))),
    ]


def damage_sparkplug(draw: random.Random, seeds: list[bytes]) -> bytes:
    """A damaged payload, or a sound one with wild fields."""
    if draw.random() < 0.3:
        return damage(draw, seeds)
    message = PayloadMessage.FromString(draw.choice(seeds))
    for _ in range(draw.choice((1, 1, 2, 5))):
        wild(draw, message)
    return bytes(message.SerializeToString())


def sparkplug_target() -> Target:
    from gateway.sparkplug_node import Arrived, SparkplugNode, Taken  # noqa: PLC0415

    node = SparkplugNode[None](1, Counter())

    def run(data: bytes) -> str:
        """A payload as birth, as data and as death of one node; whatever it holds, every metric is accounted for."""
        payload = decode_payload(data)
        taken = 0
        for verb in (Verb.NBIRTH, Verb.NDATA, Verb.DBIRTH, Verb.DDATA, Verb.NDEATH):
            topic = SparkplugTopic(verb, "g", "n", "d" if verb.is_of_device else "")
            out = node.take(Arrived(topic, payload, T0, data[-16:] + verb.encode(), None)) + node.due(T0 + 10)
            for one in out:
                if isinstance(one, Taken):
                    taken += 1
                    values = one.values
                    refused = sum(number for number, _ in values.refused.values())
                    assert values.count == values.reading_count + values.left_out.total() + refused, values
        assert taken == 5, f"{taken} messages of 5 came out"
        return "read"

    return Target(run, sparkplug_seeds(), mutate=damage_sparkplug)


def sparkplug_state_target() -> Target:
    return Target(parse_state, [HostState(online=True, time_ms=5).to_json(), b'{"online": false, "timestamp": 9}'])


def home_assistant_target() -> Target:
    from gateway.home_assistant_config import DiscoveryTopic, parse_config, value_of  # noqa: PLC0415

    def run(data: bytes) -> str:
        entity = parse_config(DiscoveryTopic("sensor", "porch", "temp"), data)
        value_of(entity.path, data, {"a": {"b": 1}})
        return "read"

    seeds = [
        b'{"state_topic": "a/b", "value_template": "{{ value_json.a[\'b\'] }}", "unit_of_measurement": "V"}',
        b'{"~": "a", "stat_t": "~/s", "val_tpl": "{{ value }}", "avty_t": "~/lwt", "pl_avail": "up"}',
    ]
    return Target(run, seeds)


def mqtt_seeds() -> list[bytes]:
    packets = (
        "101000044d5154540402003c000470756d70",  # CONNECT 3.1.1
        "101100044d5154540502003c00000470756d70",  # CONNECT 5
        "320d0003612f62000a00" + b"hello".hex(),  # PUBLISH
        "820800010003612f6201",  # SUBSCRIBE
        "8209000100000003612f6201",
        "4002000a",
        "c000",
        "e000",
    )
    return [bytes.fromhex(packet) for packet in packets]


def _publish(data: bytes, end: int, *, is_mqtt5: bool) -> object:
    from gateway.publish import read_publish, topic_text  # noqa: PLC0415

    return topic_text(read_publish(data, 0, end, is_mqtt5=is_mqtt5).mqtt_topic)


def mqtt311_target() -> Target:
    from gateway import mqtt311, wire  # noqa: PLC0415

    def run(data: bytes) -> object:
        end = wire.packet_end(data, 0, 1 << 20)
        if not end:
            return "incomplete"
        return (
            _publish(data, end, is_mqtt5=False)
            if data[0] >> 4 == wire.PUBLISH
            else mqtt311.read(memoryview(data)[:end])
        )

    return Target(run, mqtt_seeds(), (ValueError, IndexError))  # What the session takes for a bad packet.


def mqtt5_target() -> Target:
    from gateway import wire  # noqa: PLC0415

    def run(data: bytes) -> object:
        end = wire.packet_end(data, 0, 1 << 20)
        if not end:
            return "incomplete"
        return (
            _publish(data, end, is_mqtt5=True)
            if data[0] >> 4 == wire.PUBLISH
            else wire.check_mqtt5(memoryview(data)[:end])
        )

    return Target(run, mqtt_seeds(), (ValueError, IndexError))  # What the session takes for a bad packet.


def varint_target() -> Target:
    from headwater.io.store_sqlite_blob import from_varints, to_varints  # noqa: PLC0415

    data, _ = to_varints(np.array([0, -1, 300, 1 << 40], np.int64))
    return Target(from_varints, [data], (CorruptStateError,))


def influxql_target() -> Target:
    from dashboards.influxql.engine import Engine  # noqa: PLC0415
    from dashboards.influxql.errors import ParseError  # noqa: PLC0415
    from dashboards.influxql.points import Budget  # noqa: PLC0415

    engine = Engine(OnePoint(), "headwater", lambda: Budget(10_000, 10_000, 100, lambda: False))
    seeds = [
        b'SELECT mean("value") FROM telemetry WHERE device =~ /^(a|b.*)$/ AND time > now() - 1h GROUP BY time(10s), * fill(0)',
        b"SELECT derivative(max(value), 1s) * 2 AS x FROM headwater..telemetry WHERE time >= 5s AND time < 50s GROUP BY time(10s)",
        b"SELECT value, device::tag FROM /tele.*/ WHERE (metric = 'c' OR value + 1 > 2.5) ORDER BY time DESC LIMIT 5 tz('UTC')",
        b"SELECT top(x, 2) FROM (SELECT last(value) AS x FROM telemetry GROUP BY device); SHOW SERIES",
        b"SHOW TAG VALUES FROM telemetry WITH KEY IN (site, \"device\") WHERE site != 'x' LIMIT 3",
    ]

    def run(data: bytes) -> object:
        text = data.decode("utf-8", "replace")
        found = engine.answer(text, database="headwater", epoch="ms", now_ns=60 * 10**9)
        json.dumps(found, allow_nan=False)
        return "+".join(
            sorted({next(key for key in ("error", "series", "statement_id") if key in one) for one in found["results"]})
        )

    return Target(run, seeds, (ParseError,), damage_words)


class OnePoint:
    """A point reader for the InfluxQL engine that has one point."""

    def schemas(self) -> dict[str, Schema]:
        return {"telemetry": Schema(("site", "device", "metric"), {"value": "float"})}

    def series(self, _measurement: str, _series_max: int) -> list[tuple[str, ...]]:
        return [("a", "b", "c")]

    def points(self, _name: str, _series: Any, fields: Any, start_ns: int, end_ns: int, _take: Any) -> Points:
        times = [at for at in (20 * 10**9,) if start_ns <= at <= end_ns]
        column = Column("float", np.ones(len(times)), np.ones(len(times), np.bool_))
        return Points(np.zeros(len(times), np.int64), np.array(times, np.int64), dict.fromkeys(fields, column))


TARGETS: dict[str, Callable[[], Target]] = {
    "frame": frame_target,
    "decode_batch": batch_target,
    "arrow": arrow_target,
    "ack": ack_target,
    "status": status_target,
    "json": json_target,
    "mqtt311": mqtt311_target,
    "mqtt5": mqtt5_target,
    "varints": varint_target,
    "influxql": influxql_target,
    "sparkplug": sparkplug_target,
    "sparkplug_state": sparkplug_state_target,
    "home_assistant": home_assistant_target,
}
