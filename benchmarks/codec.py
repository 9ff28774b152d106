"""The frame codec on the simulator's 1 Hz fleet: bytes, encoding, decoding, Arrow; beside JSON in the same run.

CPU time of the process, median of several runs. `bytes_per_reading` counts whole payloads (names, identity, CRC).
"""

import json
import statistics
import time
import zlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from headwater.batch_arrow import batch_from_arrow, batch_to_arrow
from headwater.codec import decode_frame, encode_frame
from headwater.codec_batch import Arrival, decode_batch
from headwater.frame import Block, Frame, Ledger
from headwater.reasons import ClockQuality
from simulators.plant import Plant

START_US = 1_700_000_000_000_000
ROWS = 100
SMALL_ROWS = 10
SEED = 7
LATER_US = 3_600_000_000


def cut(plant: Plant, rows: int, frames_max: int) -> list[Frame]:
    """Frames of `rows` seconds of each machine's 1 Hz values, as an agent sends them raw."""
    frames = []
    for machine in plant.machines:
        span_us = rows * frames_max // len(plant.machines) * 1_000_000
        for block in plant.readings(machine, START_US + LATER_US, START_US + LATER_US + span_us):
            for start in range(0, len(block.time_us) - rows + 1, rows):
                part = slice(start, start + rows)
                quality = None if block.quality is None else np.ascontiguousarray(block.quality[:, part])
                piece = Block(block.metrics, block.time_us[part], np.ascontiguousarray(block.value[:, part]), quality)
                frames.append(
                    Frame(
                        machine.site,
                        machine.device,
                        (machine.index + 1) * 0x9E37_79B9_7F4A_7C15 % (1 << 64),
                        start // rows + 1,
                        int(piece.time_us[-1]) + 1_234,
                        ClockQuality.SYNCED,
                        blocks=(piece,),
                        ledger=Ledger(acquired=piece.reading_count),
                    )
                )
    return frames


def hundred(frame: Frame) -> Frame:
    """The frame with ten metrics: one hundred readings."""
    block = frame.blocks[0]
    source = np.arange(10) % len(block.metrics)
    names = tuple(f"{block.metrics[at]}{'' if place < len(block.metrics) else '_b'}" for place, at in enumerate(source))
    quality = None if block.quality is None else block.quality[source]
    return replace(frame, blocks=(Block(names, block.time_us, block.value[source], quality),))


def cpu_s(step: Callable[[], object], runs: int) -> float:
    taken = []
    for _ in range(runs):
        start = time.process_time()
        step()
        taken.append(time.process_time() - start)
    return statistics.median(taken)


def to_json(frame: Frame) -> bytes:
    """The peer: columns as JSON, deflated."""
    block = frame.blocks[0]
    data = {
        "site": frame.site,
        "device": frame.device,
        "epoch": str(frame.epoch),
        "seq": frame.seq,
        "ts": block.time_us.tolist(),
        "values": dict(zip(block.metrics, block.value.tolist(), strict=True)),
    }
    return zlib.compress(json.dumps(data, separators=(",", ":")).encode(), 6)


def from_json(payload: bytes) -> object:
    data = json.loads(zlib.decompress(payload))
    return np.array(data["ts"], np.int64), [np.array(column) for column in data["values"].values()]


def arrivals_of(frames: list[Frame], payloads: list[bytes]) -> list[Arrival]:
    return [
        Arrival(frame.site, frame.device, payload, frame.created_us + 50_000)
        for frame, payload in zip(frames, payloads, strict=True)
    ]


def run(*, quick: bool = False) -> dict[str, dict[str, float]]:
    runs = 3 if quick else 9
    plant = Plant(SEED, 16, start_us=START_US)
    frames = cut(plant, ROWS, 128 if quick else 512)
    readings = sum(frame.reading_count for frame in frames)
    payloads = [encode_frame(frame) for frame in frames]
    check_lossless(frames, payloads)
    arrivals = arrivals_of(frames, payloads)
    encode_s = cpu_s(lambda: [encode_frame(frame) for frame in frames], runs)
    decode_s = cpu_s(lambda: decode_batch(arrivals, shard=0, made_us=0), runs)
    one_by_one_s = cpu_s(lambda: [decode_frame(payload) for payload in payloads], runs)
    peers = [to_json(frame) for frame in frames]
    json_s = cpu_s(lambda: [from_json(payload) for payload in peers], runs)

    small = [hundred(frame) for frame in cut(plant, SMALL_ROWS, 256)]
    small_payloads = [encode_frame(frame) for frame in small]
    small_arrivals = arrivals_of(small, small_payloads)
    small_readings = sum(frame.reading_count for frame in small)
    small_s = cpu_s(lambda: decode_batch(small_arrivals, shard=0, made_us=0), 3 * runs)
    batch, rejects = decode_batch(small_arrivals, shard=0, made_us=0)
    assert not rejects
    record = batch_to_arrow(batch)
    write_s = cpu_s(lambda: batch_to_arrow(batch), 5 * runs)
    read_s = cpu_s(lambda: batch_from_arrow(record), 5 * runs)
    size, json_size = sum(map(len, payloads)) / readings, sum(map(len, peers)) / readings
    return {
        "figures": {
            "bytes_per_reading": size,
            "bytes_per_reading_100": sum(map(len, small_payloads)) / small_readings,
            "encode_readings_per_s_core": readings / encode_s,
            "decode_readings_per_s_core": readings / decode_s,
            "decode_one_by_one_readings_per_s_core": readings / one_by_one_s,
            "decode_us_per_frame_of_100": small_s / len(small) * 1e6,
            "arrow_write_us_per_frame_of_100": write_s / len(small) * 1e6,
            "arrow_read_us_per_frame_of_100": read_s / len(small) * 1e6,
            "arrow_bytes_per_reading": len(record) / small_readings,
            "frames": len(frames),
            "readings_per_frame": readings / len(frames),
        },
        "ratios": {
            "bytes_to_deflated_json": size / json_size,
            "decode_speed_to_deflated_json": json_s / decode_s,
            "bytes_to_limit_of_2": size / 2.0,
            "decode_speed_to_limit_of_5m": readings / decode_s / 5e6,
        },
    }


def check_lossless(frames: list[Frame], payloads: list[bytes]) -> None:
    """What is measured is lossless: every value and time comes back bit for bit."""
    for frame, payload in zip(frames, payloads, strict=True):
        block, decoded = frame.blocks[0], decode_frame(payload).blocks[0]
        there = np.ones(block.value.shape, bool) if block.quality is None else block.quality != 255
        assert block.value[there].tobytes() == decoded.value[there].tobytes()
        assert np.array_equal(block.time_us, decoded.time_us)


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
