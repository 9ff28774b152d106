"""Flipped bytes and cut files: the spool always starts, never hands out a wrong byte, and declares what it lost."""

import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from edge_agent.pack import Draft, Lane
from edge_agent.spool import Spool
from edge_agent.spool_rows import Key
from headwater.frame import Block
from headwater.reasons import ClockQuality

NOW = 1_700_000_000_000_000
FRAMES = 60
FREED = 9


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, bytes], int]:
    """A spool file at rest with seqs 10 … 60 in it, their payloads and the epoch."""
    folder = tmp_path_factory.mktemp("whole")
    spool = Spool(folder / "spool.db", site="a", device="b", now_us=NOW)
    generator = np.random.default_rng(1)
    drafts = [
        Draft(
            NOW,
            ClockQuality.SYNCED,
            Lane.NORMAL,
            (Block(("m",), NOW + np.arange(n), np.round(generator.normal(size=(1, n)), 3)),),
        )
        for n in generator.integers(1, 400, FRAMES)
    ]
    spool.append(drafts, NOW)
    spool.acknowledge(spool.epoch, FREED, NOW)
    spool.settle(NOW)
    payloads = {row.key.seq: row.payload for row in spool.following(Lane.NORMAL, 0, 1 << 60, 1_000, NOW)}
    epoch = spool.epoch
    spool.close()
    assert len(payloads) == FRAMES - FREED
    return folder, payloads, epoch


def survive(folder: Path, payloads: dict[int, bytes], epoch: int) -> bool:
    """Opens, reads, appends; returns whether anything of the former epoch was lost (and declared)."""
    spool = Spool(folder / "spool.db", site="a", device="b", now_us=NOW)
    rows = [row for lane in Lane for row in spool.following(lane, 0, 1 << 60, 1_000, NOW)]
    rows += spool.strays(Key(0, 0), 1_000, NOW)
    held = set()
    for row in rows:
        assert row.key.epoch == epoch
        assert row.payload == payloads[row.key.seq], "a wrong byte was handed out"
        held.add(row.key.seq)
    declared: set[int] = set()
    stored, refused = spool.append([Draft(NOW, ClockQuality.SYNCED, Lane.NORMAL)], NOW)
    assert not refused
    for gap in stored[0].frame.gaps:
        if gap.epoch == epoch:
            declared |= set(range(gap.from_seq, (gap.to_seq or FRAMES) + 1))
    lost = payloads.keys() - held
    assert lost <= declared, f"lost without a declaration: {sorted(lost - declared)}"
    if spool.epoch == epoch:
        assert stored[0].frame.seq > FRAMES, "a seq of the same epoch was used again"
    spool.close()
    return bool(lost)


@pytest.mark.crash
def test_any_flipped_bytes_are_survived_and_declared(whole: tuple[Path, dict[int, bytes], int], tmp_path: Path) -> None:
    origin, payloads, epoch = whole
    size = (origin / "spool.db").stat().st_size
    chance = random.Random(3)
    losses = 0
    for turn in range(60):
        folder = tmp_path / str(turn)
        shutil.copytree(origin, folder)
        content = bytearray((folder / "spool.db").read_bytes())
        # Heads of pages hurt most: a third of the flips goes there.
        places = [
            chance.randrange(size)
            if chance.random() < 0.67
            else chance.randrange(size // 4096) * 4096 + chance.randrange(60)
            for _ in range(chance.choice((1, 1, 1, 8, 200)))
        ]
        for place in places:
            content[place] ^= 1 << chance.randrange(8)
        (folder / "spool.db").write_bytes(content)
        losses += survive(folder, payloads, epoch)
        shutil.rmtree(folder)
    assert losses, "the flips never hurt: the test tests nothing"


@pytest.mark.crash
def test_a_file_cut_anywhere_is_survived_and_declared(
    whole: tuple[Path, dict[int, bytes], int], tmp_path: Path
) -> None:
    origin, payloads, epoch = whole
    size = (origin / "spool.db").stat().st_size
    chance = random.Random(5)
    for turn, length in enumerate(
        [0, 1, 99, 100, 4095, 4096, 4097, size - 1, *(chance.randrange(size) for _ in range(20))]
    ):
        folder = tmp_path / str(turn)
        shutil.copytree(origin, folder)
        with (folder / "spool.db").open("r+b") as file:
            file.truncate(length)
        # The last page may be a free one, of which nothing is missed.
        assert survive(folder, payloads, epoch) or length == size - 1
        shutil.rmtree(folder)
