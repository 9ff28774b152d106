"""SIGKILL at random moments while frames are committed: what was told as accepted is there, and no seq comes twice."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge_agent.pack import Lane
from edge_agent.spool import Spool
from headwater.codec import decode_frame

ROUNDS = 6
NOW = 1_700_000_000_000_000

# Commits without end; writes a line after each commit, frees a part now and then.
CHILD = """
import sys
import numpy as np
from edge_agent.pack import Draft, Lane
from edge_agent.spool import Room, Spool
from headwater.frame import Block
from headwater.reasons import ClockQuality

path, seed = sys.argv[1], int(sys.argv[2])
spool = Spool(path, site="a", device="b", room=Room(60_000), now_us=1)
generator = np.random.default_rng(seed)
while True:
    drafts = [
        Draft(1_700_000_000_000_000, ClockQuality.SYNCED, Lane.NORMAL,
              (Block(("m",), 1_700_000_000_000_000 + np.arange(n), generator.normal(size=(1, n))),))
        for n in generator.integers(1, 200, generator.integers(1, 4))
    ]
    stored, _ = spool.append(drafts, 1)
    gaps = [f"{gap.from_seq}-{gap.to_seq}" for one in stored for gap in one.frame.gaps]
    print(spool.epoch, stored[-1].frame.seq, spool._freed, *gaps, flush=True)
    if generator.random() < 0.3:
        spool.acknowledge(spool.epoch, max(0, spool.assigned - int(generator.integers(0, 30))), 1)
"""


@pytest.mark.crash
def test_killed_at_random_moments_it_keeps_all_that_was_accepted(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    chance = random.Random(7)
    last = freed = 0
    epochs: set[str] = set()
    declared: set[int] = set()
    for turn in range(ROUNDS):
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(path), str(turn)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        lines = [child.stdout.readline()]
        time.sleep(chance.uniform(0.0, 0.15))
        child.send_signal(signal.SIGKILL)
        lines += child.stdout.read().splitlines(keepends=True)
        child.wait()
        child.stdout.close()
        for line in lines:
            if not line.endswith("\n"):
                continue
            epoch, seq, known_freed, *gaps = line.split()
            epochs.add(epoch)
            assert int(seq) > last, "a seq was assigned twice"
            last, freed = int(seq), int(known_freed)
            for gap in gaps:
                first, _, end = gap.partition("-")
                declared |= set(range(int(first), int(end) + 1))
        spool = Spool(path, site="a", device="b", now_us=NOW)
        assert not spool.counters.damaged_files
        assert spool.assigned >= last
        last = spool.assigned
        rows = spool.following(Lane.NORMAL, 0, 1 << 60, 100_000, NOW)
        frames = [decode_frame(row.payload) for row in rows]
        held = {frame.seq for frame in frames}
        for frame in frames:
            for given_up in frame.gaps:
                declared |= set(range(given_up.from_seq, given_up.to_seq + 1))
        lost = set(range(freed + 1, last + 1)) - held - declared - set(range(1, spool._freed + 1))
        assert not lost, f"accepted frames are gone: {sorted(lost)}"
        spool.close()
    assert len(epochs) == 1
