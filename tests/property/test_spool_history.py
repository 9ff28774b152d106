"""Random histories of a spool: appends, acks, crashes, full room; nothing is ever lost without a declaration."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from edge_agent.pack import Draft, Lane
from edge_agent.spool import Room, Spool
from headwater.codec import decode_frame
from headwater.frame import Block
from headwater.reasons import ClockQuality

NOW = 1_700_000_000_000_000
ROOM = Room(12_000)


class SpoolHistory(RuleBasedStateMachine):
    """A model: which seqs were accepted, acknowledged, declared."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.accepted: set[int] = set()
        self.acked = 0
        self.declared: set[int] = set()
        self.open()
        self.epoch = self.spool.epoch

    def open(self) -> None:
        self.spool = Spool(self.folder / "spool.db", site="a", device="b", room=ROOM, now_us=NOW)

    def teardown(self) -> None:
        self.spool.close()
        shutil.rmtree(self.folder)

    @rule(sizes=st.lists(st.integers(1, 120), min_size=1, max_size=5), lane=st.sampled_from(Lane))
    def append(self, sizes: list[int], lane: Lane) -> None:
        drafts = [
            Draft(
                NOW,
                ClockQuality.SYNCED,
                lane,
                (Block(("m",), NOW + np.arange(size), np.random.default_rng(size).normal(size=(1, size))),),
            )
            for size in sizes
        ]
        stored, refused = self.spool.append(drafts, NOW)
        assert not refused
        for one in stored:
            assert one.frame.seq == max(self.accepted, default=0) + 1
            self.accepted.add(one.frame.seq)
            for gap in one.frame.gaps:
                assert gap.epoch == self.epoch
                self.declared |= set(range(gap.from_seq, gap.to_seq + 1))

    @rule(share=st.floats(0, 1))
    def acknowledge(self, share: float) -> None:
        contiguous = int(share * self.spool.assigned)
        assert self.spool.acknowledge(self.epoch, contiguous, NOW)
        self.acked = max(self.acked, contiguous)

    @rule(beyond=st.integers(1, 1_000))
    def acknowledge_too_much(self, beyond: int) -> None:
        assert not self.spool.acknowledge(self.epoch, self.spool.assigned + beyond, NOW)

    @rule()
    def settle(self) -> None:
        self.spool.settle(NOW)

    @rule()
    def reopen(self) -> None:
        self.spool.close()
        self.open()
        assert self.spool.epoch == self.epoch
        # An ack that was not settled is forgotten by a crash: those frames are only sent again.
        self.acked = self.spool._freed

    @invariant()
    def every_accepted_frame_is_here_or_acknowledged_or_declared(self) -> None:
        held = set()
        for lane in Lane:
            rows = self.spool.following(lane, 0, 1 << 60, 10_000, NOW)
            seqs = [row.key.seq for row in rows]
            assert seqs == sorted(seqs)
            assert all(decode_frame(row.payload).seq == row.key.seq for row in rows)
            held |= set(seqs)
        assert held | set(range(1, self.acked + 1)) | self.declared == self.accepted
        assert not held & set(range(1, self.acked + 1))
        assert self.spool.buffered == len(held)
        assert self.spool.size_bytes <= ROOM.bytes_max


SpoolHistory.TestCase.settings = settings(
    max_examples=10, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestSpoolHistory = SpoolHistory.TestCase
