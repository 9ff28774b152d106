import json
import struct
import zlib

import numpy as np
import pytest

from headwater.frame import Block, Frame
from headwater.quality import MISSING
from headwater.reasons import ClockQuality
from simulators.ledger import Ledger, crc_of


def naive_crc(blocks):
    """docs/ledger.md, a reading at a time."""
    rows = {}
    for block in blocks:
        for i, metric in enumerate(block.metrics):
            for j, time_us in enumerate(block.time_us):
                quality = 0 if block.quality is None else int(block.quality[i, j])
                if quality != MISSING:
                    bits = struct.pack("<d", block.value[i, j])
                    rows.setdefault(metric.encode(), []).append(
                        (int(time_us), int.from_bytes(bits, "little"), quality, bits)
                    )
    data = b""
    for name in sorted(rows):
        some = sorted(rows[name], key=lambda row: row[:3])
        data += name + b"\0"
        data += b"".join(struct.pack("<q", row[0]) for row in some)
        data += b"".join(row[3] for row in some)
        data += bytes(row[2] for row in some)
    return zlib.crc32(data)


def random_blocks(seed):
    rng = np.random.default_rng(seed)
    blocks = []
    for _ in range(rng.integers(1, 4)):
        m, n = rng.integers(1, 4), rng.integers(1, 20)
        metrics = tuple(rng.choice(["a", "b", "aa", "flow/x", "Z"], m, replace=False).tolist())
        time_us = np.cumsum(rng.integers(1, 5, n)).astype(np.int64)
        value = np.round(rng.normal(size=(m, n)), 1)
        quality = rng.choice([0, 2, 65, MISSING], (m, n)).astype(np.uint8) if rng.random() < 0.7 else None
        blocks.append(Block(metrics, time_us, value, quality))
    return tuple(blocks)


@pytest.mark.parametrize("seed", range(30))
def test_the_crc_is_that_of_the_documented_bytes(seed):
    blocks = random_blocks(seed)
    assert crc_of(blocks) == naive_crc(blocks)


def test_the_crc_does_not_depend_on_how_readings_are_cut_into_blocks():
    time_us, value = np.arange(10), np.arange(20.0).reshape(2, 10)
    whole = Block(("b", "a"), time_us, value)
    parts = (
        Block(("a",), time_us[5:], value[1:, 5:]),
        Block(("b",), time_us, value[:1]),
        Block(("a",), time_us[:5], value[1:, :5]),
    )
    assert crc_of((whole,)) == crc_of(parts) != 0


def test_nothing_has_the_crc_zero():
    gone = Block(("a",), np.array([1]), np.array([[np.nan]]), np.array([[MISSING]], np.uint8))
    assert crc_of((gone,)) == crc_of(()) == 0


def frame(seq, blocks=()):
    return Frame("north", "pump-1", (1 << 63) + 5, seq, 0, ClockQuality.SYNCED, blocks=blocks)


def test_lines_are_on_disk_when_the_call_returns(tmp_path):
    ledger = Ledger(tmp_path)
    one = frame(1, random_blocks(1))
    ledger.offered(one, b"x")
    ledger.accepted(one, b"x")
    ledger.offered(frame(2), b"x")
    (path,) = tmp_path.iterdir()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(row["e"], row["seq"]) for row in rows] == [("offered", 1), ("accepted", 1), ("offered", 2)]
    assert rows[0] | {"e": ""} == rows[1] | {"e": ""}
    assert rows[0]["epoch"] == str((1 << 63) + 5)
    assert rows[0]["readings"] == one.reading_count
    assert rows[0]["crc"] == crc_of(one.blocks)
    ledger.close()


def test_every_process_has_a_file_of_its_own_and_a_torn_one_is_left_alone(tmp_path):
    torn = tmp_path / "ledger.1.1.jsonl"
    torn.write_bytes(b'{"e":"offe')
    ledger = Ledger(tmp_path)
    ledger.offered(frame(1), b"x")
    ledger.close()
    assert torn.read_bytes() == b'{"e":"offe'
    assert len(list(tmp_path.glob("*.jsonl"))) == 2
